"""The site's folder: what is kept, replaced, resumed after a kill, and never touched."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from thiscxr.gallery import site
from thiscxr.gallery.folder import MARKER, check_ours
from thiscxr.gallery.site import build_site

Snapshot = Callable[[Path], dict[str, bytes]]


def test_only_our_own_unchanged_folder_is_replaced(samples: Path, tmp_path: Path, snapshot: Snapshot) -> None:
    out = tmp_path / "out"
    build_site(samples, out, title="first")
    build_site(samples, out, title="second")
    assert "<title>second</title>" in (out / "index.html").read_text()

    def refused(message: str) -> None:
        before = snapshot(out)
        with pytest.raises(ValueError, match=message):
            build_site(samples, out, title="third")
        assert snapshot(out) == before

    (out / "films" / "notes.txt").write_text("mine")
    refused("notes.txt was not written by `thiscxr site`")
    (out / "films" / "notes.txt").unlink()
    (out / "drafts").mkdir()
    refused("drafts was not written by")
    (out / "drafts").rmdir()
    (out / "style.css").write_text("body { color: red }")
    refused("style.css was changed since")
    (out / MARKER).write_text("[]")
    refused("holds no list of files")
    (out / MARKER).unlink()
    refused("was not written by `thiscxr site`")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "samples"]


def test_a_failed_build_leaves_the_old_gallery(samples: Path, tmp_path: Path, snapshot: Snapshot) -> None:
    build_site(samples, tmp_path / "out")
    before = snapshot(tmp_path / "out")
    (samples / "seed-00000011.png").write_bytes(b"no film")
    with pytest.raises(ValueError, match="not a whole PNG"):
        build_site(samples, tmp_path / "out")
    assert snapshot(tmp_path / "out") == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "samples"]


def test_only_films_that_the_table_lists_are_published(samples: Path, tmp_path: Path) -> None:
    for name in ("notes.txt", "evil.html", "patient.png"):
        (samples / name).write_bytes((samples / "seed-00000000.png").read_bytes())
    build_site(samples, tmp_path / "out")
    assert not {"notes.txt", "evil.html", "patient.png"} & {path.name for path in (tmp_path / "out").rglob("*")}


def test_the_sample_folder_is_never_the_output(samples: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"no {MARKER} inside"):
        build_site(samples, samples)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ValueError, match="was not written by"):
        check_ours(tmp_path / "file")


def test_a_killed_build_resumes(
    samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, snapshot: Snapshot
) -> None:
    """KeyboardInterrupt stands for a kill: nothing is tidied up."""
    out, part = tmp_path / "out", tmp_path / ".out.part"
    read_image, count = site.read_image, iter(range(1000))

    def killed(*arguments: Any) -> Any:
        if next(count) == 7:
            raise KeyboardInterrupt
        return read_image(*arguments)

    monkeypatch.setattr(site, "read_image", killed)
    with pytest.raises(KeyboardInterrupt):
        build_site(samples, out)
    monkeypatch.undo()
    assert not out.exists()
    kept = {path.name: path.stat().st_ino for path in (part / "films").iterdir()}
    assert len(kept) == 7
    torn = part / "films" / "seed-00000003.png"
    torn.write_bytes(torn.read_bytes()[:100])  # a kill in the middle of a write
    (part / "films" / "seed-99.png").write_bytes(b"of another sample folder")
    build_site(samples, out)
    assert {name: (out / "films" / name).stat().st_ino for name in kept} == kept
    build_site(samples, tmp_path / "fresh")
    assert snapshot(out) == snapshot(tmp_path / "fresh")
    assert not part.exists()


def test_a_folder_that_only_looks_like_an_interrupted_build_is_left_alone(samples: Path, tmp_path: Path) -> None:
    part = tmp_path / ".out.part"
    part.mkdir()
    (part / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"\.out\.part was not written by `thiscxr site`"):
        build_site(samples, tmp_path / "out")
    assert (part / "notes.txt").read_text() == "mine"


def test_what_stays_the_same_is_kept_and_what_is_no_more_is_removed(
    make_samples: Callable[..., Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    build_site(make_samples({}, {}, {}), out)
    before = {path.name: path.stat().st_ino for path in (out / "films").iterdir()}
    old_page = (out / "gallery.html").read_bytes()
    build_site(make_samples({}, {"memorised": "true"}, {}, name="fewer"), out)
    after = {path.name: path.stat().st_ino for path in (out / "films").iterdir()}
    assert after == {name: inode for name, inode in before.items() if name != "seed-00000001.png"}
    assert (out / "gallery.html").read_bytes() != old_page
    check_ours(out)


def test_a_file_that_arrives_during_the_build_is_not_lost(
    samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    build_site(samples, out)
    shared = site.shared_picture

    def arrives(*arguments: Any) -> bytes:
        (out / "mine.txt").write_text("mine")
        return shared(*arguments)

    monkeypatch.setattr(site, "shared_picture", arrives)
    with pytest.raises(ValueError, match=r"mine\.txt was not written by"):
        build_site(samples, out)
    assert (out / "mine.txt").read_text() == "mine"
    assert (out / "index.html").is_file()
