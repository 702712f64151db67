"""The panel: every number about a set of synthetic films against a pool, each with its protocol, interval and floor."""

import logging
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

import thiscxr
from thiscxr.collections import FRONTAL_VIEWS
from thiscxr.labels import FINDINGS
from thiscxr.measures.diversity import ms_ssim_scores
from thiscxr.measures.floor import check_counts, films_a_side
from thiscxr.measures.measured import Measured
from thiscxr.measures.resampling import generator
from thiscxr.measures.spectrum import film_spectra, joined, spectrum_scores
from thiscxr.model.conditions import FilmConditions
from thiscxr.pixels import to_bits
from thiscxr.pool import Pool
from thiscxr.pool.covered import CoveredPool
from thiscxr.reader.answers import name_answers, read_answers
from thiscxr.reader.extractors import Extractor, extract, films_key, in_batches, pool_key
from thiscxr.reader.segmenter import find_segmenter
from thiscxr.sample.sampling import request, sample_films
from thiscxr.score import anatomy, distributions
from thiscxr.score.confounders import Shift, shift_table, shortcut, ties
from thiscxr.score.distributions import Side, by_group, mean_of, read_sides
from thiscxr.score.fairness import Fair, enough_films, refuse_false_claims
from thiscxr.score.fakes import FakeFilms
from thiscxr.score.fidelity import Fidelity, fidelity, predicted_findings, readable
from thiscxr.score.label_noise import LabelNoise, label_noise
from thiscxr.score.memorisation import Audit, annotate, audit, audit_columns
from thiscxr.score.poses import PosedFilms, Poses, pool_poses
from thiscxr.score.probes import probe_conditions, probe_real_or_synthetic
from thiscxr.score.records import Record
from thiscxr.score.reidentification import LEAST_PATIENTS, reidentification
from thiscxr.score.utility import LabelledFilms, Utility, pool_utility
from thiscxr.train.conditions import read_conditions

MOST_SPECTRA = 4000  # films per set whose spectra are compared
SHORTCUT_SEEDS = 64  # films of each source and finding
log = logging.getLogger("thiscxr")


@dataclass
class Panel:
    """All results, or those of one section; also what the report shows beside the numbers."""

    records: list[Record] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # what could not be measured, and why
    audit: Audit | None = None
    fidelity: list[Fidelity] = field(default_factory=list)
    # the predicted findings of each synthetic film
    predicted: list[tuple[str, ...]] = field(default_factory=list)
    shifts: list[Shift] = field(default_factory=list)
    trust: Measured | None = None  # AUC of the cardiothoracic ratio against Cardiomegaly on real films
    frontals: dict[str, anatomy.Frontals] = field(default_factory=dict)  # measures of "real" and "synthetic" films
    clouds: dict[str, NDArray[np.float64]] = field(default_factory=dict)  # on two principal components of the real ones
    utility: Utility | None = None
    poses: Poses | None = None
    label_noise: LabelNoise | None = None

    def __add__(self, other: "Panel") -> "Panel":
        """Return both together: lists concatenated, mappings merged, single results from the other where it has one."""
        both = {}
        for name, mine in vars(self).items():
            theirs = getattr(other, name)
            both[name] = (
                mine + theirs if isinstance(mine, list) else mine | theirs if isinstance(mine, dict) else theirs or mine
            )
        return Panel(**both)


@dataclass(frozen=True)
class Looked:
    """Features of both sets by one extractor, from several networks where no single one may score all real films."""

    extractor: Extractor
    fair: Fair
    sides: list[Side]
    n: int  # films per set


@dataclass(frozen=True)
class Context:
    """The inputs of the panel's sections."""

    real: Pool  # films of the synthetic ones' resolution
    every: Pool  # films of all resolutions
    rows: NDArray[np.int64]  # films of the split
    fakes: FakeFilms
    looked: list[Looked]  # one for each extractor
    split: str
    seed: int
    device: str

    def records(self, found: Iterable[Measured], sha256: str | None = None) -> list[Record]:
        """Return the records of numbers; sha256: of the network behind them, where it is no extractor."""
        known = {each.extractor.name: each.extractor.sha256 for each in self.looked}
        common = {
            "resolution": self.real.resolution,
            "truncation": self.fakes.truncation,
            "seeds": self.fakes.seeds,
            "split": self.split,
            "pool_fingerprint": self.real.fingerprint,
            "network_sha256": self.fakes.network_sha256,
            "code_version": thiscxr.__version__,
            "hidden": round(self.fakes.hidden / self.real.resolution, 4) if self.fakes.hidden else None,
        }
        return [Record.of(each, extractor_sha256=sha256 or known.get(each.extractor or ""), **common) for each in found]


Part = Callable[[Context], Panel]  # a section; raises ValueError where it cannot measure


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

    utility, and phantom films of known pose or with known labels (for training and for tests): sections that take
    minutes each.

    Raises ValueError when there are fewer films per set than feature dimensions and not `allow_small`, and for a false
    holdout claim: the network was trained on the films that are called held out.
    """
    refuse_false_claims(real, fakes, split)
    if fakes.hidden:
        real = CoveredPool(real, fakes.hidden)
    every, real = real, real.at_resolution(real.resolution)
    rows, fair, counts = enough_films(real, extractors, len(fakes), split=split, allow_small=allow_small)
    looked = [Looked(*each) for each in zip(extractors, fair, read_sides(real, fakes, fair), counts, strict=True)]
    context = Context(real, every, rows, fakes, looked, split, seed, device)
    parts: list[Part] = [partial(part, looked=each) for each in looked for part in (distances, groups)]
    parts += [partial(native_crops, looked=each) for each in looked if each.extractor.res < real.resolution]
    parts += [confounders, diversity, fine_structure, memorisation, condition_fidelity, plausibility]
    parts += [shortcuts] if len(set(real.column("source")[rows])) > 1 else []
    parts += [use_for_training] if utility else []
    parts += [partial(moved_films, phantoms=posed)] if posed is not None else []
    parts += [partial(flipped_labels, films=labelled)] if labelled is not None else []
    panel = Panel()
    for part in tqdm(parts, unit="part", file=sys.stderr, desc="panel", delay=1):
        panel += whole_or_nothing(part, context)
    return panel + complete_table(panel, fakes)


def whole_or_nothing(part: Part, context: Context) -> Panel:
    """Return the results of a section; where it cannot measure, its reason and nothing else, so that no sentence refers
    to missing records."""
    started = time.monotonic()
    try:
        found = part(context)
    except ValueError as error:
        log.warning("not measured: %s", error)
        return Panel(notes=[str(error)])
    seconds = round(time.monotonic() - started, 2)
    return replace(found, records=[replace(each, seconds=seconds) for each in found.records])


def distances(context: Context, looked: Looked) -> Panel:
    """Measure the distances between the distributions, precision and recall."""
    name = looked.extractor.name
    found = mean_of([distributions.distances(side, name, looked.n, context.seed) for side in looked.sides])
    return Panel(context.records(found))


def native_crops(context: Context, looked: Looked) -> Panel:
    """Measure the distances between crops at the films' own resolution; the extractor sees whole films reduced."""
    extractor, n = looked.extractor, looked.n
    for side in looked.sides:
        check_counts(side.patients, n)
    (sides,) = read_sides(context.real, context.fakes, [looked.fair], crop=extractor.res)
    found = mean_of([distributions.crop_distances(side, extractor.name, n, context.seed) for side in sides])
    return Panel(context.records(found))


def groups(context: Context, looked: Looked) -> Panel:
    """Measure the distance for the films of each view and finding."""
    found, notes = by_group(looked.sides, context.real, context.fakes, looked.extractor.name, context.seed)
    return Panel(context.records(found), notes)


def confounders(context: Context) -> Panel:
    """Probe the features of the films that one network may score; associate the findings of all films with sources and
    views."""
    real, rows, fakes, seed = context.real, context.rows, context.fakes, context.seed
    side, name = context.looked[0].sides[0], context.looked[0].extractor.name
    requested, truth = FilmConditions.of(fakes.requested), read_conditions(real, side.rows)
    everything, patients = read_conditions(real, rows), real.codes("patient")[0][rows]
    seeds = np.arange(len(fakes))
    distinguished = probe_real_or_synthetic(side.real, side.patients, side.fake, seeds, seed)
    found, notes = reidentification(side.real, side.patients, side.fake, name, seed), []
    if found[0].value is None:
        few = f"{found[0].num_real} patients have several of these films; {LEAST_PATIENTS} are needed"
        notes.append(f"re-identification is not measurable: {few}")
    probed, left_out = probe_conditions(side.real, truth, side.patients, side.fake, requested, seeds, seed)
    notes += [f"probe for {factor}: {why}" for factor, why in left_out.items()]
    if len(side.rows) < len(rows):
        others = f"{len(rows) - len(side.rows)} of {len(rows)} real films are scored by other folds"
        notes.append(f"probes and re-identification: {others}")
    for factor in ("source", "view"):
        found += ties(everything, patients, factor, real=True, seed=seed)[:1]
        found += ties(requested, seeds, factor, real=False, seed=seed)[:1]
    centre = side.real.mean(axis=0)
    axes = np.linalg.eigh(np.cov(side.real, rowvar=False))[1][:, -2:][:, ::-1]
    clouds = {"real films": (side.real - centre) @ axes, "synthetic films": (side.fake - centre) @ axes}
    records = context.records([*found, *(replace(probe, extractor=name) for probe in [distinguished, *probed])])
    return Panel(records, notes, shifts=shift_table(everything, patients, requested, seeds), clouds=clouds)


def diversity(context: Context) -> Panel:
    """Measure how similar pairs of films are."""
    real, rows, pixels = context.real, context.rows, context.fakes.pixels
    patients, n = real.codes("patient")[0][rows], min(len(pixels), 1000)
    return Panel(
        context.records(ms_ssim_scores(lambda some: real.read(rows[some]), patients, pixels, n=n, seed=context.seed))
    )


def fine_structure(context: Context) -> Panel:
    """Compare the power spectra of both sets at the films' own resolution: a grid, a blur, a sharpening."""
    real, pixels, seed = context.real, context.fakes.pixels, context.seed
    rows = np.sort(generator(seed, 60).permutation(context.rows)[:MOST_SPECTRA])
    patients = real.codes("patient")[0][rows]
    n = min(len(pixels), MOST_SPECTRA, films_a_side(patients))
    check_counts(patients, n)
    here, there = (
        joined(film_spectra(films) for films in some)
        for some in (
            (to_bits(real.read(part), 8) for part in in_batches(rows)),  # the depth of synthetic films
            (pixels[part] for part in in_batches(np.arange(len(pixels))[:MOST_SPECTRA])),
        )
    )
    return Panel(context.records(spectrum_scores(here, patients, there, n=n, seed=seed)))


def memorisation(context: Context) -> Panel:
    """Compare every film with every real one of the pool."""
    found = audit(context.every, context.fakes.pixels, context.seed)
    return Panel(context.records(found.measures()), audit=found)


def condition_fidelity(context: Context) -> Panel:
    """Compare the classifier's predictions with requested conditions, and with the truth on held-out patients."""
    real, fakes, extractor = context.real, context.fakes, context.looked[0].extractor
    held = real.indices("holdout")
    if not fakes.conditional:
        raise ValueError("condition fidelity: the requested conditions of these films are unknown (samples.csv)")
    if not len(held):
        raise ValueError("condition fidelity: the pool has no held-out patients to test the classifier on")
    sides = []
    for read, rows, key in (
        (real.read, held, pool_key(real, held)),
        (fakes.pixels.__getitem__, np.arange(len(fakes)), films_key(fakes.pixels)),
    ):
        (features,) = extract((read(some) for some in in_batches(rows)), [extractor], count=len(rows), key=key)
        with torch.inference_mode():
            heads = extractor.reader.answers(torch.from_numpy(np.array(features)))
        answers = {name: head.numpy() for name, head in heads.items()}
        sides.append(name_answers(answers, extractor.reader))
    truth, patients = read_conditions(real, held), real.codes("patient")[0][held]
    requested = FilmConditions.of(fakes.requested)
    found = fidelity(truth, sides[0], patients, requested, sides[1], np.arange(len(fakes)), context.seed)
    records = context.records(replace(each, extractor=extractor.name) for each in found)
    return Panel(records, fidelity=found, predicted=predicted_findings(found, truth, *sides))


def shortcuts(context: Context) -> Panel:
    """Generate the same films for one source and another: the prediction of the requested finding should not change."""
    real, network, extractor, seed = context.real, context.fakes.sampler, context.looked[0].extractor, context.seed
    if network is None:
        raise ValueError(
            "how findings move with the source: one seed has to be generated for several; "
            "score the network itself (--fake MODEL)"
        )
    known = network.info.vocabulary
    sources = [name for name in sorted(set(real.column("source")[context.rows])) if name in known.sources]
    held = real.indices("holdout")
    if len(sources) < 2 or not len(held):
        lacking = f"{len(held)} films of held-out patients, and {len(sources)} sources of the pool"
        raise ValueError(f"how findings move with the source: there are {lacking} that the network is conditioned on")
    real_predicted = read_answers(extractor.reader, (real.read(some) for some in in_batches(held)))
    patients = real.codes("patient")[0][held]
    findings = [
        name for name in readable(read_conditions(real, held), real_predicted, patients, seed) if name in known.findings
    ]
    seeds, found = list(range(SHORTCUT_SEEDS)), []
    for name in findings:
        scores = {}
        for source in sources:
            requested = network.patients(seeds, request(source=source, findings=[name]))
            films = sample_films(network, seeds, requested, context.fakes.truncation or 1.0)
            scores[source] = read_answers(extractor.reader, films)[name]
        found.append(shortcut(name, scores, float(real_predicted[name].std()), seed))
    none = "how findings move with the source: no finding that the network knows is read well enough"
    corrected = [
        replace(each, extractor=extractor.name, num_real=len(held), p=min(1.0, (each.p or 0.0) * len(found)))
        for each in found
    ]
    return Panel(context.records(corrected), [] if found else [none])


def plausibility(context: Context) -> Panel:
    """Measure lungs and hearts of frontal films in both sets, and how far these measures can be trusted."""
    real, fakes, seed = context.real, context.fakes, context.seed
    frontal = context.rows[np.isin(real.column("view")[context.rows], FRONTAL_VIEWS)]
    places = np.flatnonzero([film.view is None or film.view in FRONTAL_VIEWS for film in fakes.requested])
    patients = real.codes("patient")[0][frontal]
    anatomy.films_per_set(patients, len(places))
    segmenter, sha256 = find_segmenter(device=context.device)
    measures = anatomy.measure_films(segmenter, (real.read(some) for some in in_batches(frontal)))
    trust = anatomy.trust(measures, real.findings[frontal, FINDINGS.index("Cardiomegaly")], patients, seed)
    others = anatomy.measure_films(segmenter, (fakes.pixels[some] for some in in_batches(places)))
    found = anatomy.plausibility(measures, patients, others, places, seed)
    here = anatomy.Frontals(measures, real.column("view")[frontal], patients)
    there = anatomy.Frontals(others, np.array([fakes.requested[i].view or "" for i in places], np.str_), places)
    compared, notes = anatomy.compare(here, there, seed)
    records = context.records([trust, *found, *compared], sha256)
    return Panel(records, anatomy.lacking(found) + notes, trust=trust, frontals={"real": here, "synthetic": there})


def use_for_training(context: Context) -> Panel:
    """Train classifiers with the films and without them."""
    found = pool_utility(context.real, context.fakes, seed=context.seed, device=context.device)
    return Panel(context.records(found.measured()), utility=found)


def moved_films(context: Context, phantoms: PosedFilms) -> Panel:
    """Apply the classifier to films that are moved."""
    extractor = context.looked[0].extractor
    found = pool_poses(extractor.reader, context.real, context.fakes, phantoms=phantoms, seed=context.seed)
    return Panel(context.records(found.measured(extractor.name)), poses=found)


def flipped_labels(context: Context, films: tuple[LabelledFilms, LabelledFilms]) -> Panel:
    """Train classifiers on phantoms some of whose labels are flipped."""
    found = label_noise(*films, seed=context.seed, device=context.device)
    return Panel(context.records(found.measured()), label_noise=found)


def complete_table(panel: Panel, fakes: FakeFilms) -> Panel:
    """Add to the samples.csv of a folder how near each film is to a real one, and the predicted findings. Returns why
    it could not."""
    columns = audit_columns(panel.audit) if panel.audit else {}
    columns |= {"seen": ["|".join(names) for names in panel.predicted]} if panel.predicted else {}
    if fakes.folder is not None and columns:
        try:
            annotate(fakes.folder, fakes.names, columns)
        except ValueError as error:
            log.warning("%s", error)
            return Panel(notes=[str(error)])
    return Panel()
