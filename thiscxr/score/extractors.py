"""Feature extractors: films of any size -> feature vectors, with the hash of the weights that made them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from thiscxr.data.pixels import pixels_to_images
from thiscxr.files import sha256_file
from thiscxr.model.classifier import Reader
from thiscxr.train.reader import load_reader
from thiscxr.train.runs import find_weights

DEFAULT = "thiscxr64"


@dataclass(frozen=True)
class Extractor:
    """A reader whose pooled features are compared."""

    name: str
    sha256: str
    reader: Reader

    @property
    def dim(self) -> int:
        """Length of a feature vector."""
        return self.reader.config.feature_dim

    def features(self, batches: Iterable[np.ndarray]) -> np.ndarray:
        """Return float32 [n, dim] for batches of pixels uint8 or uint16 [k, res, res]."""
        device = next(self.reader.parameters()).device
        parts = []
        with torch.inference_mode():
            for pixels in batches:
                images = torch.from_numpy(pixels_to_images(pixels))[:, None]
                parts.append(self.reader.features(images.to(device)).cpu().numpy())
        return np.concatenate(parts) if parts else np.empty((0, self.dim), np.float32)


def load_extractor(name: str, device: str = "cpu") -> Extractor:
    """Return the bundled extractor of that name, or the one of a reader file that `thiscxr classify train` wrote.

    Raises ValueError for an unknown name and for a file that is not a reader.
    """
    path = Path(name) if Path(name).is_file() else find_weights(name, "reader")
    reader, _ = load_reader(path)
    short = path.stem if Path(name).is_file() else name
    return Extractor(short, sha256_file(path), reader.to(device))


def in_batches(rows: np.ndarray, size: int = 256) -> Iterator[np.ndarray]:
    """Yield consecutive parts of at most `size` rows."""
    for start in range(0, len(rows), size):
        yield rows[start : start + size]
