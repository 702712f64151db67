"""Walks: they pass each seed's own latent, step evenly, keep their grain, and say what they are."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from thiscxr.latent.walk import LIKENESS, Stop, Walk, between, draw_walk, seed_stops, walk_positions, write_walk
from thiscxr.model.conditions import Condition
from thiscxr.pixels import load_film, read_png_text
from thiscxr.pixels.mark import word_mask
from thiscxr.sample.provenance import origin_of
from thiscxr.sample.sampling import Network, draw_styles, noises_of, styles_of, to_pixels
from thiscxr.sample.truncation import Truncation


def go(network: Network, seeds: list[int], frames: int, loop: bool = False) -> Walk:
    stops = seed_stops(network, seeds, Condition("PA"), Truncation())
    return draw_walk(network, stops, frames, loop, seeds[0], "1", origin_of(network))


def test_positions_reach_every_stop() -> None:
    assert walk_positions(3, 5, loop=False).tolist() == [0, 0.5, 1, 1.5, 2]
    assert walk_positions(3, 6, loop=True).tolist() == [0, 0.5, 1, 1.5, 2, 2.5]
    ws = torch.tensor([0.0, 1.0, 5.0])[:, None, None]
    assert between(ws, np.array([0, 0.25, 1.5, 2, 2.5])).flatten().tolist() == [0, 0.25, 3, 5, 2.5]
    for stops, frames, message in (
        (1, 9, "needs two films or more, and has 1"),
        (0, 9, "and has 0"),
        (4, 3, "3 frames are too few"),
    ):
        with pytest.raises(ValueError, match=message):
            walk_positions(stops, frames, loop=False)


def test_a_walk_passes_the_films_of_its_seeds(network: Network) -> None:
    found = go(network, [3, 8], 5)
    np.testing.assert_array_equal(found.frames[0], network.sample([3], view="PA")[0])
    last = to_pixels(next(draw_styles(network, styles_of(network, [8], [Condition("PA")]), noises_of(network, [3]))))[0]
    np.testing.assert_array_equal(found.frames[-1], last)
    assert (last != network.sample([8], view="PA")[0]).any(), "with the grain of the first, and not of its own"
    assert (go(network, [3, 8], 12, loop=True).frames[0] == found.frames[0]).all()


def test_frames_do_not_depend_on_how_many_are_generated_at_once(network: Network) -> None:
    stops = torch.stack([stop.ws for stop in seed_stops(network, [1, 2], Condition("PA"), Truncation())])
    ws, noises = between(stops, walk_positions(2, 9, loop=False)), noises_of(network, [1])
    at_once, one_by_one = (torch.cat(list(draw_styles(network, ws, noises, batch))) for batch in (9, 1))
    assert np.abs(to_pixels(at_once).astype(int) - to_pixels(one_by_one)).max() <= 1


def test_the_body_changes_evenly_on_the_way(trained: Network) -> None:
    """From the narrowest to the widest of some bodies: each step is a part of the way, and none goes back."""
    films = trained.sample(range(40), view="PA")
    widths = (films[:, 14:18].mean(1) > 70).sum(1)  # the torso, where the lungs are widest
    steps = go(trained, [int(widths.argmin()), int(widths.argmax())], 9).frames.astype(float)
    apart = np.abs(steps - steps[0]).mean(axis=(1, 2))
    assert apart[-1] > 20
    assert (np.diff(apart) > 0).all()
    between_steps = np.abs(np.diff(steps, axis=0)).mean(axis=(1, 2))
    assert between_steps.max() < 0.35 * apart[-1], "no jump"


def test_every_frame_says_what_it_is(network: Network, tmp_path: Path) -> None:
    found = go(network, [3, 8], 4)
    write_walk(found, tmp_path / "frames", "frames", 15)
    text = read_png_text(tmp_path / "frames" / "frame-00003.png")
    assert "not a patient, not for diagnosis" in text["Disclaimer"]
    assert "trainedAlgorithmicMedia" in text["XML:com.adobe.xmp"]
    assert (text["Network"], text["Position"], text["Noise"]) == (network.sha256, "1.0000", "seed 3")
    assert set(json.loads(text["Asked"])) == {"seed 3", "seed 8"}
    np.testing.assert_array_equal(load_film(tmp_path / "frames" / "frame-00002.png").pixels, found.frames[2])
    with pytest.raises(ValueError, match="already exists and is not an empty folder"):
        write_walk(found, tmp_path / "frames", "frames", 15)
    with pytest.raises(ValueError, match="is a folder; give the name of a file"):
        write_walk(found, tmp_path / "frames", "webp", 15)
    write_walk(found, tmp_path / "walk.webp", "webp", 15)
    write_walk(found, tmp_path / "walk.gif", "gif", 15)
    mask = word_mask("SYNTHETIC")
    for kind in ("webp", "gif"):
        with Image.open(tmp_path / f"walk.{kind}") as image:
            assert "not a patient" in (image.info["xmp"] if kind == "webp" else image.info["comment"]).decode()
            for number in range(4):
                image.seek(number)
                frame = np.asarray(image.convert("L"))
                assert frame.shape == (256, 256)
                assert frame[-mask.shape[0] :, : mask.shape[1]][mask].min() == 255
                assert (frame[:240:8, ::8] == found.frames[number][:30]).all()


def test_terms_and_the_likeness_of_a_real_film_are_said(restricted: Network) -> None:
    found = go(restricted, [1, 2], 2)
    assert "for local use only" in found.comment()
    assert "for local use only" in found.text(0)["Restriction"]
    stops = [*found.stops, Stop("projection of x", "", found.stops[0].ws, real=True)]
    likely = draw_walk(restricted, stops, 3, False, 1, "1", found.origin)
    assert likely.text(0)["Disclaimer"] == LIKENESS
    assert LIKENESS in likely.comment()
    assert "not a patient" not in likely.comment()
