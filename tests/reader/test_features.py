"""Features are kept by content: computed once, whole or not at all."""

from pathlib import Path

import numpy as np
import pytest

from tests.reader.conftest import extractor
from thiscxr.pool import Pool
from thiscxr.reader import extractors
from thiscxr.reader.extractors import extract, films_key, pool_key


class Watched:
    """Batches of a pool that count how often they were read."""

    def __init__(self, pool: Pool, rows: np.ndarray, size: int = 50) -> None:
        self.pool, self.rows, self.size, self.reads = pool, rows, size, 0

    def __iter__(self):
        for some in extractors.in_batches(self.rows, self.size):
            self.reads += 1
            yield self.pool.read(some)


def test_several_extractors_in_one_pass_and_nothing_twice(pool: Pool) -> None:
    rows = pool.indices("all")
    first, second, third = (extractor(name, seed) for seed, name in enumerate("abc"))
    films, key = Watched(pool, rows), pool_key(pool, rows)
    features = extract(films, [first, second], count=len(rows), key=key)
    assert films.reads == 5, "one pass for both"
    for one, network in zip(features, (first, second), strict=True):
        assert isinstance(one, np.memmap)
        assert (one.shape, one.dtype) == ((240, 8), np.float32)
        np.testing.assert_allclose(one, network.features([pool.read(rows)]), rtol=1e-4, atol=1e-6)
    films.reads = 0
    again = extract(films, [second, third, first], count=len(rows), key=key)
    assert films.reads == 5, "only for the third"
    np.testing.assert_array_equal(again[0], features[1])
    np.testing.assert_array_equal(again[2], features[0])
    films.reads = 0
    extract(films, [first, second, third], count=len(rows), key=key)
    assert films.reads == 0


@pytest.mark.parametrize("damage", ["flip", "cut", "empty"])
def test_a_damaged_entry_is_computed_again(pool: Pool, tmp_path: Path, damage: str) -> None:
    rows, network = pool.indices("holdout"), extractor("a")
    films, key = Watched(pool, rows), pool_key(pool, rows)
    before = np.array(extract(films, [network], count=len(rows), key=key, folder=tmp_path)[0])
    (entry,) = tmp_path.iterdir()
    data = bytearray(entry.read_bytes())
    data[-3] ^= 1
    entry.write_bytes({"flip": data, "cut": data[:-9], "empty": b""}[damage])
    films.reads = 0
    after = extract(films, [network], count=len(rows), key=key, folder=tmp_path)[0]
    assert films.reads > 0
    np.testing.assert_array_equal(before, after)
    assert len(list(tmp_path.iterdir())) == 1


def test_an_interrupted_pass_leaves_nothing(pool: Pool, tmp_path: Path) -> None:
    def broken():
        yield pool.read(np.arange(10))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract(broken(), [extractor("a")], count=20, key="k", folder=tmp_path)
    with pytest.raises(ValueError, match="10 films were read where 20 were expected"):
        extract([pool.read(np.arange(10))], [extractor("a")], count=20, key="k", folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_keys_are_of_content(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.arange(20)
    assert pool_key(pool, rows) == pool_key(Pool.open(pool.path), rows)
    assert len({pool_key(pool, rows), pool_key(pool, rows[::-1]), pool_key(pool, rows[:19])}) == 3
    films = pool.read(rows)
    assert films_key(films) == films_key(films.copy())
    assert (
        len({films_key(films), films_key(films[::-1]), films_key(films[:19]), films_key(films.reshape(20, 16, 64))})
        == 4
    )
    entry = extractors._entry("k", extractor("a"))
    assert entry != extractors._entry("k", extractor("a", 1))
    monkeypatch.setattr(extractors, "CONTRACT", extractors.CONTRACT + 1)
    assert entry != extractors._entry("k", extractor("a"))


def test_bad_films_and_bad_weights_are_named(pool: Pool) -> None:
    with pytest.raises(ValueError, match=r"shape \(2, 32, 32, 3\), expected \[films, height, width\]"):
        extractor("a").features([np.zeros((2, 32, 32, 3), np.uint8)])
    spoilt = extractor("a")
    spoilt.reader.stem_norm.weight.data[0] = float("nan")
    with pytest.raises(ValueError, match="features that are not finite"):
        spoilt.features([pool.read(np.arange(2))])
