"""Feature extractors: films of any size -> feature vectors, with the hash of the weights that made them."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from thiscxr.data.pixels import Pixels, pixels_to_images
from thiscxr.data.pool import Pool
from thiscxr.files import sha256_file
from thiscxr.model.classifier import Reader
from thiscxr.train.reader import MARK, Fold, load_folds, load_reader
from thiscxr.train.runs import find_weights

DEFAULT = "thiscxr64"
_BATCH = 256


@dataclass(frozen=True)
class Extractor:
    """A reader whose pooled features are compared."""

    name: str
    sha256: str
    reader: Reader
    trained_on: frozenset[str] = frozenset()  # marks of the films of its training patients
    folds: tuple[Fold, ...] = ()
    sources: tuple[str, ...] = ()  # that it was trained on

    @property
    def dim(self) -> int:
        """Length of a feature vector."""
        return self.reader.config.feature_dim

    def features(self, batches: Iterable[Pixels]) -> NDArray[np.float32]:
        """Return float32 [n, dim] for batches of pixels uint8 or uint16 [k, res, res]."""
        return read_features(self.reader, batches)


def read_features(reader: Reader, batches: Iterable[Pixels]) -> NDArray[np.float32]:
    """Return the reader's features, float32 [n, dim], of batches of pixels uint8 or uint16 [k, res, res]."""
    device = next(reader.parameters()).device
    parts = []
    with torch.inference_mode():
        for pixels in batches:
            images = torch.from_numpy(pixels_to_images(pixels))[:, None]
            parts.append(reader.features(images.to(device)).cpu().numpy())
    return np.concatenate(parts) if parts else np.empty((0, reader.config.feature_dim), np.float32)


def load_extractor(name: str, device: str = "cpu") -> Extractor:
    """Return the bundled extractor of that name, or the one of a reader file that `thiscxr classify train` wrote.

    Raises ValueError for an unknown name and for a file that is not a reader.
    """
    path = Path(name) if Path(name).is_file() else find_weights(name, "reader")
    reader, facts = load_reader(path)
    short = path.stem if Path(name).is_file() else name
    folds = tuple(Fold(fold.reader.to(device), fold.trained_on) for fold in load_folds(path))
    return Extractor(short, sha256_file(path), reader.to(device), frozenset(facts.get("trained_on", ())), folds, tuple(facts["sources"]))


@dataclass(frozen=True)
class Judged:
    """Real films and the network that may judge them, since it has not seen any of their patients."""

    reader: Reader
    rows: NDArray[np.int64]  # of the pool


def fair_judges(pool: Pool, rows: NDArray[np.int64], extractor: Extractor) -> list[Judged]:
    """Return which network may judge which of these films of a pool.

    Where the extractor has seen none of their patients, it judges all. Otherwise its folds judge, each the patients that it has not seen,
    or, where it has none, it judges those alone. Films are known again by the hash of their pixels; of a collection of which no film is
    known again (prepared at another size, or by others), the training split counts as seen, since that is the same for everybody.
    """
    marks = np.array([digest[:MARK] for digest in pool.column("sha256")[rows]])
    patients, sources, splits = (pool.codes(name)[0][rows] for name in ("patient", "source", "split"))

    def unseen(trained_on: frozenset[str]) -> NDArray[np.bool_]:
        seen = np.isin(marks, list(trained_on)) if trained_on else np.zeros(len(rows), bool)
        return ~np.isin(patients, patients[seen])

    fresh = unseen(extractor.trained_on)
    names, train = pool.codes("source")[1].to_pylist(), pool.codes("split")[1].to_pylist()
    known = {mark for trained in (extractor.trained_on, *(fold.trained_on for fold in extractor.folds)) for mark in trained}
    for code, name in enumerate(names):
        here = sources == code
        if name in extractor.sources and not known.intersection(marks[here].tolist()):
            fresh &= ~(here & np.array([train[split] == "train" for split in splits]))
    if fresh.all():
        return [Judged(extractor.reader, rows)]
    judges = [Judged(fold.reader, rows[unseen(fold.trained_on)]) for fold in extractor.folds if known.intersection(marks.tolist())]
    return [judge for judge in judges if len(judge.rows)] or [Judged(extractor.reader, rows[fresh])]


def features_of(reader: Reader, films: Any, rows: NDArray[np.int64], what: str) -> NDArray[np.float32]:
    """Return features [n, dim] of rows of a pool, or of an array of films, with progress on stderr."""
    read = films.read if isinstance(films, Pool) else films.__getitem__
    with tqdm(total=len(rows), unit="film", file=sys.stderr, desc=what, delay=1) as bar:

        def batches() -> Iterator[Pixels]:
            for some in in_batches(rows):
                yield read(some)
                bar.update(len(some))

        return read_features(reader, batches())


def in_batches(rows: NDArray[np.int64] | Sequence[int], size: int = _BATCH) -> Iterator[NDArray[np.int64]]:
    """Yield consecutive parts of at most `size` rows."""
    rows = np.asarray(rows)
    for start in range(0, len(rows), size):
        yield rows[start : start + size]
