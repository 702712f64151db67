"""Evaluation: known AUC and frequencies, resampling of patients, several networks, a failure to generalise."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from thiscxr.labels import NEGATIVE, POSITIVE, FilmRecord, Terms
from thiscxr.pool import Pool
from thiscxr.pool.writer import PoolWriter
from thiscxr.reader.evaluation import (
    Reading,
    calibrate,
    evaluate,
    evaluation_table,
    generalisation,
    generalisation_table,
    read_films,
)
from thiscxr.reader.network import Reader, ReaderConfig
from thiscxr.reader.saliency import class_activation, last_maps, overlay, saliency_sheet
from thiscxr.reader.training import Recipe, train_reader


def reading(
    truth: list[float] | np.ndarray, scores: list[float] | np.ndarray, patients: np.ndarray | None = None
) -> Reading:
    truth, scores = np.asarray(truth, np.float64), np.asarray(scores, np.float64)
    patients = np.arange(len(truth)) if patients is None else patients
    age = np.full(len(truth), 50.0)
    return Reading(
        {"Mass": truth, "age": age}, {"Mass": scores, "age": age + 3}, patients, np.full(len(truth), "a", object)
    )


def test_the_example_of_scikit_learn_and_an_age_that_is_three_years_off() -> None:
    found = evaluate([reading([0, 0, 1, 1, np.nan], [0.1, 0.4, 0.35, 0.8, 9.0])])  # of roc_auc_score
    mass, age = found.questions
    assert (mass.question, mass.measure, mass.value) == ("Mass", "auc", pytest.approx(0.75))
    assert (mass.num_positive, mass.num_negative, mass.num_patients) == (2, 2, 4), "the unknown film does not count"
    assert (age.value, age.ci95, age.num_positive) == (pytest.approx(3), pytest.approx((3, 3)), 5)
    assert found.mean_finding_auc == pytest.approx(0.75)
    brief = {
        "films": 5,
        "auc": {"Mass": 0.75},
        "auc_ci95": {"Mass": [0.0, 1.0]},
        "mean_finding_auc": 0.75,
        "age_error_years": 3.0,
    }
    assert found.brief() == {**brief, "age_r": None, "age_r_ci95": None}, "an age that never varies has no correlation"


def test_the_age_has_an_error_and_a_correlation_with_intervals() -> None:
    years = np.linspace(20, 80, 60)
    truth = np.arange(60.0) % 2
    noise = 10 * np.random.default_rng(0).normal(size=60)
    films = Reading(
        {"Mass": truth, "age": years}, {"Mass": truth, "age": years + noise}, np.arange(60), np.full(60, "a", object)
    )
    brief = evaluate([films]).brief()
    assert brief["age_error_years"] == pytest.approx(np.abs(noise).mean(), abs=0.01)
    assert brief["age_r"] == pytest.approx(np.corrcoef(years, years + noise)[0, 1], abs=1e-4)
    assert 0.7 < brief["age_r_ci95"][0] < brief["age_r"] < brief["age_r_ci95"][1] < 1
    assert "age, correlation" in evaluation_table("films", evaluate([films]))


def test_a_question_with_one_answer_is_left_out() -> None:
    found = evaluate([reading([1, 1, np.nan], [0.0, 1.0, 2.0])])
    assert [each.question for each in found.questions] == ["age"]
    assert found.mean_finding_auc is None
    assert "NaN" not in json.dumps(asdict(found))


def test_copies_of_films_do_not_make_the_interval_narrower() -> None:
    rng = np.random.default_rng(0)
    truth = rng.random(100) < 0.4
    scores = truth + rng.normal(size=100)
    once, tenfold = (
        evaluate([reading(truth, scores)]),
        evaluate([reading(*(np.repeat(a, 10) for a in (truth, scores, np.arange(100))))]),
    )
    widths = [np.diff(found.questions[0].ci95)[0] for found in (once, tenfold)]
    assert tenfold.questions[0].value == pytest.approx(once.questions[0].value)
    assert widths[1] == pytest.approx(widths[0], rel=0.25)
    assert widths[0] > 0.1


def test_networks_on_two_scales_are_not_pooled() -> None:
    one, other = [0, 0, 1, 1], [0, 1, 1, 1]
    found = evaluate([reading(one, np.array(one) + 0.0), reading(other, np.array(other) + 100.0)])
    assert found.questions[0].value == 1, (
        "pooled, the second network's absent films would outrank the first one's present ones"
    )
    assert (found.questions[0].num_positive, found.questions[0].num_negative, found.num_patients) == (5, 3, 8)


def test_a_mean_is_of_the_same_findings_in_every_round() -> None:
    """One film in forty has the second finding: in the rounds without it there is no mean, rather than one of the first
    finding alone."""
    rng = np.random.default_rng(0)
    common, rare = np.arange(40) % 2 == 0, np.arange(40) == 0
    truths = {"Mass": common.astype(float), "Edema": rare.astype(float)}
    answers = {"Mass": rng.normal(size=40) + 9 * common, "Edema": np.where(rare, -1.0, rng.normal(size=40) + 9)}
    found = evaluate([Reading(truths, answers, np.arange(40), np.full(40, "a", object))])
    assert found.mean_finding_auc == pytest.approx(0.5), "one is read perfectly, the other the wrong way round"
    assert found.mean_finding_ci95 == pytest.approx((0.5, 0.5))


def test_true_probabilities_are_calibrated_and_bolder_ones_are_not() -> None:
    rng = np.random.default_rng(1)
    logits = rng.normal(-2, 1, 4000)
    present = rng.random(4000) < 1 / (1 + np.exp(-logits))
    true, bold = (calibrate(present, 1 / (1 + np.exp(-each))) for each in (logits, logits + 1))
    assert true.error < true.by_chance < 0.03
    assert bold.error > 2 * bold.by_chance
    assert bold.error == pytest.approx(np.mean(1 / (1 + np.exp(-logits - 1))) - present.mean(), abs=0.01), (
        "too high everywhere"
    )
    assert [bin.films for bin in true.bins] == [400] * 10
    assert sum(bin.seen * bin.films for bin in true.bins) == pytest.approx(present.sum())
    assert all(a.told < b.told for a, b in zip(true.bins, true.bins[1:], strict=False))
    few = calibrate(np.array([True, False, False]), np.array([0.5, 0.1, 0.2]))
    assert few.error == pytest.approx((0.5 + 0.1 + 0.2) / 3)
    assert [bin.films for bin in few.bins] == [1, 1, 1]


@pytest.fixture(scope="module")
def two_sites(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    """Discs of 32 px of two sites: the finding is a disc below at one, above at the other, so that a classifier
    trained on one fails on the other."""
    path = tmp_path_factory.mktemp("sites") / "pool"
    terms = {
        site: Terms(title=site, terms="none", citation="none", url="none", acknowledgement="none")
        for site in ("up", "down")
    }
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:32, :32] / 32
    with PoolWriter(path, 32, 8, terms, b"key") as writer:
        for i in range(320):
            site, present = ("up", "down")[i % 2], i % 4 < 2
            centre = (0.7 if present == (site == "down") else 0.3) + 0.03 * rng.standard_normal()
            disc = ((x - 0.5) / 0.2) ** 2 + ((y - centre) / 0.2) ** 2 < 1
            pixels = np.clip(40 + 150 * disc + 8 * rng.standard_normal((32, 32)), 0, 255).astype(np.uint8)
            states = {
                "Effusion": POSITIVE if present else NEGATIVE,
                "Mass": POSITIVE if present and site == "up" else NEGATIVE,
            }
            writer.add(site, FilmRecord(str(i), str(i), str(i), str(i), "PA", "F", 50.0, states), pixels, (32, 32, 8))
    return Pool.open(path)


@pytest.fixture(scope="module")
def readers(two_sites: Pool) -> dict[str, Reader]:
    torch.set_num_threads(1)
    rows, sources = two_sites.indices("train"), two_sites.column("source")
    recipe = Recipe(res=32, batch=16)
    return {
        site: train_reader(two_sites, 5, 0, recipe=recipe, rows=rows[sources[rows] == site]) for site in ("down", "up")
    }


def test_a_classifier_that_does_not_generalise_is_found(two_sites: Pool, readers: dict[str, Reader]) -> None:
    cells = {(each.trained_on, each.tested_on): each for each in generalisation(two_sites, readers)}
    for (trained, tested), cell in cells.items():
        assert list(cell.auc) == ["Effusion"], (
            "Mass is never there at one of the sites: no mean with it could be compared"
        )
        assert (cell.value > 0.9) if trained == tested else (cell.value < 0.1), (trained, tested, cell.value)
    lines = generalisation_table(list(cells.values())).splitlines()
    assert [line.split()[0] for line in lines[2:]] == ["down", "up"]


def test_each_source_is_evaluated_on_its_own(two_sites: Pool, readers: dict[str, Reader]) -> None:
    whole = read_films(readers["up"], two_sites, two_sites.indices("holdout"))
    parts = {site: evaluate([whole.of_source(site)]) for site in ("up", "down")}
    areas = {site: found.questions[0].value for site, found in parts.items()}
    assert areas["up"] > 0.9
    assert areas["down"] < 0.1
    assert sum(found.num_films for found in parts.values()) == len(two_sites.indices("holdout"))
    assert "Effusion" in evaluation_table("up", parts["up"], reliability=True)


def test_no_films_and_no_shared_finding_are_refused(two_sites: Pool, readers: dict[str, Reader]) -> None:
    with pytest.raises(ValueError, match="has no such films"):
        read_films(readers["up"], two_sites, np.array([], np.int64))
    blind = Reader(ReaderConfig(("Hernia",), ("PA",), ("up",), 32)).eval()
    with pytest.raises(ValueError, match="no finding is predicted by every source's classifier"):
        generalisation(two_sites, readers | {"up": blind})


def test_the_map_sums_to_the_logit(two_sites: Pool, readers: dict[str, Reader]) -> None:
    """The disc is the evidence for the finding, and the mean of the map is the film's logit minus the average one."""
    reader, rows = readers["down"], np.flatnonzero(two_sites.column("source") == "down")
    reading = read_films(reader, two_sites, rows)
    pixels = two_sites.read(rows)
    average = last_maps(reader, pixels).mean(dim=0)
    heat = class_activation(reader, pixels, "Effusion", average)
    assert heat.shape == pixels.shape
    logits = reading.answers["Effusion"]
    coarse = (
        torch.einsum("nchw,c->n", last_maps(reader, pixels) - average, reader.heads["findings"].weight[0])
        / average[0].numel()
    )
    np.testing.assert_allclose(coarse.numpy(), logits - logits.mean(), atol=1e-3)
    present = reading.truths["Effusion"] == 1
    assert heat[present].mean() > heat[~present].mean()
    found = evaluate([reading])
    sheet, shown = saliency_sheet(reader, two_sites, rows, reading, found)
    assert shown == ["Effusion"]
    assert sheet.shape == (2 * 128, 6 * 128, 3)
    assert (sheet[:128] == sheet[:128, :, :1]).all(), "the films are grey"
    assert (sheet[128:, :, 0] > sheet[128:, :, 2]).any(), "the maps are not"


def test_an_overlay_changes_only_places_with_evidence() -> None:
    films, heat = np.full((1, 2, 2), 100, np.uint8), np.array([[[-1.0, 0.0], [1.0, 2.0]]])
    assert overlay(films, heat)[0].tolist() == [[[100] * 3, [100] * 3], [[146, 106, 70], [193, 112, 40]]]
    assert (overlay(films, -heat.clip(0)) == 100).all()


def test_a_classifier_that_predicts_nothing_has_no_saliency_grid(
    two_sites: Pool, readers: dict[str, Reader], tmp_path: Path
) -> None:
    rows = np.flatnonzero(two_sites.column("source") == "up")
    reading = read_films(readers["down"], two_sites, rows)
    with pytest.raises(ValueError, match="no finding is predicted well enough"):
        saliency_sheet(readers["down"], two_sites, rows, reading, evaluate([reading]))
