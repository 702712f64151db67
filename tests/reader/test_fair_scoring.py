"""No network scores films of its training patients."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.reader.conftest import extractor, reader
from thiscxr.pool import Pool
from thiscxr.reader.extractors import load_extractor
from thiscxr.reader.training import Fold, save_reader
from thiscxr.score.fairness import fair_groups, seen_films


def prefixes(pool: Pool, rows: np.ndarray) -> frozenset[str]:
    return frozenset(value[:16] for value in pool.column("sha256")[rows])


def of_patients(pool: Pool, numbers: slice) -> np.ndarray:
    """Rows of the training patients whose places, in order of appearance, are in the slice."""
    train = pool.indices("train")
    names = list(dict.fromkeys(pool.column("patient")[train]))[numbers]
    return train[np.isin(pool.column("patient")[train], names)]


def test_a_network_trained_on_nobody_here_scores_all(pool: Pool) -> None:
    rows = pool.indices("all")
    unrelated = extractor("a", sources=frozenset({"nih"}), trained_on=frozenset({"0" * 16}))
    ((scorer, scored),) = fair_groups(pool, rows, unrelated)
    assert scorer is unrelated
    np.testing.assert_array_equal(scored, rows)
    assert fair_groups(pool, rows[:0], unrelated) == []


def test_folds_score_the_patients_not_seen_in_their_training(pool: Pool) -> None:
    a, b = of_patients(pool, slice(0, 40)), of_patients(pool, slice(40, None))
    rng = np.random.default_rng(0)
    rows = rng.permutation(pool.indices("all"))
    folds = tuple(
        extractor(f"f{i}", i, sources=frozenset({"discs"}), trained_on=prefixes(pool, some))
        for i, some in enumerate((a, b), 1)
    )
    main = extractor("m", sources=frozenset({"discs"}), trained_on=prefixes(pool, np.r_[a, b]), folds=folds)
    groups = fair_groups(pool, rows, main)
    assert [scorer for scorer, _ in groups] == list(folds)
    holdout = set(pool.indices("holdout"))
    assert [set(scored) for _, scored in groups] == [set(b) | holdout, set(a) | holdout]
    patients = pool.column("patient")
    for scored, learnt in zip((group[1] for group in groups), (a, b), strict=True):
        assert not set(patients[scored]) & set(patients[learnt])
    np.testing.assert_array_equal(groups[0][1], rows[np.isin(rows, groups[0][1])])  # in the requested order
    ((scorer, scored),) = fair_groups(pool, pool.indices("holdout"), main)
    assert scorer is main, "nobody of these was seen, so the network itself scores"
    ((scorer, scored),) = fair_groups(pool, a, main)
    assert scorer is folds[1], "the other fold saw all of them"


def test_without_folds_unseen_patients_are_scored_and_one_known_film_identifies_its_patient(pool: Pool) -> None:
    one = of_patients(pool, slice(0, 1))
    assert len(one) == 2
    main = extractor("m", sources=frozenset({"discs"}), trained_on=prefixes(pool, one[:1]))
    np.testing.assert_array_equal(np.flatnonzero(seen_films(pool, main)), one)
    ((scorer, scored),) = fair_groups(pool, pool.indices("all"), main)
    assert scorer is main
    assert set(scored) == set(pool.indices("all")) - set(one)
    assert fair_groups(pool, one, main) == []


def test_a_collection_prepared_otherwise_counts_as_seen_and_the_phantom_does_not(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    other_size = extractor("m", sources=frozenset({"discs"}), trained_on=frozenset({"f" * 16}))
    for main in (other_size, replace(other_size, trained_on=frozenset())):
        ((_, scored),) = fair_groups(pool, pool.indices("all"), main)
        np.testing.assert_array_equal(scored, pool.indices("holdout"))
    # A fold that knows none of these films, but whose network knows some, was trained on them prepared alike.
    fold = replace(other_size, name="f", trained_on=prefixes(pool, pool.indices("holdout")[:0]) | {"e" * 16})
    knowing = replace(other_size, trained_on=prefixes(pool, of_patients(pool, slice(0, 1))), folds=(fold,))
    ((scorer, scored),) = fair_groups(pool, pool.indices("all"), knowing)
    assert scorer is fold
    assert len(scored) == len(pool)
    monkeypatch.setattr("thiscxr.score.fairness.is_phantom", lambda source: source == "discs")
    ((_, scored),) = fair_groups(pool, pool.indices("all"), other_size)
    assert len(scored) == len(pool)


def test_a_classifier_file_lists_what_it_was_trained_on(pool: Pool, tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    train = prefixes(pool, pool.indices("train"))
    some = prefixes(pool, of_patients(pool, slice(0, 40)))
    save_reader(path, reader(), pool, {}, [Fold(reader(1), some), Fold(reader(2), train - some)])
    loaded = load_extractor(str(path))
    assert loaded.sources == {"discs"}
    assert loaded.trained_on == train
    assert [fold.trained_on for fold in loaded.folds] == [some, train - some]
    assert len({loaded.sha256, *(fold.sha256 for fold in loaded.folds)}) == 3, "or the cache would mix them up"
    groups = fair_groups(pool, pool.indices("all"), loaded)
    assert sum(len(scored) for _, scored in groups) == len(pool) + len(pool.indices("holdout"))
