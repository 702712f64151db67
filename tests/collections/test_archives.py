"""Films inside zips and tars: read in place, bounded, and never written anywhere."""

import gzip
import io
import logging
import tarfile
import zipfile
from pathlib import Path

import pytest

from thiscxr.collections import archives
from thiscxr.collections.archives import ReleaseFile, compressed_tars, find_table, release_files, stream

FILMS = {"images/a.png": b"film a" * 50, "images/b.png": b"film b" * 70, "notes.txt": b"no film"}


def write_tar(path: Path, members: dict[str, bytes], mode: str = "w") -> None:
    with tarfile.open(path, mode) as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def write_zip(path: Path, members: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_members_are_read_in_place(tmp_path, kind):
    (write_zip if kind == "zip" else write_tar)(tmp_path / f"films.{kind}", FILMS)
    (tmp_path / "c.png").write_bytes(b"film c")
    found = dict(release_files(tmp_path, (".png",)))
    assert list(found) == ["c.png", "images/a.png", "images/b.png"]
    assert {name: file.read() for name, file in found.items()} == {
        "c.png": b"film c", "images/a.png": FILMS["images/a.png"], "images/b.png": FILMS["images/b.png"],
    }  # fmt: skip
    assert str(found["images/a.png"]) == f"{tmp_path}/films.{kind}!images/a.png"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.png", f"films.{kind}"]


@pytest.mark.parametrize("suffix", ["tar.gz", "tgz", "tar.bz2", "tar.xz"])
def test_a_compressed_tar_is_streamed_in_order(tmp_path, suffix):
    path = tmp_path / f"films.{suffix}"
    write_tar(path, FILMS, {"tgz": "w:gz"}.get(suffix, f"w:{suffix[4:]}"))
    assert compressed_tars(tmp_path) == [("", path)]
    offered = []
    assert list(stream(path, lambda name: offered.append(name) or name.endswith("b.png"))) == [
        ("images/b.png", FILMS["images/b.png"])
    ]
    assert offered == list(FILMS)
    assert dict(release_files(tmp_path, (".png",))) == {}


@pytest.mark.parametrize("name", ["../../escaped.png", "/etc/escaped.png", "a/../../escaped.png"])
@pytest.mark.parametrize("kind", ["zip", "tar", "tgz"])
def test_no_member_lands_anywhere(tmp_path, name, kind):
    inside = tmp_path / "release"
    inside.mkdir()
    path = inside / f"films.{kind}"
    if kind == "zip":
        write_zip(path, {name: b"film"})
    else:
        write_tar(path, {name: b"film"}, "w:gz" if kind == "tgz" else "w")
    films = (
        stream(path, bool)
        if kind == "tgz"
        else ((name, file.read()) for name, file in release_files(inside, (".png",)))
    )
    read = [data for _, data in films]
    assert read == [b"film"]
    assert sorted(tmp_path.rglob("*")) == [inside, path]
    assert not Path("/etc/escaped.png").exists()


def test_links_and_devices_in_a_tar_are_no_films(tmp_path):
    path = tmp_path / "films.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for kind, target in ((tarfile.SYMTYPE, "/etc/passwd"), (tarfile.LNKTYPE, "/etc/passwd"), (tarfile.CHRTYPE, "")):
            info = tarfile.TarInfo(f"{kind.decode()}.png")
            info.type, info.linkname = kind, target
            tar.addfile(info)
    assert list(stream(path, lambda name: True)) == []


def test_a_bomb_ends_the_stream_with_a_warning(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(archives, "_FREE_EXPANSION_BYTES", 2**20)
    write_tar(tmp_path / "bomb.tar.gz", {"a.png": b"film", "bomb.png": bytes(2**26), "b.png": b"film"}, "w:gz")
    assert (tmp_path / "bomb.tar.gz").stat().st_size < 100_000
    assert [name for name, _ in stream(tmp_path / "bomb.tar.gz", lambda name: True)] == ["a.png"]
    assert "expands to more than 100 times its size" in caplog.text


def test_a_member_that_is_too_large_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_FILE_BYTES", 1000)
    large = {"a.png": bytes(1001)}
    write_zip(tmp_path / "films.zip", large)
    write_tar(tmp_path / "films.tar", large)
    (tmp_path / "a.png").write_bytes(large["a.png"])
    for _, file in release_files(tmp_path, (".png",)):
        with pytest.raises(ValueError, match="absurd file of more than"):
            file.read()
    write_tar(tmp_path / "films.tar.gz", large, "w:gz")
    assert list(stream(tmp_path / "films.tar.gz", lambda name: True)) == [("a.png", None)]


def test_a_zip_that_lies_about_its_sizes_is_refused(tmp_path):
    path = tmp_path / "films.zip"
    write_zip(path, {"a.png": bytes(5000)})
    data = path.read_bytes()
    path.write_bytes(data.replace((5000).to_bytes(4, "little"), (50).to_bytes(4, "little")))
    ((_, file),) = release_files(tmp_path, (".png",))
    with pytest.raises(ValueError, match="damaged archive"):
        file.read()


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
@pytest.mark.parametrize("damage", ["cut", "empty", "text"])
def test_a_damaged_archive_is_named_and_not_fatal(tmp_path, caplog, kind, damage):
    path = tmp_path / f"films.{kind}"
    members = {f"{number}.png": bytes(range(256)) * 40 for number in range(20)}
    if kind == "zip":
        write_zip(path, members)
    else:
        write_tar(path, members, "w:gz" if kind == "tar.gz" else "w")
    data = path.read_bytes()
    path.write_bytes({"cut": data[: len(data) // 2], "empty": b"", "text": b"not found" * 100}[damage])
    with caplog.at_level(logging.WARNING):
        found = list(stream(path, lambda name: True)) if kind == "tar.gz" else list(release_files(tmp_path, (".png",)))
    assert len(found) < 20
    assert "cannot be read to its end" in caplog.text
    assert str(path) in caplog.text


def test_a_damaged_member_is_refused_without_its_path(tmp_path):
    path = tmp_path / "films.zip"
    write_zip(path, {"a.png": bytes(range(256)) * 40})
    data = bytearray(path.read_bytes())
    data[60] ^= 255
    path.write_bytes(data)
    ((_, file),) = release_files(tmp_path, (".png",))
    with pytest.raises(ValueError, match="damaged archive") as caught:
        file.read()
    assert str(tmp_path) not in str(caught.value)
    with pytest.raises(ValueError, match="cannot be read") as caught:
        ReleaseFile(str(tmp_path / "gone.png")).read()
    assert str(tmp_path) not in str(caught.value)


def test_hidden_files_are_passed_over_and_links_to_folders_followed_once(tmp_path):
    real = tmp_path / "elsewhere"
    real.mkdir()
    (real / "a.png").write_bytes(b"film")
    root = tmp_path / "root"
    root.mkdir()
    (root / "linked").symlink_to(real)
    (real / "loop").symlink_to(root)
    (root / "._a.png").write_bytes(b"mac")
    (root / ".hidden").mkdir()
    (root / ".hidden" / "b.png").write_bytes(b"film")
    write_zip(root / "z.zip", {"__MACOSX/._a.png": b"mac", "c.png": b"film"})
    assert [name for name, _ in release_files(root, (".png",))] == ["linked/a.png", "c.png"]


def test_a_table_is_found_beside_below_gzipped_and_in_a_zip(tmp_path):
    for place in ("t.csv", "sub/t.csv"):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).write_text("a,b\n")
        file = find_table(tmp_path, "other.csv", "t.csv")
        assert file is not None
        with file.open() as table:
            assert table.read() == b"a,b\n"
        (tmp_path / place).unlink()
        (tmp_path / f"{place}.gz").write_bytes(gzip.compress(b"c\n"))
        file = find_table(tmp_path, "t.csv")
        assert file is not None
        with file.open() as table:
            assert table.read() == b"c\n"
        (tmp_path / f"{place}.gz").unlink()
    write_zip(tmp_path / "sub" / "batch 1.zip", {"CheXpert batch 1/t.csv": b"d\n"})
    file = find_table(tmp_path, "t.csv")
    assert file is not None
    with file.open() as table:
        assert table.read() == b"d\n"
    assert find_table(tmp_path, "nothing.csv") is None
