"""Phantom films with their ground truth, in the form that training and audits take."""

import sys
from collections.abc import Sequence

import numpy as np
import torch
from tqdm import tqdm

from thiscxr.collections import FRONTAL_VIEWS
from thiscxr.measures.resampling import generator
from thiscxr.model.conditions import Condition, FilmConditions
from thiscxr.phantom import PHANTOM_FINDINGS, SITES, PhantomFilm, draw_patient, render
from thiscxr.reader.segmenter_training import MaskedFilms
from thiscxr.score.poses import PosedFilms
from thiscxr.score.utility import LabelledFilms

SMALL_HEARTS = 0.4  # share of masked patients with the phantom's usual findings; the others get a heart of any size
POSED = 150
# findings that a small classifier learns from a thousand films, so that it has a loss to show
SHOWN = ("Cardiomegaly", "Effusion", "Emphysema", "Pneumothorax")
PREVALENCE = 0.2  # of each, independently
LEAST_SEVERITY = 0.3


def draw_masked_films(seeds: range, res: int = 64, sites: Sequence[str] = SITES, laterals: float = 0.0) -> MaskedFilms:
    """Draw phantoms of these sites; the masks are drawn at twice `res` and averaged, so that edges are known within a
    pixel.

    laterals: share of the films that are laterals, with empty masks: the measures of frontal films do not apply.
    """
    images = np.empty((len(seeds), 1, res, res), np.float32)
    masks = np.empty((len(seeds), 3, res, res), np.float32)
    for row, seed in enumerate(tqdm(seeds, "phantoms", unit="film", file=sys.stderr)):
        r = np.random.Generator(np.random.Philox(key=[seed, 0]))
        severities = dict(draw_patient(seed).severities)
        if r.random() > SMALL_HEARTS:
            severities["Cardiomegaly"] = float(r.random())
        view, site = FRONTAL_VIEWS[int(r.choice(3, p=[0.5, 0.25, 0.25]))], sites[int(r.integers(len(sites)))]
        view = "lateral" if r.random() < laterals else view
        film = render(draw_patient(seed, severities=severities), view, 2 * res, site=site)
        pixels, lungs, heart = (
            a.reshape(res, 2, res, 2).mean((1, 3)) for a in (film.pixels / 255.0, film.lungs, film.heart)
        )
        images[row], masks[row] = pixels, np.stack([1 - lungs - heart, lungs, heart])
        if view == "lateral":
            masks[row] = np.array([1, 0, 0])[:, None, None]
    return MaskedFilms(torch.from_numpy(images), torch.from_numpy(masks))


def draw_posed_films(res: int, count: int = POSED) -> PosedFilms:
    """Draw films of patients, PA and supine alternately, with their labels."""
    films = [
        render(draw_patient(i), ("PA", "AP_supine")[i % 2], res, site=SITES[i % len(SITES)])
        for i in tqdm(range(count), unit="film", file=sys.stderr, desc="draw phantoms", delay=1)
    ]
    return PosedFilms(
        np.stack([film.pixels for film in films]), np.arange(count), _shown(films, ("No Finding", *PHANTOM_FINDINGS))
    )


def draw_labelled_films(
    res: int = 64, counts: tuple[int, int] = (1000, 400), seed: int = 0
) -> tuple[LabelledFilms, LabelledFilms]:
    """Draw PA films for training and for testing; a share PREVALENCE has each finding of SHOWN."""
    drawn, rng = [], generator(seed, 52)
    with tqdm(total=sum(counts), unit="film", file=sys.stderr, desc="draw phantoms", delay=1) as bar:
        for first, count in zip((0, counts[0]), counts, strict=True):
            films = []
            for i in range(first, first + count):
                severities = {
                    name: float(rng.uniform(LEAST_SEVERITY, 1)) for name in SHOWN if rng.random() < PREVALENCE
                }
                patient = draw_patient(10_000_000 + seed * 1_000_000 + i, severities=severities)
                films.append(render(patient, "PA", res, site=SITES[i % len(SITES)]))
                bar.update()
            drawn.append(
                LabelledFilms(
                    np.stack([film.pixels for film in films]), _shown(films, PHANTOM_FINDINGS), first + np.arange(count)
                )
            )
    return drawn[0], drawn[1]


def _shown(films: list[PhantomFilm], findings: Sequence[str]) -> FilmConditions:
    known = [{name: film.labels[name] for name in findings} for film in films]
    return FilmConditions.of(
        [
            Condition(f.view, f.patient.sex, float(f.patient.age_years), f.site, known_states)
            for f, known_states in zip(films, known, strict=True)
        ]
    )
