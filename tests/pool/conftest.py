"""An NIH release of a few films, and its pool."""

from pathlib import Path

import numpy as np
import pytest

from thiscxr.pixels import save_png
from thiscxr.pool import prepare

HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient "
    "Sex,View Position,OriginalImage[Width,Height],"
)


def film(seed: int, res: int = 32) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (res, res), np.uint8)


@pytest.fixture
def release(tmp_path) -> Path:
    """An NIH release of 12 films of 6 patients; film 11 is missing."""
    root = tmp_path / "nih"
    rows = [HEADER]
    for number in range(12):
        name = f"{number // 2 + 1:08d}_{number % 2:03d}.png"
        found = ("No Finding", "Mass|Edema", "Cardiomegaly")[number % 3]
        view, sex = ("PA", "AP")[number % 2], "MF"[number // 6]
        rows.append(f"{name},{found},0,{number // 2 + 1},{40 + number},{sex},{view},2500,2000,")
        if number != 11:
            save_png(root / "images" / name, film(number))
    (root / "Data_Entry_2017_v2020.csv").write_text("\n".join(rows) + "\n")
    return root


@pytest.fixture
def key(tmp_path) -> Path:
    return tmp_path / "keys" / "key"


@pytest.fixture
def pool(tmp_path, release, key) -> Path:
    prepare.prepare(tmp_path / "pool", [("nih", release)], 32, key_file=key)
    return tmp_path / "pool"


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name not in ("nih", "keys"))
