"""The panel: every number about a set of synthetic films against a pool, each with its protocol, interval and floor."""

import hashlib
import logging
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

import thiscxr
from thiscxr.labels import FINDINGS
from thiscxr.measures.diversity import ms_ssim_scores
from thiscxr.measures.floor import films_a_side
from thiscxr.measures.measured import Measured
from thiscxr.model.conditions import FilmConditions
from thiscxr.pool import Pool
from thiscxr.pool.covered import CoveredPool
from thiscxr.reader.answers import name_answers
from thiscxr.reader.extractors import Extractor, extract, films_key, in_batches, pool_key
from thiscxr.score import anatomy
from thiscxr.score.confounders import Shift, Tie, shift_table, strongest_tie, ties
from thiscxr.score.crowds import Side, by_group, distances, mean_of, read_sides
from thiscxr.score.fakes import FakeFilms
from thiscxr.score.fidelity import Fidelity, fidelity, findings_seen
from thiscxr.score.label_noise import LabelNoise, label_noise
from thiscxr.score.memorisation import Audit, annotate, audit, audit_columns
from thiscxr.score.poses import PosedFilms, Poses, pool_poses
from thiscxr.score.probes import Probed, probe_conditions, probe_real_or_synthetic
from thiscxr.score.records import Record
from thiscxr.score.reidentification import LEAST_PATIENTS, reidentification
from thiscxr.score.utility import LabelledFilms, Utility, pool_utility
from thiscxr.train.conditions import read_conditions

FRONTAL = ("PA", "AP", "AP_supine")
log = logging.getLogger("thiscxr")


@dataclass
class Panel:
    """Everything that was measured; what the report shows beside the numbers is here too."""

    records: list[Record] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # what could not be measured, and why
    audit: Audit | None = None
    fidelity: list[Fidelity] = field(default_factory=list)
    seen: list[tuple[str, ...]] = field(default_factory=list)  # of each synthetic film, the findings that the reader sees
    probed: list[Probed] = field(default_factory=list)
    ties: dict[str, list[Tie]] = field(default_factory=dict)
    shifts: list[Shift] = field(default_factory=list)
    trust: anatomy.Trust | None = None
    clouds: dict[str, NDArray[np.float64]] = field(default_factory=dict)  # films on the first two components of the real ones
    utility: Utility | None = None
    poses: Poses | None = None
    label_noise: LabelNoise | None = None


def score(
    real: Pool,
    fakes: FakeFilms,
    extractors: Sequence[Extractor],
    *,
    split: str = "all",
    seed: int = 0,
    allow_small: bool = False,
    device: str = "cpu",
    utility: bool = False,
    posed: PosedFilms | None = None,
    labelled: tuple[LabelledFilms, LabelledFilms] | None = None,
) -> Panel:
    """Return the panel of synthetic films against the real films of a split.

    utility, and phantom films of known pose or with known labels (for training and for tests): parts of minutes each.

    Raises ValueError when there are fewer films a side than feature dimensions and not `allow_small`, and for a holdout claim that does not
    hold: the network has learnt from the films that are called held out.
    """
    refuse_false_claims(real, fakes, split)
    if fakes.hidden:
        real = CoveredPool(real, fakes.hidden)
    panel, rows = Panel(), real.indices(split)
    if not len(rows):
        raise ValueError(f"{real.path} has no films in split '{split}'; use --split all")
    common: dict[str, Any] = {
        "resolution": real.resolution,
        "truncation": fakes.truncation,
        "seeds": fakes.seeds,
        "split": split,
        "pool_fingerprint": real.fingerprint,
        "network_sha256": fakes.network_sha256,
        "code_version": thiscxr.__version__,
    }
    if fakes.hidden:
        common["hidden"] = round(fakes.hidden / real.resolution, 4)

    @contextmanager
    def part(extractor: Extractor | None = None, sha256: str | None = None) -> Iterator[Callable[[Sequence[Measured]], None]]:
        """Yield what takes in the numbers of one part of the panel.

        A ValueError in it becomes a note, so that the rest goes on, and of the part nothing stays: no sentence may speak of what the
        records lack.
        """
        started = time.monotonic()
        found: list[Measured] = []
        before = {name: copy(value) for name, value in vars(panel).items()}
        try:
            yield found.extend
        except ValueError as error:
            vars(panel).update(before)
            panel.notes.append(str(error))
            log.warning("not measured: %s", error)
            return
        seconds = round(time.monotonic() - started, 2)
        by = extractor.sha256 if extractor else sha256
        panel.records += [Record.of(each, extractor_sha256=by if each.extractor else None, seconds=seconds, **common) for each in found]

    all_sides = read_sides(real, rows, fakes, extractors)
    steps = 2 * len(extractors) + 5 + utility + (posed is not None) + (labelled is not None)
    with tqdm(total=steps, unit="part", file=sys.stderr, desc="panel", delay=1) as bar:
        for place, extractor in enumerate(extractors):
            sides = all_sides[place]
            n = min(len(fakes), *(films_a_side(side.patients) for side in sides))
            if n <= extractor.dim and not allow_small:
                raise ValueError(
                    f"{len(rows)} real films (split {split}) and {len(fakes)} synthetic films give {n} a side, not more than the "
                    f"{extractor.dim} dimensions of {extractor.name}; add films, or use --allow-small, which the key then says"
                )
            with part(extractor) as take:
                take(mean_of([distances(side, extractor.name, n, seed) for side in sides]))
            bar.update()
            with part(extractor) as take:
                grouped, notes = by_group(sides, real, fakes, extractor.name, seed)
                take(grouped)
                panel.notes += notes
            bar.update()
            if place == 0:
                with part(extractor) as take:
                    take(confounders(panel, sides[0], real, rows, fakes, extractor, seed))
        with part() as take:
            patients = real.codes("patient")[0][rows]
            take(ms_ssim_scores(lambda some: real.read(rows[some]), patients, fakes.pixels, n=min(len(fakes), 1000), seed=seed))
        bar.update()
        with part() as take:
            panel.audit = audit(real, fakes.pixels, seed)
            take(panel.audit.measures())
        bar.update()
        with part(extractors[0]) as take:
            take(condition_fidelity(panel, real, fakes, extractors[0], seed))
        bar.update()
        with part():
            complete_table(panel, fakes)
        bar.update()
        segmenter, sha256 = anatomy.find_segmenter(device=device)
        with part(sha256=sha256) as take:
            take(plausibility(panel, segmenter, real, rows, fakes, seed))
        bar.update()
        if utility:
            with part() as take:
                panel.utility = pool_utility(real, fakes, seed=seed, device=device)
                take(panel.utility.measured())
            bar.update()
        if posed is not None:
            with part(extractors[0]) as take:
                panel.poses = pool_poses(extractors[0].reader, real, fakes, phantoms=posed, seed=seed)
                take(panel.poses.measured(extractors[0].name))
            bar.update()
        if labelled is not None:
            with part() as take:
                panel.label_noise = label_noise(*labelled, seed=seed, device=device)
                take(panel.label_noise.measured())
            bar.update()
    return panel


def refuse_false_claims(real: Pool, fakes: FakeFilms, split: str) -> None:
    """Raise ValueError where films that the network may have learnt from are called held out; say where both sides are the same films."""
    digests = set(real.column("sha256").tolist())
    same = sum(hashlib.sha256(np.ascontiguousarray(film).tobytes()).hexdigest() in digests for film in fakes.pixels)
    if same:
        log.warning("%d of %d synthetic films are films of %s, byte for byte: the same films on both sides", same, len(fakes), real.path)
    learnt, pool = fakes.network.get("sources", {}), fakes.network.get("pool_fingerprint")
    if split == "holdout" and "folder" in learnt and "folder" in real.meta["sources"] and pool != real.fingerprint:
        raise ValueError(
            f"--split holdout: the network has learnt from a folder of films, and {real.path} is another pool of a folder; who is held out "
            "follows from file names, so nobody can say that these films are new to it. Score it against the pool it was trained on"
        )
    if split == "train" and learnt:
        log.warning("--split train: the network may have learnt from these films; distances to them say nothing of other patients")


def confounders(
    panel: Panel, side: Side, real: Pool, rows: NDArray[np.int64], fakes: FakeFilms, extractor: Extractor, seed: int
) -> list[Measured]:
    """Probe the features of the films that one network may judge; tie the findings of all films to sources and views; fills the tables."""
    asked, truth = FilmConditions.of(fakes.asked), read_conditions(real, side.rows)
    everything, patients = read_conditions(real, rows), real.codes("patient")[0][rows]
    seeds = np.arange(len(fakes))
    centre = side.real.mean(axis=0)
    axes = np.linalg.eigh(np.cov(side.real, rowvar=False))[1][:, -2:][:, ::-1]
    panel.clouds = {"real films": (side.real - centre) @ axes, "synthetic films": (side.fake - centre) @ axes}
    found = reidentification(side.real, side.patients, side.fake, extractor.name, seed)
    if found[0].value is None:
        few = f"{found[0].num_real} patients have several of these films; {LEAST_PATIENTS} are needed"
        panel.notes.append(f"re-identification is not measurable: {few}")
    told = probe_real_or_synthetic(side.real, side.patients, side.fake, seeds, seed)
    panel.probed.append(told)
    probes = probe_conditions(side.real, truth, side.patients, side.fake, asked, seeds, seed)
    panel.probed += probes.probed
    panel.notes += [f"probe for {factor}: {why}" for factor, why in probes.left_out.items()]
    if len(side.rows) < len(rows):
        others = f"{len(rows) - len(side.rows)} of {len(rows)} real films are for other folds to judge"
        panel.notes.append(f"probes and re-identification: {others}")
    panel.shifts = shift_table(everything, patients, asked, seeds)
    for factor in ("source", "view"):
        for what, films, whose in (("real", everything, patients), ("asked", asked, seeds)):
            if tied := ties(films, whose, factor, seed):
                panel.ties[f"{what} {factor}"] = tied
                found.append(strongest_tie(tied, factor, what == "real", len(films)))
    return [*found, *(probe.measured(extractor.name) for probe in panel.probed)]


def condition_fidelity(panel: Panel, real: Pool, fakes: FakeFilms, extractor: Extractor, seed: int) -> list[Measured]:
    """Ask the reader what it sees in the synthetic films, and in films of patients whom it has not been trained on."""
    held = real.indices("holdout")
    if not fakes.conditional:
        raise ValueError("condition fidelity: nothing is known of what was asked of these films (samples.csv)")
    if not len(held):
        raise ValueError("condition fidelity: the pool has no held-out patients to know the reader by")
    sides = []
    for films, rows in ((real, held), (fakes.pixels, np.arange(len(fakes)))):
        read = films.read if isinstance(films, Pool) else films.__getitem__
        key = pool_key(films, rows) if isinstance(films, Pool) else films_key(films)
        (features,) = extract((read(some) for some in in_batches(rows)), [extractor], count=len(rows), key=key)
        with torch.inference_mode():
            heads = extractor.reader.answers(torch.from_numpy(np.array(features)))
        answers = {name: head.numpy() for name, head in heads.items()}
        sides.append(name_answers(answers, extractor.reader))
    truth, asked = read_conditions(real, held), FilmConditions.of(fakes.asked)
    panel.fidelity = fidelity(truth, sides[0], real.codes("patient")[0][held], asked, sides[1], np.arange(len(fakes)), seed)
    panel.seen = findings_seen(panel.fidelity, truth, *sides)
    return [each.measured(extractor.name) for each in panel.fidelity]


def complete_table(panel: Panel, fakes: FakeFilms) -> None:
    """Add to the samples.csv of a folder how near each film is to a real one, and what the reader sees. Raises ValueError as `annotate`."""
    columns = audit_columns(panel.audit) if panel.audit else {}
    columns |= {"seen": ["|".join(names) for names in panel.seen]} if panel.seen else {}
    if fakes.folder is not None and columns:
        annotate(fakes.folder, fakes.names, columns)


def plausibility(panel: Panel, segmenter: Any, real: Pool, rows: NDArray[np.int64], fakes: FakeFilms, seed: int) -> list[Measured]:
    """Measure lungs and hearts of frontal films on both sides, and how far that can be trusted on these real films."""
    frontal = rows[np.isin(real.column("view")[rows], FRONTAL)]
    asked = [condition.view for condition in fakes.asked]
    places = np.flatnonzero([view is None or view in FRONTAL for view in asked])
    seen = anatomy.measure_films(segmenter, (real.read(some) for some in in_batches(frontal)))
    patients = real.codes("patient")[0][frontal]
    panel.trust = anatomy.trust(seen, real.findings[frontal, FINDINGS.index("Cardiomegaly")], patients, seed)
    others = anatomy.measure_films(segmenter, (fakes.pixels[some] for some in in_batches(places)))
    found = anatomy.plausibility(seen, patients, others, places, seed)
    if lacking := [name.replace("_", " ") for name in anatomy.MEASURES if name.replace("_", " ") not in {each.question for each in found}]:
        few = f"on fewer than {anatomy.LEAST} films of a side two lungs and a heart are to be seen"
        panel.notes.append(f"no distance of the {', '.join(lacking)}: {few}")
    return [panel.trust.ctr, *found]
