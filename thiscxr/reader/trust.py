"""Which questions a classifier may be used for on single films: those it predicts well on real patients not seen in
training, held-out ones or, cross-fitted, all of them by the half that has not seen them.

Films selected or moved by a poor prediction would be selected and moved by noise. The evaluation is in the classifier's
file (`judged`); for a file without intervals, in a card beside it, matched by SHA-256.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from thiscxr.files import nearest_name, sha256_file, write_file
from thiscxr.model.network_file import find_weights
from thiscxr.pixels import Pixels, pixels_to_images
from thiscxr.reader.answers import LEAST_AUC, LEAST_CORRELATION, against_rest, name_answers
from thiscxr.reader.evaluation import Evaluation
from thiscxr.reader.extractors import default_extractor
from thiscxr.reader.network import Reader
from thiscxr.reader.training import load_reader
from thiscxr.sample.sampling import Network

CARD_FORMAT = 1
UNSEEN = "patients not seen in training"


@dataclass(frozen=True)
class Ceiling:
    """How well one question is predicted on real patients not seen in training."""

    measure: str
    """auc, or r (correlation) for the age."""
    value: float
    ci95: tuple[float, float]

    @property
    def trusted(self) -> bool:
        """Whether the interval lies above the threshold, which is also that of `fidelity`."""
        return self.ci95[0] > self.least

    @property
    def least(self) -> float:
        """The threshold: the interval must begin above it."""
        return LEAST_CORRELATION if self.measure == "r" else LEAST_AUC

    def __str__(self) -> str:
        name = "correlation" if self.measure == "r" else "AUC"
        return f"{name} {self.value:.3f} [{self.ci95[0]:.3f}, {self.ci95[1]:.3f}] on {UNSEEN}"


@dataclass(frozen=True)
class TrustedReader:
    """A classifier and how well it predicts each question; questions are its findings, "view PA" and so on, "sex" (of
    F) and "age"."""

    name: str
    sha256: str
    network: Reader
    ceilings: Mapping[str, Ceiling]
    sources: frozenset[str] = frozenset()
    """The collections that it was trained on."""

    @property
    def trusted(self) -> list[str]:
        """The questions that it predicts well enough."""
        return [question for question, ceiling in self.ceilings.items() if ceiling.trusted]

    def check(self, question: str) -> Ceiling:
        """Return how well the question is predicted. Raises ValueError, with the questions that may be used, if that is
        not well enough."""
        may = f"it may be used for: {', '.join(self.trusted) or 'nothing'}"
        if question not in self.ceilings:
            known = (
                *self.network.config.findings,
                *(f"view {view}" for view in self.network.config.views),
                "sex",
                "age",
            )
            if question in known:
                raise ValueError(f"how well {self.name} predicts {question} was not measured on {UNSEEN}; {may}")
            raise ValueError(f"{self.name} does not predict '{question}'{nearest_name(question, known)}; {may}")
        ceiling = self.ceilings[question]
        if not ceiling.trusted:
            what = f"{self.name} predicts {question} with {ceiling}"
            raise ValueError(f"{what}, and that interval must begin above {ceiling.least}; {may}")
        return ceiling

    def check_films_of(self, sources: Collection[str]) -> None:
        """Raise ValueError if this classifier was trained on none of the collections `sources`, on which a generator
        was trained."""
        if self.sources and sources and not self.sources & set(sources):
            ours, theirs = (", ".join(sorted(names)) for names in (self.sources, sources))
            raise ValueError(
                f"{self.name} was trained on {ours} and the network on {theirs}; give a "
                "--reader of its films (classify train)"
            )

    def read(self, pixels: Pixels) -> dict[str, NDArray[np.float64]]:
        """Return predictions for films uint8 or uint16 [n, res, res]: logits, or years for the age, float64 [n] per
        question.

        Also "source NIH" and so on, if it was trained on several sources: the log odds against all others.
        """
        with torch.inference_mode():
            images = torch.from_numpy(pixels_to_images(pixels))[:, None].to(next(self.network.parameters()).device)
            answers = {name: values.float().cpu().numpy() for name, values in self.network(images).items()}
        columns = name_answers(answers, self.network)
        if len(self.network.config.sources) > 1:
            odds = against_rest(answers["source"])
            columns |= {f"source {name}": odds[:, i] for i, name in enumerate(self.network.config.sources)}
        return {name: column.astype(np.float64) for name, column in columns.items()}


def trusted_reader(name: str, device: str = "cpu") -> TrustedReader:
    """Return the bundled classifier of that name or that of a classifier file.

    Raises ValueError for anything else, and if neither the file nor a card beside it has an evaluation with intervals.
    """
    path = _find(name)
    reader, metadata = load_reader(path)
    sha256 = sha256_file(path)
    ceilings = _ceilings(metadata.get("judged", {})) or _ceilings(_read_card(path, sha256))
    if not ceilings:
        advice = f"measure it: thiscxr classify eval --data POOL --model {name} --keep"
        raise ValueError(f"{path} has no evaluation with intervals on {UNSEEN}; {advice}")
    return TrustedReader(path.stem, sha256, reader.to(device), ceilings, frozenset(metadata.get("sources", ())))


def reader_of(network: Network, name: str | None, device: str = "cpu") -> TrustedReader:
    """Return the classifier of that name, or by default the bundled one, for the films of a network.

    Raises ValueError as `trusted_reader`, and for a classifier of other films.
    """
    reader = trusted_reader(name or default_extractor(network.generator.config.res), device)
    reader.check_films_of(network.info.sources)
    return reader


def card_path(name: str) -> Path:
    """Return the path of the card of a bundled classifier or a classifier file."""
    return _card(_find(name))


def write_card(name: str, found: Evaluation, pool_fingerprint: str) -> Path:
    """Write the evaluation of a classifier to a card beside its file; return the path.

    found: on patients not seen in training.
    """
    path = _find(name)
    facts = {"format_version": CARD_FORMAT, "reader_sha256": sha256_file(path), "pool_fingerprint": pool_fingerprint}
    write_file(_card(path), json.dumps({**facts, "judged": found.brief()}, indent=2) + "\n")
    return _card(path)


def _find(name: str) -> Path:
    return Path(name) if Path(name).is_file() else find_weights(name, "reader")


def _card(path: Path) -> Path:
    return path.with_suffix(".json")


def _read_card(path: Path, sha256: str) -> dict[str, Any]:
    """Return the evaluation in the card beside a classifier's file; empty if there is no card of this classifier."""
    try:
        card = json.loads(_card(path).read_text())
        ours = card["format_version"] == CARD_FORMAT and card["reader_sha256"] == sha256
        return dict(card["judged"]) if ours else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _ceilings(evaluation: Mapping[str, Any]) -> dict[str, Ceiling]:
    found = {
        question: Ceiling("auc", evaluation["auc"][question], (low, high))
        for question, (low, high) in evaluation.get("auc_ci95", {}).items()
    }
    if evaluation.get("age_r_ci95"):
        found["age"] = Ceiling("r", evaluation["age_r"], tuple(evaluation["age_r_ci95"]))
    return found
