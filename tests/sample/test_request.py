"""From reports to requests: what they request, what they leave open, what the network never learnt, and which words say
nothing here."""

import csv
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thiscxr.model.conditions import Vocabulary
from thiscxr.sample.report import read_request

KNOWN = Vocabulary(("No Finding", "Cardiomegaly", "Effusion", "Edema", "Mass", "Pneumothorax"), ("AP", "PA"), ("nih",))
EXAMPLE = "Portable AP. Heart is large. Small left effusion, no pneumothorax."


def test_the_example() -> None:
    request = read_request(EXAMPLE, KNOWN)
    assert (request.condition.view, request.condition.present, request.condition.absent) == (
        "AP",
        ["Cardiomegaly", "Effusion"],
        ["Pneumothorax"],
    )
    assert request.not_understood == ("small", "left")
    assert str(request) == (
        "requested: view AP; present Cardiomegaly, Effusion; absent Pneumothorax\nnot understood: small, left"
    )


@pytest.mark.parametrize(
    ("text", "requested"),
    [
        ("PA and lateral views, 72-year-old woman. Cardiomegaly.", ("PA", "F", 72, ["Cardiomegaly"], [])),
        (
            "INDICATION: 61M, rule out edema.\nFINDINGS: AP window is clear. No effusion.",
            (None, "M", 61, [], ["Effusion"]),
        ),
        ("Normal chest.", (None, None, None, ["No Finding"], [])),
        ("No effusion.", (None, None, None, [], ["Effusion"])),  # one denial is no normal chest
        ("There is a mass.", (None, None, None, ["Mass"], [])),  # a Lung_Lesion too, which this network does not know
        ("Effusion. PA catheter in place was removed.", (None, None, None, ["Effusion"], [])),
    ],
)
def test_view_sex_age_and_findings(text: str, requested: tuple) -> None:
    condition = read_request(text, KNOWN).condition
    assert (condition.view, condition.sex, condition.age_years, condition.present, condition.absent) == requested


def test_what_is_left_open_is_reported_and_not_requested() -> None:
    request = read_request("Effusion. Possible edema. No fracture. Unremarkable bibbles.", KNOWN)
    assert request.condition.findings == {"Effusion": 1}
    assert (request.uncertain, request.never_learnt) == (("Edema",), ("Fracture",))
    assert "bibbles" in request.not_understood
    assert "absent in the report, not learnt by the network: Fracture" in str(request)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "Old rib fracture, effusion.",
            "the report says Fracture, which this network never learnt.*it knows: No Finding, Cardiomegaly",
        ),
        (
            "Right lower lobe infiltrate.",
            "the report says (Infiltration or Lung_Opacity|Lung_Opacity or Infiltration), which this network",
        ),
        ("Supine film. Effusion.", "view 'AP_supine' was not learnt.*it knows: AP, PA"),
        ("Possible edema.", "says nothing that could be requested of this network; it knows: No Finding"),
        ("The bibbles are unremarkable.", "says nothing that could be requested of this network"),
        ("", "--report is empty; expected the text of a report in English"),
        ("Derrame pleural en la base con neumonia.", "--report is not in English"),
        ("effusion\x00", "--report is not text"),
    ],
)
def test_what_cannot_be_requested_is_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        read_request(text, KNOWN)
    assert "\n" not in str(caught.value)


@given(
    st.text(max_size=200)
    | st.lists(st.sampled_from([*EXAMPLE.split(), "72", "F", "man", "supine", "no", "possible"])).map(" ".join)
)
def test_any_text_is_a_request_or_one_line(text: str) -> None:
    try:
        said = KNOWN.encode([read_request(text, KNOWN).condition])
    except ValueError as error:
        said = str(error)
    assert len(said) == 1 or "\n" not in said


def test_sample_requests_what_a_report_says_and_keeps_no_word_of_it(network_file: Path, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "thiscxr",
        "sample",
        "--model",
        str(network_file),
        "-n",
        "1",
        "--out",
        str(tmp_path / "out"),
    ]
    text = "Portable AP. Quetzalcoatl effusion."
    result = subprocess.run([*command, "--report", text], capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines()[:2] == ["requested: view AP; present Effusion", "not understood: quetzalcoatl"]
    (row,) = csv.DictReader((tmp_path / "out" / "samples.csv").open())
    assert (row["view"], row["findings"], row["no_findings"]) == ("AP", "Effusion", "")
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert files
    assert not any(b"uetzalcoatl" in path.read_bytes() for path in files)
    refused = subprocess.run([*command, "--report", text, "--finding", "Effusion"], capture_output=True, text=True)
    assert refused.returncode == 2
    assert "--report says what is requested" in refused.stderr
