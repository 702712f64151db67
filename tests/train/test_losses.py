"""Losses against closed forms."""

import math
from dataclasses import replace

import pytest
import torch

from thiscxr.config import Config
from thiscxr.train.losses import contrast_loss, discriminator_loss, generator_loss, gradient_penalty, relativistic_loss
from thiscxr.train.training import contrast_weight, learning_rate


def test_logistic_losses_at_known_logits() -> None:
    zero = torch.zeros(4)
    assert discriminator_loss(zero, zero).item() == pytest.approx(2 * math.log(2))
    assert generator_loss(zero).item() == pytest.approx(math.log(2))
    assert discriminator_loss(torch.tensor([3.0]), torch.tensor([-2.0])).item() == pytest.approx(
        math.log1p(math.exp(-3)) + math.log1p(math.exp(-2))
    )


def test_the_generator_gains_where_the_discriminator_is_fooled() -> None:
    assert generator_loss(torch.tensor([2.0])) < generator_loss(torch.tensor([-2.0]))


def test_the_relativistic_loss_sees_differences_of_pairs_alone() -> None:
    real, fake = torch.tensor([3.0, 0.0]), torch.tensor([1.0, 0.0])
    assert relativistic_loss(real, fake).item() == pytest.approx((math.log1p(math.exp(-2)) + math.log(2)) / 2)
    torch.testing.assert_close(relativistic_loss(real + 7, fake + 7), relativistic_loss(real, fake))
    assert relativistic_loss(fake, real) > relativistic_loss(real, fake), "what one network loses the other gains"


def test_r1_of_a_linear_discriminator_is_its_squared_weight() -> None:
    weight = torch.randn(1, 8, 8, dtype=torch.float64)
    images = torch.randn(5, 1, 8, 8, dtype=torch.float64, requires_grad=True)
    assert gradient_penalty((images * weight).sum(dim=(1, 2, 3)), images).item() == pytest.approx(
        weight.square().sum().item(), rel=1e-12
    )


def test_r1_of_a_quadratic_discriminator_and_its_second_gradient() -> None:
    # D(x) = a |x|²: |∇D|² = 4 a² |x|², and its derivative in a is 8 a |x|².
    a = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    images = torch.randn(3, 1, 4, 4, dtype=torch.float64, requires_grad=True)
    penalty = gradient_penalty(a * images.square().sum(dim=(1, 2, 3)), images)
    energy = images.detach().square().sum(dim=(1, 2, 3)).mean()
    torch.testing.assert_close(penalty.detach(), 4 * 0.09 * energy)
    penalty.backward()
    torch.testing.assert_close(a.grad, 8 * 0.3 * energy)


def test_the_step_is_constant_then_falls_as_one_over_the_films_and_halves_with_every_return() -> None:
    config = Config(lr=0.004, anneal_kimg=10)
    rates = [learning_rate(config, seen, 0) for seen in (0, 10_000, 20_000, 100_000)]
    assert rates == pytest.approx([0.004, 0.004, 0.002, 0.0004])
    assert learning_rate(config, 0, 2) == pytest.approx(0.001)
    assert learning_rate(replace(config, anneal_kimg=0), 10**9, 0) == 0.004


def test_the_contrast_fades_out() -> None:
    config = Config(contrast=0.5, contrast_kimg=40)
    assert [contrast_weight(config, seen) for seen in (0, 10_000, 40_000, 10**9)] == [0.5, 0.375, 0.0, 0.0]
    assert contrast_weight(replace(config, contrast_kimg=0), 10**9) == 0.5
    assert contrast_weight(replace(config, contrast=0.0), 0) == 0


def test_the_contrast_counts_contradictions_alone() -> None:
    right, wrong = torch.tensor([1.0, 0.0]), torch.tensor([[0.0, 9.0], [0.0, 2.0]])
    differ = torch.tensor([[True, False], [True, True]])
    by_hand = (math.log1p(math.exp(-1)) + math.log(2) + math.log1p(math.exp(2))) / 2
    assert contrast_loss(right, wrong, differ).item() == pytest.approx(by_hand)


def test_the_contrast_is_least_at_the_log_ratio_of_probabilities() -> None:
    """A finding is present in 90 % of the films that look like A and 30 % of those like B. Known: the logit of each,
    less that of all."""
    present = torch.tensor([[0.9], [0.3]])
    gain = torch.zeros(2, 1, requires_grad=True)  # the projection of "present"
    optimizer = torch.optim.LBFGS([gain], max_iter=200)
    prior = present.mean()

    # A film with the finding meets one without in 1 − prior of the draws, one without the finding meets one with it in
    # prior.
    pairs = ((present * (1 - prior), 1.0), ((1 - present) * prior, -1.0))

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        value = sum(
            weight[i, 0] * contrast_loss(sign * gain[i], torch.zeros(1, 1), torch.ones(1, 1))
            for weight, sign in pairs
            for i in range(2)
        )
        value.backward()
        return value

    optimizer.step(closure)
    torch.testing.assert_close(gain.detach(), torch.logit(present) - torch.logit(prior), atol=1e-3, rtol=0)
