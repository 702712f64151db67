"""Open-I: headings and qualifiers, XML read safely, Kaggle's tables, names of films in all releases, and the messages
for what is wrong."""

import io
import tarfile
from pathlib import Path
from xml.sax.saxutils import quoteattr

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thiscxr.collections import find_files, openi
from thiscxr.collections.plan import wanted_films
from thiscxr.labels import FINDINGS, NEGATIVE, NOT_MENTIONED, POSITIVE

REPORTS_HEADER = "uid,MeSH,Problems,image,indication,comparison,findings,impression"
PROJECTIONS_HEADER = "uid,filename,projection"


def xml(number: int, *majors: str, films: tuple[str, ...] = (), automatic: str = "nodule") -> str:
    coded = "".join(f"<major>{major}</major>" for major in majors)
    images = "".join(f"<parentImage id={quoteattr(film)}><figureId>F1</figureId></parentImage>" for film in films)
    return (
        f'<?xml version="1.0" encoding="utf-8"?>\n<eCitation><meta type="rr"/><uId id="CXR{number}"/>'
        f"<MeSH>{coded}<automatic>{automatic}</automatic></MeSH>{images}</eCitation>"
    )


def write(root: Path, *documents: str) -> Path:
    (root / "ecgen-radiology").mkdir(parents=True, exist_ok=True)
    for index, document in enumerate(documents, start=1):
        (root / "ecgen-radiology" / f"{index}.xml").write_text(document, encoding="utf-8")
    return root


def findings_of(*majors: str) -> dict[str, int]:
    return dict(openi.report_findings(openi.parse_report(xml(1, *majors).encode()).headings))


def test_a_report_of_the_release(tmp_path):
    write(
        tmp_path,
        xml(1, "normal", films=("CXR1_1_IM-0001-3001", "CXR1_1_IM-0001-4001")),
        xml(2, "Cardiomegaly/borderline"),
    )
    one, other = openi.read_labels(tmp_path)
    assert (one.film, one.file, one.patient, one.study) == ("CXR1_IM-0001-3001", "CXR1_IM-0001-3001", "CXR1", "CXR1")
    assert (one.view, one.sex, one.age_years, one.split, one.labeler) == (
        "unknown",
        "unknown",
        None,
        None,
        "MeSH coding",
    )
    assert dict(zip(FINDINGS, one.states(), strict=True)) == {
        **dict.fromkeys(FINDINGS, NEGATIVE),
        "No Finding": POSITIVE,
    }
    assert other.findings is one.findings
    assert [(report.number, len(report.films)) for report in openi.read_reports(tmp_path)] == [("CXR1", 2), ("CXR2", 0)]


@pytest.mark.parametrize(
    ("majors", "positive", "masked"),
    [
        (["Cardiac Shadow/enlarged/mild"], {"Cardiomegaly"}, set()),
        (["Cardiac Shadow/borderline"], set(), set()),
        (["Opacity/lung/base/left"], {"Lung_Opacity"}, set()),
        (["Opacity/base/lung"], {"Lung_Opacity"}, set()),  # any later qualifier
        (["Lung/opacity"], set(), set()),
        (["Mass/lung/upper lobe/right"], {"Mass", "Lung_Lesion"}, set()),
        (["Mass/mediastinum"], set(), set()),
        (["Subcutaneous Emphysema"], set(), set()),
        (["Mediastinal Emphysema", "Cystic Fibrosis"], set(), set()),
        (["Bullous Emphysema"], {"Emphysema"}, set()),
        (["Hydropneumothorax/left"], {"Effusion", "Pneumothorax"}, set()),
        (["Hernia, Hiatal/large"], {"Hernia"}, set()),
        (["Thickening/pleura/apex"], {"Pleural_Thickening", "Pleural_Other"}, set()),
        (["Airspace Disease/lung"], {"Lung_Opacity"}, {"Infiltration"}),
        (["Infiltrate", "Airspace Disease"], {"Infiltration", "Lung_Opacity"}, set()),
        (["Calcified Granuloma/lung/right"], set(), {"Nodule"}),
        (["Lung/hyperdistention", "Deformity/ribs/left"], set(), {"Emphysema", "Fracture"}),
        (["Surgical Instruments", "Medical Device"], {"Support_Devices"}, set()),
        (["normal", "Scoliosis"], set(), set()),
    ],
)
def test_headings_with_their_qualifiers(majors, positive, masked):
    found = findings_of(*majors)
    assert {name for name, state in found.items() if state == POSITIVE} == positive
    assert {name for name, state in found.items() if state == NOT_MENTIONED} == masked


@pytest.mark.parametrize("majors", [["No Indexing"], []])
def test_findings_without_a_code_are_not_mentioned(majors):
    assert findings_of(*majors) == dict.fromkeys(FINDINGS, NOT_MENTIONED)


NAMES = [
    "CXR12_IM-0001-3001.png", "CXR12_IM-0001-3001.dcm", "NLMCXR_dcm/12/12_IM-0001-3001.dcm", "12_IM-0001-3001.dcm",
    "images/images_normalized/12_IM-0001-3001.dcm.png", "CXR12_12_IM-0001-3001.png",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_films_have_one_name_in_all_releases(tmp_path, name):
    path = write(tmp_path, xml(12, "normal", films=("CXR12_IM-0001-3001",))) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    (tmp_path / "CXR1_2_IM-0001-3001.png").touch()  # of report 1
    (film,) = openi.read_labels(tmp_path)
    assert [Path(file.path) for file in find_files(openi.OPENI, tmp_path, {film.file: film}).values()] == [path]


def tar(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def test_the_tar_of_reports_is_read_in_place(tmp_path):
    documents = {
        f"ecgen-radiology/{number}.xml": xml(number, "normal", films=(f"CXR{number}_IM-1-1",)).encode()
        for number in (10, 2)
    }
    path = tar(tmp_path / "NLMCXR_reports.tgz", {**documents, "ecgen-radiology/notes.txt": b"no report"})
    tar(tmp_path / "NLMCXR_png.tgz", {"3.xml": b"not looked into"})
    assert [film.patient for film in openi.read_labels(tmp_path)] == ["CXR2", "CXR10"]
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match=r"NLMCXR_reports\.tgz cannot be read to its end .*; fetch it again"):
        openi.read_labels(tmp_path)


BOMB = (
    "<!DOCTYPE lolz ["
    + "".join(f'<!ENTITY l{n + 1} "{f"&l{n};" * 10}">' for n in range(9))
    + '<!ENTITY l0 "lol">]><eCitation>&l9;</eCitation>'
)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (BOMB.encode(), "it has a DOCTYPE, which no report of Open-I has"),
        (BOMB.encode("utf-16"), "it has a DOCTYPE"),  # a search for the bytes would not see it
        (b'<!DOCTYPE x SYSTEM "file:///etc/passwd"><eCitation/>', "it has a DOCTYPE"),
        (b"<eCitation>&l9;</eCitation>", "it is no well-formed XML"),
        (b"<eCitation><uId", "it is no well-formed XML"),
        (b"", "it is no well-formed XML"),
        (b'<?xml version="1.0" encoding="klingon"?><eCitation/>', "it is no well-formed XML"),
        (b"<eCitation/>", "a uId or a parentImage has no id"),
        (b'<eCitation><uId id="CXR1"/><parentImage/></eCitation>', "a uId or a parentImage has no id"),
        (b"<eCitation>" + b" " * 2**20 + b"</eCitation>", r"it has \d+ bytes, a report has some thousand"),
    ],
    ids=range(10),
)
def test_bad_documents_are_named_and_nothing_expands(tmp_path, document, message):
    write(tmp_path, "")
    (tmp_path / "ecgen-radiology" / "1.xml").write_bytes(document)
    with pytest.raises(ValueError, match=rf"ecgen-radiology/1\.xml is not a report of Open-I: {message}") as caught:
        openi.read_labels(tmp_path)
    assert "\n" not in str(caught.value)


def kaggle(root: Path, reports: list[str], projections: list[str]) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    (root / openi.KAGGLE_REPORTS).write_text("\n".join([REPORTS_HEADER, *reports]) + "\n", encoding="utf-8")
    (root / openi.KAGGLE_PROJECTIONS).write_text("\n".join([PROJECTIONS_HEADER, *projections]) + "\n", encoding="utf-8")
    return root


PROJECTIONS = [
    "1,1_IM-0001-3001.dcm.png,Lateral",
    "1,1_IM-0001-4001.dcm.png,Frontal",
    "4,4_IM-2050-1001.dcm.png,Frontal",
]


def test_the_kaggle_copy(tmp_path):
    reports = [
        "1,normal,normal,Xray Chest PA and Lateral,Positive TB test,None.,Clear.,Normal.",
        "4,Cardiomegaly/borderline;Nodule/lung,,x,x,x,x,x",
    ]
    films = openi.read_labels(kaggle(tmp_path / "raddar", reports, PROJECTIONS).parent)
    assert [(film.film, film.patient, film.view) for film in films] == [
        ("CXR1_IM-0001-3001", "CXR1", "lateral"),
        ("CXR1_IM-0001-4001", "CXR1", "unknown"),  # frontal, but PA or AP is unknown
        ("CXR4_IM-2050-1001", "CXR4", "unknown"),
    ]
    assert films[0].findings["No Finding"] == POSITIVE
    assert {name for name, state in films[2].findings.items() if state == POSITIVE} == {
        "Cardiomegaly",
        "Nodule",
        "Lung_Lesion",
    }


def test_kaggle_s_projections_identify_the_laterals_of_the_xml_release_too(tmp_path):
    kaggle(tmp_path, ["1,Nodule/lung,,,,,,"], PROJECTIONS)
    write(tmp_path, xml(1, "normal", films=("CXR1_1_IM-0001-3001", "CXR1_1_IM-0001-4001", "CXR1_1_IM-0001-5001")))
    films = openi.read_labels(tmp_path)
    assert [film.view for film in films] == ["lateral", "unknown", "unknown"]
    assert films[0].findings["No Finding"] == POSITIVE  # the release's own coding


def test_unknown_views_are_taken_by_default():
    assert openi.OPENI.default_views == ("PA", "AP", "AP_supine", "unknown")


def test_other_bad_tables(tmp_path):
    with pytest.raises(
        ValueError,
        match=r"no Open-I label table; expected NLMCXR_reports\.tgz or "
        r"ecgen-radiology/\*\.xml or indiana_reports\.csv",
    ):
        openi.read_labels(tmp_path)
    kaggle(tmp_path, [], [])
    (tmp_path / openi.KAGGLE_PROJECTIONS).write_text("uid,file,projection\n")
    with pytest.raises(
        ValueError, match=r"indiana_projections\.csv has no column 'filename' \(did you mean 'file'\?\)"
    ):
        openi.read_labels(tmp_path)
    kaggle(tmp_path, [], [])
    (tmp_path / openi.KAGGLE_REPORTS).write_text("uid,Mesh Terms\n")
    with pytest.raises(ValueError, match=r"indiana_reports\.csv has no column 'MeSH'"):
        openi.read_labels(tmp_path)


def films_or_message(root: Path) -> list | str:
    try:
        return openi.read_labels(root)
    except ValueError as error:
        return str(error)


@settings(max_examples=80, deadline=None)
@given(data=st.binary(max_size=80) | st.text(max_size=80).map(str.encode), wrap=st.booleans())
def test_any_document_gives_a_report_or_one_line(tmp_path_factory, data, wrap):
    root = write(tmp_path_factory.mktemp("openi"), "")
    whole = b'<eCitation><uId id="CXR1"/><MeSH><major>' + data + b'</major></MeSH><parentImage id="x"/></eCitation>'
    (root / "ecgen-radiology" / "1.xml").write_bytes(whole if wrap else data)
    outcome = films_or_message(root)
    if isinstance(outcome, str):
        assert "1.xml is not a report of Open-I" in outcome
        assert "\n" not in outcome
    else:
        assert len(outcome) == 1


CELL = st.sampled_from(["1", "2", "1_IM-1-1.dcm.png", "Frontal", "normal;Nodule/lung"]) | st.text(
    st.characters(codec="utf-8", exclude_characters='\r\n",\0'), max_size=8
)


@settings(max_examples=80, deadline=None)
@given(
    reports=st.lists(st.lists(CELL, max_size=9), max_size=4),
    projections=st.lists(st.lists(CELL, max_size=4), max_size=4),
)
def test_any_cells_of_kaggle_give_rows_or_one_line(tmp_path_factory, reports, projections):
    outcome = films_or_message(
        kaggle(tmp_path_factory.mktemp("openi"), list(map(",".join, reports)), list(map(",".join, projections)))
    )
    if isinstance(outcome, str):
        assert ".csv line " in outcome
        assert "\n" not in outcome
    else:
        assert len(outcome) <= len(reports) * len(projections)


def test_labels_from_reports(tmp_path, caplog):
    text = (
        '<AbstractText Label="INDICATION">Pneumonia</AbstractText><AbstractText '
        'Label="FINDINGS">Heart size is normal. Small &lt; 1 cm '
        'nodule.</AbstractText><AbstractText Label="IMPRESSION"/>'
    )
    document = xml(1, "normal", films=("CXR1_1_IM-0001-3001",)).replace(
        "</eCitation>", f"<Abstract>{text}</Abstract></eCitation>"
    )
    write(tmp_path, document, xml(2, "Mass", films=("CXR2_IM-1",)))
    film, silent = openi.read_labels(tmp_path, reports=True)
    states = dict(zip(FINDINGS, film.states(), strict=True))
    assert {name: states[name] for name in ("Cardiomegaly", "Nodule", "Pneumonia")} == {
        "Cardiomegaly": NEGATIVE, "Nodule": POSITIVE, "Pneumonia": NOT_MENTIONED,
    }  # fmt: skip
    assert (film.labeler, silent.findings) == ("report rules", None)
    assert "reports that cannot be read label no film: empty 1" in caplog.text
    assert openi.read_labels(tmp_path)[0].labeler == "MeSH coding"
    for labels, labeler in (("reports", "report rules"), ("released", "MeSH coding")):
        (part,) = wanted_films([("openi", tmp_path)], labels_only=True, labels=labels)
        assert {film.labeler for film in part.films.values()} == {labeler}


def test_labels_from_kaggle_s_reports(tmp_path):
    root = kaggle(tmp_path, ["7,normal,,,Cough,None,Small effusion.,No pneumonia."], ["7,7_IM-1.dcm.png,Frontal"])
    (film,) = openi.read_labels(root, reports=True)
    states = dict(zip(FINDINGS, film.states(), strict=True))
    assert (states["Effusion"], states["Pneumonia"]) == (POSITIVE, NEGATIVE)
