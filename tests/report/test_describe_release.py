"""A release before it is pooled: what is in it, what is looked at, and what is left out."""

import io
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.report.conftest import pixels
from thiscxr.pixels import save_png
from thiscxr.pool import prepare
from thiscxr.report import pool as describe

REAL = Path(__file__).parents[3] / "shared" / "data" / "nih-64"


def test_a_release_is_looked_at_and_bad_films_are_counted(release: Path) -> None:
    facts = describe.describe_sources([("folder", release)])
    source = facts["sources"]["folder"]
    assert (source["released"]["films"], source["kept"]["films"], source["dropped"]) == (
        8,
        6,
        {"file missing": 1, "view lateral": 1},
    )
    assert (source["intensity"]["films"], source["intensity"]["of"]) == (5, 6)
    assert list(source["intensity"]["refused"].values()) == [1]
    assert source["native"]["cells"] == [[32, 64, 5]]
    assert any(
        line.startswith("folder: 1 of 6 films looked at cannot be read, most often: ") for line in facts["warnings"]
    )
    (release / "3.png").write_bytes((release / "2.png").read_bytes())
    assert not any("cannot be read" in line for line in describe.describe_sources([("folder", release)])["warnings"])


def test_labels_only_touches_no_film(release: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def touched(*_: Any) -> None:
        raise AssertionError("a film was read")

    monkeypatch.setattr(describe, "load_film", touched)
    for path in release.glob("*.png"):
        path.unlink()
    source = describe.describe_sources([("folder", release)], labels_only=True)["sources"]["folder"]
    assert (source["kept"]["films"], source["dropped"]) == (7, {"view lateral": 1})
    assert "intensity" not in source
    assert "native" not in source


def test_a_sample_is_decoded_not_everything(release: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(describe, "RELEASE_SAMPLE", 2)
    source = describe.describe_sources([("folder", release)])["sources"]["folder"]
    assert (source["intensity"]["films"], source["intensity"]["of"]) == (2, 6)


def test_films_in_a_compressed_tar_are_found_and_sampled(release: Path, tmp_path: Path) -> None:
    shutil.copy(release / "2.png", release / "4.png")
    loose = describe.describe_sources([("folder", release)])
    assert loose["sources"]["folder"]["dropped"] == {"view lateral": 1}
    with tarfile.open(release / "films.tar.gz", "w:gz") as tar:
        for number in (0, 1, 2):
            data = (release / f"{number}.png").read_bytes()
            entry = tarfile.TarInfo(f"{number}.png")
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
            (release / f"{number}.png").unlink()
    assert describe.describe_sources([("folder", release)]) == loose
    summary = prepare.prepare(tmp_path / "pool", [("folder", release)], 32, key_file=tmp_path / "key", max_rejected=0.5)
    assert (summary.num_kept, summary.dropped) == (6, {"view lateral": 1})


def test_derive_fills_what_is_kept_and_not_what_was_released(tmp_path: Path) -> None:
    save_png(tmp_path / "films" / "a.png", pixels(0))
    (tmp_path / "films" / "metadata.csv").write_text("file_name,Mass\na.png,1\n")
    for derive, expected in ((False, 0), (True, 1)):
        source = describe.describe_sources([("folder", tmp_path / "films")], derive=derive)["sources"]["folder"]
        assert source["kept"]["findings"]["Lung_Opacity"]["positive"] == expected
        assert source["released"]["findings"]["Lung_Opacity"]["positive"] == 0


@pytest.mark.skipif(not REAL.is_dir(), reason=f"real films are not here: {REAL}")
def test_real_films() -> None:
    facts = describe.describe_sources([("nih", REAL)])
    source = facts["sources"]["nih"]
    assert (source["kept"]["films"], source["kept"]["patients"], source["native"]["cells"]) == (
        1988,
        1229,
        [[64, 64, 200]],
    )
    assert source["intensity"]["films"] == 200
    assert source["intensity"]["unevenness"] > 0.15  # not equalised
    assert any(
        line.startswith("nih: the view predicts Edema (AP: 82% of 91 positive, 35% of 1,897 negative)")
        for line in facts["warnings"]
    )
