"""Who may judge whom: no network judges films of patients whom it has learnt from."""

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


def test_a_network_that_saw_nobody_judges_all(pool: Pool) -> None:
    rows = pool.indices("all")
    stranger = extractor("a", sources=frozenset({"nih"}), trained_on=frozenset({"0" * 16}))
    ((judge, judged),) = fair_groups(pool, rows, stranger)
    assert judge is stranger
    np.testing.assert_array_equal(judged, rows)
    assert fair_groups(pool, rows[:0], stranger) == []


def test_folds_judge_the_patients_that_they_did_not_see(pool: Pool) -> None:
    a, b = of_patients(pool, slice(0, 40)), of_patients(pool, slice(40, None))
    rng = np.random.default_rng(0)
    rows = rng.permutation(pool.indices("all"))
    folds = tuple(
        extractor(f"f{i}", i, sources=frozenset({"discs"}), trained_on=prefixes(pool, some))
        for i, some in enumerate((a, b), 1)
    )
    main = extractor("m", sources=frozenset({"discs"}), trained_on=prefixes(pool, np.r_[a, b]), folds=folds)
    groups = fair_groups(pool, rows, main)
    assert [judge for judge, _ in groups] == list(folds)
    holdout = set(pool.indices("holdout"))
    assert [set(judged) for _, judged in groups] == [set(b) | holdout, set(a) | holdout]
    patients = pool.column("patient")
    for judged, learnt in zip((group[1] for group in groups), (a, b), strict=True):
        assert not set(patients[judged]) & set(patients[learnt])
    np.testing.assert_array_equal(groups[0][1], rows[np.isin(rows, groups[0][1])])  # in the order asked for
    ((judge, judged),) = fair_groups(pool, pool.indices("holdout"), main)
    assert judge is main, "nobody of these was seen, so the network itself judges"
    ((judge, judged),) = fair_groups(pool, a, main)
    assert judge is folds[1], "the other fold saw all of them"


def test_without_folds_the_unseen_are_judged_and_one_known_film_gives_away_its_patient(pool: Pool) -> None:
    one = of_patients(pool, slice(0, 1))
    assert len(one) == 2
    main = extractor("m", sources=frozenset({"discs"}), trained_on=prefixes(pool, one[:1]))
    np.testing.assert_array_equal(np.flatnonzero(seen_films(pool, main)), one)
    ((judge, judged),) = fair_groups(pool, pool.indices("all"), main)
    assert judge is main
    assert set(judged) == set(pool.indices("all")) - set(one)
    assert fair_groups(pool, one, main) == []


def test_a_collection_prepared_otherwise_counts_as_seen_and_the_phantom_does_not(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    other_size = extractor("m", sources=frozenset({"discs"}), trained_on=frozenset({"f" * 16}))
    for main in (other_size, replace(other_size, trained_on=frozenset())):
        ((_, judged),) = fair_groups(pool, pool.indices("all"), main)
        np.testing.assert_array_equal(judged, pool.indices("holdout"))
    # A fold that knows none of these films, but whose network knows some, was trained on them prepared alike.
    fold = replace(other_size, name="f", trained_on=prefixes(pool, pool.indices("holdout")[:0]) | {"e" * 16})
    knowing = replace(other_size, trained_on=prefixes(pool, of_patients(pool, slice(0, 1))), folds=(fold,))
    ((judge, judged),) = fair_groups(pool, pool.indices("all"), knowing)
    assert judge is fold
    assert len(judged) == len(pool)
    monkeypatch.setattr("thiscxr.score.fairness.is_phantom", lambda source: source == "discs")
    ((_, judged),) = fair_groups(pool, pool.indices("all"), other_size)
    assert len(judged) == len(pool)


def test_a_reader_file_says_what_it_was_trained_on(pool: Pool, tmp_path: Path) -> None:
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
    assert sum(len(judged) for _, judged in groups) == len(pool) + len(pool.indices("holdout"))
