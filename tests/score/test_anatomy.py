"""Plausibility of anatomy: measures of known masks, the bundled segmenter on phantoms and on real films, and its
training."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp

from thiscxr.collections.nih import read_labels
from thiscxr.measures.chest import MEASURES, OPACITIES, measure_masks
from thiscxr.model.network_file import WEIGHTS
from thiscxr.phantom import SITES, PhantomFilm, draw_patient, render
from thiscxr.phantom.labelled import draw_masked_films
from thiscxr.pixels import load_film
from thiscxr.reader.segmenter import Segmenter, SegmenterConfig, find_segmenter, load_segmenter, save_segmenter, segment
from thiscxr.reader.segmenter_training import at_twice_the_resolution, spoil, train_segmenter, vary, veil
from thiscxr.report.terminal import score_table
from thiscxr.report.verdict import shifted
from thiscxr.report.words import reading
from thiscxr.score.anatomy import (
    COMPARED,
    Frontals,
    compare,
    measure_films,
    plausibility,
    signed_gaps,
    trust,
    trust_words,
)
from thiscxr.score.panel import Panel
from thiscxr.score.records import Record
from thiscxr.train.draws import Draws

NIH_64 = Path(__file__).parents[3] / "shared" / "data" / "nih-64"


@pytest.fixture(scope="module")
def phantoms() -> list[PhantomFilm]:
    """Frontal films of patients that the segmenter was not trained on, every second one with a large heart."""
    films = []
    for i in range(40):
        patient = draw_patient(2_000_000 + i, severities={"Cardiomegaly": 0.3 + 0.7 * (i / 40)} if i % 2 else {})
        films.append(render(patient, ("PA", "AP", "AP_supine")[i % 3], 128, site=SITES[i % 4]))
    return films


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return find_segmenter()[0]


def test_the_bundled_segmenter_measures_phantoms_that_it_has_not_seen(
    segmenter: Segmenter, phantoms: list[PhantomFilm]
) -> None:
    found = measure_films(segmenter, [np.stack([film.pixels for film in phantoms])])
    true = measure_masks(np.stack([np.stack([film.lungs, film.heart]) for film in phantoms]))["ctr"]
    assert np.isfinite(found["ctr"]).all()
    assert np.corrcoef(found["ctr"], true)[0, 1] > 0.9
    assert np.abs(found["ctr"] - true).mean() < 0.03
    areas = np.array([film.lungs.mean() for film in phantoms])
    assert np.corrcoef(found["viewer_left_lung"] + found["viewer_right_lung"], areas)[0, 1] > 0.9
    assert (found["heart_lean"] > 0).all()


def test_a_mirrored_film_leans_the_other_way(segmenter: Segmenter, phantoms: list[PhantomFilm]) -> None:
    films = np.stack([film.pixels for film in phantoms])
    plain, mirrored = (measure_films(segmenter, [each]) for each in (films, films[:, :, ::-1].copy()))
    assert (mirrored["heart_lean"] < 0).mean() > 0.95
    assert np.corrcoef(plain["ctr"], mirrored["ctr"])[0, 1] > 0.9


def test_brightness_contrast_and_size_do_not_matter(segmenter: Segmenter, phantoms: list[PhantomFilm]) -> None:
    films = np.stack([film.pixels for film in phantoms[:8]])
    plain = measure_films(segmenter, [films])["ctr"]
    pale = measure_films(segmenter, [(60 + films * 0.5).astype(np.uint8)])["ctr"]
    deep = measure_films(segmenter, [films.astype(np.uint16) * 257])["ctr"]
    np.testing.assert_allclose(pale, plain, atol=0.02)
    np.testing.assert_allclose(deep, plain, atol=1e-4)


def test_where_there_is_no_chest_none_is_found(segmenter: Segmenter, phantoms: list[PhantomFilm]) -> None:
    """The first segmenter, trained on chests only, found one in every noise and every black film."""
    rng = np.random.default_rng(5)
    shuffled = [film.pixels[:, rng.permutation(128)] for film in phantoms[:20]]
    noise = list(rng.integers(0, 256, (20, 128, 128), dtype=np.uint8))
    flat = [np.full((128, 128), grey, np.uint8) for grey in (0, 128, 255)]
    for name, pictures in (("shuffled columns", shuffled), ("noise", noise), ("flat", flat)):
        found = measure_films(segmenter, [np.stack(pictures)])
        assert np.isnan(found["ctr"]).mean() > 0.9, name


def test_on_real_films_the_ratio_predicts_large_hearts_and_noise_is_not_trusted(segmenter: Segmenter) -> None:
    if not NIH_64.exists():
        pytest.skip(f"needs the films in {NIH_64}")
    records = [
        record for record in read_labels(NIH_64) if (NIH_64 / "images" / record.file).exists() and record.view == "PA"
    ]
    cases = [record for record in records if record.findings["Cardiomegaly"] == 1]
    records = cases + [record for record in records if record.findings["Cardiomegaly"] == 0][:200]
    states, patients = [record.findings["Cardiomegaly"] for record in records], [record.patient for record in records]
    films = np.stack([load_film(NIH_64 / "images" / record.file).pixels for record in records])
    measures = measure_films(segmenter, [films])
    found = trust(measures, states, patients)
    assert found.ci95[0] > 0.5
    assert found.value > 0.75
    assert np.mean(measures["heart_lean"][np.isfinite(measures["heart_lean"])] > 0) > 0.9
    assert "ratio trusted: AUC against Cardiomegaly 0." in trust_words(found)
    shuffled = np.random.default_rng(0).permutation(states)
    assert "NOT trusted on these films" in trust_words(trust(measures, shuffled, patients))


def some_measures(n: int, seed: int = 0, **shift: float) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    means = dict(zip(MEASURES, (0.5, 0.12, 0.1, 0.83, 0.08), strict=True)) | dict.fromkeys(OPACITIES, 0.3)
    return {name: mean + shift.get(name, 0) + 0.1 * mean * rng.normal(size=n) for name, mean in means.items()}


def test_without_cases_nothing_is_trusted() -> None:
    for states in (np.zeros(30), np.ones(30), np.full(30, -2)):
        found = trust(some_measures(30), states, np.arange(30))
        assert "NOT trusted" in trust_words(found)
        assert np.isnan(found.value)


def by_key(measured: list) -> dict:
    return {Record.of(each).key.removeprefix("anatomy_lungs64_"): each for each in measured}


def test_plausible_films_stay_near_the_floor_and_implausible_ones_are_counted() -> None:
    patients, real = np.repeat(np.arange(200), 2), some_measures(400)
    same = by_key(plausibility(real, patients, some_measures(300, seed=1), np.arange(300)))
    assert same["ctr_w1"].ci95[0] <= same["ctr_w1"].floor <= same["ctr_w1"].ci95[1]
    assert same["implausible"].ci95[0] <= same["implausible"].floor <= same["implausible"].ci95[1]
    assert same["implausible"].num_fake == 199
    large = by_key(plausibility(real, patients, some_measures(300, seed=1, ctr=0.1), np.arange(300)))
    assert large["ctr_w1"].value == pytest.approx(0.1, abs=0.01)
    assert large["ctr_w1"].ci95[0] > 3 * large["ctr_w1"].floor
    assert large["lung_symmetry_w1"].value == same["lung_symmetry_w1"].value
    assert large["implausible"].ci95[0] > large["implausible"].floor
    mirrored = by_key(plausibility(real, patients, some_measures(300, seed=1, heart_lean=-0.16), np.arange(300)))
    assert mirrored["leans_left"].value > 0.99
    assert same["leans_left"].value == 0
    assert same["leans_left"].ci95[1] > 0, "none of 199 is not none at all"


def test_films_without_a_chest_are_implausible() -> None:
    nothing = {name: np.full(60, np.nan) for name in MEASURES}
    found = by_key(plausibility(some_measures(200), np.arange(200), nothing, np.arange(60)))
    assert set(found) == {"implausible", "leans_left"}
    assert found["implausible"].value == 1
    everything = by_key(plausibility(nothing, np.arange(60), some_measures(200), np.arange(200)))
    assert everything["implausible"].floor == 1, "where real films cannot be read, the floor says so"


def test_too_few_films_are_refused() -> None:
    with pytest.raises(
        ValueError,
        match=r"30 real and 100 synthetic frontal films give 14 per set; plausibility needs at least 20",
    ):
        plausibility(some_measures(30), np.arange(30), some_measures(100), np.arange(100))
    with pytest.raises(ValueError, match=r"0 real and 100 synthetic"):
        plausibility(some_measures(0), np.arange(0), some_measures(100), np.arange(100))


def frontals(measures: dict[str, np.ndarray], a_patient: int = 1) -> Frontals:
    """Every second film is PA."""
    count = len(measures["ctr"])
    return Frontals(measures, np.array(["PA", "AP"])[np.arange(count) % 2], np.arange(count) // a_patient)


def compared(*sides: Frontals, seed: int = 0) -> tuple[list[Record], str]:
    """The records, and what is said of them."""
    records = [Record.of(each) for each in compare(*sides, seed)[0]]
    return records, " ".join(shifted(records))


NO_DIFFERENCE = "No difference between the distributions of lungs, heart and opacity of both sets is shown."


def test_the_gap_is_the_distance_of_kolmogorov_and_smirnov_with_its_direction() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(90, 3)), rng.normal(size=(70, 3)) * (1, 1, 0.2) + (0.5, -0.5, 0)
    found = signed_gaps(a, b)
    expected = [ks_2samp(*columns) for columns in zip(a.T, b.T, strict=True)]
    np.testing.assert_allclose(found, [each.statistic * each.statistic_sign for each in expected])
    assert (found[:2] > 0).tolist() == [True, False]


def test_a_shift_of_one_measure_is_found_in_its_view_with_its_direction() -> None:
    real, fake = frontals(some_measures(400), 2), some_measures(300, seed=1)
    for shift, word, reads in ((0.04, "larger", "above"), (-0.04, "smaller", "below")):
        name = "viewer_right_lower_opacity"
        moved = fake | {name: fake[name] + np.where(np.arange(300) % 2, 0, shift)}
        records, said = compared(real, frontals(moved))
        flagged = {(each.question, each.group): each for each in records if each.p is not None and each.p < 0.01}
        assert list(flagged) == [("viewer right lower opacity", "view PA")]
        (found,) = flagged.values()
        assert reading(found) == reads
        assert f"opacity of the lower zone of the lung on the viewer's right ({word}, PA by " in said
        assert said.count("zone") == 1, "nothing else is named"
        assert said in score_table(Panel(records)), "and the terminal says the same"


def test_films_that_are_all_alike_are_spread_differently() -> None:
    narrow = {name: values.mean() + 0.2 * (values - values.mean()) for name, values in some_measures(300, 1).items()}
    records, said = compared(frontals(some_measures(400)), frontals(narrow))
    assert all(each.p is not None and each.p < 0.01 for each in records)
    assert "spread differently, " in said
    assert "more." in said


def test_other_real_films_are_not_flagged() -> None:
    """Of ten comparisons at 1 % each none is expected to show a difference; two films of a patient count as one."""
    said = []
    for seed in range(10):
        films = {name: np.repeat(values, 2) for name, values in some_measures(100, 2 * seed).items()}
        views = np.repeat("PA", 200)
        real = Frontals(films, views, np.arange(200) // 2)
        others = some_measures(90, 2 * seed + 1)
        fake = Frontals(others, views[:90], np.arange(90))
        records, words = compared(real, fake, seed=seed)
        assert len(records) == len(COMPARED)
        said.append(words)
    assert said.count(NO_DIFFERENCE) == 10


def test_a_view_with_too_few_films_is_named_and_unknown_views_are_compared_together() -> None:
    real, fake = frontals(some_measures(400)), some_measures(60)
    few = Frontals(fake, np.array(["PA"] * 50 + ["AP"] * 10), np.arange(60))
    found, notes = compare(real, few)
    assert {each.group for each in found} == {"view PA"}
    (note,) = notes
    assert note.endswith("need 20 measured films per set; too few of AP (200 real, 10 synthetic)")
    found, notes = compare(real, Frontals(fake, np.repeat("", 60), np.arange(60)))
    assert ({each.group for each in found}, notes) == ({""}, [])
    nothing = {name: np.full(60, np.nan) for name in COMPARED}
    found, notes = compare(real, frontals(nothing))
    assert found == []
    assert "PA (200 real, 0 synthetic), AP" in notes[0] or "AP (200 real, 0 synthetic), PA" in notes[0]


@pytest.mark.slow
def test_films_with_whitened_lungs_are_found_and_unchanged_ones_are_not(segmenter: Segmenter) -> None:
    films = [render(draw_patient(6_000_000 + i, severities={}), "PA", 64, site=SITES[i % 2]) for i in range(80)]
    pixels, lungs = (np.stack([getattr(film, name) for film in films]) for name in ("pixels", "lungs"))
    tissue = np.array([np.median(film.pixels[film.heart > 0.5]) for film in films])[:, None, None]
    white = (pixels + 0.4 * lungs * np.maximum(tissue - pixels, 0)).astype(np.uint8)
    views = np.repeat("PA", 80)
    for name, some in (("unchanged", pixels), ("whitened", white)):
        real, fake = (
            Frontals(measure_films(segmenter, [side]), views[rows], np.arange(len(side)))
            for rows, side in ((slice(48), pixels[:48]), (slice(48, 80), some[48:]))
        )
        records, said = compared(real, fake)
        if name == "unchanged":
            assert said == NO_DIFFERENCE
        else:
            flagged = [each for each in records if each.p is not None and each.p < 0.01]
            assert {"viewer left opacity", "viewer right opacity"} <= {each.question for each in flagged}, said
            assert all(each.value > 0 for each in flagged if "opacity" in each.question)
            assert "opacity of the lung on the viewer's left (larger, PA by " in said


def test_training_learns_and_its_file_is_read_back(tmp_path: Path) -> None:
    films = draw_masked_films(range(8), 32)
    assert films.masks.sum(dim=1).allclose(torch.ones(8, 32, 32))
    segmenter = train_segmenter(films, steps=40, batch=8)
    with torch.inference_mode():
        read = segmenter(2 * films.images - 1).softmax(1)
    lungs, elsewhere = read[:, 1][films.masks[:, 1] > 0.9].mean(), read[:, 1][films.masks[:, 1] < 0.1].mean()
    assert lungs > elsewhere + 0.2
    path = tmp_path / "segmenter.safetensors"
    save_segmenter(path, segmenter, {"films": 8})
    again, facts = load_segmenter(path)
    assert facts["judged"] == {"films": 8}
    torch.testing.assert_close(again(films.images), segmenter(films.images))
    with pytest.raises(ValueError, match="8 phantoms are fewer than one batch of 32"):
        train_segmenter(films, steps=1)


def test_a_segmenter_for_twice_the_resolution_begins_with_the_same_masks(
    segmenter: Segmenter, phantoms: list[PhantomFilm]
) -> None:
    films = np.stack([film.pixels for film in phantoms[:6]])
    finer = at_twice_the_resolution(segmenter)
    assert finer.config.res == 128
    coarse = segment(segmenter, [films]).repeat(2, axis=2).repeat(2, axis=3)
    np.testing.assert_allclose(segment(finer, [films]), coarse, atol=0.02)


def test_training_shows_white_lungs_with_their_masks() -> None:
    images, masks = torch.full((200, 1, 32, 32), 0.2), torch.zeros(200, 3, 32, 32)
    masks[:, 1, 4:28, 2:10] = masks[:, 2, 16:28, 12:20] = 1
    images[:, 0, 16:28, 12:20] = 0.8
    white = veil(images, masks, Draws(0, 0, 200))
    inside = white[:, 0, 4:28, 2:10]
    assert (white * (1 - masks[:, 1:2]) == images * (1 - masks[:, 1:2])).all(), "nothing else changes"
    assert ((inside >= 0.2 - 1e-6) & (inside <= 0.8 + 1e-6)).all(), "and nothing is whiter than the heart"
    changed = (inside > 0.25).flatten(1).any(dim=1)
    assert 0.35 < changed.float().mean() < 0.6
    assert (inside.mean(dim=(1, 2)) > 0.6).any(), "some lungs are white all over"


def test_a_tenth_of_the_training_films_has_no_chest() -> None:
    images, masks = torch.rand(500, 1, 32, 32), torch.full((500, 3, 32, 32), 1 / 3)
    spoilt, empty = spoil(images, masks, Draws(0, 0, 500))
    gone = empty[:, 0].mean(dim=(1, 2)) == 1
    assert 0.05 < gone.float().mean() < 0.15
    torch.testing.assert_close(spoilt[~gone], images[~gone])
    assert (spoilt[gone] != images[gone]).flatten(1).any(dim=1).all()
    assert (empty[gone, 1:] == 0).all()


def test_variation_moves_masks_with_films_and_is_a_function_of_the_seed() -> None:
    y, x = np.mgrid[:64, :64]
    disc = ((x - 20) ** 2 + (y - 30) ** 2 < 100).astype(np.float32)
    images = torch.from_numpy(np.stack([disc] * 32))[:, None]
    masks = torch.stack([1 - images[:, 0], images[:, 0], 0 * images[:, 0]], dim=1)
    (varied, moved), (again, _) = (vary(images, masks, Draws(3, 0, 32)) for _ in range(2))
    torch.testing.assert_close(varied, again)
    assert varied.shape == images.shape
    torch.testing.assert_close(moved.sum(dim=1), torch.ones(32, 64, 64))
    inside, outside = (
        (varied[:, 0] * part).sum((1, 2)) / part.sum((1, 2)).clamp(min=1) for part in (moved[:, 1], 1 - moved[:, 1])
    )
    visible = moved[:, 1].sum((1, 2)) > 30
    assert (inside > outside)[visible].float().mean() > 0.9, "bone stays brighter than air, and where the mask is"
    centres = (moved[:, 1] * torch.arange(64)).sum((1, 2)) / moved[:, 1].sum((1, 2)).clamp(min=1)
    assert (centres > 36).any(), "some are mirrored"
    assert (centres < 28).any(), "and some are not"


def test_what_is_not_a_segmenter_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"is not a thiscxr segmenter \(its metadata says 'reader'\)"):
        load_segmenter(WEIGHTS / "thiscxr64.safetensors")
    with pytest.raises(ValueError, match=r"bundled segmenter 'lungs65'.*lungs64"):
        find_segmenter("lungs65")
    torch.manual_seed(0)
    save_segmenter(tmp_path / "narrow.safetensors", Segmenter(SegmenterConfig(widths=(4, 4))), {})
    other = load_segmenter(tmp_path / "narrow.safetensors")[0]
    assert other.config.widths == (4, 4)


def test_the_card_agrees_with_the_file() -> None:
    card = (WEIGHTS / "lungs64.md").read_text()
    evaluation = load_segmenter(WEIGHTS / "lungs64.safetensors")[1]["judged"]
    for view in ("frontal", "PA", "AP"):
        facts = evaluation["pool"][view]
        assert f"{facts['auc']:.3f} [{facts['ci95'][0]:.3f}, {facts['ci95'][1]:.3f}]" in card
    assert (WEIGHTS / "lungs64.safetensors").stat().st_size < 1_000_000
