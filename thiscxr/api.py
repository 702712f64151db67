"""The commands as functions for a notebook. They are available as `thiscxr.train` and so on, imported on first
use."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from thiscxr.config import AUTO, load_config
from thiscxr.files import check_place
from thiscxr.gallery.site import build_site
from thiscxr.model.network_file import find_network
from thiscxr.phantom.releases import write_layout
from thiscxr.pool import Pool
from thiscxr.reader.extractors import default_extractor, load_extractor
from thiscxr.sample.formats import FORMATS
from thiscxr.sample.sampling import load, request
from thiscxr.sample.writing import write_samples
from thiscxr.score import panel
from thiscxr.score.fairness import enough_films
from thiscxr.score.fakes import open_fakes
from thiscxr.score.records import write_scores
from thiscxr.train.loop import train as run_training
from thiscxr.train.start import resolve_init
from thiscxr.train.team import fair_threads


def phantom(out: str | Path, n: int = 2000, res: int = 64, seed: int = 0, workers: int | None = 1) -> Path:
    """Write a pool of `n` procedural films of `res` px, whose anatomy and findings are known, to the new folder `out`;
    return `out`.

    The same arguments give the same bytes. workers: processes, None for one per core; more than one need a script with
    `if __name__ == "__main__":`. Raises ValueError for a resolution that is not a power of two and for
    an `out` that is not empty.
    """
    write_layout(Path(out), "pool", n, res, seed, workers=workers)
    return Path(out)


def train(data: str | Path, out: str | Path = "runs", new: bool = False, device: str = "cpu", **options: Any) -> Path:
    """Train a generator on the pool `data` and return its run folder; the same call again resumes exactly where this
    one stopped.

    options: any of `thiscxr.config.Config`, such as kimg=100 (thousand films in total), minutes=5 (of this call),
    seed=1, config="demo" (a preset or a TOML file). new: start another run instead. Raises ValueError for an unknown
    option, a value that is out of range, and a pool of another resolution; FloatingPointError if the training diverges.
    """
    pool = Pool.open(Path(data))
    file = options.pop("config", None)
    given = load_config(
        Path(file) if file else None, resolution_of=lambda _: pool.resolution, data=str(data), out=str(out), **options
    )
    config = replace(given.resolve(device, fair_threads()), pool_fingerprint=pool.fingerprint)
    config = resolve_init(config, new, fit=given.channel_base == AUTO)
    check_place(Path(config.out) / "run", folder=True)
    return run_training(config, pool, Path(data).resolve().name, new)


def sample(
    model: str | Path,
    out: str | Path = "samples",
    n: int = 64,
    form: str = "png",
    permission: bool = False,
    **requested: Any,
) -> Path:
    """Write the films of seeds 0 to n - 1 of a network (file, bundled name or run folder) to the folder `out`, with
    samples.csv.

    form: png, png16, npz or wds. requested: view, sex, age_years, source, findings and no_findings, as of
    `thiscxr.load(...).sample`; nothing requested: the seed draws conditions from the joint table of the training
    films. permission: the caller asserts it, where the terms of a source require one. Raises ValueError for conditions
    that the network was not trained on and for an `out` that holds anything else.
    """
    if form not in FORMATS:
        raise ValueError(f"form is '{form}', expected one of {', '.join(FORMATS)}")
    network = load(model)
    seeds = list(range(n))
    write_samples(
        network, seeds, network.conditions(seeds, request(**requested)), 1.0, Path(out), FORMATS[form], permission
    )
    return Path(out)


def score(
    real: str | Path,
    fake: str | Path,
    extractors: Sequence[str] = (),
    n: int = 2048,
    out: str | Path | None = None,
    device: str = "cpu",
    split: str = "all",
    allow_small: bool = False,
    **options: Any,
) -> panel.Panel:
    """Return the panel of synthetic films against the pool `real`: `records` are its numbers, each with interval and
    floor.

    fake: a folder of films, or a network, from which `n` films are sampled. extractors: names or files; by default
    thiscxr64, from 128 px on thiscxr128. out: scores.json, for `write_site` and the card. split: "all", "train" or
    "holdout". options: seed and utility, as of `thiscxr score`. Raises ValueError if there are fewer films than
    features and not `allow_small`.
    """
    pool = Pool.open(Path(real))
    if out is not None:
        check_place(Path(out))
    networks = [load_extractor(name, device) for name in extractors or (default_extractor(pool.resolution),)]
    enough = partial(enough_films, pool, networks, split=split, allow_small=allow_small)
    with open_fakes(str(fake), pool.resolution, n, 1.0, device, enough, pool) as fakes:
        found = panel.score(pool, fakes, networks, split=split, allow_small=allow_small, device=device, **options)
    if out is not None:
        write_scores(Path(out), found.records)
    return found


def write_site(
    samples: str | Path,
    out: str | Path,
    model: str | Path | None = None,
    scores: str | Path | None = None,
    **options: Any,
) -> Path:
    """Write the static gallery of a samples folder to `out` and return its first page.

    model: the network that made the films (file, bundled name or run folder), for a page that generates in the
    visitor's browser. scores: what `score` wrote. options: title, permission, index, url, real, card, as of `thiscxr
    site`. Raises ValueError if the files do not belong together and if `out` holds anything that we did not write.
    """
    network = find_network(str(model)) if model is not None else None
    return build_site(Path(samples), Path(out), Path(scores) if scores is not None else None, model=network, **options)
