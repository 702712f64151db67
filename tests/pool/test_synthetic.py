"""Films marked as synthetic do not enter a pool as films of patients, whatever program has saved them since."""

import csv
import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image, TiffImagePlugin
from PIL.PngImagePlugin import PngInfo

from tests.films import dicom
from thiscxr.marks import NOTICE, SOFTWARE, XMP_KEY, xmp
from thiscxr.model.conditions import Condition
from thiscxr.phantom import draw_film
from thiscxr.phantom.releases import write_layout
from thiscxr.pixels import Pixels, encode_png, load_film, to_square
from thiscxr.pixels.mark import is_marked, marked
from thiscxr.pool import Pool, verify_pool
from thiscxr.pool.prepare import prepare
from thiscxr.report import pool as describe
from thiscxr.sample.dicom import DicomOptions, dicom_bytes, dicom_dataset
from thiscxr.sample.provenance import Film, Origin, film_text, grid_text
from thiscxr.sample.truncation import Truncation

REAL = Path(__file__).parents[3] / "shared" / "data"
ORIGIN = Origin("a network", "ab" * 32, ("A collection",), "")
FILM = Film(7, Condition(view="PA"), Truncation(1.0), ORIGIN)
SYNTHETIC = "marked as synthetic (--allow-synthetic takes it)"
PICTURE = "a grid, a projection or another picture by thiscxr, no single film"


def body(res: int = 64) -> Pixels:
    return draw_film(1, res, view="PA").pixels


def saved(kind: str, pixels: Pixels | None = None, **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(body() if pixels is None else pixels).save(file, kind, **options)
    return file.getvalue()


def png_with(key: str, value: str, **how: bool) -> bytes:
    info = PngInfo()
    (info.add_itxt if key.startswith("XML") or how.pop("itxt", False) else info.add_text)(key, value, **how)
    return saved("PNG", pnginfo=info)


def profile(text: str) -> str:
    """As ImageMagick keeps a profile in a PNG: its name, its length, and hexadecimal digits in lines."""
    digits = text.encode().hex()
    return f"\nxmp\n{len(text.encode()):>8}\n" + "\n".join(digits[i : i + 72] for i in range(0, len(digits), 72)) + "\n"


def tiff_with(tag: int, value: str | bytes) -> bytes:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[tag] = value
    return saved("TIFF", tiffinfo=tags)


def jpeg_with_exif(tag: int, value: str) -> bytes:
    exif = Image.Exif()
    exif[tag] = value
    return saved("JPEG", exif=exif)


def dicom_film(without: tuple[str, ...] = (), pixels: Pixels | None = None, **options) -> pydicom.Dataset:
    deep = (body() if pixels is None else pixels).astype(np.uint16) * 16
    dataset = dicom_dataset(deep, FILM, DicomOptions(bits=12, **options))
    for name in without:
        delattr(dataset, name)
    return dataset


def shown(pixels: Pixels, turn: Callable[[Pixels], Pixels] = lambda film: film) -> bytes:
    """A marked film as another program exports it: its pixels alone."""
    return encode_png(np.ascontiguousarray(turn(marked(pixels, 255))))


def titled(title: str) -> bytes:
    """A film that names only its title and the program that made it."""
    return encode_png(body(), {"Software": SOFTWARE, "Title": title})


DIGITAL_SOURCE = "http://cv.iptc.org/newscodes/digitalsourcetype/"
SAYING = ("SyntheticData", "PatientComments", "ImageComments", "DerivationDescription")
FILMS = {
    "a film of ours": lambda: encode_png(body(), film_text(FILM)),
    "16 bits": lambda: encode_png(body().astype(np.uint16) * 257, film_text(FILM)),
    "disclaimer alone": lambda: png_with("Disclaimer", NOTICE),
    "disclaimer, compressed": lambda: png_with("Disclaimer", NOTICE, zip=True),
    "disclaimer as Unicode, compressed": lambda: png_with("Comment", NOTICE, itxt=True, zip=True),
    "xmp alone": lambda: png_with(XMP_KEY, xmp("")),
    "xmp as a profile": lambda: png_with("Raw profile type xmp", profile(xmp("")), zip=True),
    "xmp of another program": lambda: png_with(XMP_KEY, xmp("").replace(NOTICE, "").replace(SOFTWARE, "else")),
    "xmp of a composite": lambda: png_with(XMP_KEY, DIGITAL_SOURCE + "compositeWithTrainedAlgorithmicMedia"),
    "software and title": lambda: titled("Synthetic chest x-ray, frame 3 of 9 of a walk"),
    "jpeg with xmp": lambda: saved("JPEG", xmp=xmp("").encode()),
    "jpeg with a comment": lambda: saved("JPEG", comment=NOTICE),
    "jpeg with exif": lambda: jpeg_with_exif(270, NOTICE),
    "tiff with xmp": lambda: tiff_with(700, xmp("").encode()),
    "tiff with a description": lambda: tiff_with(270, NOTICE),
    "dicom": lambda: dicom_bytes(dicom_film()),
    "dicom of the other class": lambda: dicom_bytes(
        dicom_film(sop_class="dx", photometric="MONOCHROME1", compress="rle", mark=False)
    ),
    "dicom that only says it": lambda: dicom((body().astype(np.uint16) * 16), SyntheticData="YES"),
    "dicom with a comment left": lambda: dicom_bytes(dicom_film(("SyntheticData", "ImageComments"), mark=False)),
    "dicom with the burned-in mark left": lambda: dicom_bytes(dicom_film(SAYING)),
    "exported with the mark": lambda: shown(body()),
    "exported as jpeg": lambda: saved("JPEG", marked(body(), 255), quality=75),
    "exported, large": lambda: shown(body(512)),
    "exported and reduced": lambda: encode_png(to_square(marked(body(512), 255), 256)),
    "exported and inverted": lambda: shown(body(), lambda film: 255 - film),
    "exported and turned": lambda: shown(body(), lambda film: np.rot90(film)),
    "too narrow for the word": lambda: shown(body(32)),
}
PICTURES = {
    "a grid": lambda: encode_png(np.tile(body(), (2, 2)), grid_text(ORIGIN)),
    "a direction": lambda: encode_png(body(), {"Title": "Synthetic chest x-rays along Mass", **grid_text(ORIGIN)}),
    "a projection of a patient": lambda: titled("A film and its projection"),
}
OTHERS = {
    "plain": lambda: encode_png(body()),
    "of other software": lambda: encode_png(
        body(), {"Software": "thiscxray viewer 2", "Title": "Synthetic chest x-ray?"}
    ),
    "of a camera": lambda: png_with(XMP_KEY, DIGITAL_SOURCE + "digitalCapture"),
    "dicom that says no": lambda: dicom(
        (body().astype(np.uint16) * 16), SyntheticData="NO", ImageComments="AP portable"
    ),
    "jpeg": lambda: saved("JPEG", comment="scanned film"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("films")
    for kind, films in (("synthetic", FILMS), ("picture", PICTURES), ("other", OTHERS)):
        for number, make in enumerate(films.values()):
            (root / f"{kind}-{number:02d}.{'dcm' if (data := make())[128:132] == b'DICM' else 'png'}").write_bytes(data)
    return root


@pytest.mark.parametrize(("name", "make"), FILMS.items())
def test_the_mark_of_a_synthetic_film_is_read(name, make):
    assert load_film(make()).marked == "synthetic"


@pytest.mark.parametrize(("name", "make"), PICTURES.items())
def test_our_pictures_are_no_films(name, make):
    assert load_film(make()).marked == "picture"


@pytest.mark.parametrize(("name", "make"), OTHERS.items())
def test_other_films_are_not_taken_for_synthetic(name, make):
    assert load_film(make()).marked == ""


def reasons(pool: Path) -> list[str]:
    with open(pool / "rejected.csv", newline="") as file:
        return [row["reason"] for row in csv.DictReader(file)]


def test_they_are_refused_and_counted(folder, tmp_path):
    summary = prepare(tmp_path / "pool", [("folder", folder)], 32, key_file=tmp_path / "key", max_rejected=1)
    assert summary.rejected == {SYNTHETIC: len(FILMS), PICTURE: len(PICTURES)}
    assert summary.num_kept == len(OTHERS)
    assert sorted(reasons(tmp_path / "pool")) == sorted([SYNTHETIC] * len(FILMS) + [PICTURE] * len(PICTURES))
    assert Pool.open(tmp_path / "pool").meta["options"]["allow_synthetic"] is False
    facts = describe.describe_sources([("folder", folder)])["sources"]["folder"]
    assert facts["intensity"]["refused"] == summary.rejected
    with pytest.raises(
        ValueError,
        match=r"30 of 35 films were refused .*: 27 x marked as synthetic "
        r"\(--allow-synthetic takes it\), 3 x a grid",
    ):
        prepare(tmp_path / "few", [("folder", folder)], 32, key_file=tmp_path / "key")


def test_they_are_taken_when_requested_but_pictures_are_not(folder, tmp_path):
    summary = prepare(tmp_path / "pool", [("folder", folder)], 32, key_file=tmp_path / "key", allow_synthetic=True)
    assert summary.rejected == {PICTURE: len(PICTURES)}
    assert summary.num_kept == len(OTHERS) + len(FILMS)
    assert Pool.open(tmp_path / "pool").meta["options"]["allow_synthetic"] is True
    assert verify_pool(tmp_path / "pool") == []
    facts = describe.describe_sources([("folder", folder)], allow_synthetic=True)["sources"]["folder"]
    assert facts["intensity"]["refused"] == summary.rejected


@pytest.mark.parametrize("archive", ["zip", "tar", "tar.gz"])
def test_they_are_refused_in_archives(tmp_path, archive):
    films = {"a.png": FILMS["a film of ours"](), "grid.png": PICTURES["a grid"](), "b.png": OTHERS["plain"]()}
    home = tmp_path / "films"
    home.mkdir()
    if archive == "zip":
        with zipfile.ZipFile(home / "all.zip", "w") as file:
            for name, data in films.items():
                file.writestr(name, data)
    else:
        with tarfile.open(home / f"all.{archive}", f"w:{'gz' if archive.endswith('gz') else ''}") as file:
            for name, data in films.items():
                entry = tarfile.TarInfo(name)
                entry.size = len(data)
                file.addfile(entry, io.BytesIO(data))
    summary = prepare(tmp_path / "pool", [("folder", home)], 32, key_file=tmp_path / "key", max_rejected=1)
    assert (summary.num_kept, summary.rejected) == (1, {SYNTHETIC: 1, PICTURE: 1})


def test_phantoms_that_stand_for_a_release_are_films(tmp_path):
    write_layout(tmp_path / "release", "folder", 8, 64, 0)
    summary = prepare(
        tmp_path / "pool",
        [("folder", tmp_path / "release")],
        32,
        views=["PA", "AP", "AP_supine", "lateral"],
        key_file=tmp_path / "key",
    )
    assert not summary.rejected


@pytest.mark.parametrize("shape", [(16, 16), (18, 18), (19, 19), (16, 47), (40, 17), (257, 700)])
def test_a_film_of_any_shape_is_checked_for_a_mark(shape):
    """One narrower than three letters raised "cannot reshape array"."""
    film = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    assert load_film(encode_png(film)).marked == ""
    assert not is_marked(film)


def test_no_real_film_looks_as_if_it_were_marked():
    paths = [path for name in ("nih-128", "nih-256") for path in sorted((REAL / name / "images").glob("*.png"))[::20]]
    if not paths:
        pytest.skip(f"real films are not here: {REAL}")
    assert [path.name for path in paths if is_marked(load_film(path).pixels)] == []
