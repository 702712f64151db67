"""Folders of films for tests: pictures, DICOM objects, zips and tars, and what is taken of them."""

import io
import tarfile
import zipfile
from pathlib import Path

import pydicom
from pydicom.uid import ExplicitVRLittleEndian

from tests.films import dicom, png, smooth
from thiscxr.collections.plan import wanted_films

FILM = dicom(smooth(48, 48, 12), PatientID="p1", ViewPosition="PA")
# SOP classes (DICOM PS3.4, B.5): presentation state, dose report, key objects; a document, CT, film, secondary capture
PR, SR, KO = "1.2.840.10008.5.1.4.1.1.11.1", "1.2.840.10008.5.1.4.1.1.88.67", "1.2.840.10008.5.1.4.1.1.88.59"
PDF, CT = "1.2.840.10008.5.1.4.1.1.104.1", "1.2.840.10008.5.1.4.1.1.2"
DX, SC = "1.2.840.10008.5.1.4.1.1.1.1", "1.2.840.10008.5.1.4.1.1.7"


def put(root: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def picture(seed: int, side: int = 40) -> bytes:
    return png(smooth(side, side, 8, seed))


def zipped(members: dict[str, bytes], **options) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", **options) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def tarred(members: dict[str, bytes], mode: str = "w:gz") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def dicom_object(sop_class: str, modality: str, **tags) -> bytes:
    """A DICOM object without pixels."""
    meta = pydicom.dataset.FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = sop_class, "1.2.3"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = pydicom.Dataset()
    dataset.file_meta = meta
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class, "1.2.3"
    dataset.Modality, dataset.PatientID = modality, "p1"
    for name, value in tags.items():
        setattr(dataset, name, value)
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def bare(data: bytes, implicit: bool = False) -> bytes:
    """The same data set without preamble and file meta information, as old archives store it."""
    dataset = pydicom.dcmread(io.BytesIO(data))
    del dataset.file_meta
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset, implicit_vr=implicit, little_endian=True, enforce_file_format=False)
    return buffer.getvalue()


def taken(root: Path, *more: Path) -> tuple[list[str], dict[str, int], dict[str, int]]:
    """The paths of the films of one folder, or the ids of several; why others were not taken; what lies beside."""
    (part,) = wanted_films([("folder", path) for path in (root, *more)])
    names = [film.film if more else film.file for film in part.films.values() if film.film in part.files]
    for film, data in part.streamed(lambda film: False):
        assert data
        names.append(film.film if more else film.file)
    return names, dict(+part.dropped), dict(+part.beside)


def write_films(root: Path, *names: str, table: str | bytes | None = None, table_name: str = "metadata.csv") -> Path:
    """Empty files by these names, and a table of them."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    if table is not None:
        (root / table_name).parent.mkdir(parents=True, exist_ok=True)
        (root / table_name).write_bytes(table.encode() if isinstance(table, str) else table)
    return root
