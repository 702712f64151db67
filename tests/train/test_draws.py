"""Draws: what they are a function of, all bits of the seed, and their laws."""

import numpy as np
import pytest
import torch

from thiscxr.train.draws import Draws, begin_weights

CALLS = {"normal": (3,), "uniform": (3,), "whole": (2**40,), "grain": (2, 5)}
NORMAL = [0.7054982781410217, -0.47024524211883545]
UNIFORM = [0.27709221839904785, 0.8708696961402893]
WHOLE = [392, 604]
GRAIN = [-0.35740235447883606, 0.3734077513217926]
SEEDS = [0, 1, 2**32, 2**32 + 1, 2**53, 2**63, 2**64 - 1]


def drawn(call: str, *place: int, **more: object) -> torch.Tensor:
    return getattr(Draws(*place, **more), call)(*CALLS[call])


@pytest.mark.parametrize("call", CALLS)
def test_every_bit_of_the_seed_and_of_the_clock_counts(call: str) -> None:
    """A generator of torch keeps the low 32 bits: seeds 0 and 2^32 were one training."""
    low, high = (torch.rand(3, generator=torch.Generator().manual_seed(seed)) for seed in (0, 2**32))
    assert torch.equal(low, high), "no longer so: nothing speaks against torch's own generator then"
    of_seeds = [drawn(call, seed, 0, 4) for seed in SEEDS]
    of_times = [drawn(call, 0, images_seen, 4) for images_seen in SEEDS[1:]]
    of_returns = [drawn(call, 0, 0, 4, returns=returns) for returns in (1, 2)]
    assert len({values.numpy().tobytes() for values in [*of_seeds, *of_times, *of_returns]}) == len(SEEDS) * 2 - 1 + 2


def test_returns_do_not_come_upon_the_numbers_of_another_time() -> None:
    """The first return was 2^24 films further on, where the training itself comes after 16,777 thousand films."""
    assert not torch.equal(drawn("normal", 0, 0, 4, returns=1), drawn("normal", 0, 1 << 24, 4))


@pytest.mark.parametrize("call", CALLS)
def test_a_films_numbers_are_those_of_its_place_whatever_the_batch_is(call: str) -> None:
    whole, small = Draws(3, 160, 8), Draws(3, 160, 4)
    some = Draws(3, 160, 8, torch.tensor([6, 1]))
    for _ in range(3):
        values = getattr(whole, call)(*CALLS[call])
        assert torch.equal(values[:4], getattr(small, call)(*CALLS[call]))
        assert torch.equal(values[[6, 1]], getattr(some, call)(*CALLS[call]))


def test_grain_that_nobody_needs_is_not_drawn_and_changes_nothing() -> None:
    needed = torch.tensor([True, False, True])
    whole, some = (Draws(3, 160, 8, torch.tensor([6, 1, 2])).grain(2, 5, needed=flags) for flags in (None, needed))
    assert torch.equal(some, whole * needed[:, None, None])


@pytest.mark.parametrize("first", CALLS)
@pytest.mark.parametrize("second", CALLS)
def test_a_stream_does_not_depend_on_how_much_the_one_before_has_used(first: str, second: str) -> None:
    one, other = Draws(3, 160, 4), Draws(3, 160, 4)
    getattr(one, first)(*CALLS[first])
    other.normal(50)
    assert torch.equal(getattr(one, second)(*CALLS[second]), getattr(other, second)(*CALLS[second]))


def test_no_two_films_streams_or_steps_share_their_numbers() -> None:
    grains = [Draws(0, images_seen, 8) for images_seen in (0, 8)]
    rows = torch.cat([draws.grain(64) for draws in grains for _ in range(5)])  # [80, 64]
    normals = torch.cat([draws.normal(64) for draws in grains])
    both = np.corrcoef(torch.cat([rows, normals]).numpy())
    assert np.abs(both - np.eye(len(both))).max() < 0.6  # 1 for a copy; 4,560 pairs of 64 values reach 0.5


def test_the_numbers_are_the_documented_ones() -> None:
    """Philox of key (seed, images_seen) and counter (0, film, stream, returns), read by NumPy's own distributions."""

    def numbers(film: int, stream: int) -> np.random.Generator:
        return np.random.Generator(
            np.random.Philox(key=np.array([5, 160], np.uint64), counter=np.array([0, film, stream, 2], np.uint64))
        )

    draws = Draws(5, 160, 4, returns=2)
    assert np.array_equal(draws.normal(3), numbers(0, 1).standard_normal((4, 3), np.float32))
    assert np.array_equal(draws.uniform(), numbers(0, 2).random(4, np.float32))
    assert np.array_equal(draws.whole(9), numbers(0, 3).integers(9, size=4))
    assert np.array_equal(
        draws.grain(2, 2), np.stack([numbers(film, 4).standard_normal((2, 2), np.float32) for film in range(4)])
    )


def test_the_numbers_are_the_recorded_ones_on_every_processor() -> None:
    draws = Draws(2**64 - 1, 10**9, 2, returns=3)
    assert draws.normal().tolist() == NORMAL
    assert draws.uniform().tolist() == UNIFORM
    assert draws.whole(1000).tolist() == WHOLE
    assert draws.grain(1).flatten().tolist() == GRAIN


def test_the_laws() -> None:
    draws = Draws(0, 0, 1000)
    for values in (draws.normal(50), draws.grain(50)):
        assert abs(values.mean()) < 0.015
        assert abs(values.square().mean() - 1) < 0.02
        assert abs(values.pow(4).mean() - 3) < 0.15
    even = draws.uniform(50)
    assert even.min() >= 0
    assert even.max() < 1
    assert torch.histc(even, 10).sub(5000).abs().max() < 350  # five standard deviations
    assert torch.bincount(draws.whole(4), minlength=4).sub(250).abs().max() < 70


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_a_seed_beyond_the_key_is_no_other_seed(seed: int) -> None:
    with pytest.raises(OverflowError):
        Draws(seed, 0, 4)


def test_initial_weights_depend_on_every_bit_of_the_seed() -> None:
    found = set()
    for seed in SEEDS:
        begin_weights(seed)
        found.add(torch.randn(4).numpy().tobytes())
    assert len(found) == len(SEEDS)
    begin_weights(0)
    assert torch.randn(4).numpy().tobytes() in found
