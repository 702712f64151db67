"""The losses of the two networks: pure functions of logits and films."""

import torch
import torch.nn.functional as F
from torch import Tensor


def generator_loss(fake_logits: Tensor) -> Tensor:
    """Return the non-saturating loss −log sigmoid(D(G(z))), mean over [N] (Goodfellow et al. 2014, arXiv:1406.2661, section 3)."""
    return F.softplus(-fake_logits).mean()


def discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Return the logistic loss of telling real [N] from fake [N] logits (Goodfellow et al. 2014, Eq. 1)."""
    return F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()


def r1_penalty(real_logits: Tensor, real_images: Tensor) -> Tensor:
    """Return the mean over films of |∇ D|² at real films (Mescheder et al. 2018, arXiv:1801.04406, Eq. 9, without its γ/2).

    real_logits [N] must have been computed from real_images [N, 1, H, W] with requires_grad set.
    """
    (gradient,) = torch.autograd.grad(real_logits.sum(), real_images, create_graph=True)
    return gradient.square().sum(dim=(1, 2, 3)).mean()
