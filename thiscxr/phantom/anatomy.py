"""From a patient to solids: cage, lungs, heart, great vessels, bones, soft tissue.

Independent of rays and films; of the findings, only their effect on the size of organs is here, and lesions are in
`findings`. Origin: midline, about mid-thorax. Densities are in 1/cm relative to the surroundings of the
solid, effective for a chest beam of about 100 kV.
"""

from dataclasses import dataclass, field

import numpy as np
from scipy.interpolate import PchipInterpolator
from scipy.ndimage import grey_closing

from thiscxr.phantom.body import Patient
from thiscxr.phantom.rays import Array, Capsule, Ellipsoid, Loft
from thiscxr.phantom.tubes import Tubes, cross

TISSUE, LUNG, BONE = 0.200, 0.052, 0.42
APEX_Y = 12.5
PA_DISTANCE, AP_DISTANCE = 180.0, 100.0

# the cage from the apex (0) to the costal margin (1) and below, as fractions of its half width and half depth
_U = np.array([0.0, 0.008, 0.03, 0.07, 0.13, 0.22, 0.35, 0.5, 0.7, 0.9, 1.1, 1.4])
_LATERAL = np.array([0.355, 0.43, 0.51, 0.605, 0.695, 0.79, 0.88, 0.94, 0.985, 1.0, 1.0, 0.97])
_MEDIAL = np.array([0.355, 0.275, 0.22, 0.18, 0.15, 0.12, 0.10, 0.09, 0.08, 0.08, 0.08, 0.08])
_BACK = np.array([-0.50, -0.58, -0.66, -0.75, -0.84, -0.93, -0.98, -1.0, -1.0, -0.98, -0.93, -0.8])
_FRONT = np.array([-0.42, -0.30, -0.18, -0.02, 0.16, 0.37, 0.62, 0.80, 0.94, 1.0, 1.0, 0.97])


@dataclass
class Lung:
    """One lung: the whole pleural space, its aerated part, and its density."""

    side: int
    cage: Loft
    air: Loft
    density: float
    dome: Ellipsoid
    veil: float = 0.0
    """cm of fluid layered along the back (supine)."""
    gas: bool = False
    """Whether the pleural space around `air` is gas instead of fluid."""

    def holds(self, points: Array, margin: float = 0.3) -> Array:
        """bool [n]: which points lie in aerated lung above the diaphragm."""
        loft = self.air
        x_mid, x_half, z_mid, z_half = loft.at(points[:, 1])
        x = np.abs(points[:, 0] - x_mid) / np.maximum(x_half - margin, 1e-3)
        z = np.abs(points[:, 2] - z_mid) / np.maximum(z_half - margin, 1e-3)
        dome = (((points - np.array(self.dome.center)) / (np.array(self.dome.radii) + margin)) ** 2).sum(1)
        in_range = (points[:, 1] < loft.y[-1] - margin) & (points[:, 1] > loft.y[0])
        return in_range & (x**loft.power + z**loft.power < 1) & (dome > 1)


@dataclass
class Body:
    """All solids of one patient in one posture."""

    patient: Patient
    supine: bool
    torso: Loft
    lungs: dict[int, Lung]
    heart: list[Ellipsoid]
    vessels_great: list[Ellipsoid]
    mediastinum: list[Loft]
    tubes: Tubes = field(default_factory=Tubes)
    overlays: Tubes = field(default_factory=Tubes)
    """Devices: the exposure is set without them."""
    arms: list[Capsule] = field(default_factory=list)
    """Tissue that counts where it lies outside the torso."""
    breasts: list[Ellipsoid] = field(default_factory=list)
    """The same, but thinning upwards."""
    solids: list[Ellipsoid] = field(default_factory=list)
    """Solids that add their density wherever they lie."""
    opacities: list[Ellipsoid] = field(default_factory=list)
    """Solid lesions that displace air: sharp edges in lung, none in tissue."""
    clouds: list[tuple[Ellipsoid, float]] = field(default_factory=list)
    """Soft-edged opacities with how patchy they are (0..1); they fill air spaces and never exceed tissue."""
    pockets: list[tuple[Ellipsoid, float]] = field(default_factory=list)
    """Gas bubbles with the height of their fluid level (-inf for none)."""
    hila: dict[int, Array] = field(default_factory=dict)
    spine: Array = field(default_factory=lambda: np.zeros((0, 3)))
    ribs: dict[tuple[int, int], Array] = field(default_factory=dict)
    """Centre lines [n, 3] by (side, number 1..12); a row of NaN is a gap in the bone."""
    clavicles: dict[int, Array] = field(default_factory=dict)
    """The same by side."""


def cage_at(p: Patient, y: Array) -> tuple[Array, Array, Array, Array]:
    """Return lateral, medial, back and front extents of the inner cage at heights y (lateral and medial as distances
    from the midline)."""
    u = np.sqrt(np.clip((APEX_Y - y) / p.cage_height, 0, 1.4))
    grid = np.sqrt(_U)
    return (
        p.half_width * np.interp(u, grid, _LATERAL),
        p.half_width * np.interp(u, grid, _MEDIAL),
        p.half_depth * np.interp(u, grid, _BACK),
        p.half_depth * np.interp(u, grid, _FRONT),
    )


def build_body(p: Patient, view: str) -> Body:
    """Build the healthy organs, with heart, lungs and diaphragm sized by the findings."""
    supine = view == "AP_supine"
    emphysema, collapse = p.severity("Emphysema"), p.severity("Atelectasis")
    lift = 2.2 if supine else 0.9 if view == "AP" else 0.0
    lift -= 4.2 * emphysema**0.75
    dome_right = APEX_Y - p.lung_height + lift
    dome_left = dome_right - p.dome_gap
    bulge = p.dome_bulge * (1 - 0.72 * emphysema**0.75)
    lungs: dict[int, Lung] = {}
    y = APEX_Y - p.cage_height * 1.35 * np.linspace(1, 0, 90) ** 2
    lateral, medial, back, front = cage_at(p, y)
    hyper = 1 + 0.04 * emphysema
    for side, top in ((-1, dome_right), (1, dome_left)):
        if "Atelectasis" in p.severities and side == p.sign("Atelectasis"):
            top += 1.0 + 3.0 * collapse
        dome = Ellipsoid(
            (side * 0.48 * p.half_width, top - bulge, 1.2), (0.60 * p.half_width, bulge, 1.12 * p.half_depth)
        )
        above = y > top - bulge
        mid, half = side * (lateral + medial) / 2 * hyper, (lateral - medial) / 2 * hyper
        cage = Loft(y[above], mid[above], half[above], ((front + back) / 2)[above], ((front - back) / 2)[above])
        lungs[side] = Lung(side, cage, cage, LUNG - 0.03 * emphysema + 0.012 * supine, dome)
    torso = _torso(p)
    spine = _spine_line(p)
    heart = _heart(p, (dome_right + dome_left) / 2, supine)
    knob, descending, *others = _great_vessels(p, heart[1])
    mediastinum = _mediastinum(p, spine, supine, [*heart, knob, *others], (dome_right, dome_left))
    body = Body(p, supine, torso, lungs, heart, [knob, descending], mediastinum, spine=spine)
    body.hila = {side: np.array([side * 3.3, 1.0 + (0.8 if side > 0 else 0.0) + 0.3 * lift, -1.0]) for side in (-1, 1)}
    _soft_parts(body, view)
    _belly_gas(body, dome_left)
    return body


def _belly_gas(body: Body, floor: float) -> None:
    """Gas of the stomach and of the splenic flexure, under the left dome; the liver leaves none on the right."""
    p, r = body.patient, body.patient.stream("bowel")
    x, size = float(r.uniform(5.0, 8.0)), p.stomach
    if size > 0:
        level = floor - 1.1 - r.uniform(0.6, 1.0) * size if r.random() < 0.6 and not body.supine else -np.inf
        for _ in range(3):
            wide, tall = size * r.uniform(0.8, 1.3), size * r.uniform(0.5, 0.75)
            center = (x + r.normal(0, 0.45) * size, floor - 1.1 - tall - r.uniform(0, 0.3) * size, 1.5)
            lobe = Ellipsoid(center, (wide, tall, 0.8 * size), _rotation(r.normal(5, 14), 0), density=-0.36 * TISSUE)
            body.pockets.append((lobe, level))
    y = floor - r.uniform(4.0, 8.0)
    for _ in range(int(r.integers(0, 5))):
        size = r.uniform(0.7, 1.5)
        x, y = x + r.uniform(0.7, 1.5) * size, y + r.normal(0, 0.9) * size
        if x < p.half_width - size:
            radii = (size * r.uniform(0.9, 1.5), size * r.uniform(0.6, 1.0), size)
            body.pockets.append(
                (Ellipsoid((x, y, 3.0), radii, _rotation(r.normal(0, 30), 0), density=-0.3 * TISSUE), -np.inf)
            )


def _torso(p: Patient) -> Loft:
    w, wall, s = p.half_width, p.wall, p.shoulder
    d, thick = p.half_depth, 0.35 * (wall - 2.5)
    table = np.array(
        [  # height, half width, half depth, middle of the depth
            (-30, w + wall, d + wall, 0.0),
            (-14, w + wall + 0.4, d + wall, 0.0),
            (-6, w + wall + 0.4, d + wall, 0.0),
            (0, w + wall + 0.8, d + wall - 0.3, 0.0),
            (4, w + wall + 1.6, 0.93 * d + wall, -0.2),
            (7.5, w + s - 1.0, 0.84 * d + wall, -0.5),
            (10, w + s - 0.6, 0.72 * d + wall, -1.0),
            (11.6, w + s - 1.6, 0.64 * d + 0.9 * wall, -1.4),
            (12.8, w + s - 3.4, 0.58 * d + 0.8 * wall, -1.6),
            (13.8, w + s - 6.3 + thick, 0.55 * d + 1.6, -1.6),
            (14.8, 9.6 + thick, 6.4, -1.6),
            (16, 7.7 + thick, 6.3, -1.6),
            (17.5, 6.6 + thick, 6.3, -1.6),
            (19.5, 6.1 + thick, 6.3, -1.2),
            (26, 6.0 + thick, 6.3, -0.8),
        ]
    )
    y, half, depth, z = table.T
    fine = np.linspace(-30, 26, 225)
    kernel = np.hanning(9) / np.hanning(9).sum()  # rounds the corners of the table

    def smooth(t: Array) -> Array:
        return np.convolve(np.pad(np.interp(fine, y, t), 4, mode="edge"), kernel, mode="valid")

    return Loft(fine, np.zeros_like(fine), smooth(half), smooth(z), smooth(depth), 2.7)


def _spine_line(p: Patient) -> Array:
    y = np.arange(24.0, -27.0, -2.35)
    bend = np.sin((y + 4) / 7.5) * p.spine_curve * np.exp(-((y / 16) ** 2))
    return np.stack([bend, y, -4.6 - p.kyphosis * np.exp(-(((y - 1) / 9) ** 2))], 1)


def _mediastinum(
    p: Patient, spine: Array, supine: bool, solids: list[Ellipsoid], tops: tuple[float, float]
) -> list[Loft]:
    """One sheath about heart and great vessels, so that their borders run into each other, and the soft tissue beside
    the spine.

    tops: heights of the right and the left dome; over them the sheath flares into the cardiophrenic fat pads.
    """
    wide = p.pedicle * (1.12 if supine else 1.0) + 0.9 * p.severity("Edema")
    y = np.array([-25.0, -8, -3, 0, 2.5, 5, 7.5, 10, 12, 14, 18, 24])
    right = wide * np.array([0.3, 0.35, 0.6, 0.85, 0.98, 1.0, 0.94, 0.88, 0.92, 1.1, 1.3, 1.2])
    left = wide * np.array([0.6, 0.65, 0.7, 0.75, 0.72, 0.75, 0.80, 0.84, 0.95, 1.12, 1.3, 1.2])
    front = np.array([2.0, 2, 2, 2.5, 3.2, 3.2, 2.8, 2.5, 2.2, 1.8, 1.4, 1])
    back = np.array([2.5, 2.5, 2.8, 3.8, 5, 5, 5, 5, 5, 5, 5, 5])
    fine = np.linspace(-25.0, 24.0, 99)
    # distances from the origin to the right, left, front and back; by how much a pad flares, and over which height
    edges = list(PchipInterpolator(y, np.stack([right, left, front, back], 1))(fine).T)
    pads = ((0.8, tops[0]), (0.7, tops[1]), (1.6, min(tops) - 1.0), (0.0, min(tops)))
    ends = (_outline(solids, fine, 0), _outline(solids, fine, 2))
    for k, (solid, (flare, floor)) in enumerate(
        zip((-ends[0][0], ends[0][1], ends[1][1], -ends[1][0]), pads, strict=True)
    ):
        widest = int(np.argmax(np.where(fine < 2, solid, -99.0)))
        fat = np.where(fine < fine[widest], (0.85 if k == 3 else 0.91) * solid[widest], -99.0)
        fat += flare * np.exp(-np.clip(fine - floor, 0, 9) / 0.9)
        edges[k] = _closed(np.maximum(np.maximum(edges[k], solid), fat), fine[1] - fine[0], 3.5 if k < 2 else 5.0)
    right, left, front, back = edges
    s = spine[np.argsort(spine[:, 1])]
    sheath = Loft(fine, (left - right) / 2, (left + right) / 2, (front - back) / 2, (front + back) / 2, 2.2)
    beside = Loft(s[:, 1], s[:, 0], np.full(len(s), 2.25), s[:, 2] - 1.0, np.full(len(s), 3.0), 2.5)
    return [sheath, beside]


def _outline(solids: list[Ellipsoid], y: Array, axis: int) -> tuple[Array, Array]:
    """Lowest and highest coordinate along an axis of a union of ellipsoids at heights y; +99 and -99 outside it."""
    low, high = np.full(len(y), 99.0), np.full(len(y), -99.0)
    for solid in solids:
        axes = np.array(solid.axes)
        spread = (axes.T * np.square(solid.radii)) @ axes
        away, lean = y - solid.center[1], spread[axis, 1] / spread[1, 1]
        room = (spread[axis, axis] - lean * spread[axis, 1]) * (1 - away**2 / spread[1, 1])
        middle, half = solid.center[axis] + lean * away, np.sqrt(np.maximum(room, 0))
        low = np.where(room > 0, np.minimum(low, middle - half), low)
        high = np.where(room > 0, np.maximum(high, middle + half), high)
    return low, high


def _closed(edge: Array, step: float, radius: float) -> Array:
    """Fill what a disc of this radius cannot roll into, and round off what is left."""
    n = int(radius / step)
    cap = np.sqrt(radius**2 - (np.arange(-n, n + 1) * step) ** 2)
    shrunk = grey_closing(np.pad(edge, 2 * n, mode="edge"), structure=cap)[2 * n : -2 * n]
    kernel = np.hanning(7) / np.hanning(7).sum()
    return np.convolve(np.pad(shrunk, 3, mode="edge"), kernel, mode="valid")


def _rotation(down_deg: float, forward_deg: float) -> Array:
    """Axes of an ellipsoid whose first axis points left, down and forward."""
    a, b = np.deg2rad(down_deg), np.deg2rad(forward_deg)
    e1 = np.array([np.cos(a) * np.cos(b), -np.sin(a) * np.cos(b), np.sin(b)])
    e2 = cross(np.array([0, 0, 1.0]), e1)
    e2 /= np.linalg.norm(e2)
    e3 = cross(e1, e2)
    return np.stack([e1, e2, e3])


def requested_heart_ratio(p: Patient) -> float:
    """The cardiothoracic ratio that the erect PA film should show."""
    s = p.severity("Cardiomegaly")
    healthy = p.heart_ratio * (1 - 0.22 * p.severity("Emphysema"))
    if s == 0:
        return healthy
    return healthy + (0.535 - healthy) * min(1.0, s / 0.3) + 0.16 * max(0.0, s - 0.3) / 0.7


def _heart(p: Patient, floor: float, supine: bool) -> list[Ellipsoid]:
    """Chambers scaled until their silhouette on the PA film has the requested width; supine, the heart widens by about
    6 %."""
    tilt = p.heart_tilt_deg + 12 * p.severity("Emphysema")
    turn = _rotation(tilt, 24)
    parts = [  # centre relative to the midline at the diaphragm, radii, axes
        ((2.7, 4.1, 2.2), (7.3, 4.3, 4.4), turn),
        ((-0.7, 4.9, 0.9), (3.2, 4.3, 3.4), _rotation(-75, 10)),
        ((0.9, 7.0, -1.8), (3.8, 2.8, 2.6), _rotation(0, 0)),
        ((3.0, 7.7, 1.8), (2.5, 4.9, 2.6), _rotation(27, 0)),
    ]

    def build(k: float) -> list[Ellipsoid]:
        tall, deep = k**0.75, k**0.8
        return [
            Ellipsoid(
                (c[0] * k + 0.2, floor - 0.5 + c[1] * (tall if c[1] < 7.5 else min(tall, 1.05)), c[2] * deep),
                (r[0] * k, r[1] * (tall if c[1] < 7.5 else min(tall, 1.05)), r[2] * deep),
                axes,
            )
            for c, r, axes in parts
        ]

    def width(solids: list[Ellipsoid]) -> float:
        low = min((s.center[0] - s.extent(0)) * _pa_scale(p, s.center[2]) for s in solids)
        high = max((s.center[0] + s.extent(0)) * _pa_scale(p, s.center[2]) for s in solids)
        return high - low

    target = requested_heart_ratio(p) * 2 * p.half_width * 0.995 * _pa_scale(p, 0.0)
    k = 1.0
    for _ in range(6):
        k *= (target / width(build(k))) ** 1.05
    return build(k * (1.06 if supine else 1.0))


def _pa_scale(p: Patient, z: float) -> float:
    detector = p.half_depth + p.wall + 1.0
    return PA_DISTANCE / (PA_DISTANCE - detector + z)


def _great_vessels(p: Patient, atrium: Ellipsoid) -> list[Ellipsoid]:
    x = p.pedicle + 0.25 + 0.7 * p.unfolding
    knob = Ellipsoid((x - 1.25, 5.0 + 0.7 * p.unfolding, -1.5), (p.arch + 0.35, p.arch + 0.75, 3.4), _rotation(-12, 0))
    descending = Ellipsoid(
        (1.3 + 1.1 * p.unfolding, -2.5, -4.2 - 0.5 * p.unfolding), (1.35 + 0.2 * p.unfolding, 11.0, 1.5)
    )
    ascending = Ellipsoid((-1.2 - 0.7 * p.unfolding, 2.2, 2.2), (1.9 + 0.2 * p.unfolding, 4.0, 2.0))
    (x, y, z), (rx, ry, rz) = atrium.center, atrium.radii
    cava = Ellipsoid((x + 0.35 * rx, y - 0.75 * ry, z), (0.95 * rx, 0.75 * ry, 0.8 * rz))
    return [knob, descending, ascending, cava]


def _soft_parts(body: Body, view: str) -> None:
    p = body.patient
    if p.breast > 0:
        r = p.breast
        for side in (-1, 1):
            spread = 0.6 if body.supine else 0.0
            center = (
                side * (0.54 * p.half_width + spread),
                -5.0 - p.breast_drop * (0.4 if body.supine else 0.9),
                p.half_depth + p.wall - 0.15 * r - 0.3,
            )
            body.breasts.append(Ellipsoid(center, (1.15 * r, 1.2 * r, 0.8 * r)))
    out, thick = p.half_width + p.shoulder, 3.2 + 0.45 * p.wall
    for side in (-1, 1):
        if view == "lateral":  # arms raised forwards, over the top of the film
            body.arms.append(Capsule((side * (out - 3.0), 11.5, 0.5), (side * (out - 3.5), 25.0, 13.0), thick))
        else:
            body.arms.append(Capsule((side * (out + 0.4), 9.2, -2.0), (side * (out + 5.4), -24.0, -1.5), thick))
