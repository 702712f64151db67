"""What no site is made of, refused in one line that leaves nothing behind."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tests.scores import record, written
from thiscxr.gallery.site import build_site


@pytest.mark.parametrize(
    "url", ["example.org", "javascript:alert(1)", 'https://a/"><script>', "https://a b/", "ftp://a/"]
)
def test_an_address_that_is_none_is_refused(samples: Path, tmp_path: Path, url: str) -> None:
    with pytest.raises(ValueError, match="expected the address where the site will be"):
        build_site(samples, tmp_path / "out", url=url)


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ({"file": "../../etc/passwd"}, "not a plain file name"),
        ({"file": "/etc/passwd.png"}, "not a plain file name"),
        ({"file": "..\\evil.png"}, "not a plain file name"),
        ({"file": "C:evil.png"}, "not a plain file name"),
        ({"file": ".hidden.png"}, "not a plain file name"),
        ({"file": "a\nb.png"}, "not a plain file name"),
        ({"file": "seed-1.dcm"}, "not a PNG"),
        ({"file": ""}, "not a PNG"),
        ({"file": "SEED-00000000.png"}, "listed twice"),
        ({"seed": "-1"}, "seed '-1' is not a whole number"),
        ({"age_years": "old"}, "age_years 'old' is not a number"),
        ({"truncation": "nan"}, "truncation 'nan' is not a number"),
        ({"stranger_rank": "62"}, "stranger_rank 62 is not a share from 0 to 1"),
        ({"memorised": "maybe"}, "neither true, false nor empty"),
        ({"network_sha256": "cd" * 32}, "made by network cdcdcdcdcdcd…, but network.json names abababababab…"),
    ],
)
def test_bad_rows_are_refused_in_one_line(
    make_samples: Callable[..., Path], tmp_path: Path, cells: dict[str, str], message: str
) -> None:
    folder = make_samples({}, cells)
    with pytest.raises(ValueError, match=message) as refusal:
        build_site(folder, tmp_path / "out")
    assert "\n" not in str(refusal.value)
    assert "samples.csv line" in str(refusal.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["samples"]


def test_incomplete_sample_folders_are_refused(samples: Path, tmp_path: Path) -> None:
    def refused(message: str) -> None:
        with pytest.raises(ValueError, match=message):
            build_site(samples, tmp_path / "out")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["samples"]

    film = samples / "seed-00000003.png"
    whole = film.read_bytes()
    film.unlink()
    refused(r"seed-00000003.png is missing, but samples.csv names it \(seed 3\)")
    film.symlink_to(samples / "seed-00000002.png")
    refused("seed-00000003.png is a link")
    film.unlink()
    film.write_bytes(whole[:-5])
    refused("seed-00000003.png is not a whole PNG")
    film.write_bytes(whole[:200] + bytes([whole[200] ^ 1]) + whole[201:])
    refused(r"seed-00000003.png is not a whole PNG file \(damaged PNG file")
    Image.new("L", (64, 64), 7).save(film)
    refused("seed-00000003.png is no film: constant image")
    film.write_bytes(whole)
    (samples / "network.json").rename(samples / "elsewhere.json")
    refused("network.json is missing; expected the network.json that `thiscxr sample` writes")
    (samples / "network.json").write_text("{")
    refused("network.json is not JSON")
    (samples / "network.json").write_text("{}")
    refused("no sha256 of a network inside")
    for name in ("architecture", "sources"):
        (samples / "network.json").write_text(json.dumps({"sha256": "ab" * 32, name: ["x"]}))
        refused(f"{name} is not a table")
    (samples / "samples.csv").write_text("files,seed\n")
    (samples / "elsewhere.json").replace(samples / "network.json")
    refused(r"no column 'file' \(did you mean 'files'\?\)")
    (samples / "samples.csv").write_text("file,seed\n")
    refused("lists no film")
    (samples / "samples.csv").write_bytes(b"file,seed\n\xff,1\n")
    refused("not a CSV table in UTF-8")
    (samples / "samples.csv").unlink()
    refused("samples.csv is missing; expected a folder written by `thiscxr sample`")


def test_scores_of_another_network_are_refused(samples: Path, tmp_path: Path) -> None:
    scores = written(tmp_path / "scores.json", record("fd", network_sha256="cd" * 32))
    with pytest.raises(ValueError, match="fd_600 is of network cdcdcdcdcdcd…, not of abababababab…"):
        build_site(samples, tmp_path / "out", scores)
    assert not (tmp_path / "out").exists()
