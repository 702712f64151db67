"""Feature extractors: films of any size -> feature vectors, several networks in one pass, each film through each
network once.

Features are kept in the cache under the content of the films, of the network and of this code's contract, so nothing is
computed twice and memory does not grow with the number of films. `score.fairness` decides which network may score which
real films.
"""

import hashlib
import logging
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from thiscxr.files import cache_folder, nearest_name, sha256_file
from thiscxr.model.network_file import WEIGHTS, bundled_weights, find_weights
from thiscxr.model.parallel import in_threads
from thiscxr.pixels import Pixels, pixels_to_images
from thiscxr.pool import Pool
from thiscxr.pool.covered import CoveredPool
from thiscxr.reader.network import Reader
from thiscxr.reader.networks import NETWORKS, FeatureNetwork
from thiscxr.reader.training import Fold, load_any_reader, load_folds, load_reader
from thiscxr.reader.weights import list_public, load_public

DEFAULT = "thiscxr64"
LARGE = "thiscxr128"  # the bundled one for films of 128 px and larger
# version of how films become features: raise it when range, resizing or layer change, so that cached features expire
CONTRACT = 1
Features = NDArray[np.float32]
log = logging.getLogger("thiscxr")


@dataclass(frozen=True)
class Extractor:
    """A network whose features are compared, and what is known of its training films."""

    name: str
    sha256: str  # of its weight file, as published
    network: torch.nn.Module  # a Reader, a FeatureNetwork or, if requested, a TwoViewReader, in evaluation mode
    sources: frozenset[str] = frozenset()  # collections that it was trained on
    # first 16 hexadecimal digits of the stored-pixel SHA-256 of its training patients' films
    trained_on: frozenset[str] = frozenset()
    folds: tuple["Extractor", ...] = ()  # the same architecture, each trained on some of these patients

    @property
    def dim(self) -> int:
        """Length of a feature vector."""
        return self.network.config.feature_dim if isinstance(self.network, Reader) else NETWORKS[self.name].dim

    @property
    def res(self) -> int:
        """Resolution at which films are read, px."""
        return self.network.config.res if isinstance(self.network, Reader) else NETWORKS[self.name].res

    @property
    def batch(self) -> int:
        """Films that go through the network at once."""
        return 256 if isinstance(self.network, Reader) else NETWORKS[self.name].batch

    @property
    def reader(self) -> Reader:
        """The network, if it is a classifier of single films; raises ValueError otherwise."""
        if not isinstance(self.network, Reader):
            raise ValueError(f"{self.name} gives features and no answers; use {DEFAULT} or a classifier file")
        return self.network

    def of(self, images: torch.Tensor) -> Features:
        """Return float32 [n, dim] for images float32 [n, 1, h, w] in [-1, 1]. Raises ValueError for features that are
        not finite."""
        assert isinstance(self.network, Reader | FeatureNetwork)
        device = next(self.network.parameters()).device
        network = self.network

        def features_of(some: torch.Tensor) -> torch.Tensor:
            with torch.inference_mode():
                return network.features(some.to(device)).float().cpu()

        # TF32 would make features of a GPU differ from those of a CPU in the third digit, under one key in the cache.
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            features = torch.cat([*in_threads(features_of, images.split(self.batch), device)]).numpy()
        if not np.isfinite(features).all():
            raise ValueError(f"{self.name} gives features that are not finite; its weights may be damaged")
        return features

    def features(self, batches: Iterable[Pixels]) -> Features:
        """Return float32 [n, dim], in memory, for batches of pixels uint8 or uint16 [k, res, res]."""
        parts = [self.of(_images(pixels)) for pixels in batches]
        return np.concatenate(parts) if parts else np.empty((0, self.dim), np.float32)


def default_extractor(resolution: int) -> str:
    """Return the bundled extractor for films of that resolution, px."""
    return LARGE if resolution >= 128 else DEFAULT


def load_extractor(name: str, device: str = "cpu", allow_download: bool = False, studies: bool = False) -> Extractor:
    """Return the extractor of that name (see `list_extractors`), or the classifier file that `thiscxr classify train`
    wrote.

    studies: also accept a classifier of studies, which has no features of films. Raises ValueError for an unknown name,
    a file that is not a classifier, and weights that are not here, unless `allow_download`.
    """
    if name in NETWORKS:
        network, sha256 = load_public(name, allow_download)
        return Extractor(name, sha256, network.to(device))
    path = Path(name)
    if not path.is_file():
        known = [*bundled_weights("reader"), *NETWORKS]
        if name not in known:
            raise ValueError(
                f"no classifier file or extractor '{name}'{nearest_name(name, known)}; known: {', '.join(known)}"
            )
        path = find_weights(name, "reader")
    reader, metadata = load_any_reader(path) if studies else load_reader(path)
    main = Extractor(
        path.stem if Path(name).is_file() else name,
        sha256_file(path),
        reader.to(device),
        frozenset(metadata["sources"]),
        frozenset(metadata.get("trained_on", ())),
    )
    return replace(main, folds=tuple(_fold(main, number, fold) for number, fold in enumerate(load_folds(path))))


def _fold(main: Extractor, number: int, fold: Fold) -> Extractor:
    """Return a fold's network, with a hash of its own: the cache must not confuse its features with those of `main`."""
    sha256 = hashlib.sha256(f"{main.sha256} fold {number}".encode()).hexdigest()
    device = next(main.network.parameters()).device
    return Extractor(f"{main.name}-fold{number}", sha256, fold.reader.to(device), main.sources, fold.trained_on)


def list_extractors() -> list[dict[str, Any]]:
    """Return a record for each extractor that has a name, as `thiscxr extractors --json` prints them; weights: None
    if they are not here."""
    readers = []
    for name, entry in bundled_weights("reader").items():
        reader, metadata = load_reader(find_weights(name, "reader"))
        readers.append(
            {
                "name": name,
                "dim": reader.config.feature_dim,
                "res": reader.config.res,
                "values": "[-1, 1], 1 channel",
                "layer": "last block, averaged over the film",
                "weights": str(WEIGHTS / entry["file"]),
                "sha256": entry["sha256"],
                "licence": "MIT, under the terms of its films",
                "trained_on": list(metadata["sources"]),
                "title": entry["summary"],
                "url": None,
            }
        )
    return [*readers, *list_public()]


def extract(
    batches: Iterable[Pixels], extractors: Sequence[Extractor], *, count: int, key: str, folder: Path | None = None
) -> list[Features]:
    """Return float32 [count, dim] for each extractor, memory-mapped from the cache; films are read only if features are
    missing.

    batches: pixels uint8 or uint16 [k, res, res], `count` films in all; key: the hash of what they are (`pool_key`,
    `films_key`); folder: of the cache, by default features/ in the user's. Raises ValueError when there are not `count`
    films.
    """
    folder = folder or cache_folder() / "features"
    names = [_entry(key, extractor) for extractor in extractors]
    found = [_find(folder, name, (count, extractor.dim)) for name, extractor in zip(names, extractors, strict=True)]
    missing = {name: e for name, e, features in zip(names, extractors, found, strict=True) if features is None}
    if missing:
        _compute(batches, missing, count, folder)
        found = [_find(folder, name, (count, extractor.dim)) for name, extractor in zip(names, extractors, strict=True)]
    features = [one for one in found if one is not None]
    if len(features) < len(found):
        raise OSError(f"{folder} does not keep what is written there; choose another cache folder with THISCXR_CACHE")
    return features


def _compute(batches: Iterable[Pixels], extractors: dict[str, Extractor], count: int, folder: Path) -> None:
    """Write the features of all films by every extractor, in one pass."""
    folder.mkdir(parents=True, exist_ok=True)
    by = ", ".join(extractor.name for extractor in extractors.values())
    digests = {name: hashlib.sha256() for name in extractors}
    done = 0
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        with ExitStack() as stack:
            files = {name: stack.enter_context(open(Path(scratch) / name, "wb")) for name in extractors}
            for name, extractor in extractors.items():
                header = {"descr": "<f4", "fortran_order": False, "shape": (count, extractor.dim)}
                np.lib.format.write_array_header_1_0(files[name], header)
            bar = stack.enter_context(
                tqdm(total=count, unit="film", file=sys.stderr, desc=f"features by {by}", delay=2)
            )
            for pixels in batches:
                images = _images(pixels)
                for name, extractor in extractors.items():
                    data = extractor.of(images).astype("<f4", copy=False).tobytes()
                    digests[name].update(data)
                    files[name].write(data)
                done += len(images)
                bar.update(len(images))
        if done != count:
            raise ValueError(
                f"{done} films were read where {count} were expected; the films changed while they were read"
            )
        for name, digest in digests.items():
            # The hash of the features is part of the name, so that one rename makes an entry whole and damage shows.
            os.replace(Path(scratch) / name, folder / f"{name}-{digest.hexdigest()[:32]}.npy")


def _find(folder: Path, name: str, shape: tuple[int, int]) -> Features | None:
    """Return the features kept under that name, None when there are none; what is damaged is removed."""
    for path in folder.glob(f"{name}-*.npy"):
        try:
            features = np.load(path, mmap_mode="r")
            whole = (
                features.shape == shape
                and features.dtype == np.float32
                and _digest(features) == path.stem.rpartition("-")[2]
            )
        except (ValueError, EOFError):
            whole = False
        if whole:
            return features
        log.warning("%s is damaged; it is computed again", path)
        path.unlink(missing_ok=True)
    return None


def _digest(features: Features) -> str:
    return hashlib.sha256(np.ascontiguousarray(features).data).hexdigest()[:32]


def _entry(key: str, extractor: Extractor) -> str:
    return hashlib.sha256(f"{CONTRACT} {key} {extractor.sha256}".encode()).hexdigest()[:32]


def pool_key(pool: Pool, rows: NDArray[np.integer]) -> str:
    """Return the hash of the films at `rows`, in that order: of their pixels, whatever pool they are in."""
    digest = hashlib.sha256(f"pool {pool.resolution} {pool.bits}\n".encode())
    digest.update(pool.pixel_hashes[rows].tobytes())
    if isinstance(pool, CoveredPool):
        digest.update(f"{pool.hidden} rows hidden".encode())
    return digest.hexdigest()


def films_key(pixels: Pixels) -> str:
    """Return the hash of films [n, res, res] in memory or mapped, in that order."""
    digest = hashlib.sha256(f"films {pixels.shape} {pixels.dtype}\n".encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()


def _images(pixels: Pixels) -> torch.Tensor:
    if pixels.ndim != 3:
        raise ValueError(f"pixels of shape {pixels.shape}, expected [films, height, width] of one channel")
    return torch.from_numpy(pixels_to_images(pixels))[:, None]


def in_batches(rows: NDArray[Any], size: int = 256) -> Iterator[NDArray[Any]]:
    """Yield consecutive parts of at most `size` rows."""
    for start in range(0, len(rows), size):
        yield rows[start : start + size]
