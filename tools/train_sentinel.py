"""Train the sentinel of thiscxr.pool.sentinel on real films of training patients and on phantoms of every view and
site.

python tools/train_sentinel.py --nih nih-128 --nih nih-64 --kermany kermany-256 [--phantoms 40] [--out
thiscxr/weights/sentinel.safetensors]

It is trained on training patients and evaluated on held-out patients and on phantoms of other patients. The same
folders give the same file.
"""

import argparse
import json
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file
from scipy.ndimage import affine_transform, gaussian_filter

from thiscxr.collections.ids import patient_split
from thiscxr.collections.nih import read_labels
from thiscxr.files import atomic_path
from thiscxr.phantom import PHANTOM_VIEWS, SITES, draw_film
from thiscxr.pixels import load_film
from thiscxr.pool import sentinel

RES = 64
HELD_OUT_SEEDS = 10_000  # phantoms from here on are held out
VARIANTS = 6  # augmented copies of each training film
NO_BODY = 2000  # pictures without a body: no orientation is to be likelier than another
HIDDEN = 16
EPOCHS = 10
BATCH = 256
RATE = 2e-3
PENALTY = 1e-4
ROUGHNESS = 1e-3  # penalty on differences of neighbouring weights
FOLDS = 3
REFUSED = 0.001  # share of upright films of training patients, cross-fitted, that may be refused
MARGIN = 2.0  # log odds on top of the worst of them, before a film is put right

# Defects of the release, checked by eye: (inverted, degrees clockwise). They are put right before training and
# evaluation.
DEFECTS = {
    "00003064_030.png": (False, 180),
    "00003122_004.png": (False, 180),
    "00003562_000.png": (False, 180),
    "00003490_011.png": (False, 180),
    "00002376_002.png": (False, 180),
    "00003220_004.png": (False, 90),
    "00003693_005.png": (False, 270),
    "00001814_001.png": (False, 270),
    "00001491_000.png": (False, 270),
    "00002815_003.png": (False, 270),
    "00017999_000.png": (True, 0),
    "00017625_000.png": (True, 0),
    "00002300_026.png": (True, 0),
}

Film = NDArray[np.float64]  # [64,64], 0 to 255
Films = list[tuple[str, Film]]  # with the patient
Inputs = NDArray[np.float16]  # [n,2,32,32], of `features`


def right(name: str, film: Film) -> Film:
    inverted, degrees = DEFECTS.get(name, (False, 0))
    film = np.rot90(film, degrees // 90)
    return 255 - film if inverted else film


def nih_films(roots: Sequence[Path]) -> Iterator[tuple[str, Film]]:
    """Yield (patient, film), each film once."""
    seen = set()
    for root in roots:
        for record in sorted(read_labels(root), key=lambda film: film.file):
            path = root / "images" / record.file
            if path.exists() and record.file not in seen:
                seen.add(record.file)
                yield record.patient, right(record.file, sentinel.thumbnail(load_film(path).pixels, RES))


def kermany_films(roots: Sequence[Path]) -> Iterator[tuple[str, Film]]:
    """Yield (patient, film); the patient is the number in the name, with its word."""
    for path in sorted(path for root in roots for path in root.rglob("*.jpeg")):
        found = re.match(r"(person\d+)_|(?:NORMAL2-)?(IM-\d+)", path.name)
        assert found is not None, path
        yield found[1] or found[2], sentinel.thumbnail(load_film(path).pixels, RES)


def split(source: str, films: Iterator[tuple[str, Film]]) -> dict[str, Films]:
    """Return the films of training and of held-out patients."""
    parts: dict[str, Films] = {"train": [], "holdout": []}
    for patient, film in films:
        parts[patient_split(source, patient)].append((f"{source} {patient}", film))
    return parts


def draw(task: tuple[int, str, str]) -> Film:
    seed, view, site = task
    return sentinel.thumbnail(draw_film(seed, RES, view=view, site=site).pixels, RES)


def draw_phantoms(first: int, number: int) -> dict[str, Films]:
    """Return `number` phantoms of each view and site, by view."""
    tasks = [(first + index, view, site) for view in PHANTOM_VIEWS for site in SITES for index in range(number)]
    with ProcessPoolExecutor() as pool:
        drawn = list(pool.map(draw, tasks, chunksize=8))
    films = [(task[1], (f"phantom {task[0]}", film)) for task, film in zip(tasks, drawn, strict=True)]
    return {view: [film for of, film in films if of == view] for view in PHANTOM_VIEWS}


def vary(film: Film, rng: np.random.Generator) -> Film:
    """Return the film augmented: moved, scaled, tilted, cropped, framed, unevenly or over-exposed, noisy, marked."""
    angle, scale = np.deg2rad(rng.normal(0, 5)), np.exp(rng.normal(0, 0.08))
    if rng.random() < 0.15:
        scale = rng.uniform(1.1, 1.9)  # a small child on a large cassette
    down, across = scale * np.exp(rng.normal(0, 0.08, 2))
    turn = np.array([[down * np.cos(angle), -across * np.sin(angle)], [down * np.sin(angle), across * np.cos(angle)]])
    middle = np.full(2, RES / 2 - 0.5)
    shift = rng.uniform(-0.08, 0.08, 2) * RES
    beyond = str(rng.choice(["constant", "nearest"]))  # black or white beside the film, or its edge repeated
    film = affine_transform(
        film, turn, middle - turn @ middle + shift, order=1, mode=beyond, cval=float(rng.choice([0, 0, 255]))
    )
    if rng.random() < 0.3:
        cut = rng.uniform(0, 0.2, 4) * RES  # at the top, the left, the bottom and the right
        film = affine_transform(film, (RES - cut[:2] - cut[2:]) / RES, cut[:2], order=1, mode="nearest")
    for axis in (0, 1):
        for side in (slice(None), slice(None, None, -1)):
            if rng.random() < 0.22:  # collimation, shown either way
                np.moveaxis(film, axis, 0)[side][: int(rng.uniform(0, 0.25) * RES)] = rng.choice(
                    [0, 255, rng.uniform(0, 255)]
                )
    y, x = np.mgrid[-1 : 1 : RES * 1j, -1 : 1 : RES * 1j]
    if rng.random() < 0.3:
        film = film + rng.normal(0, 25) * y + rng.normal(0, 25) * x
    if rng.random() < 0.3:
        film = film + rng.normal(0, rng.uniform(1, 12), film.shape)
    if rng.random() < 0.3:
        film = np.clip(film, *np.percentile(film, [rng.uniform(0, 25), rng.uniform(75, 100)]))
    for _ in range(rng.integers(0, 3)):
        top, left, height, width = *rng.integers(0, 56, 2), *rng.integers(2, 9, 2)
        film[top : top + height, left : left + width] = rng.choice([0, 255])
    return film


def nothing(rng: np.random.Generator) -> Film:
    """Return a picture without a body: smooth noise, a ramp, waves, discs or boxes."""
    y, x = np.mgrid[-1 : 1 : RES * 1j, -1 : 1 : RES * 1j]
    picture = gaussian_filter(rng.normal(0, 1, (RES, RES)), rng.uniform(0.5, 12))
    picture /= picture.std()
    kind = rng.integers(5)
    if kind == 1:
        picture = rng.normal() * x + rng.normal() * y + rng.uniform(0, 0.3) * picture
    elif kind == 2:
        picture = np.sin(rng.uniform(0, 12) * x + rng.uniform(0, 6)) * np.cos(
            rng.uniform(0, 12) * y + rng.uniform(0, 6)
        )
    elif kind == 3:
        discs = rng.uniform(-1, 1, (rng.integers(1, 6), 2))
        picture = (
            sum((np.hypot(x - left, y - top) < rng.uniform(0.1, 0.7)) * rng.normal() for left, top in discs)
            + 0.05 * picture
        )
    elif kind == 4:
        for _ in range(rng.integers(1, 8)):
            top, left, height, width = rng.integers(0, RES, 4)
            picture[top : top + height, left : left + width] = rng.normal()
    return 128 + 60 * picture


def features(films: Sequence[Film]) -> Inputs:
    return np.stack([sentinel.features(film.reshape(32, 2, 32, 2).mean(axis=(1, 3))) for film in films]).astype(
        np.float16
    )


def fit(films: Inputs, no_body: Inputs) -> sentinel.Network:
    """Return a network trained to find upright (the first) the likeliest of the eight ways, and all equal without a
    body. films: [n,2,32,32]."""
    torch.manual_seed(0)
    signed, squared = (torch.nn.Parameter(0.01 * torch.randn(2048, HIDDEN)) for _ in range(2))
    bias, out = torch.nn.Parameter(torch.zeros(HIDDEN)), torch.nn.Parameter(0.1 * torch.randn(HIDDEN))
    parameters = [signed, squared, bias, out]
    optimizer = torch.optim.Adam(parameters, RATE)
    inputs = torch.from_numpy(np.concatenate([films, no_body]))
    steps = EPOCHS * (len(inputs) // BATCH)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(inputs)).split(BATCH)[: len(inputs) // BATCH]:
            batch = inputs[rows].float()
            turned = torch.stack([torch.rot90(batch, turn, (2, 3)) for turn in range(4)], 1).flatten(2)  # [n,4,2048]
            odd, even = turned @ signed, (turned**2 - 1 / 3) @ squared + bias
            chances = torch.cat([torch.relu(even + odd) @ out, torch.relu(even - odd) @ out], 1).log_softmax(1)
            loss = -torch.where(rows < len(films), chances[:, 0], chances.mean(1)).mean()
            loss = loss + PENALTY * sum((each**2).sum() for each in parameters)
            for weights in (signed, squared):
                maps = weights.T.reshape(-1, sentinel.THUMB, sentinel.THUMB)
                loss = loss + ROUGHNESS * ((maps.diff(dim=1) ** 2).sum() + (maps.diff(dim=2) ** 2).sum())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return sentinel.Network(*(each.detach().numpy().astype(np.float16).astype(np.float32) for each in parameters))


def as_it_lies(scores: NDArray[np.float64], way: int) -> NDArray[np.float64]:
    """Return the scores [8] of a film turned or inverted in one of the eight ways, from its scores when upright."""
    plain, inverted = np.roll(scores.reshape(2, 4), way % 4, axis=1)
    return np.concatenate([inverted, plain] if way >= 4 else [plain, inverted])


def all_odds(network: sentinel.Network, films: Inputs) -> NDArray[np.float64]:
    """Return [n,8,3]: `sentinel.odds` of each film in each of the eight ways."""
    scores = [network.scores(film.astype(np.float32)) for film in films]
    return np.array([[sentinel.odds(as_it_lies(each, way)) for way in range(8)] for each in scores])


def evaluate(odds: NDArray[np.float64], doubtful: float, sure: float) -> dict[str, Any]:
    """Return how many upright films are put wrong and refused, and the outcome of the same films in the seven other
    ways."""
    wrong, way, margin = np.moveaxis(odds, 2, 0)
    corrected = (wrong > doubtful) & (way > 0) & (margin > sure)
    refused = (wrong > doubtful) & ~corrected
    rightly = corrected & (way == np.arange(8))
    return {
        "films": len(odds),
        "put_wrong": int(corrected[:, 0].sum()),
        "refused": int(refused[:, 0].sum()),
        "planted_put_right": round(float(rightly[:, 1:].mean()), 4),
        "planted_refused": round(float(refused[:, 1:].mean()), 4),
        "planted_put_wrong": int((corrected & ~rightly)[:, 1:].sum()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nih", type=Path, action="append", required=True)
    parser.add_argument("--kermany", type=Path, action="append", required=True)
    parser.add_argument("--phantoms", type=int, default=40, help="of each view and site")
    parser.add_argument("--out", type=Path, default=sentinel.WEIGHTS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    real = {"nih": split("nih", nih_films(options.nih)), "kermany": split("kermany", kermany_films(options.kermany))}
    phantoms, others = draw_phantoms(0, options.phantoms), draw_phantoms(HELD_OUT_SEEDS, max(1, options.phantoms // 2))
    trained_on = [film for parts in real.values() for film in parts["train"]] + [
        film for films in phantoms.values() for film in films
    ]
    rng = np.random.default_rng(0)
    variants = np.stack(
        [
            features([film for _, film in trained_on]),
            *(features([vary(f, rng) for _, f in trained_on]) for _ in range(VARIANTS)),
        ]
    )
    no_body = features([nothing(rng) for _ in range(NO_BODY)])
    names = sorted({patient for patient, _ in trained_on})
    fold = np.array([names.index(patient) % FOLDS for patient, _ in trained_on])
    is_real = np.array([not patient.startswith("phantom") for patient, _ in trained_on])
    cross_fitted = np.empty((len(trained_on), 8, 3))
    for number in range(FOLDS):
        network = fit(variants[:, fold != number].reshape(-1, 2, 32, 32), no_body)
        cross_fitted[fold == number] = all_odds(network, variants[0, fold == number])
    doubtful, sure = thresholds(cross_fitted[is_real, 0])
    network = fit(variants.reshape(-1, 2, 32, 32), no_body)
    evaluated = {f"{name}, held-out patients": parts["holdout"] for name, parts in real.items()}
    evaluated |= {f"phantom {view}": films for view, films in others.items()}
    facts = {
        "doubtful": doubtful,
        "sure": sure,
        "trained_on": {name: len(parts["train"]) for name, parts in real.items()}
        | {"phantom": sum(map(len, phantoms.values()))},
        "judged_unseen": evaluate(cross_fitted[is_real], doubtful[0], sure[0]),
        "judged": {
            name: evaluate(all_odds(network, features([film for _, film in films])), doubtful[0], sure[0])
            for name, films in evaluated.items()
        },
    }
    tensors = {name: getattr(network, name).astype(np.float16) for name in ("signed", "squared", "bias", "out")}
    with atomic_path(options.out) as part:
        save_file(tensors, part, metadata={"sentinel": json.dumps(facts)})
    print(json.dumps(facts, indent=1))


def thresholds(upright: NDArray[np.float64]) -> tuple[list[float], list[float]]:
    """Return the log odds above which a film is doubtful, and above which it is surely wrong; for frontal films, and
    for films of any view.

    upright: [n,3], of upright films, cross-fitted.
    """
    wrong, way, margin = upright.T
    doubtful = max(3.0, float(np.sort(wrong)[-1 - int(REFUSED * len(wrong))]))
    sure = max(4.0, float(margin[way > 0].max(initial=0))) + MARGIN
    return [round(doubtful, 2), round(doubtful + MARGIN, 2)], [round(sure, 2), round(sure + MARGIN, 2)]


if __name__ == "__main__":
    main()
