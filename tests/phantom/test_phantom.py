"""The phantom at its door: what a film shows must be what the patient was drawn with."""

import numpy as np
import pytest

from thiscxr import labels
from thiscxr.measures.chest import measure_masks
from thiscxr.phantom import PHANTOM_FINDINGS, PHANTOM_VIEWS, SITES, PhantomFilm, draw_film, draw_patient, render
from thiscxr.phantom.anatomy import build_body
from thiscxr.phantom.project import aim
from thiscxr.phantom.rays import Capsule, Ellipsoid, Loft, Rays, capsule_span, covered_length, ellipsoid_span, loft_span
from thiscxr.phantom.tubes import Tubes

RES = 128


def film(seed: int, view: str, site: str = "phantom-a", res: int = RES, **severities: float) -> PhantomFilm:
    return render(draw_patient(seed, severities=severities), view, res, site=site)


def heart_ratio(film: PhantomFilm) -> float:
    return float(measure_masks(np.stack([film.lungs, film.heart])[None])["ctr"][0])


def change(seed: int, view: str, finding: str) -> tuple[np.ndarray, PhantomFilm, str]:
    """Grey levels that a finding at full severity adds to the same patient's film, that film, and the side ("" for
    none)."""
    with_it = film(seed, view, **{finding: 1.0})
    difference = with_it.pixels.astype(float) - film(seed, view).pixels
    return difference, with_it, with_it.patient.sides.get(finding, "")


def half(values: np.ndarray, mask: np.ndarray, side: str) -> np.ndarray:
    """Values in the patient's left or right lung of a frontal film; the patient's right is on the viewer's left."""
    columns = np.arange(mask.shape[1])[None] < mask.shape[1] / 2
    return values[mask & (columns if side == "right" else ~columns)]


# ------------------------------------------------------------------ lengths


def rays_for(view: str) -> Rays:
    at = np.linspace(-11.5, 11.5, 24)
    if view == "lateral":
        return Rays(np.array([-160.0, 1.0, 0.0]), 0, -at, -at, 20.0)
    return Rays(np.array([0.0, 1.0, 88.0]), 2, at, -at, -12.0)


def sampled(rays: Rays, inside, near: float = -25.0, far: float = 25.0, count: int = 12501) -> np.ndarray:
    """Depth inside by brute force: [res, res]."""
    depth = np.linspace(near, far, count)
    out = np.zeros((len(rays.rows), len(rays.cols)))
    for i, g_row in enumerate(rays.g_row):
        k = depth - rays.source[rays.main]
        points = np.empty((len(rays.cols), count, 3))
        points[..., rays.main] = depth
        points[..., rays.across] = rays.source[rays.across] + k * rays.g_col[:, None]
        points[..., 1] = rays.source[1] + k * g_row
        out[i] = inside(points).sum(1) * (depth[1] - depth[0])
    return out


def whole(rays: Rays, span) -> np.ndarray:
    out = np.zeros((len(rays.rows), len(rays.cols)), np.float32)
    span.onto(out)
    return out


@pytest.mark.parametrize("view", ["AP", "lateral"])
def test_ellipsoid_length_equals_numerical_integration(view):
    a = np.deg2rad(35)
    axes = ((np.cos(a), -np.sin(a), 0.0), (np.sin(a), np.cos(a), 0.0), (0.0, 0.0, 1.0))
    solid = Ellipsoid((2.0, -1.0, 3.0), (6.0, 3.0, 4.0), axes)
    rays = rays_for(view)
    matrix = np.array(axes) / np.array(solid.radii)[:, None]
    expected = sampled(rays, lambda p: (((p - np.array(solid.center)) @ matrix.T) ** 2).sum(-1) < 1)
    assert expected.max() > 5
    np.testing.assert_allclose(whole(rays, ellipsoid_span(rays, solid)), expected, atol=0.012)


@pytest.mark.parametrize("view", ["AP", "lateral"])
@pytest.mark.parametrize("end", [(4.0, 5.0, 6.0), (-3.0, -2.05, 9.0)])
def test_capsule_length_equals_numerical_integration(view, end):
    start, end, radius = np.array([-3.0, -2.0, -1.0]), np.array(end), 1.5
    axis = end - start

    def inside(p):
        t = np.clip((p - start) @ axis / (axis @ axis), 0, 1)
        return ((p - start - t[..., None] * axis) ** 2).sum(-1) < radius**2

    rays = rays_for(view)
    expected = sampled(rays, inside, count=5001)
    assert expected.max() > 2
    np.testing.assert_allclose(
        whole(rays, capsule_span(rays, Capsule(tuple(start), tuple(end), radius))), expected, atol=0.025
    )


def test_a_bent_tube_is_counted_once_at_its_joints():
    rays = rays_for("AP")
    points = np.array([[-8.0, 0.0, 0.0], [0.0, 0.3, 0.0], [8.0, 0.0, 0.0]])
    bent, straight = np.zeros((24, 24), np.float32), np.zeros((24, 24), np.float32)
    tubes = Tubes()
    tubes.chain(points, 1.5, 1.0)
    tubes.onto(rays, bent)
    tubes = Tubes()
    tubes.chain(np.array([[-8.0, 0.15, 0.0], [8.0, 0.15, 0.0]]), 1.5, 1.0)
    tubes.onto(rays, straight)
    # the pixel rows miss the very middle by a little; beads at the joint would be half as much again
    assert 2.9 < bent.max() < 3.02
    assert bent.sum() == pytest.approx(straight.sum(), rel=0.02)


def test_a_tube_keeps_its_mass_when_thinner_than_a_pixel():
    coarse, fine = np.zeros((24, 24), np.float32), np.zeros((240, 240), np.float32)
    at = (np.arange(240) - 119.5) / 10
    tubes = Tubes()
    tubes.chain(np.array([[-8.0, -4.0, 0.0], [7.0, 5.0, 1.0]]), 0.1, 1.0)
    tubes.onto(rays_for("AP"), coarse)
    tubes.onto(Rays(np.array([0.0, 1.0, 88.0]), 2, at, -at, -12.0), fine)
    assert coarse.sum() == pytest.approx(fine.sum() / 100, rel=0.08)


def test_overlapping_solids_take_their_depth_once():
    rays = rays_for("AP")
    lung, low, high = (Ellipsoid((0.0, 0.0, z), (8.0, 8.0, r)) for z, r in ((0.0, 6.0), (-1.0, 2.0), (1.0, 2.0)))
    taken = covered_length(ellipsoid_span(rays, lung), [ellipsoid_span(rays, s) for s in (high, low, low)])
    assert taken.max() == pytest.approx(6.0, abs=0.1)


def test_a_loft_of_even_sections_is_a_cylinder():
    y = np.linspace(-6, 6, 30)
    loft = Loft(y, 0 * y, 0 * y + 4, 0 * y, 0 * y + 3, 2.0)
    lengths = whole(rays_for("AP"), loft_span(rays_for("AP"), loft))
    assert lengths.max() == pytest.approx(6.0, rel=0.01)


# ------------------------------------------------------------------ the patient


def test_the_same_seed_gives_the_same_film():
    one, two, other = draw_film(7, 64), draw_film(7, 64), draw_film(8, 64)
    assert one.pixels.dtype == np.uint8
    assert one.pixels.shape == (64, 64)
    np.testing.assert_array_equal(one.pixels, two.pixels)
    assert not np.array_equal(one.pixels, other.pixels)


def test_noise_seed_changes_the_noise_alone():
    patient = draw_patient(3, severities={})
    one, two = (render(patient, "PA", RES, site="phantom-b", noise_seed=n) for n in (1, 2))
    assert not np.array_equal(one.pixels, two.pixels)
    assert one.patient is two.patient
    assert abs(heart_ratio(one) - heart_ratio(two)) < 0.03


def test_findings_leave_the_anatomy_as_it_was():
    plain, ill = draw_patient(11, severities={}), draw_patient(11, severities={"Effusion": 0.8, "Mass": 0.5})
    for name in ("sex", "age_years", "half_width", "lung_height", "heart_ratio", "spine_curve", "wall", "rib_slope"):
        assert getattr(plain, name) == getattr(ill, name)


def test_four_patients_in_ten_have_no_finding():
    patients = [draw_patient(seed) for seed in range(600)]
    counts = np.array([len(p.severities) for p in patients])
    assert 0.34 < (counts == 0).mean() < 0.46
    assert counts.max() == 3
    assert all(0.3 <= s <= 1 for p in patients for s in p.severities.values())
    assert {name for p in patients for name in p.severities} == set(PHANTOM_FINDINGS)
    assert {p.sex for p in patients} == {"M", "F"}
    assert all(18 <= p.age_years <= 90 for p in patients)


def test_labels_speak_the_vocabulary():
    ill, well = film(1, "PA", res=32, Edema=0.5), film(1, "PA", res=32)
    assert set(ill.labels) <= set(labels.FINDINGS)
    assert set(ill.labels) == {"No Finding", *PHANTOM_FINDINGS} == {"No Finding", *ill.severities}
    assert [name for name, value in ill.labels.items() if value] == ["Edema"]
    assert [name for name, value in well.labels.items() if value] == ["No Finding"]
    assert set(PHANTOM_VIEWS) <= set(labels.VIEWS)


# ------------------------------------------------------------------ one body in every view


@pytest.mark.parametrize("view", ["PA", "AP", "AP_supine"])
@pytest.mark.parametrize("seed", [0, 1])
def test_heart_follows_the_requested_severity(view, seed):
    ratios = [heart_ratio(film(seed, view, res=256, Cardiomegaly=s)) for s in (0.0, 0.3, 0.65, 1.0)]
    assert all(np.diff(ratios) > 0.02), ratios
    assert ratios[0] < 0.53
    assert ratios[-1] > 0.6


def test_pa_ratio_is_the_one_drawn():
    for seed in range(4):
        well = film(seed, "PA", res=256)
        assert heart_ratio(well) == pytest.approx(well.patient.heart_ratio, abs=0.03)


def test_ap_magnifies_the_heart():
    for seed in range(3):
        pa, ap, supine = (heart_ratio(film(seed, view, res=256)) for view in ("PA", "AP", "AP_supine"))
        assert pa + 0.01 < ap < supine


def test_heart_size_agrees_between_views():
    frontal = [
        heart_ratio(film(s, "PA", Cardiomegaly=v)) for s, v in zip(range(10), np.linspace(0, 1, 10), strict=True)
    ]
    lateral = [
        int(film(s, "lateral", Cardiomegaly=v).heart.sum())
        for s, v in zip(range(10), np.linspace(0, 1, 10), strict=True)
    ]
    assert np.corrcoef(frontal, lateral)[0, 1] > 0.8


@pytest.mark.parametrize("view", ["PA", "AP_supine"])
def test_no_air_shows_between_heart_and_diaphragm(view):
    for seed in range(6):
        made = film(seed, view, res=256)
        # the tips of the heart overhang lung
        columns = np.flatnonzero(made.heart.sum(0) > 0.4 * made.heart.sum(0).max())
        for column in columns:
            below = np.flatnonzero(made.heart[:, column])[-1] + 1
            assert not made.lungs[below:, column].any(), (seed, column)


@pytest.mark.parametrize("view", PHANTOM_VIEWS)
def test_a_turned_patient_shifts_front_against_back_about_the_midline(view):
    body = build_body(draw_patient(0, severities={}), view)
    straight, turned = (aim(body, view, 64, 40.0, (0.0, 0.0), turn) for turn in (0.0, 3.0))
    points = np.zeros((3, 3))
    points[:, straight.main] = [-6.0, 0.0, 6.0]
    moved = turned.project(points)[0] - straight.project(points)[0] - (turned.cols - straight.cols).mean()
    assert moved[1] == pytest.approx(0, abs=1e-9)
    assert moved[0] * moved[2] < 0
    assert abs(moved[2] - moved[0]) == pytest.approx(12 * np.tan(np.deg2rad(3)), rel=0.25)


# ------------------------------------------------------------------ findings where they belong


@pytest.mark.parametrize("view", ["PA", "AP_supine"])
@pytest.mark.parametrize(
    "finding", ["Effusion", "Pneumothorax", "Consolidation", "Mass", "Nodule", "Atelectasis", "Fracture"]
)
def test_a_sided_finding_changes_its_own_side(view, finding):
    for seed in (2, 5):
        difference, _, side = change(seed, view, finding)
        lungs = film(seed, view).lungs
        other = {"left": "right", "right": "left"}[side]
        here, there = np.abs(half(difference, lungs, side)), np.abs(half(difference, lungs, other))
        assert np.sort(here)[-60:].mean() > 12
        assert here.mean() > 3 * there.mean()


@pytest.mark.parametrize("finding", PHANTOM_FINDINGS)
@pytest.mark.parametrize("view", ["PA", "lateral"])
def test_every_finding_is_on_the_film(view, finding):
    difference, _, _ = change(4, view, finding)
    assert np.sort(np.abs(difference).ravel())[-40:].mean() > 8


def test_fluid_is_bright_below_and_gas_is_dark_outside():
    difference, _, side = change(6, "PA", "Effusion")
    lungs = film(6, "PA").lungs
    rows = np.flatnonzero(lungs.any(1))
    low = np.zeros_like(lungs)
    low[rows[-1] - len(rows) // 4 : rows[-1]] = True
    assert half(difference, lungs & low, side).mean() > 60
    difference, with_gas, side = change(6, "PA", "Pneumothorax")
    column = np.flatnonzero(lungs[rows[len(rows) // 4]])
    edge = column[-1] if side == "left" else column[0]
    inwards = -1 if side == "left" else 1
    assert difference[rows[len(rows) // 4], edge + 4 * inwards] < -12
    assert with_gas.labels["Pneumothorax"] == 1


def test_effusion_grows_with_severity():
    levels = [
        half(
            film(9, "PA", Effusion=s).pixels.astype(float), film(9, "PA").lungs, draw_patient(9).sides["Effusion"]
        ).mean()
        for s in (0, 0.3, 0.6, 1)
    ]
    assert all(np.diff(levels) > 2), levels


def test_emphysema_makes_lungs_larger_and_darker():
    well, ill = film(3, "PA"), film(3, "PA", Emphysema=1.0)
    assert ill.lungs.sum() > 1.1 * well.lungs.sum()
    assert ill.pixels[well.lungs].mean() < well.pixels[well.lungs].mean() - 5


def test_effusion_and_pneumothorax_never_share_a_pleural_space():
    for seed in range(40):
        sides = draw_patient(seed, severities={"Effusion": 0.5, "Pneumothorax": 0.5}).sides
        assert sides["Effusion"] != sides["Pneumothorax"]


@pytest.mark.parametrize("view", PHANTOM_VIEWS)
def test_masks_are_plausible(view):
    for seed in range(4):
        made = film(seed, view)
        share = made.lungs.mean()
        assert 0.1 < share < 0.45
        assert 0.02 < made.heart.mean() < 0.2
        if view != "lateral":
            assert not (made.lungs & made.heart).any()
            assert made.pixels[made.lungs].mean() < made.pixels[made.heart].mean() - 30
            assert np.flatnonzero(made.heart.any(0)).mean() > RES / 2  # the apex points to the viewer's right


# ------------------------------------------------------------------ films


def test_sites_are_distinguished_by_their_nearest_mean():
    def features(made: PhantomFilm) -> np.ndarray:
        x = made.pixels / 255.0
        fine = np.abs(np.diff(x, axis=0)).mean()
        return np.array(
            [
                x.mean(),
                *np.quantile(x, [0.1, 0.3, 0.5, 0.7, 0.9]),
                x[:1].mean(),
                x[-1:].mean(),
                x[:, :1].mean(),
                8 * fine,
                x[made.lungs].mean(),
            ]
        )

    table = np.array([[features(draw_film(100 + seed, 64, site=site)) for seed in range(24)] for site in SITES])
    spread = table.std(1).mean(0) + 1e-3
    means = table[:, :12].mean(1)
    right = [np.argmin((((means - x) / spread) ** 2).sum(1)) == i for i in range(len(SITES)) for x in table[i, 12:]]
    assert np.mean(right) > 0.95


@pytest.mark.parametrize("view", ["PA", "lateral"])
def test_resolutions_agree(view):
    patient = draw_patient(12, severities={})
    fine, coarse = (render(patient, view, res, site="phantom-a") for res in (256, 128))
    averaged = fine.pixels.reshape(128, 2, 128, 2).mean((1, 3))
    assert np.abs(averaged - coarse.pixels).mean() < 5
    assert np.corrcoef(averaged.ravel(), coarse.pixels.ravel())[0, 1] > 0.995
    assert (fine.lungs.reshape(128, 2, 128, 2).mean((1, 3)).round().astype(bool) != coarse.lungs).mean() < 0.01


@pytest.mark.parametrize("res", [32, 64, 512])
def test_other_resolutions_are_filmed(res):
    made = draw_film(1, res)
    assert made.pixels.shape == made.lungs.shape == made.heart.shape == (res, res)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: draw_patient(0, severities={"Cardiomegally": 1.0}),
            r"finding 'Cardiomegally'.*did you mean 'Cardiomegaly'",
        ),
        (lambda: draw_patient(0, severities={"Edema": 1.5}), r"severity 1\.5 of Edema is outside 0\.\.1"),
        (lambda: draw_patient(0, sex="male"), r"sex 'male'"),
        (lambda: draw_patient(0, age_years=7), r"age 7 is outside 18\.\.90"),
        (lambda: film(0, "AP_supin"), r"view 'AP_supin'.*did you mean 'AP_supine'"),
        (lambda: film(0, "PA", site="phantom_a"), r"site 'phantom_a'.*did you mean 'phantom-a'"),
        (lambda: film(0, "PA", res=100), r"resolution 100 .*the nearest is 128"),
    ],
)
def test_mistakes_are_refused_in_one_line(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert "\n" not in str(error.value)
