"""Training with Haar bands: what the options mean, and the grain, which comes with the full resolution and learns
there."""

from pathlib import Path

import pytest
import torch

from tests.train.test_loop import small
from thiscxr.pool import Pool
from thiscxr.train.films import Films
from thiscxr.train.growth import stage
from thiscxr.train.training import Training


@pytest.mark.parametrize(
    ("patch", "haar", "bands"), [(2, True, True), (4, True, True), (2, False, False), (1, True, False)]
)
def test_larger_patches_are_generated_and_read_as_bands_by_default(
    pool: Pool, tmp_path: Path, patch: int, haar: bool, bands: bool
) -> None:
    config = small(pool, tmp_path, patch=patch, haar=haar)
    training = Training(config, Films(pool, config))
    assert (training.G.config.haar, training.D.config.haar) == (bands, bands)
    assert (training.G.synthesis.grain is not None) is bands
    assert torch.isfinite(torch.tensor(list(training.step().values()))).all()


def test_the_grain_comes_with_the_full_resolution_and_learns_there(pool: Pool, tmp_path: Path) -> None:
    config = small(pool, tmp_path)  # 50 films at 16 px, 50 over which 32 px are blended in
    training = Training(config, Films(pool, config))
    gain, kernel = training.G.synthesis.grain.gain, training.G.synthesis.grain.kernel.detach().clone()
    while stage(config, training.images_seen).res == 16:
        training.step()
        assert gain.item() == 0
        assert training.averaged().synthesis.grain.gain.item() == 0
    for _ in range(10):
        training.step()
    assert gain.item() != 0
    assert training.G_ema.synthesis.grain.gain.item() != 0
    assert not torch.equal(training.G.synthesis.grain.kernel, kernel)
