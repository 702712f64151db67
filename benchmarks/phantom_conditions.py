"""Are conditions followed? On the phantom, where view, site, findings, sides and heart size are known.

    thiscxr phantom phantom-64 -n 4000 --res 64
    python train_gan.py --data phantom-64 --res 64 --minutes 25                  # long run
    python benchmarks/phantom_conditions.py phantom-64 runs/00000-phantom-64-64

A classifier is trained on the pool's training films (its accuracy on held-out phantom patients is the ceiling), and on
films of fresh phantom patients linear probes on its features learn heart size and side. Then films are requested and
classified. Prints one JSON line a question, each with its null (requested at random) and, where there is one, its
ceiling (the same measurement on true phantom films). About ten minutes.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from thiscxr.measures.chest import measure_masks
from thiscxr.measures.resampling import weighted_auc
from thiscxr.phantom import SITES, PhantomFilm, draw_patient, render
from thiscxr.pixels import pixels_to_images
from thiscxr.pool import Pool
from thiscxr.reader.network import Reader
from thiscxr.reader.training import load_reader, save_reader, train_reader
from thiscxr.sample.sampling import Network, load

FRESH = 10**6  # seeds of patients that no pool of ours holds
SIDES_OF = "Effusion"


def report(question: str, **answers: object) -> None:
    print(
        json.dumps(
            {"question": question, **{k: round(v, 4) if isinstance(v, float) else v for k, v in answers.items()}}
        ),
        flush=True,
    )


class Eye:
    """A classifier, and linear probes on its features."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.probes: dict[str, Callable[[np.ndarray], np.ndarray]] = {}

    def look(self, pixels: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Return features [n, d] and probabilities of findings, views and sources of pixels uint8 [n, res, res]."""
        with torch.inference_mode():
            images = torch.from_numpy(pixels_to_images(pixels))[:, None]
            features = torch.cat([self.reader.features(part) for part in images.split(256)])
            answers = self.reader.answers(features)
        read = {
            "findings": answers["findings"].sigmoid(),
            "view": answers["view"].softmax(1),
            "source": answers["source"].softmax(1),
        }
        return features.numpy(), {name: values.numpy() for name, values in read.items()}

    def learn(self, name: str, pixels: np.ndarray, truth: np.ndarray) -> float:
        """Fit a probe (ridge regression) on the first three quarters and return its correlation with the truth on the
        rest."""
        features = self.look(pixels)[0].astype(np.float64)
        cut = len(truth) * 3 // 4
        centre, mean = features[:cut].mean(axis=0), truth[:cut].mean()
        x = features[:cut] - centre
        weights = np.linalg.solve(x.T @ x + 0.1 * len(x) * x.var() * np.eye(x.shape[1]), x.T @ (truth[:cut] - mean))
        self.probes[name] = lambda films: (self.look(films)[0] - centre) @ weights + mean
        return float(np.corrcoef(self.probes[name](pixels[cut:]), truth[cut:])[0, 1])


def fresh_pairs(count: int) -> tuple[list[PhantomFilm], list[PhantomFilm]]:
    """Return frontal and lateral films of the same fresh patients, every second one with an effusion."""
    fronts, laterals = [], []
    for seed in tqdm(range(FRESH, FRESH + count), unit="patient", desc="fresh patients"):
        r = np.random.default_rng(seed)
        severities = {
            "Cardiomegaly": float(r.uniform(0.3, 1)) * (seed % 4 < 2),
            SIDES_OF: float(r.uniform(0.4, 1)) * (seed % 2),
        }
        patient = draw_patient(seed, severities=severities)
        site = SITES[int(r.integers(len(SITES)))]
        fronts.append(render(patient, "PA", 64, site=site))
        laterals.append(render(patient, "lateral", 64, site=site))
    return fronts, laterals


def stack(films: list[PhantomFilm]) -> np.ndarray:
    return np.stack([film.pixels for film in films])


def right(network: Network, eye: Eye, factor: str, names: tuple[str, ...], n: int) -> None:
    """Request each value of a factor and count how often it is predicted."""
    shares = {}
    for i, name in enumerate(names):
        request: dict[str, Any] = {factor: name}
        read = eye.look(network.sample(range(n), **request))[1][factor]
        shares[name] = float((read.argmax(axis=1) == i).mean())
    report(
        f"{factor}: asked and read",
        right=float(np.mean(list(shares.values()))),
        null=1 / len(names),
        each=shares,
        films_each=n,
    )


def moved(network: Network, eye: Eye, n: int) -> None:
    """Request a finding and its absence with the same seeds: the finding must change and the site must not."""
    for name in network.info.vocabulary.findings:
        if name not in eye.reader.config.findings or name == "No Finding":
            continue
        at = eye.reader.config.findings.index(name)
        requests: list[dict[str, Any]] = [{"findings": (name,)}, {"no_findings": (name,)}]
        (_, yes), (_, no) = (eye.look(network.sample(range(n), view="PA", **request)) for request in requests)
        scores = np.concatenate([yes["findings"][:, at], no["findings"][:, at]])
        area = weighted_auc(np.arange(2 * n) < n, scores, np.ones((1, 2 * n)))[0]
        sites = [read["source"].argmax(axis=1) for read in (yes, no)]
        change = abs(np.bincount(sites[0], minlength=4) - np.bincount(sites[1], minlength=4)).sum() / 2 / n
        rng, both = np.random.default_rng(0), np.concatenate(sites)
        null = []
        for _ in range(200):
            mixed = rng.permutation(both)
            null.append(abs(np.bincount(mixed[:n], minlength=4) - np.bincount(mixed[n:], minlength=4)).sum() / 2 / n)
        report(
            f"{name}: present against absent", finding_auc=float(area), null_auc=0.5, site_moved=float(change),
            site_moved_null95=float(np.quantile(null, 0.95)), films_each=n,
        )  # fmt: skip


def heart_ratios(films: list[PhantomFilm]) -> np.ndarray:
    return measure_masks(np.stack([np.stack([film.lungs, film.heart]) for film in films]))["ctr"]


def heart(network: Network, eye: Eye, fronts: list[PhantomFilm], n: int) -> None:
    """The measured heart must follow the requested cardiomegaly."""
    requests: dict[str, dict[str, Any]] = {
        requested: {requested: ("Cardiomegaly",)} for requested in ("findings", "no_findings")
    }
    read = {
        requested: eye.probes["heart"](network.sample(range(n), view="PA", **request))
        for requested, request in requests.items()
    }
    truth = {
        present: np.mean(heart_ratios([film for film in fronts if (film.severities["Cardiomegaly"] > 0) is present]))
        for present in (True, False)
    }
    report(
        "heart size (cardiothoracic ratio) by cardiomegaly asked",
        present=float(read["findings"].mean()), absent=float(read["no_findings"].mean()),
        larger_in_share_of_seeds=float((read["findings"] > read["no_findings"]).mean()), null=0.5,
        true_present=float(truth[True]), true_absent=float(truth[False]), films_each=n,
    )  # fmt: skip


def one_body(network: Network, eye: Eye, fronts: list[PhantomFilm], laterals: list[PhantomFilm], n: int) -> None:
    """The same latent as PA and as lateral film: do the two agree on heart size and side?"""
    cut = len(fronts) * 3 // 4
    held = stack(fronts[cut:]), stack(laterals[cut:])
    requested: list[dict[str, Any]] = [{"findings": ("Cardiomegaly",)}, {"no_findings": ("Cardiomegaly",)}]
    pa, lateral = (
        np.concatenate([network.sample(range(n), view=view, **some) for some in requested])
        for view in ("PA", "lateral")
    )
    for name, finding in (("heart", None), ("side", SIDES_OF)):
        if finding is not None:
            pa, lateral = (network.sample(range(2 * n), view=view, findings=(finding,)) for view in ("PA", "lateral"))
            here = [film.severities[finding] > 0 for film in fronts[cut:]]
            held = held[0][here], held[1][here]
        a, b = eye.probes[name](pa), eye.probes[f"{name} lateral"](lateral)
        null = [np.corrcoef(a, np.random.default_rng(i).permutation(b))[0, 1] for i in range(200)]
        ceiling = np.corrcoef(eye.probes[name](held[0]), eye.probes[f"{name} lateral"](held[1]))[0, 1]
        report(
            f"{name}: correlation of PA and lateral film of one latent", correlation=float(np.corrcoef(a, b)[0, 1]),
            null95=float(np.quantile(null, 0.95)), ceiling=float(ceiling), pairs=2 * n,
        )  # fmt: skip


def unknown(network: Network, eye: Eye, n: int) -> None:
    """Request fewer and fewer factors: what is left unknown must not change the site."""
    vocabulary = network.info.vocabulary
    none = tuple(name for name in vocabulary.findings if name != "No Finding")
    requests: dict[str, dict] = {
        "nothing": {}, "view": {"view": "PA"}, "view and sex": {"view": "PA", "sex": "F"},
        "all but the site": {"view": "PA", "sex": "F", "age_years": 54.0, "no_findings": none},
    }  # fmt: skip
    counts = {
        name: eye.look(network.sample(range(n), **requested))[1]["source"].argmax(axis=1)
        for name, requested in requests.items()
    }
    for name, sites in counts.items():
        share = np.bincount(sites, minlength=len(vocabulary.sources)) / n
        report(
            f"sites read when {name} is asked", **dict(zip(vocabulary.sources, share.tolist(), strict=True)), films=n
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pool", type=Path)
    parser.add_argument("model", help="a run folder or a network file")
    parser.add_argument("-n", type=int, default=200, help="films a question")
    parser.add_argument("--fresh", type=int, default=800, help="fresh patients for the probes")
    parser.add_argument(
        "--reader", type=Path, default=Path("phantom-reader.safetensors"), help="kept there between calls"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    pool, network = Pool.open(arguments.pool), load(arguments.model)
    if not arguments.reader.exists():
        save_reader(arguments.reader, train_reader(pool, epochs=25, seed=0, device="cpu"), pool, {})
    eye = Eye(load_reader(arguments.reader)[0])
    held = pool.indices("holdout")
    read = eye.look(pool.read(held))[1]
    for factor, names in (("view", eye.reader.config.views), ("source", eye.reader.config.sources)):
        truth = np.array([names.index(value) for value in pool.column(factor)[held]])
        report(
            f"{factor}: ceiling, held-out phantom patients",
            right=float((read[factor].argmax(axis=1) == truth).mean()),
            films=len(held),
        )
    fronts, laterals = fresh_pairs(arguments.fresh)
    ratios = heart_ratios(fronts)
    ill = [i for i, film in enumerate(fronts) if film.severities[SIDES_OF] > 0]
    signs = np.array([float(fronts[i].patient.sign(SIDES_OF)) for i in ill])
    for suffix, films in (("", fronts), (" lateral", laterals)):
        report(f"ruler heart{suffix}", correlation_held_out=eye.learn(f"heart{suffix}", stack(films), ratios))
        report(
            f"ruler side{suffix}",
            correlation_held_out=eye.learn(f"side{suffix}", stack([films[i] for i in ill]), signs),
        )
    right(network, eye, "view", network.info.vocabulary.views, arguments.n)
    right(network, eye, "source", network.info.vocabulary.sources, arguments.n)
    moved(network, eye, arguments.n)
    heart(network, eye, fronts, arguments.n)
    one_body(network, eye, fronts, laterals, arguments.n // 2)
    unknown(network, eye, arguments.n)


if __name__ == "__main__":
    main()
