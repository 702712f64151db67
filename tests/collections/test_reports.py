"""Reports become states: sentences with known answers, sections, spans, and any text at all."""

import csv
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thiscxr.collections.report_table import label_table
from thiscxr.collections.reports import label_report
from thiscxr.labels import FINDINGS, NEGATIVE, NOT_MENTIONED, POSITIVE, UNCERTAIN

OTHERS = Path(__file__).parents[3] / "shared" / "data" / "reports" / "reports.jsonl"
NO, MAYBE, SILENT, YES = NEGATIVE, UNCERTAIN, NOT_MENTIONED, POSITIVE
WORDS = {YES: "YES", NO: "NO", MAYBE: "MAYBE", SILENT: "SILENT"}

SENTENCES = [
    ("FINDINGS: The lungs are clear. Heart size is normal.", {"Cardiomegaly": NO, "Lung_Opacity": NO}),
    ("The heart is not enlarged.", {"Cardiomegaly": NO}),
    ("The left effusion has cleared.", {"Effusion": NO}),
    ("Previously seen right pneumothorax has resolved.", {"Pneumothorax": NO}),
    ("Interval resolution of the left pleural effusion.", {"Effusion": NO}),
    ("Resolving pneumonia in the right lower lobe.", {"Pneumonia": YES}),
    ("No effusion or pneumothorax.", {"Effusion": NO, "Pneumothorax": NO}),
    ("No focal consolidation, pleural effusion, or pneumothorax.", {"Consolidation": NO, "Effusion": NO, "Pneumothorax": NO}),
    (
        "INDICATION: Evaluate for pneumonia.\nFINDINGS: Subcutaneous emphysema along the left chest wall.",
        {"Pneumonia": SILENT, "Emphysema": SILENT},
    ),
    ("Follow up CT to evaluate for pneumonia.", {"Pneumonia": SILENT}),
    ("No pneumothorax, small left pleural effusion.", {"Pneumothorax": NO, "Effusion": YES}),
    ("No change in the moderate right effusion.", {"Effusion": YES}),
    ("Pneumonia cannot be excluded.", {"Pneumonia": MAYBE}),
    ("No pneumothorax with persistent right effusion.", {"Pneumothorax": NO, "Effusion": YES}),
    ("Portable AP. Heart is large. Small left effusion, no pneumothorax.", {"Cardiomegaly": YES, "Effusion": YES, "Pneumothorax": NO}),
    ("Cardiomegaly without edema.", {"Cardiomegaly": YES, "Edema": NO}),
    ("There is no evidence of pneumonia, but a small effusion is present.", {"Pneumonia": NO, "Effusion": YES}),
    ("Right basilar opacity, atelectasis versus pneumonia.", {"Lung_Opacity": YES, "Atelectasis": MAYBE, "Pneumonia": MAYBE}),
    ("Effusion and consolidation are not seen.", {"Effusion": NO, "Consolidation": NO}),
    ("Neither effusion nor pneumothorax is seen.", {"Effusion": NO, "Pneumothorax": NO}),
    ("No longer seen is the left pneumothorax.", {"Pneumothorax": NO}),
    ("The chest tube has been removed. No pneumothorax.", {"Support_Devices": NO, "Pneumothorax": NO}),
    ("Heart size is at the upper limits of normal.", {"Cardiomegaly": NO}),
    ("Cardiac silhouette is mildly enlarged.", {"Cardiomegaly": YES}),
    ("The cardiac and mediastinal silhouettes are within normal limits.", {"Enlarged_Cardiomediastinum": NO}),
    ("Heart and mediastinum are normal.", {"Enlarged_Cardiomediastinum": NO, "Cardiomegaly": NO}),
    ("Effusion has decreased but not resolved.", {"Effusion": YES}),
    ("Small pneumothorax is unchanged. No new consolidation.", {"Pneumothorax": YES, "Consolidation": NO}),
    ("Pneumonia is unlikely.", {"Pneumonia": MAYBE}),
    ("No acute cardiopulmonary process.", {"No Finding": YES}),
    ("Lungs are clear without effusion. Hiatal hernia.", {"Effusion": NO, "Hernia": YES, "Lung_Opacity": NO}),
    ("Question small right pneumothorax.", {"Pneumothorax": MAYBE}),
    ("Small pleural effusions, if any.", {"Effusion": MAYBE}),
    ("Cystic fibrosis with bronchiectasis.", {"Fibrosis": SILENT}),
    ("Pericardial effusion cannot be assessed.", {"Effusion": SILENT}),
    ("The previously noted opacity is no longer present.", {"Lung_Opacity": NO}),
    ("There is not a pneumothorax.", {"Pneumothorax": NO}),
    ("Mild pulmonary edema has not changed.", {"Edema": YES}),
    ("Mild edema, not significantly changed. Stable cardiomegaly.", {"Edema": YES, "Cardiomegaly": YES}),
    ("Heart size cannot be assessed due to effusion.", {"Effusion": YES, "Cardiomegaly": SILENT}),
    ("The pneumothorax is not visualized on the current study.", {"Pneumothorax": NO}),
    ("Consolidation in the left lower lobe is worrisome for pneumonia.", {"Consolidation": YES, "Pneumonia": MAYBE}),
    ("IMPRESSION: 1. No pneumonia. 2. Mild cardiomegaly.", {"Pneumonia": NO, "Cardiomegaly": YES}),
    ("Findings are consistent with pulmonary edema.", {"Edema": YES}),
    ("These findings exclude pneumothorax.", {"Pneumothorax": NO}),
    ("Recommend follow-up radiograph to exclude underlying mass.", {"Mass": SILENT}),
    ("History of pneumonia, now with clear lungs.", {"Pneumonia": SILENT, "Lung_Opacity": NO}),
    ("Free of consolidation or effusion.", {"Consolidation": NO, "Effusion": NO}),
    ("Atelectasis is likely.", {"Atelectasis": YES}),
    ("Possible small left effusion; no edema.", {"Effusion": MAYBE, "Edema": NO}),
    ("No displaced rib fracture.", {"Fracture": NO}),
    ("Left lower lobe collapse.", {"Atelectasis": YES}),
    ("Compression fracture with vertebral collapse.", {"Atelectasis": SILENT, "Fracture": YES}),
    ("No pleural effusions are present and the heart is enlarged.", {"Effusion": NO, "Cardiomegaly": YES}),
    ("Large hiatal hernia, otherwise no acute abnormality.", {"Hernia": YES}),
    ("The mediastinum is widened.", {"Enlarged_Cardiomediastinum": YES}),
    ("Interval removal of the right chest tube without pneumothorax.", {"Support_Devices": NO, "Pneumothorax": NO}),
    (
        "Bibasilar opacities may be due to atelectasis, although pneumonia is not excluded.",
        {"Lung_Opacity": YES, "Atelectasis": MAYBE, "Pneumonia": MAYBE},
    ),
    ("Cardiomegaly, pulmonary edema and bilateral effusions.", {"Cardiomegaly": YES, "Edema": YES, "Effusion": YES}),
    ("Pneumothorax: none. Effusion: small left.", {"Pneumothorax": NO, "Effusion": YES}),
    ("Nodule in the right upper lobe, not present previously.", {"Nodule": YES, "Lung_Lesion": YES}),
    ("no chf or pna. no ptx", {"Pneumonia": NO, "Pneumothorax": NO}),
    ("There has been near complete resolution of the right effusion.", {"Effusion": YES}),
    ("Effusion has nearly resolved.", {"Effusion": YES}),
    (
        "ET tube in place. No pleural effusion is identified, and there is no pneumothorax.",
        {"Support_Devices": YES, "Effusion": NO, "Pneumothorax": NO},
    ),
    ("Unchanged left effusion. Right effusion is no longer seen.", {"Effusion": YES}),
    ("Lungs are hyperinflated but clear.", {"Lung_Opacity": NO}),
    ("No pneumothorax or effusion but stable cardiomegaly.", {"Pneumothorax": NO, "Effusion": NO, "Cardiomegaly": YES}),
    ("Clear of effusion.", {"Effusion": NO}),
    ("The lungs are not clear.", {"Lung_Opacity": SILENT}),
    ("Heart size normal. No edema.", {"Cardiomegaly": NO, "Edema": NO}),
    ("Normal heart size, mediastinal and hilar contours.", {"Cardiomegaly": NO}),
    ("Rule out pneumothorax. Lines in place.", {"Pneumothorax": SILENT}),
    ("Pneumothorax is ruled out.", {"Pneumothorax": NO}),
    ("Do not see a pneumothorax.", {"Pneumothorax": NO}),
    ("Opacity could be atelectasis, but no effusion.", {"Atelectasis": MAYBE, "Effusion": NO}),
    ("No definite effusion.", {"Effusion": NO}),
    ("Trace effusion cannot be excluded. No pneumothorax.", {"Effusion": MAYBE, "Pneumothorax": NO}),
    ("Air bronchograms suggesting consolidation.", {"Consolidation": MAYBE}),
]

SLIDE = (
    "1. Unremarkable cardiomediastinal silhouette. 2. Diffuse reticular pattern, which can be seen with an atypical infection or chronic "
    "fibrotic change. No focal consolidation. 3. No pleural effusion or pneumothorax. 4. Mild degenerative changes in the lumbar spine and "
    "old right rib fractures."
)


@pytest.mark.parametrize(("sentence", "expected"), SENTENCES, ids=[sentence[:50] for sentence, _ in SENTENCES])
def test_sentences_say_what_a_reader_takes_from_them(sentence: str, expected: dict[str, int]) -> None:
    states = label_report(sentence).states
    assert {name: states[name] for name in expected} == expected


def test_report_of_the_talk_has_its_fourteen_answers() -> None:
    states = label_report(SLIDE).states
    said = {
        "Enlarged_Cardiomediastinum": NO, "Lung_Opacity": YES, "Consolidation": NO, "Pneumonia": MAYBE, "Pneumothorax": NO, "Effusion": NO,
        "Fracture": YES,
    }  # fmt: skip
    silent = ("No Finding", "Cardiomegaly", "Lung_Lesion", "Edema", "Atelectasis", "Pleural_Other", "Support_Devices")
    assert {name: states[name] for name in (*said, *silent)} == {**said, **dict.fromkeys(silent, SILENT)}
    assert states["Fibrosis"] == MAYBE  # not among the fourteen


def test_only_what_describes_the_film_is_read() -> None:
    report = (
        "FINAL REPORT\n EXAMINATION: CHEST (PORTABLE AP)\n\n INDICATION: History of pneumothorax, evaluate for edema\n\n COMPARISON: "
        "Effusion on the film of ___.\n\n FINDINGS: The lungs are clear.\n\n IMPRESSION: No pneumonia.\n"
    )
    states = label_report(report).states
    assert [states[name] for name in ("Pneumothorax", "Edema", "Effusion", "Pneumonia")] == [SILENT, SILENT, SILENT, NO]
    without = "INDICATION: Rule out pneumonia.\n\nCOMPARISON: None.\n\nSmall left effusion."
    assert label_report(without).states["Effusion"] == YES
    assert label_report(without).states["Pneumonia"] == SILENT
    assert label_report("").states == dict.fromkeys(FINDINGS, SILENT)


def test_of_several_mentions_the_most_telling_one_counts_and_spans_show_the_words() -> None:
    report = "FINDINGS: No effusion on the right. Small left effusion. IMPRESSION: Pneumonia cannot be excluded."
    labels = label_report(report)
    assert labels.states["Effusion"] == YES
    found = {(span.finding, report[span.start : span.end], span.phrase, span.rule) for span in labels.spans}
    assert found == {
        ("Effusion", "effusion", "effusion", "mention"),
        ("Pneumonia", "Pneumonia", "cannot be excluded", "uncertainty"),
    }
    assert {report[span.start - 5 : span.start] for span in labels.spans if span.finding == "Effusion"} == {"left "}


@given(
    st.text(max_size=400)
    | st.lists(st.sampled_from([s for s, _ in SENTENCES] + ["FINDINGS:", "\n\n", "INDICATION:", "no", ";"])).map(" ".join)
)
def test_any_text_has_a_state_for_each_finding_and_spans_within_it(text: str) -> None:
    labels = label_report(text)
    assert tuple(labels.states) == FINDINGS
    assert set(labels.states.values()) <= set(WORDS)
    assert all(0 <= span.start < span.end <= len(text) and labels.states[span.finding] == span.state for span in labels.spans)
    said = {span.finding for span in labels.spans}
    assert {name for name, state in labels.states.items() if state != SILENT} - {"No Finding"} == said - {"No Finding"}


@pytest.mark.skipif(not OTHERS.exists(), reason="needs ../shared/data/reports, five hundred reports with another labeller's answers")
def test_agrees_with_another_labeller_on_what_is_mentioned_and_what_is_absent() -> None:
    """That labeller calls nearly all that is hedged ("may reflect atelectasis") present, so what is present and what is uncertain
    are compared together; the states themselves by the sentences above."""
    names = {
        "Atelectasis": "atelectasis", "Cardiomegaly": "cardiomegaly", "Consolidation": "consolidation", "Edema": "pulmonary_edema",
        "Effusion": "pleural_effusion", "Pneumonia": "pneumonia", "Pneumothorax": "pneumothorax",
    }  # fmt: skip
    theirs_of = {"definitely present": YES, "uncertain": MAYBE, "definitely absent": NO}
    pairs = []
    for line in OTHERS.read_text().splitlines():
        report = json.loads(line)
        states = label_report(report["text"]).states
        pairs += [(states[name], theirs_of.get(report["labels"].get(key, ""), SILENT)) for name, key in names.items()]

    def f1(wanted: tuple[int, ...]) -> float:
        both = sum(a in wanted and b in wanted for a, b in pairs)
        return 2 * both / (sum(a in wanted for a, _ in pairs) + sum(b in wanted for _, b in pairs))

    assert f1((YES, MAYBE)) > 0.94
    assert f1((NO,)) > 0.85


def test_a_table_of_reports_becomes_a_table_of_states_and_its_spans(tmp_path: Path) -> None:
    reports = {
        "a": "  FINDINGS: Small left effusion.\nNo pneumothorax, heart size is normal.",
        "empty": " ",
        "es": "Sin derrame pleural ni neumotórax. Corazón de tamaño normal.",
        "ru": "Пневмоторакс не выявлен.",
        "fr": "Pas de pneumothorax. Coeur de taille normale.",
        "binary": "effusion\x00\x01",
    }
    with open(tmp_path / "in.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("id", "report"), *reports.items()])
    summary = label_table(tmp_path / "in.csv", tmp_path / "out.csv")
    assert (summary.reports, summary.labelled) == (6, 1)
    assert summary.unread == {"empty": ["empty"], "not in English": ["es", "ru", "fr"], "not text": ["binary"]}
    rows = {row["id"]: row for row in csv.DictReader((tmp_path / "out.csv").read_text(encoding="utf-8").splitlines())}
    assert list(rows) == list(reports)
    assert [rows["a"][name] for name in ("Effusion", "Pneumothorax", "Cardiomegaly", "Mass")] == ["1", "0", "0", "-2"]
    assert {rows["fr"][name] for name in FINDINGS} == {"-2"}
    lines = [json.loads(line) for line in (tmp_path / "out.spans.jsonl").read_text().splitlines()]
    said = {span["finding"]: reports["a"][span["start"] : span["end"]] for span in lines[0]["spans"]}
    assert said == {"Effusion": "effusion", "Pneumothorax": "pneumothorax", "Cardiomegaly": "heart size is normal"}
    assert [line["id"] for line in lines] == list(reports)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("id,text\na,b\n", "no column 'report'.*found: id, text"),
        ("id,report\n", "has no reports"),
        ("id,report\na,x\na,y\n", "1 row without an id of its own .line 3: a is there twice"),
        ("id,report\n,x\n", "the id is empty"),
        ("id,report\na\n", "line 2 has 1 cells, expected 2"),
        ("", "no column 'id'.*found: nothing"),
    ],
)
def test_a_table_that_is_none_is_refused_and_nothing_is_written(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "in.csv").write_text(content)
    with pytest.raises(ValueError, match=message):
        label_table(tmp_path / "in.csv", tmp_path / "out.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["in.csv"]
