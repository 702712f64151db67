"""Utility: does a classifier predict better on held-out patients when it is trained with the synthetic films too?

The same small classifier, trained for the same number of steps with several seeds, on real films; on real and synthetic
ones; on real films and as many duplicates of real films, the control that turned published gains into none (Pink and
Sykes 2026); and on synthetic films alone. The duplicates have the conditions requested of the synthetic films, so that
a gain does not come from rebalanced labels, which duplicates give as well. The label of a synthetic film is its
requested condition.
"""

import sys
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from thiscxr.labels import FINDINGS
from thiscxr.measures.measured import Measured
from thiscxr.measures.resampling import generator, number_patients
from thiscxr.model.conditions import FilmConditions, Vocabulary
from thiscxr.pixels import Pixels, to_bits
from thiscxr.pool import Pool
from thiscxr.reader.answers import questions_of, read_answers
from thiscxr.reader.extractors import in_batches
from thiscxr.reader.fitting import condition_targets, fit
from thiscxr.reader.network import Reader, ReaderConfig
from thiscxr.reader.training import reader_loss
from thiscxr.score.fakes import FakeFilms
from thiscxr.score.gains import Gain, areas, gains, too_few
from thiscxr.train.conditions import learnable_vocabulary, read_conditions
from thiscxr.train.draws import begin_weights

STEPS = 500  # of 64 films: with three seeds 10 to 15 minutes on two cores
SEEDS = 3
RES = 64
WIDTHS = (16, 32, 64, 96)
BATCH = 64
PASSES = 8  # over the real films at least: of more films than that allows, a random subset is used
MOST_TEST = 5000  # held-out films
RARE_POSITIVES = 50  # of the real training films: fewer, or a smaller share than RARE_SHARE, is a rare finding
RARE_SHARE = 0.02
MIN_REQUESTED = 5  # synthetic films that show a finding, for the finding to be tested

REAL, BOTH, DUPLICATES, SYNTHETIC = "real", "real + synthetic", "real + duplicates", "synthetic"
REAL_AS_MANY = "real, as many"  # as the synthetic ones, where these are fewer
ALL, RARE = "mean of findings", "mean of rare findings"


@dataclass(frozen=True)
class LabelledFilms:
    """Films in memory with their known or requested conditions, and their patients."""

    pixels: Pixels  # uint8 or uint16 [n, res, res], of one depth in all arms
    conditions: FilmConditions
    patients: NDArray[np.int64]  # [n]

    def __len__(self) -> int:
        return len(self.pixels)

    def take(self, rows: NDArray[np.int64]) -> "LabelledFilms":
        """Return some of the films."""
        return LabelledFilms(self.pixels[rows], self.conditions.take(rows), self.patients[rows])


@dataclass
class Utility:
    """The comparisons between arms, with the AUCs behind them."""

    gains: list[Gain] = field(default_factory=list)
    films: dict[str, int] = field(default_factory=dict)
    """Training films of each arm."""
    rare: tuple[str, ...] = ()
    left_out: dict[str, str] = field(default_factory=dict)
    """question -> why it is not tested."""
    protocol: str = ""
    num_fake: int = 0

    def of(self, arm: str, control: str) -> list[Gain]:
        """Return the gains of an arm over a control."""
        return [gain for gain in self.gains if (gain.arm, gain.control) == (arm, control)]

    def measured(self) -> list[Measured]:
        """Return the numbers of the panel."""
        return [gain.measured(self.protocol, self.num_fake) for gain in self.gains]

    def __str__(self) -> str:
        """The comparison with the control in words, the means first."""
        lines = sorted(self.of(BOTH, DUPLICATES), key=lambda gain: not gain.question.startswith("mean"))
        return "\n".join([*map(str, lines), *(f"{name}: not tested: {why}" for name, why in self.left_out.items())])


def pool_utility(
    real: Pool,
    fakes: FakeFilms,
    *,
    steps: int = STEPS,
    seeds: int = SEEDS,
    res: int = RES,
    seed: int = 0,
    device: str = "cpu",
) -> Utility:
    """Return the utility of synthetic films for classifying the held-out patients of a pool. As `utility`, from its
    files."""
    rows, held = real.indices("train"), real.indices("holdout")
    for films, what, use in ((held, "held-out patients", "test"), (rows, "training films", "train")):
        if not len(films):
            raise ValueError(
                f"utility: {real.path} has no {what} to {use} classifiers on; prepare a pool with more patients"
            )
    if not fakes.conditional:
        raise ValueError(
            "utility: the requested conditions of these films are unknown (samples.csv), so they cannot be used"
        )
    train, test = (
        _some(real, some, most, res, seed)
        for some, most in ((rows, max(steps // PASSES, 1) * BATCH), (held, MOST_TEST))
    )
    chosen = np.sort(generator(seed, 30).permutation(len(fakes))[: len(train)])
    pixels = np.concatenate([shrink(fakes.pixels[some], res) for some in in_batches(chosen)])
    fake = LabelledFilms(pixels, FilmConditions.of([fakes.requested[i] for i in chosen]), chosen)
    return utility(train, test, fake, steps=steps, seeds=seeds, seed=seed, device=device)


def _some(pool: Pool, rows: NDArray[np.int64], most: int, res: int, seed: int) -> LabelledFilms:
    """Read all films of randomly drawn patients, at most `most` films."""
    patients = number_patients(pool.codes("patient")[0][rows])
    order = np.argsort(generator(seed, 31).permutation(int(patients.max()) + 1)[patients], kind="stable")
    rows = np.sort(rows[order[:most]])
    pixels = np.concatenate([shrink(pool.read(some), res) for some in in_batches(rows)])
    return LabelledFilms(pixels, read_conditions(pool, rows), pool.codes("patient")[0][rows].astype(np.int64))


def shrink(pixels: Pixels, res: int) -> Pixels:
    """Return films in 8 bits, averaged down to a resolution of `res` where they are larger."""
    count, larger = len(pixels), pixels.shape[-1]
    pixels = to_bits(pixels, 8)
    if larger <= res:
        return pixels
    means = pixels.reshape(count, res, larger // res, res, larger // res).mean(axis=(2, 4))
    return np.rint(means).astype(np.uint8)


def utility(
    train: LabelledFilms,
    test: LabelledFilms,
    fake: LabelledFilms,
    *,
    steps: int = STEPS,
    seeds: int = SEEDS,
    widths: tuple[int, ...] = WIDTHS,
    seed: int = 0,
    device: str = "cpu",
) -> Utility:
    """Train the arms and compare them on the test films, which must be of other patients than the training films.

    At most as many synthetic films are used as there are real training films. Questions are the findings, views and sex
    that can be learnt from the real training films; those that cannot be tested are in `left_out` with the reason.
    Raises ValueError for fewer films than one step, and when no question is left.
    """
    fake = fake.take(np.arange(min(len(fake), len(train))))
    vocabulary = learnable_vocabulary(train.conditions, number_patients(train.patients))
    truth, found = _questions(vocabulary, train, test, fake)
    real_targets, fake_targets = (condition_targets(films.conditions, vocabulary) for films in (train, fake))
    pixels = np.concatenate([train.pixels, fake.pixels])
    targets = {name: torch.cat([values, fake_targets[name]]) for name, values in real_targets.items()}
    arms = _arms(train.conditions, fake.conditions, vocabulary, seed)
    for arm, rows in arms.items():
        if len(rows) < BATCH:
            raise ValueError(f"utility: {arm}: {len(rows)} training films; at least one step of {BATCH} is needed")
    config = ReaderConfig(vocabulary.findings, vocabulary.views, vocabulary.sources, train.pixels.shape[-1], widths)
    areas_of = {}
    with tqdm(total=len(arms) * seeds * steps * BATCH, unit="film", file=sys.stderr, delay=1) as bar:
        for arm, rows in arms.items():
            runs = []
            for k in range(seeds):
                bar.set_description(f"utility: {arm}, seed {k}")
                begin_weights(seed + k)
                reader = Reader(config).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
                some = {name: values[rows] for name, values in targets.items()}
                fit(reader, pixels[rows], some, reader_loss, steps, seed + k, what=arm, bar=bar)
                runs.append(read_answers(reader, (test.pixels[part] for part in in_batches(np.arange(len(test))))))
            answers = {name: np.stack([each[name] for each in runs]) for name in truth}
            areas_of[arm] = areas(truth, answers, test.patients, seed)
    base = REAL_AS_MANY if REAL_AS_MANY in arms else REAL
    pairs = [(BOTH, DUPLICATES), (BOTH, REAL), (DUPLICATES, REAL), (SYNTHETIC, base)]
    means = {ALL: [name for name in truth if name in FINDINGS], RARE: found.rare}
    found.gains = gains(truth, areas_of, test.patients, pairs, means)
    found.films = {arm: len(rows) for arm, rows in arms.items()}
    found.protocol, found.num_fake = f"{train.pixels.shape[-1]}px_{steps}steps", len(fake)
    return found


def _questions(
    vocabulary: Vocabulary, train: LabelledFilms, test: LabelledFilms, fake: LabelledFilms
) -> tuple[dict[str, NDArray[np.float64]], Utility]:
    """Return the truth of the questions that can be tested, and a result with the rare ones and those left out."""
    views = [f"view {name}" for name in vocabulary.views] if len(vocabulary.views) > 1 else []
    names = [*vocabulary.findings, *views, *(["sex"] if vocabulary.sexes else [])]
    truth, trained, requested = (questions_of(films.conditions, names) for films in (test, train, fake))
    found, kept = Utility(), {}
    for name in names:
        shown = int((requested[name] == 1).sum())
        if reason := too_few(truth[name], test.patients):
            found.left_out[name] = reason
        elif shown < MIN_REQUESTED:
            found.left_out[name] = f"requested of {shown} synthetic films; at least {MIN_REQUESTED} are needed"
        else:
            kept[name] = truth[name]
    if not kept:
        name, why = next(iter(found.left_out.items()), ("no finding, view or sex", "the training films have none"))
        raise ValueError(f"utility: no question can be tested; {name}: {why}")
    positives = {
        name: (int((trained[name] == 1).sum()), int(np.isfinite(trained[name]).sum()))
        for name in kept
        if name in FINDINGS
    }
    found.rare = tuple(
        name for name, (count, known) in positives.items() if count < RARE_POSITIVES or count < RARE_SHARE * known
    )
    return kept, found


def _arms(
    real: FilmConditions, fake: FilmConditions, vocabulary: Vocabulary, seed: int
) -> dict[str, NDArray[np.int64]]:
    """Return the rows that each arm is trained on: real films first, then the synthetic ones."""
    n, m = len(real), len(fake)
    mine, made = np.arange(n), np.arange(n, n + m)
    arms = {
        REAL: mine,
        BOTH: np.concatenate([mine, made]),
        DUPLICATES: np.concatenate([mine, matched(real, fake, vocabulary, seed)]),
        SYNTHETIC: made,
    }
    return arms if m == n else {**arms, REAL_AS_MANY: np.sort(generator(seed, 33).permutation(n)[:m])}


def matched(real: FilmConditions, fake: FilmConditions, vocabulary: Vocabulary, seed: int) -> NDArray[np.int64]:
    """Return for each synthetic film [m] the real film with the labels nearest to the requested ones, ties at random.

    Labels are ±1 or 0 (unknown), each divided by its standard deviation on the real films, so that a rare finding
    weighs most. The age does not count.
    """
    labels = Vocabulary(vocabulary.findings, vocabulary.views, (), vocabulary.sexes, ages=False)
    have, want = (films.encode(labels).astype(np.float64) for films in (real, fake))
    spread = have.std(axis=0)
    have, want = (np.divide(each, spread, out=np.zeros_like(each), where=spread > 0) for each in (have, want))
    rng, size = generator(seed, 32), (have**2).sum(axis=1)
    rows = []
    for some in in_batches(np.arange(len(want))):
        away = size - 2 * want[some] @ have.T  # the squared distance, less the term that is equal for all real films
        rows.append(np.argmin(np.round(away, 6) + 1e-7 * rng.random(away.shape), axis=1))
    return np.concatenate(rows)
