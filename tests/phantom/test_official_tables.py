"""The label files of phantom releases beside the official ones: headers, quoting, cells and codes."""

import csv
import gzip
import io
import re
import tarfile
from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.releases import label_files, many_films
from thiscxr.phantom.releases import padchest as layout_padchest
from thiscxr.phantom.releases.release import csv_bytes


def official(name):
    spec = find_spec("torchxrayvision")
    path = Path(spec.origin).parent / "data" / name if spec and spec.origin else None
    if path is None or not path.is_file():
        pytest.skip(f"torchxrayvision, which ships the official {name}, is not installed")
    return path


@pytest.mark.parametrize(
    ("name", "layout", "table"),
    [
        ("Data_Entry_2017_v2020.csv.gz", "nih", "Data_Entry_2017_v2020.csv"),
        ("chexpert_train.csv.gz", "chexpert", "CheXpert-v1.0-small/train.csv"),
        ("PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv.gz", "padchest", layout_padchest.TABLE),
    ],
)
def test_headers_and_quoting_are_those_of_the_official_tables(name, layout, table):
    with gzip.open(official(name), "rt", encoding="utf-8", newline="") as file:
        text = file.read(3_000_000)
    header = text.partition("\n")[0]
    assert label_files(layout)[table].startswith(header.encode() + b"\n")
    rows = list(csv.reader(io.StringIO(text, newline="")))[1:-2]  # the last may be cut
    written = csv_bytes(header, rows).decode()
    assert len(written) > 2_900_000
    assert text.startswith(written)


@pytest.mark.slow
def test_padchest_cells_are_like_the_official_ones():
    with gzip.open(
        official("PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv.gz"), "rt", encoding="utf-8", newline=""
    ) as file:
        header, *rows = csv.reader(file)
    real = dict(zip(header, zip(*rows, strict=True), strict=True))
    for column in (
        "Projection", "MethodProjection", "ViewPosition_DICOM", "Manufacturer_DICOM", "Modality_DICOM",
        "PixelAspectRatio_DICOM", "Pediatric", "SpatialResolution_DICOM", "BitsStored_DICOM", "XRayTubeCurrent_DICOM",
        "MethodLabel", "Exposure_DICOM",
    ):  # fmt: skip
        assert {film.cells[column] for film in many_films("padchest")} <= set(real[column]), column
    codes = dict(zip(real["Labels"], real["labelCUIS"], strict=True))
    for word, token in layout_padchest.TOKENS.items():
        if f"['{word}']" in codes:
            assert re.findall(r"C\d+", codes[f"['{word}']"]) == [token.cui] * bool(token.cui), word
        else:
            assert any(f"'{word}'" in text for text in codes), word
    places = dict(zip(real["Localizations"], real["LocalizationsCUIS"], strict=True))
    for place, code in layout_padchest.PLACE_CUIS.items():
        assert code in places[f"['{place}']"], place


def test_openi_reports_are_built_as_the_official_ones(reports):
    def places(element, above=""):
        yield above + element.tag
        for child in element:
            yield from places(child, f"{above}{element.tag}/")

    with tarfile.open(official("NLMCXR_reports.tgz")) as archive:
        real = [ElementTree.parse(archive.extractfile(f"ecgen-radiology/{number}.xml")).getroot() for number in (1, 10)]
    known = {place for report in real for place in places(report)}
    assert all(set(places(report)) <= known for report in reports[:50])
