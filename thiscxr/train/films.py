"""The training films of a pool: batches as a function of (seed, images_seen), and the conditions that the networks
are given."""

import time
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from thiscxr.config import Config
from thiscxr.labels import POSITIVE
from thiscxr.model.conditions import Vocabulary, joint_table
from thiscxr.pixels import pixels_to_images
from thiscxr.pool import Pool
from thiscxr.train.conditions import learnable_vocabulary, read_conditions
from thiscxr.train.draws import Draws


class Films:
    """The training films of a pool and what is known of them; batches are a function of (seed, images_seen).

    In a pool of several resolutions each batch is of one, and each resolution has as many batches as it has films for.
    """

    def __init__(self, pool: Pool, config: Config) -> None:
        if pool.resolution != config.res:
            raise ValueError(
                f"{pool.path} holds films of {pool.resolution} px, but --res is "
                f"{config.res}; prepare a pool at {config.res} px"
            )
        self.pool = pool
        self.indices = pool.indices("train")
        if len(self.indices) == 0:
            raise ValueError(f"{pool.path} has no training films (every patient is held out); add patients")
        self.conditions = read_conditions(pool, self.indices)
        patients = pool.codes("patient")[0][self.indices]
        self.vocabulary = (
            learnable_vocabulary(self.conditions, patients) if config.conditional else Vocabulary((), (), (), (), False)
        )
        self._widths = torch.tensor([factor.stop - factor.start for factor in self.vocabulary.factors])
        self.table = joint_table(self.conditions, patients, self.vocabulary)
        self._film_res = pool.column("resolution")[self.indices]
        self.resolutions = tuple(np.unique(self._film_res).tolist())  # of the training films, ascending
        if self.resolutions[-1] < config.res:
            raise ValueError(
                f"{pool.path} has no training film of {config.res} px (every such patient is held out); add patients"
            )
        if self.resolutions[0] < config.res and not config.grow_from:
            raise ValueError(
                f"{pool.path} holds films of {self.resolutions[0]} px too, which the "
                "discriminator has no entry for as grow_from is 0; "
                f"add --set grow_from={self.resolutions[0]}, or prepare the pool without --smallest"
            )
        self.seed = config.seed
        self.dropout = config.condition_dropout
        seen = [
            codes[:, None] == np.unique(codes[codes >= 0]) for codes in (self.conditions.view, self.conditions.source)
        ]
        self._repeats = np.cumsum(
            repeat_factors(np.hstack([self.conditions.findings == POSITIVE, *seen]), config.balance)
        )
        self._length = len(self.indices)  # of an epoch, in films
        if len(self.resolutions) > 1:
            self._batch = int(config.batch)
            weights = np.diff(self._repeats, prepend=0.0) / self._repeats[-1] * self._length / self._batch
            self._num_batches = {res: max(1, int(weights[self._film_res == res].sum())) for res in self.resolutions}
            self._length = sum(self._num_batches.values()) * self._batch
        self._of_source = {
            code: np.flatnonzero(self.conditions.source == code) for code in np.unique(self.conditions.source)
        }
        self._epoch, self._order = -1, self.indices  # the order of the epoch that was used last
        self.waited_sec = 0.0  # how long `batch` has kept its callers waiting for films
        self._thread, self._before = ThreadPoolExecutor(1), 0  # the first place of the batch before
        # places, films and images of the next batch
        self._ahead: tuple[list[int], np.ndarray, Future] = ([], self.indices[:0], Future())

    def batch(self, places: Tensor) -> tuple[Tensor, np.ndarray]:
        """Return images float32 [k, 1, res, res] and the numbers int64 [k] of the training films at places int64 [k]
        of an endless sequence.

        The sequence is one epoch after another; without balancing each film is in an epoch once, in the epoch's own
        order. A thread reads the next batch meanwhile: where films are many and networks small, reading takes some
        hundredths of a step.
        """
        started = time.perf_counter()
        wanted = places.tolist()
        if self._ahead[0] != wanted:
            self._begin(wanted)
        _, rows, images = self._ahead
        films = images.result()
        # a guess; wrong only just after a resume or a return
        step, self._before = abs(wanted[0] - self._before), wanted[0]
        self._begin([place + step for place in wanted])
        self.waited_sec += time.perf_counter() - started
        return films, rows

    def _begin(self, places: list[int]) -> None:
        n = self._length
        rows = np.array([self.epoch_order(place // n)[place % n] for place in places])
        self._ahead = places, rows, self._thread.submit(self._read, rows)

    def _read(self, rows: np.ndarray) -> Tensor:
        return torch.from_numpy(pixels_to_images(self.pool.read(self.indices[rows])))[:, None]

    def reduced(self, rows: np.ndarray) -> Tensor:
        """Return training films at the smallest resolution that any has, float32 [k, 1, res, res]: larger ones as area
        means."""
        images = [
            torch.from_numpy(pixels_to_images(self.pool.read(self.indices[[row]])))[None] for row in rows.tolist()
        ]
        return torch.cat([F.avg_pool2d(image, image.shape[-1] // self.resolutions[0]) for image in images])

    def requested(self, images_seen: int, draws: Draws) -> Tensor:
        """Return the conditions of films drawn from the epoch, float32 [k, c_dim]: those requested of
        synthetic films."""
        n = self._length
        return self.with_dropout(self.epoch_order(images_seen // n)[draws.whole(n).numpy()], draws)

    def contrasts(self, rows: np.ndarray, draws: Draws) -> Tensor:
        """Return each film's condition minus that of another training film, one factor at a time, float32 [k, factors,
        c_dim].

        Zero where they agree or one of them is not known.
        """
        own = self.vectors(rows)
        if not self.vocabulary.factors:
            return own[:, None, :][:, :0]
        other = self.vectors(draws.whole(len(self.indices)).numpy())
        factors = self._known(own) & self._known(other)
        return torch.where(
            torch.diag_embed(factors).repeat_interleave(self._widths, dim=2), (own - other)[:, None], 0.0
        )

    def vectors(self, rows: np.ndarray) -> Tensor:
        """Return all that is known of training films, float32 [k, c_dim]."""
        return torch.from_numpy(self.conditions.take(rows).encode(self.vocabulary))

    def with_dropout(self, rows: np.ndarray, draws: Draws) -> Tensor:
        """Return the conditions of training films after dropout, float32 [k, c_dim]: some of what is known is
        hidden."""
        c = self.vectors(rows)
        if c.shape[1] == 0:
            return c
        factors = self.vocabulary.factors
        keep = self._known(c) & kept(len(factors), len(self.vocabulary.findings), self.dropout, draws)
        if len(self._of_source) > 1 and self.vocabulary.sources:
            # Which factors are known reveals the collection (CheXpert has no label for hernias). A film whose source is
            # hidden keeps only what a random film of every other source knows too, so that the pattern of known factors
            # has the same distribution for every source.
            source = len(self.vocabulary.findings) + bool(self.vocabulary.views)
            for code, films in self._of_source.items():
                other = self.vectors(films[(draws.uniform().numpy() * len(films)).astype(np.int64)])
                theirs = torch.from_numpy(self.conditions.source[rows] != code)
                keep &= self._known(other) | ~(~keep[:, source] & theirs)[:, None]
        return c * keep.repeat_interleave(self._widths, dim=1)

    def _known(self, c: Tensor) -> Tensor:
        """Return which factors are known, bool [k, factors]."""
        return torch.stack([(c[:, factor] != 0).any(dim=1) for factor in self.vocabulary.factors], dim=1)

    def epoch_order(self, epoch: int) -> np.ndarray:
        """Return which training film is shown at each place of an epoch, int64 [films]; of several resolutions, in
        whole batches of one."""
        if self._epoch != epoch:
            rng = np.random.Generator(np.random.Philox(key=[self.seed, epoch]))
            n = len(self.indices)
            # Systematic sampling: each film as often as its repeat factor says, up to one, and n in all.
            drawn = np.searchsorted(
                self._repeats, (np.arange(n) + rng.random()) * (self._repeats[-1] / n), side="right"
            )
            order = drawn[rng.permutation(n)]
            self._epoch, self._order = epoch, order if len(self.resolutions) == 1 else self._in_batches(order, rng)
        return self._order

    def _in_batches(self, order: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return films of several resolutions in whole batches of one resolution, the batches in a random order.

        What does not fill a batch waits for another epoch; where there are too few for one, films come twice.
        """
        batches = []
        for res, count in self._num_batches.items():
            some = order[self._film_res[order] == res]
            some = some if len(some) else np.flatnonzero(self._film_res == res)
            batches.append(np.resize(some, (count, self._batch)))
        return np.concatenate(batches)[rng.permutation(self._length // self._batch)].ravel()


def repeat_factors(positive: np.ndarray, threshold: float) -> np.ndarray:
    """Return how often each film is shown for once of a common one, float64 [n] from 1; positive bool [n, findings,
    views and sources].

    A film counts as the rarest of what it shows: sqrt(threshold / share of films with it), for what is rarer than
    `threshold`. Source: Gupta et al. 2019, arXiv:1908.03195, section 4.1 (repeat factor sampling).
    """
    share = np.maximum(positive.mean(axis=0), 1e-12)
    factors = np.sqrt(np.maximum(threshold / share, 1.0))
    return np.where(positive, factors, 1.0).max(axis=1)


def kept(factors: int, findings: int, dropout: float, draws: Draws) -> Tensor:
    """Return which factors are kept, bool [k, factors], hidden at random so that any subset can be requested later.

    One film in ten keeps none, and a share `dropout` keeps some: each film at a rate of its own, and in every second
    one all findings (the first factors) are hidden together, since "a PA film" without findings is the most common
    request. The rest keep all.
    """
    keep = draws.uniform(factors) < draws.uniform(1)
    keep &= ~((torch.arange(factors) < findings) & (draws.uniform(1) < 0.5))
    fate = draws.uniform(1)
    return (keep & (fate >= 0.1)) | (fate >= 0.1 + dropout)
