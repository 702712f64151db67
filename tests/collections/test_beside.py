"""Other files beside the films: counted by kind, never a film by mistake, and never the reason why one is
lost."""

import os
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.folders import FILM, picture, put, taken, tarred
from thiscxr.collections import archives
from thiscxr.collections.archives import HIDDEN, NO_FILE, walk
from thiscxr.collections.beside import kind
from thiscxr.collections.collection import COPY, IMAGE_SUFFIXES
from thiscxr.collections.plan import wanted_films
from thiscxr.pool.prepare import prepare


def test_folders_of_one_name_are_distinguished_by_the_folders_above_them(tmp_path):
    roots = [
        tmp_path / "siteA" / "images",
        tmp_path / "siteB" / "images",
        tmp_path / "more" / "siteB" / "images",
        tmp_path / "films",
    ]
    for number, root in enumerate(roots):
        put(root, {f"00{i}.png": picture(10 * number + i) for i in range(1, 4)})
    a, b, c, other = roots
    assert taken(a, b)[:2] == ([f"site{site}/images/00{i}.png" for site in "AB" for i in (1, 2, 3)], {})
    assert taken(b, a) == taken(a, b)
    names, dropped, _ = taken(a, b, c, other)
    assert dropped == {}
    heads = ["films", "more/siteB/images", "siteA/images", f"{tmp_path.name}/siteB/images"]
    assert names == sorted(f"{head}/00{i}.png" for head in heads for i in (1, 2, 3))
    (part,) = wanted_films([("folder", a), ("folder", b)])
    assert len({film.patient for film in part.films.values()}) == 6
    key = tmp_path / "key"
    pools = [
        prepare(tmp_path / f"pool{n}", [("folder", root) for root in order], 32, key_file=key)
        for n, order in enumerate([(a, b), (b, a)])
    ]
    assert [pool.num_kept for pool in pools] == [6, 6]
    assert pools[0].fingerprint == pools[1].fingerprint


def test_a_folder_that_is_given_twice_or_lies_in_another_counts_once(tmp_path):
    outer = put(tmp_path / "outer", {"a.png": picture(1), "inner/b.png": picture(2)})
    (tmp_path / "link").symlink_to(outer)
    for more in ([outer], [tmp_path / "link"], [outer / ".." / "outer"]):
        assert taken(outer, *more)[:2] == (["outer/a.png", "outer/inner/b.png"], {"listed twice": 2})
    for order in ([outer, outer / "inner"], [outer / "inner", outer], [outer, outer / "inner", outer]):
        names, dropped, _ = taken(*order)
        assert names == ["outer/a.png", "outer/inner/b.png"]
        assert set(dropped) == {"listed twice"}


def test_system_files_pipes_and_links_to_nowhere_are_counted_and_no_films(tmp_path):
    put(
        tmp_path,
        dict.fromkeys(
            ("a.png", "Thumbs.db", "desktop.ini", ".DS_Store", "._a.png", ".git/config", "@eaDir/a.png"), b"x"
        ),
    )
    os.mkfifo(tmp_path / "pipe.png")  # opening it would wait for ever
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere")
    (tmp_path / "self.png").symlink_to(tmp_path / "self.png")
    (tmp_path / "up").symlink_to(tmp_path)
    (tmp_path / "again.png").symlink_to(tmp_path / "a.png")
    assert taken(tmp_path) == (["a.png", "again.png"], {}, {HIDDEN: 6, NO_FILE: 3})


def test_a_folder_that_cannot_be_read_is_counted(tmp_path, monkeypatch):
    put(tmp_path, {"a.png": b"x", "closed/b.png": b"x", "open/c.png": b"x"})
    scan = os.scandir

    def refusing(path):
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr(os, "scandir", refusing)
    assert taken(tmp_path) == (["a.png", "open/c.png"], {}, {"folder that cannot be read (Permission denied)": 1})


def test_a_file_that_cannot_be_read_is_a_film_by_its_suffix_only(tmp_path, monkeypatch):
    put(tmp_path, {"a.dcm": FILM, "IM_1": FILM, "b.png": b"", "empty": b"", "empty.dcm": b""})
    monkeypatch.setattr(
        archives, "open", lambda path, mode: (_ for _ in ()).throw(PermissionError(13, "no")), raising=False
    )
    assert taken(tmp_path) == (["a.dcm", "b.png", "empty.dcm"], {}, {"file without a suffix": 2})


def test_odd_names_are_names(tmp_path):
    names = [
        "line\nbreak.png",
        "tab\t.png",
        " .png",
        "x" * 250 + ".png",
        'quote".png',
        "a,b.png",
        "-rf.png",
        "snow ☃.png",
    ]
    put(tmp_path, {name: picture(number) for number, name in enumerate(names)})
    assert sorted(taken(tmp_path)[0]) == sorted(names)
    summary = prepare(
        tmp_path.parent / f"{tmp_path.name}-pool", [("folder", tmp_path)], 32, key_file=tmp_path.parent / "odd-key"
    )
    assert summary.num_kept == len(names)


def test_files_beside_a_known_release_are_counted_too(tmp_path):
    table = "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position\n"
    rows = [f"0000000{i}_000.png,No Finding,0,{i},50,M,{'PA' if i else 'LL'}\n" for i in range(3)]
    put(tmp_path, {"Data_Entry_2017.csv": (table + "".join(rows)).encode()})
    put(
        tmp_path,
        {f"images/0000000{i}_000.png": picture(i) for i in range(2)}
        | {"copy/00000001_000.png": picture(1), "images/9_0.png": picture(4)},
    )
    put(tmp_path, {"images/00000002_000.jp2": b"x", "images/part.7z": b"x", "images/films.7z.001": b"x"})
    (part,) = wanted_films([("nih", tmp_path)])
    assert list(part.films) == ["00000001_000.png"]
    assert part.dropped == {"view lateral": 1, "file missing": 1}
    assert part.beside == {
        COPY: 1,
        "film that no table lists": 1,
        ".csv file": 1,
        ".jp2 picture, not read: convert it to PNG": 1,
        ".7z archive, not looked into: unpack it": 1,
        "part of a split archive, not looked into: join and unpack it": 1,
    }
    (tmp_path / "images" / "00000001_000.png").unlink()
    (tmp_path / "copy" / "00000001_000.png").unlink()
    films = {
        "00000001_000.png": picture(1),
        "b/00000001_000.png": picture(1),
        "00000000_000.png": picture(0),
        "8_0.png": b"",
        "a.txt": b"",
    }
    put(tmp_path, {"images_01.tar.gz": tarred(films)})
    (part,) = wanted_films([("nih", tmp_path)])
    assert [film.film for film, _ in part.streamed(lambda film: False)] == ["00000001_000.png"]
    assert (part.beside[COPY], part.beside["film that no table lists"], part.beside[".txt file"]) == (1, 2, 1)


def test_where_no_film_is_left_the_reason_names_the_other_files(tmp_path):
    put(tmp_path, {f"{number}.jp2": b"x" for number in range(4)} | {"films.rar": b"x"})
    with pytest.raises(
        ValueError, match=r"no film left .*: 4 x \.jp2 picture, not read: convert it to PNG, 1 x \.rar archive"
    ):
        prepare(tmp_path / "pool", [("folder", tmp_path)], 32, key_file=tmp_path / "key")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("a/b.PNG", "film that no table lists"),
        ("x.dcm.gz", "film that no table lists"),
        ("IM_0001", "file without a suffix"),
        ("1.2.840.10008", "file without a suffix"),
        ("folder.d/IM 1", "file without a suffix"),
        ("a.Heic", ".heic picture, not read: convert it to PNG"),
        ("a.nii.gz", ".nii picture, not read: convert it to PNG"),
        ("a.tar.zst", ".zst archive, not looked into: unpack it"),
        ("a.part01.rar", "part of a split archive, not looked into: join and unpack it"),
        ("a.z01", "part of a split archive, not looked into: join and unpack it"),
        ("LICENSE.txt", ".txt file"),
        ("a.suffix that is none", "file without a suffix"),
    ],
)
def test_kinds(name, said):
    assert kind(name, IMAGE_SUFFIXES) == said


@given(st.text(min_size=1, max_size=30))
def test_any_name_has_a_kind_of_few_words(name):
    said = kind(name, IMAGE_SUFFIXES)
    assert said
    assert said.isprintable()
    assert len(said) < 80


def test_walk_counts_nothing_of_what_it_yields(tmp_path):
    put(tmp_path, {"b/2.png": b"", "a/1.png": b"", "c.png": b"", "a/b/3.png": b""})
    passed: Counter[str] = Counter()
    assert [name for name, _ in walk(tmp_path, passed)] == ["c.png", "a/1.png", "a/b/3.png", "b/2.png"]
    assert not passed
