"""Scores of views, findings and sources: with enough films each, by the networks that may score them."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tests.conftest import blob
from tests.score.conftest import folder, whole
from thiscxr.labels import NEGATIVE, POSITIVE, FilmRecord, Terms
from thiscxr.model.conditions import Condition, Vocabulary
from thiscxr.pool import Pool
from thiscxr.pool.writer import PoolWriter
from thiscxr.reader.extractors import Extractor
from thiscxr.report.terminal import score_table
from thiscxr.report.verdict import verdict
from thiscxr.report.words import reading
from thiscxr.score import distributions, panel
from thiscxr.score.fakes import FakeFilms


def folds_of(pool: Pool, extractor: Extractor, patients: int) -> Extractor:
    """The extractor with two folds, the first trained on all but this number of patients, the other on these."""
    codes, prefixes = pool.codes("patient")[0], [digest[:16] for digest in pool.column("sha256")]
    sides = [
        frozenset(prefix for prefix, code in zip(prefixes, codes, strict=True) if (code < patients) == first)
        for first in (False, True)
    ]
    folds = tuple(
        Extractor(f"{extractor.name}-fold{i}", str(i) * 64, extractor.reader, trained_on=side)
        for i, side in enumerate(sides)
    )
    return replace(extractor, trained_on=frozenset(prefixes), folds=folds)


def test_views_and_findings_are_scored_by_folds_of_different_sizes(
    pool: Pool, extractor: Extractor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, only: Callable[..., None]
) -> None:
    only("groups")
    # The folds had 25 and 34 films of a view per set: two keys, so that the view was left out without a note.
    monkeypatch.setattr(distributions, "LEAST_GROUP", 25)
    films = np.stack([blob(10_000 + i, 32, i % 2 == 0) for i in range(80)])
    rows = [{"file": f"seed-{i:08d}.png", "view": "PA" if i % 4 else "AP", "findings": "Effusion"} for i in range(80)]
    found = whole(pool, folder(tmp_path / "fakes", films, rows), folds_of(pool, extractor, 51))
    records = {each.key: each for each in found.records}
    view = records["fd_random8_25_view_PA"]
    assert view.num_fake == 25
    assert view.num_real == 50, "25 of each fold"
    assert view.ci95[0] <= view.value <= view.ci95[1]
    assert "fd_random8_25_Effusion" in records
    (note,) = (note for note in found.notes if "25 films per set" in note)
    assert "view AP (25 real, 20 synthetic)" in note
    assert "PA" not in note
    assert f"not measured: {note}" in score_table(found)


def test_associations_need_no_extractor_and_are_of_all_films(
    pool: Pool, extractor: Extractor, tmp_path: Path, only: Callable[..., None]
) -> None:
    # They were of the 102 films of the first fold, without a note.
    only("confounders")
    path = folder(tmp_path / "fakes", np.stack([blob(9000 + i, 32, i % 2 == 0) for i in range(44)]))
    found = whole(pool, path, folds_of(pool, extractor, 51))
    records = {each.key: each for each in found.records}
    assert records["tie_real_finding_view_v"].num_real == 240
    assert records["probe_random8_real_or_synthetic_auc"].num_real == 44
    assert "probes and re-identification: 138 of 240 real films are scored by other folds" in found.notes


def test_a_group_of_few_patients_does_not_take_the_others_with_it(
    pool: Pool, extractor: Extractor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, only: Callable[..., None]
) -> None:
    only("groups")
    monkeypatch.setattr(distributions, "LEAST_GROUP", 25)
    whole_distance = distributions.group_distance
    refused = ValueError("7 real patients and 30 films per set are too few for an interval")
    turn = iter([refused, None, None])

    def first_refused(*some: object, **options: object) -> object:
        if error := next(turn):
            raise error
        return whole_distance(*some, **options)

    monkeypatch.setattr(distributions, "group_distance", first_refused)
    films = np.stack([blob(10_000 + i, 32, i % 2 == 0) for i in range(80)])
    rows = [{"file": f"seed-{i:08d}.png", "view": "PA" if i % 2 else "AP", "findings": "Effusion"} for i in range(80)]
    found = whole(pool, folder(tmp_path / "fakes", films, rows), extractor)
    assert [each.group for each in found.records if each.measure == "fd"] == ["view PA", "Effusion"]
    assert (
        "Fréchet distance by random8, view AP: 7 real patients and 30 films per set are too few for an interval"
    ) in found.notes


def test_a_finding_that_follows_the_source_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, extractor: Extractor
) -> None:
    """Films of the same seeds requested at two sources: the classifier predicts more Effusion at the second, and as
    much Mass."""
    with PoolWriter(
        tmp_path / "pool", 32, 8, {name: Terms(name, "", "", "", "") for name in ("here", "there")}, b"key"
    ) as writer:
        for i in range(80):
            findings = dict.fromkeys(("Effusion", "Mass", "Edema"), POSITIVE if i % 2 else NEGATIVE)
            film = FilmRecord(str(i), str(i), str(i), str(i), "PA", "F", 50.0, findings)
            writer.add("there" if i % 3 else "here", film, blob(i, 32, i % 2 == 1), (32, 32, 8))
    pool = Pool.open(tmp_path / "pool")
    held = np.arange(80)
    monkeypatch.setattr(Pool, "indices", lambda self, split: held)
    vocabulary = Vocabulary(("Effusion", "Mass"), ("PA",), ("here", "there"))
    network = SimpleNamespace(
        info=SimpleNamespace(vocabulary=vocabulary),
        patients=lambda seeds, wanted: [wanted] * len(seeds),
        sha256="a" * 64,
    )

    def sample(network: object, seeds: list[int], requested: list[Condition], truncation: float) -> Iterator[tuple]:
        yield "synthetic", np.array(seeds), requested[0]

    def read(reader: object, batches: Iterator[tuple]) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(1)
        (batch,) = batches
        if isinstance(batch, np.ndarray):  # real films: Edema is not predicted at all
            truth = (held % 2).astype(float)
            return {
                "Effusion": truth + 0.1 * rng.normal(size=80),
                "Mass": truth + 0.1 * rng.normal(size=80),
                "Edema": rng.normal(size=80),
            }
        _, seeds, requested = batch
        noise = np.random.default_rng([len(requested.source), *seeds]).normal(size=len(seeds)) * 0.1
        return {"Effusion": noise + 0.4 * (requested.source == "there"), "Mass": noise}

    monkeypatch.setattr(panel, "sample_films", sample)
    monkeypatch.setattr(panel, "read_answers", read)
    fakes = FakeFilms(
        np.zeros((2, 32, 32), np.uint8), [Condition()] * 2, ["a", "b"], 1.0, "0-1", "a" * 64, None, {}, network
    )
    context = panel.Context(pool, pool, held, fakes, [panel.Looked(extractor, [], [], 20)], "all", 0, "cpu")
    found = panel.shortcuts(context)
    assert [each.key for each in found.records] == ["shortcut_random8_Effusion", "shortcut_random8_Mass"]
    moved, still = found.records
    assert (moved.group, moved.num_real, moved.num_fake) == ("there over here", 80, 128)
    assert 0.6 < moved.value < 1.0, "0.4 over the spread of the real films' scores, about 0.5"
    assert (reading(moved), reading(still)) == ("worse", "not distinguished")
    (line,) = (line for line in verdict(found.records) if "source" in line)
    assert line == "The prediction of a requested finding moves with the requested source: Effusion (there over here)."
    with pytest.raises(ValueError, match=r"score the network itself \(--fake MODEL\)"):
        panel.shortcuts(replace(context, fakes=replace(fakes, sampler=None)))
    narrow = replace(vocabulary, sources=("here",))
    network.info.vocabulary = narrow
    with pytest.raises(ValueError, match="there are 80 films of held-out patients, and 1 sources of the pool"):
        panel.shortcuts(context)
