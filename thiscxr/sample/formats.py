"""The file formats of a sample folder: PNG of 8 or 16 bits, NumPy archives, WebDataset tars. DICOM is in `dicom`.

A format turns the films of one file into bytes; the same films always give the same bytes.
"""

import io
import json
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from thiscxr.marks import NOTICE, SOFTWARE
from thiscxr.pixels import Pixels, encode_png
from thiscxr.sample.provenance import Film, film_text

MAX_SHARD_BYTES = 64 * 2**20  # of pixels in one archive
MAX_SHARD_FILMS = 1024
BATCH = 64  # films per step of the network; a file of many films holds whole steps


@dataclass(frozen=True)
class Format:
    """How films become files: `encode` takes pixels [k, res, res] of `bits` bits and their `Film`s."""

    name: str
    suffix: str
    bits: int
    encode: Callable[[Pixels, Sequence[Film]], bytes]
    sharded: bool = False  # many films per file
    options: str = ""  # everything else that changes the bytes

    def films_a_file(self, res: int) -> int:
        """Return how many films a file holds: bounded in number and in bytes."""
        if not self.sharded:
            return 1
        fit = MAX_SHARD_BYTES // (res * res * (1 if self.bits == 8 else 2))
        return max(BATCH, min(MAX_SHARD_FILMS, fit // BATCH * BATCH))

    def file_name(self, first: Film, number: int) -> str:
        """Return the name of the file that begins with the film `first`; number: of the file, from 0."""
        return f"films-{number:05d}{self.suffix}" if self.sharded else f"{film_key(first)}{self.suffix}"


def film_key(film: Film) -> str:
    """Return the name of a film without a suffix."""
    return f"seed-{film.seed:08d}" + (f"-{film.part}" if film.part else "")


def label_row(film: Film) -> dict[str, str | int | float | None]:
    """Return the requested condition of a film as labels: one value per finding (1 present, 0 absent, None not
    requested), and the rest."""
    condition = film.condition
    findings = {name: int(name in condition.present) for name in (*condition.present, *condition.absent)}
    return {
        "view": condition.view,
        "sex": condition.sex,
        "age_years": condition.age_years,
        "source": condition.source,
        **findings,
    }


def _png(pixels: Pixels, films: Sequence[Film]) -> bytes:
    return encode_png(pixels[0], film_text(films[0]))


def _npz(pixels: Pixels, films: Sequence[Film]) -> bytes:
    """Arrays as in docs/formats.md, stored in a zip without timestamps."""
    requested = [film.requested for film in films]
    ages = [np.nan if film.condition.age_years is None else film.condition.age_years for film in films]
    origin = films[0].origin
    arrays: dict[str, np.ndarray] = {
        "films": pixels,
        "seed": np.array([film.seed for film in films], np.int64),
        "age_years": np.array(ages, np.float64),
        **{
            name: np.array([row.get(name, "") for row in requested])
            for name in ("view", "sex", "source", "findings", "no_findings")
        },
        "truncation": np.array(str(films[0].truncation)),
        "network_sha256": np.array(origin.sha256),
        "notice": np.array(" ".join(filter(None, (NOTICE, origin.terms)))),
        "software": np.array(SOFTWARE),
    }
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **arrays)
    return file.getvalue()


def _wds(pixels: Pixels, films: Sequence[Film]) -> bytes:
    """A tar of key.png and key.json per film, in order, without owner or timestamps, as WebDataset reads it."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for image, film in zip(pixels, films, strict=True):
            text = film_text(film)
            facts = {
                "seed": film.seed,
                "labels": label_row(film),
                "truncation": str(film.truncation),
                "network_sha256": film.origin.sha256,
            }
            facts |= {"notice": NOTICE, "software": SOFTWARE, "restriction": film.origin.restriction}
            facts |= {"attribution": film.origin.attribution} if film.origin.attribution else {}
            for suffix, data in (
                (".png", encode_png(image, text)),
                (".json", json.dumps(facts, sort_keys=True).encode()),
            ):
                entry = tarfile.TarInfo(film_key(film) + suffix)
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
    return file.getvalue()


PNG = Format("png", ".png", 8, _png)
FORMATS = {
    "png": PNG,
    "png16": Format("png16", ".png", 16, _png),
    "npz": Format("npz", ".npz", 8, _npz, sharded=True),
    "wds": Format("wds", ".tar", 8, _wds, sharded=True),
}
