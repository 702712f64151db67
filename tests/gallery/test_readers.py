"""The reader study's statistics: known answers, and files that no page wrote."""

import csv
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from thiscxr.gallery.readers import (
    COLUMNS,
    Answer,
    accuracy,
    agreement,
    confidence_auc,
    read_answers,
    report,
    report_text,
    share_of,
    visual_ppv,
)

ONE = Answer("s1", "ann", "radiologist", "single", "seed-1.png", ("Effusion",), "", "synthetic", "synthetic", 3, 4.5)


def row(answer: Answer) -> dict[str, str]:
    texts = {name: str(getattr(answer, name)) for name in COLUMNS if name not in ("findings", "at")}
    return {**texts, "findings": "|".join(answer.findings), "at": "2026-01-01T00:00:00Z"}


def write(path: Path, rows: list[dict[str, str]], columns: tuple[str, ...] = COLUMNS) -> Path:
    with open(path, "w", newline="") as file:
        table = csv.DictWriter(file, columns, extrasaction="ignore")
        table.writeheader()
        table.writerows(rows)
    return path


def simulated(skill: float, readers: int = 6, films: int = 40, seed: int = 0) -> list[Answer]:
    """Answers on films of known truth, right with probability `skill`."""
    rng = np.random.default_rng(seed)
    answers = []
    for reader in range(readers):
        for film in range(films):
            truth = "real" if film % 2 else "synthetic"
            wrong = "synthetic" if film % 2 else "real"
            answer = truth if rng.random() < skill else wrong
            answers.append(
                replace(
                    ONE,
                    reader=f"r{reader}",
                    item=f"film-{film}",
                    truth=truth,
                    answer=answer,
                    confidence=int(rng.integers(1, 5)),
                )
            )
    return answers


@given(st.integers(1, 300).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_is_scipys(counts):
    hits, n = counts
    share, theirs = share_of(hits, n), binomtest(hits, n).proportion_ci(method="wilson")
    assert (share.low, share.high) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


def test_accuracy_covers_other_readers_and_other_films():
    guessing, able = accuracy(simulated(0.5, seed=1)), accuracy(simulated(0.95))
    assert guessing.low < 0.5 < guessing.high
    assert able.low > 0.8
    # Readers who all answer alike are no more evidence than one reader.
    alike = [replace(answer, reader=f"r{i}") for answer in simulated(0.7, readers=1) for i in range(6)]
    share, naive = accuracy(alike), share_of(sum(answer.right for answer in alike), len(alike))
    assert share.high - share.low > 1.8 * (naive.high - naive.low)


def test_auc_distinguishes_guessing_from_knowing():
    assert confidence_auc(simulated(1.0)).value == 1.0
    guess = confidence_auc(simulated(0.5))
    assert guess.low < 0.5 < guess.high
    assert confidence_auc([ONE, replace(ONE, item="b")]) is None


def test_agreement_is_krippendorffs():
    # Krippendorff 2011, "Computing Krippendorff's alpha-reliability", example B: four observers, missing values, alpha
    # 0.743.
    data = ["a b c c b a d a b . . .", "a b c c b b d a b e . c", ". c c c b c d b b e a .", "a b c c b d d a b e a ."]
    answers = [
        replace(ONE, reader=str(reader), item=str(unit), answer=value)
        for reader, line in enumerate(data)
        for unit, value in enumerate(line.split())
        if value != "."
    ]
    assert agreement(answers) == pytest.approx(0.743, abs=0.0005)
    assert agreement([ONE]) is None
    assert agreement([ONE, replace(ONE, reader="bob")]) == 1.0
    assert abs(agreement(simulated(0.5, films=400))) < 0.05


def test_the_label_audit_counts_films_not_answers():
    votes = {
        "a": "agree agree disagree",
        "b": "disagree disagree",
        "c": "agree disagree",
        "d": "not sure not sure agree",
    }
    answers = [
        replace(ONE, mode="audit", reader=str(i), item=film, label="Mass", truth="", answer=vote)
        for film, given_votes in votes.items()
        for i, vote in enumerate(given_votes.replace("not sure", "not_sure").split())
        for vote in [vote.replace("_", " ")]
    ]
    agree, unsure, disagree = visual_ppv(answers)["Mass"]
    assert (agree.value, unsure.value, disagree.value, agree.n) == (0.25, 0.5, 0.25, 4)


def test_from_files_to_text(tmp_path):
    answers = simulated(0.8, readers=3)
    audit = [replace(ONE, mode="audit", item=f"f{i}", label="Effusion", truth="", answer="agree") for i in range(9)]
    first = write(tmp_path / "a.csv", [row(answer) for answer in answers])
    second = write(tmp_path / "b.csv", [row(answer) for answer in [*answers[:5], *audit]])  # exported twice
    read = read_answers([first, second])
    assert len(read) == len(answers) + len(audit)
    facts = report(read)
    assert facts["readers"] == 4
    assert set(facts["real_or_not"]["by_truth"]) == {"real", "synthetic"}
    assert facts["label_audit"]["labels"]["Effusion"]["agree"]["value"] == 1.0
    text = report_text(facts)
    assert "Krippendorff" in text
    assert "reader r0" in text
    assert max(map(len, text.splitlines())) < 100


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mode": "guess"}, "mode is 'guess'"),
        ({"answer": "left"}, "answer is 'left'"),
        ({"truth": ""}, "truth is ''"),
        ({"confidence": "9"}, "confidence must be 1 to 4"),
        ({"confidence": "high"}, "must be numbers"),
        ({"seconds": "nan"}, "seconds 0 or more"),
        ({"item": ""}, "must not be empty"),
        ({"mode": "audit", "answer": "agree"}, "in an audit, label"),
    ],
)
def test_what_no_page_wrote_is_named(tmp_path, change, message):
    path = write(tmp_path / "a.csv", [row(ONE), {**row(replace(ONE, item="b")), **change}])
    with pytest.raises(ValueError, match=message) as caught:
        read_answers([path])
    assert "a.csv, line 3" in str(caught.value)


def test_files_that_are_no_answers(tmp_path):
    with pytest.raises(ValueError, match="has no column 'session'"):
        read_answers([write(tmp_path / "a.csv", [], ("film", "answer"))])
    with pytest.raises(ValueError, match="no answers in these files"):
        read_answers([write(tmp_path / "b.csv", [])])
    (tmp_path / "c.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="cannot be read as CSV"):
        read_answers([tmp_path / "c.csv"])
    with pytest.raises(ValueError, match="answered otherwise before"):
        read_answers([write(tmp_path / "d.csv", [row(ONE), row(replace(ONE, answer="real"))])])
    with pytest.raises(ValueError, match="cannot be read"):
        read_answers([tmp_path / "nothing.csv"])
    assert not math.isnan(share_of(0, 1).low)
