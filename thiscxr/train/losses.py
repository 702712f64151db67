"""The losses of the two networks: pure functions of logits and films."""

import torch
import torch.nn.functional as F
from torch import Tensor


def generator_loss(fake_logits: Tensor) -> Tensor:
    """Return the non-saturating loss −log sigmoid(D(G(z))), mean over [N] (Goodfellow et al. 2014, arXiv:1406.2661,
    section 3)."""
    return F.softplus(-fake_logits).mean()


def discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Return the logistic loss that separates real [N] from fake [N] logits (Goodfellow et al. 2014, Eq. 1)."""
    return F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()


def relativistic_loss(higher: Tensor, lower: Tensor) -> Tensor:
    """Return −log sigmoid(higher − lower), mean over [N]: of real and fake logits for D, of fake and real ones for G.

    Each film is compared with one of the other kind, so that nothing far from the real films is good enough for the
    generator. It needs R1 and R2. Source: Jolicoeur-Martineau 2019, arXiv:1807.00734; Huang et al. 2024,
    arXiv:2501.05441, Eq. 2.
    """
    return F.softplus(lower - higher).mean()


def contrast_loss(right: Tensor, wrong: Tensor, differ: Tensor) -> Tensor:
    """Return the sum over factors of −log sigmoid(right − wrong) where they `differ`, mean over films.

    right [N]: logits of real films under their condition; wrong [N, factors]: with one factor of it as in another film;
    differ: bool like wrong. At its minimum the projection of a factor is log p(factor | film) / p(factor), whatever the
    generator does: without it D learns a rare or small sign only from synthetic films that lack it. Real films
    under a wrong condition: Reed et al. 2016, arXiv:1605.05396, section 4.2 (GAN-CLS); here in pairs, and each factor
    alone.
    """
    return (F.softplus(wrong - right[:, None]) * differ).sum(dim=1).mean()


def gradient_penalty(logits: Tensor, images: Tensor) -> Tensor:
    """Return the mean over films of |∇ D|²: R1 at real films, R2 at fake ones (Mescheder et al. 2018, arXiv:1801.04406,
    Eqs. 9 and 10, without their γ/2).

    logits [N] must have been computed from images [N, 1, H, W] with requires_grad set.
    """
    (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return gradient.square().sum(dim=(1, 2, 3)).mean()
