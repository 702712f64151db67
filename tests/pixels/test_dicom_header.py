"""View, sex, age and ids from a DICOM header, and nothing else of it."""

import gzip
import io

import pydicom
import pydicom.data
import pytest

from tests.films import DEEP, dicom, smooth
from thiscxr import pixels as px
from thiscxr.pixels import dicom as pixels_dicom


@pytest.mark.parametrize(
    ("position", "view"),
    [
        ("PA", "PA"),
        (" ap ", "AP"),
        ("AP SUPINE", "AP_supine"),
        ("PA VIEW", "PA"),
        ("LL", "lateral"),
        ("RL", "lateral"),
        ("LATERAL", "lateral"),
        ("LLD", "other"),
        ("RLD", "other"),
        ("PA LLD", "other"),
        ("LLO", "other"),
        ("RAO", "other"),
        ("SWIMMERS", "other"),
        ("YES", "unknown"),
        ("", "unknown"),
    ],
)
def test_the_view_of_a_dicom_header(tmp_path, position, view):
    (tmp_path / "a.dcm").write_bytes(dicom(DEEP, ViewPosition=position))
    assert px.read_dicom_header(tmp_path / "a.dcm").view == view


def code_item(value: str, scheme: str) -> pydicom.Dataset:
    item = pydicom.Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, "a view"
    return item


@pytest.mark.parametrize(
    ("tags", "view"),
    [
        ({"ViewCodeSequence": [code_item("R-10206", "SRT")]}, "AP"),
        ({"ViewCodeSequence": [code_item("399348003", "SCT")]}, "AP"),
        ({"ViewCodeSequence": [code_item("R-10214", "SNM3")]}, "PA"),
        ({"ViewCodeSequence": [code_item("272479007", "SCT")]}, "PA"),
        ({"ViewCodeSequence": [code_item("R-10236", "SRT")]}, "lateral"),
        ({"ViewCodeSequence": [code_item("399198007", "SCT")]}, "lateral"),
        ({"ViewCodeSequence": [code_item("399356000", "SCT")]}, "other"),
        ({"ViewCodeSequence": [code_item("X-1", "99ME")]}, "unknown"),
        ({"ViewCodeSequence": [code_item("R-10206", "SRT")], "ViewPosition": "AP"}, "AP"),
        # they contradict each other
        ({"ViewCodeSequence": [code_item("R-10206", "SRT")], "ViewPosition": "PA"}, "unknown"),
        ({"PatientOrientation": ["A", "F"]}, "lateral"),
        ({"PatientOrientation": ["L", "F"]}, "unknown"),  # frontal, but which?
        ({"PatientOrientation": ["P", "F"], "ViewPosition": "LL"}, "lateral"),
    ],
)
def test_the_view_of_codes_and_orientation(tags, view):
    assert px.read_dicom_header(dicom(DEEP, **tags)).view == view


@pytest.mark.parametrize(
    ("tags", "sex", "age"),
    [
        ({"PatientSex": "F", "PatientAge": "042Y"}, "F", 42.0),
        ({"PatientSex": "m", "PatientAge": "006M"}, "M", 0.5),
        ({"PatientSex": "O", "PatientAge": "010D"}, "unknown", 10 / 365.25),
        ({"PatientAge": "026W"}, "unknown", 26 * 7 / 365.25),
        ({"PatientAge": "155Y", "PatientBirthDate": "19500101", "StudyDate": "20000101"}, "unknown", None),
        ({"PatientAge": "XX"}, "unknown", None),
        ({"PatientAge": "51", "PatientSex": "Female"}, "F", 51.0),  # RSNA's headers have no unit: it was unknown
        ({"PatientAge": "051"}, "unknown", 51.0),
        (
            {"PatientAge": "6", "PatientBirthDate": "19991201", "StudyDate": "20000601"},
            "unknown",
            183 / 365.25,
        ),  # months
        ({"PatientAge": "155"}, "unknown", None),
        ({"PatientBirthDate": "19500101", "StudyDate": "20000101"}, "unknown", 18262 / 365.25),
        ({"PatientBirthDate": "20000101", "StudyDate": "19500101"}, "unknown", None),
        ({"PatientBirthDate": "19500101"}, "unknown", None),
        ({"PatientBirthDate": "", "StudyDate": ""}, "unknown", None),
        ({}, "unknown", None),
    ],
)
def test_sex_and_age_of_a_dicom_header(tags, sex, age):
    header = px.read_dicom_header(io.BytesIO(dicom(DEEP, **tags)))
    assert (header.sex, header.age_years) == (sex, pytest.approx(age))


def test_ids_of_a_dicom_header_and_nothing_else():
    tags = {
        "PatientID": "A17 ",
        "StudyInstanceUID": "1.2.840.99",
        "PatientName": "Doe^Jane",
        "InstitutionName": "Secret",
        "AccessionNumber": "7",
    }
    data = dicom(DEEP, ViewPosition="PA", **tags)
    expected = px.DicomHeader("PA", "unknown", None, "A17", "1.2.840.99")
    assert px.read_dicom_header(data) == expected
    assert px.read_dicom_header(gzip.compress(data)) == expected
    assert px.read_dicom_header(data[132:]) == expected
    assert all(secret not in repr(px.read_dicom_header(data)) for secret in ("Jane", "Secret", "AccessionNumber"))
    read = {pydicom.datadict.tag_for_keyword(name) for name in pixels_dicom._HEADER_TAGS}
    assert None not in read
    assert not {"PatientName", "InstitutionName", "AccessionNumber", "OtherPatientIDs"} & set(pixels_dicom._HEADER_TAGS)


@pytest.mark.parametrize(
    "data",
    [b"", b"no DICOM", bytes(200), b"\x1f\x8b" + bytes(50), dicom(DEEP)[:150], dicom(DEEP, PatientBirthDate="1950")],
)
def test_a_header_that_cannot_be_read_is_unknown(tmp_path, data):
    assert px.read_dicom_header(data) == px.DicomHeader()
    assert px.read_dicom_header(tmp_path / "none.dcm") == px.DicomHeader()


def test_the_head_of_a_large_film_is_enough():
    data = dicom(smooth(1000, 1000, 12), ViewPosition="PA", PatientID="7")
    assert len(data) > 2 * pixels_dicom._HEAD_BYTES

    class Counting(io.BytesIO):
        taken = 0

        def read(self, size: int = -1) -> bytes:
            part = super().read(size)
            self.taken += len(part)
            return part

    file = Counting(data)
    assert px.read_dicom_header(file).view == "PA"
    assert file.taken <= pixels_dicom._HEAD_BYTES
