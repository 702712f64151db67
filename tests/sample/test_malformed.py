"""Broken files: what the table says of each is what our own reader does, and none of them makes it crash or hang."""

import csv
import io
import time
import warnings
from contextlib import suppress
from pathlib import Path

import pydicom
import pytest

from thiscxr.model.conditions import Condition
from thiscxr.pixels import load_film, read_dicom_header
from thiscxr.sample.dicom import DicomOptions
from thiscxr.sample.malformed import DEFECTS, EITHER, READ, REFUSE, File, parse, write_malformed
from thiscxr.sample.sampling import Network
from thiscxr.sample.truncation import Truncation

SILENT = {"empty"}  # holds no byte that could say anything


def write(network: Network, out: Path, options: DicomOptions | None = None, seed: int = 5) -> list[dict[str, str]]:
    write_malformed(network, [seed], [Condition("PA")], Truncation(), out, options or DicomOptions())
    with open(out / "malformed.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_every_broken_file_is_answered_as_the_table_says(network: Network, tmp_path: Path) -> None:
    rows = write(network, tmp_path / "out")
    assert len(rows) == len(DEFECTS) + 2
    assert {row["file"] for row in rows} == {path.name for path in (tmp_path / "out").glob("*.dcm")}
    answers = {}
    for row in rows:
        data, started = (tmp_path / "out" / row["file"]).read_bytes(), time.perf_counter()
        read_dicom_header(data)
        reason = ""
        try:
            load_film(data)
        except ValueError as error:
            reason = str(error)
        answer = REFUSE if reason else READ
        assert "\n" not in reason
        assert time.perf_counter() - started < 5, row["defect"]
        if row["reader"] != EITHER:
            answers[row["defect"]] = (answer, row["reader"])
        assert (b"SYNTHETIC" in data) != (row["defect"] in SILENT), row["defect"]
    assert {defect: pair for defect, pair in answers.items() if pair[0] != pair[1]} == {}
    assert {answer for answer, _ in answers.values()} == {READ, REFUSE}


def test_every_file_is_broken_and_the_whole_one_is_not(network: Network, tmp_path: Path) -> None:
    rows = write(network, tmp_path / "out")
    files = {row["file"]: (tmp_path / "out" / row["file"]).read_bytes() for row in rows}
    assert len(set(files.values())) == len(files), "no two are the same"
    whole = next(data for name, data in files.items() if name.endswith("shared-uids-a.dcm"))
    assert load_film(whole).native_bits == 12
    assert parse(whole) == parse(parse(whole).to_bytes()), "the parts are put together as they were"


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_the_inverse_is_one_of_either_kind(network: Network, tmp_path: Path, photometric: str) -> None:
    rows = write(network, tmp_path / "out", DicomOptions(photometric=photometric))
    files = {row["defect"]: (tmp_path / "out" / row["file"]).read_bytes() for row in rows}
    assert len(set(files.values())) == len(files), "no two are the same"
    said = pydicom.dcmread(io.BytesIO(files["photometric-inverse"])).PhotometricInterpretation
    assert {said, photometric} == {"MONOCHROME1", "MONOCHROME2"}
    assert b"SYNTHETIC^" in files["truncated-header"]
    assert b"SYN-" in files["truncated-header"]


def test_twins_share_their_uids_and_nothing_else(network: Network, tmp_path: Path) -> None:
    write(network, tmp_path / "out")
    a, b = (pydicom.dcmread(path) for path in sorted((tmp_path / "out").glob("*shared-uids*")))
    assert a.SOPInstanceUID == b.SOPInstanceUID
    assert a.StudyInstanceUID == b.StudyInstanceUID
    assert a.PatientID != b.PatientID
    assert a.PixelData != b.PixelData


def test_pydicom_never_does_worse_than_raise(network: Network, tmp_path: Path) -> None:
    rows = write(network, tmp_path / "out")
    marked = {"PatientName": 0, "PatientID": 0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for row in rows:
            started, read = time.perf_counter(), {}
            # whatever it raises: here it is pydicom that is tested with our files, not the other way round
            with suppress(Exception):
                file = pydicom.dcmread(io.BytesIO((tmp_path / "out" / row["file"]).read_bytes()), force=True)
                read = {name: str(file[name].value) for name in marked if name in file}
                file.pixel_array  # noqa: B018
            assert time.perf_counter() - started < 10, row["defect"]
            for name, begins in (("PatientName", "SYNTHETIC"), ("PatientID", "SYN-")):
                assert read.get(name, begins).startswith(begins), row
                marked[name] += name in read
    assert min(marked.values()) > 0.8 * len(rows), marked


def test_the_same_seed_breaks_the_same_way(network: Network, tmp_path: Path) -> None:
    write(network, tmp_path / "a")
    write(network, tmp_path / "b")
    assert {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()} == {
        path.name: path.read_bytes() for path in (tmp_path / "b").iterdir()
    }
    write(network, tmp_path / "b", seed=6)  # in the place of the older set, and only that
    assert {path.name[:15] for path in (tmp_path / "b").glob("*.dcm")} == {"broken-00000006"}


def test_what_cannot_be_broken_is_refused(network: Network, tmp_path: Path) -> None:
    for options in (DicomOptions(compress="rle"), DicomOptions(bits=8)):
        with pytest.raises(ValueError, match="leave --compress out and --bits at 12 to 16"):
            write(network, tmp_path / "out", options)
    assert not list(tmp_path.iterdir())


def test_an_element_is_put_in_its_place() -> None:
    file = File((), ((0x00100010, b"PN", b"A "), (0x00280010, b"US", b"\x01\0")))
    changed = file.put(0x00200020, b"L\\F ", b"CS").put(0x00280010, b"\x02\0")
    assert [element[0] for element in changed.data] == [0x00100010, 0x00200020, 0x00280010]
    assert changed.get(0x00280010) == b"\x02\0"
    assert changed.without(0x00200020, 0x00280010).data == (file.data[0],)
