"""Bones, airways and lung vessels of the phantom, as chains of tubes.

Separate from the organs because nothing here displaces lung: these only add density (or take it, for the air in a
bronchus).
"""

from collections.abc import Sequence

import numpy as np

from thiscxr.phantom.anatomy import APEX_Y, BONE, TISSUE, Body, Lung, cage_at
from thiscxr.phantom.rays import Array, Ellipsoid

_RIB_DROP = np.array([3.2, 4.6, 5.8, 6.8, 7.6, 8.2, 8.6, 8.6, 8.2, 7.0, 4.5, 2.6])
_RIB_END = np.array([0.74, 0.78, 0.80, 0.80, 0.79, 0.77, 0.74, 0.70, 0.66, 0.60, 0.42, 0.30])


def add_bones(body: Body, view: str) -> None:
    """Add ribs, spine, clavicles, scapulae, sternum and, as far as they are on the film, the arms."""
    _add_ribs(body)
    _add_spine(body, view)
    _add_shoulders(body, view)
    _add_sternum(body)


def _add_ribs(body: Body) -> None:
    p, r = body.patient, body.patient.stream("ribs")
    number = np.arange(12)[:, None]
    for side in (-1, 1):
        t = (
            np.linspace(0, 1, 17) * (_RIB_END + r.normal(0, 0.012, 12))[:, None]
        )  # [12, 17]: turn from the spine forwards, 1 is half way round
        neck = APEX_Y + 1.5 - number * p.cage_height / 10.4 + r.normal(0, 0.13, (12, 1))
        y = neck - p.rib_slope * _RIB_DROP[:, None] * (t / 0.8) ** 1.1 + 0.25 * np.sin(np.pi * np.minimum(t / 0.25, 1))
        lateral, _, back, front = cage_at(p, y)
        sine, cosine = np.sin(np.pi * t), np.cos(np.pi * t)
        x = (lateral + 0.35) * sine**0.8
        # the neck starts beside the vertebra and meets the arc without a kink
        reach = (lateral + 0.35) * np.sin(0.12 * np.pi) ** 0.8
        x = np.where(t < 0.12, np.maximum(x, 1.9 + np.clip((reach - 1.9) / 0.12, 0, 20) * t), x)
        z = (front + back) / 2 - ((front - back) / 2 + 0.35) * np.sign(cosine) * np.abs(cosine) ** 0.8
        bend = np.interp(neck, body.spine[::-1, 1], body.spine[::-1, 0])
        for k, line in enumerate(np.stack([side * x + bend * (1 - t), y, z], -1)):
            body.ribs[(side, k + 1)] = line


def lay_bones(body: Body, view: str) -> None:
    """Turn the centre lines of ribs and clavicles into bone; called after the findings have moved them."""
    bone, r = BONE * body.patient.bone, body.patient.stream("posture")
    tall = np.clip(r.normal(0.63, 0.045, (2, 13)), 0.5, 0.75)
    tall[:, [1, 12]] *= 0.8
    along = 0 if view == "lateral" else 2
    for (side, number), line in body.ribs.items():
        for piece in _pieces(line):
            sideways = np.abs(np.diff(piece[:, along])) / np.linalg.norm(np.diff(piece, axis=0), axis=1)
            # thin cortex where the rib is seen end on, else the chest wall would be a string of beads; the fronts are
            # fainter
            density = bone * (1 - 0.6 * sideways**2) * np.where(piece[1:, 2] > 0, 0.55, 1.0)
            # a rib widens towards its front end
            width = tall[(side + 1) // 2, number] * np.interp(piece[1:, 2], [-8, -2, 4, 7], [0.92, 1.0, 0.95, 1.12])
            body.tubes.chain(
                piece, 0.40, density, flat=width, flat_axis=np.array([0.0, 1.0, 0.15]), core=0.74, core_share=0.72
            )
    for line in body.clavicles.values():
        for piece in _pieces(line):
            from_midline = np.abs(piece[1:, 0])
            body.tubes.chain(
                piece,
                np.interp(from_midline, [1.5, 5, 12, 16], [0.85, 0.6, 0.55, 0.62]),
                1.25 * bone,
                core=0.72,
                core_share=0.75,
            )


def _pieces(line: Array) -> list[Array]:
    gap = np.isnan(line[:, 0])
    return [part[~np.isnan(part[:, 0])] for part in np.split(line, np.flatnonzero(gap)) if len(part) > 2]


def _add_spine(body: Body, view: str) -> None:
    s, bone = body.spine, BONE * body.patient.bone
    up = np.array([0.0, 1.0, 0.0])
    grow = np.interp(s[:, 1], [-20, 20], [1.15, 0.72])
    half = np.outer(0.92 * np.ones(len(s)), up) * (2.35 / 2)
    strong = bone * np.where(s[:, 1] > 9, 0.28, 0.18)
    body.tubes.segments(
        s - half,
        s + half,
        1.5 * grow,
        strong,
        flat=1.75 * grow,
        flat_axis=np.array([1.0, 0, 0]),
        core=0.86,
        core_share=0.7,
    )
    plate = bone * (0.1 if view == "lateral" else 0.07)
    for end in (-1, 1):  # end plates
        rim = s + end * half
        for thick in (0.08, 0.2):  # two plates, one thicker, for a soft rim
            body.tubes.segments(
                rim - thick * up, rim + thick * up, 1.5 * grow, plate, flat=1.8 * grow, flat_axis=np.array([1.0, 0, 0])
            )
    for side in (-1, 1):  # pedicles and transverse processes
        root = s + np.stack([side * 0.95 * grow, 0.35 * np.ones(len(s)), -1.3 * grow], 1)
        body.tubes.segments(
            root, root + np.array([0, 0, -1.3]), 0.36, bone * 0.2, flat=0.5, flat_axis=up, core=0.6, core_share=0.45
        )
        tip = root + np.array([side * 1.5, 0.35, -1.8])
        faint = bone * np.where(s[:, 1] > 9, 0.2, 0.35)  # over the neck nothing covers them
        body.tubes.segments(
            root + np.array([0, 0, -1.2]), tip, 0.32, faint, flat=0.45, flat_axis=up, core=0.6, core_share=0.5
        )
    spinous = s + np.array([0, -0.9, -3.0])
    body.tubes.segments(
        spinous,
        spinous + np.array([0, -1.5, -2.4]),
        0.3,
        bone * 0.4,
        flat=0.55,
        flat_axis=np.array([0, 1.0, -0.5]),
        core=0.5,
        core_share=0.6,
    )


def curve_through(points: Array | Sequence[Array | tuple[float, float, float]], n: int) -> Array:
    """Smooth line through control points [k, 3] (Catmull-Rom), [n, 3]."""
    c = np.array(points, float)
    c = np.concatenate([2 * c[:1] - c[1:2], c, 2 * c[-1:] - c[-2:-1]])
    t = np.linspace(0, len(c) - 3 - 1e-9, n)
    i = t.astype(int)
    f = (t - i)[:, None]
    a, b, d, e = c[i], c[i + 1], c[i + 2], c[i + 3]
    return 0.5 * (2 * b + (d - a) * f + (2 * a - 5 * b + 4 * d - e) * f**2 + (3 * b - a - 3 * d + e) * f**3)


def _add_shoulders(body: Body, view: str) -> None:
    p, bone = body.patient, BONE * body.patient.bone
    w, s, front = p.half_width, p.shoulder, 0.42 * p.half_depth
    lift, r = 0.9 if body.supine else 0.0, p.stream("posture")
    hang = float(r.normal(0, 0.5))  # one shoulder lower than the other
    for side in (-1, 1):
        inner = 9.2 + lift + 0.3 * side * hang
        outer = inner + p.clavicle_rise + 0.6 + side * hang
        tip = w + s - 3.2 + float(r.normal(0, 0.25))
        clavicle = curve_through(
            [
                (side * 1.4, inner, front),
                (side * 4.5, inner + 0.3, front + 0.9),
                (side * 9.5, (inner + outer) / 2 + 0.5, front - 1.8),
                (side * tip, outer, front - 5.2),
            ],
            12,
        )
        body.clavicles[side] = clavicle
        # scapula: a thin plate seen by its thick borders, turned outwards on the erect film
        out = 0.0 if body.supine else 1.3
        glenoid = (side * (tip + 0.2), outer - 2.6, -3.0)
        corner, point = (side * (w * 0.66 + out), outer - 2.2, -9.0), (side * (w * 0.84 + out), -2.0 + lift, -9.6)
        lateral_border = curve_through([point, (side * (w * 0.98 + out * 0.8), 3.6, -7.5), glenoid], 10)
        medial_border = curve_through([point, (side * (w * 0.70 + out), 3.5, -10.0), corner], 8)
        ridge = curve_through(
            [
                (side * (w * 0.70 + out), outer - 3.6, -10.4),
                (side * (w * 0.95), outer - 1.6, -9.0),
                (side * (tip + 1.2), outer + 0.5, -4.6),
            ],
            8,
        )
        body.tubes.chain(lateral_border, np.linspace(0.22, 0.42, 9), bone * 0.42, core=0.6, core_share=0.4)
        body.tubes.chain(medial_border, 0.16, bone * 0.4)
        body.tubes.chain(ridge, 0.4, bone * 0.4, core=0.6, core_share=0.4)
        hook = (side * (tip - 1.5), outer - 1.2, 0.2)
        body.solids.append(Ellipsoid(hook, (0.75, 0.6, 1.8), density=bone * 0.22))
        # the blade: strips from border to border
        strips = np.linspace(0.04, 0.96, 10)
        low, high = (_along(border, strips) for border in (medial_border, lateral_border))
        body.tubes.segments(low, high, 0.16, bone * 0.3, flat=0.62, flat_axis=np.array([0.0, 1.0, 0.2]))
        head = np.array([side * (tip + 2.6), outer - 2.6, -2.6])
        body.solids.append(Ellipsoid(tuple(head), (2.35, 2.35, 2.35), density=bone * 0.26))
        body.solids.append(Ellipsoid(tuple(head), (2.0, 2.0, 2.0), density=-bone * 0.08))
        down = head + (np.array([-side * 0.5, 14.0, 12.0]) if view == "lateral" else np.array([side * 5.6, -30.0, 0.5]))
        shaft = head + np.array([0.04, 0.055, 0.07, 0.09, 0.12, 0.16, 0.22, 0.5, 1.0])[:, None] * (down - head)
        thick = np.array([1.6, 1.52, 1.44, 1.36, 1.29, 1.23, 1.18, 1.15])
        body.tubes.chain(
            shaft, thick, bone * np.array([0.08, 0.16, 0.26, 0.38, 0.5, 0.62, 0.7, 0.75]), core=0.72, core_share=0.6
        )


def _along(line: Array, t: Array) -> Array:
    """Points of a line at fractions t of its way, [n, 3]."""
    way = np.linspace(0, 1, len(line))
    return np.stack([np.interp(t, way, line[:, i]) for i in range(3)], 1)


def _add_sternum(body: Body) -> None:
    p, bone = body.patient, BONE * body.patient.bone
    y = np.linspace(8.6, -8.0, 9)
    _, _, _, front = cage_at(p, y)
    line = np.stack([np.zeros(9), y, front + 0.5], 1)
    wide = np.array([2.6, 2.3, 1.6, 1.5, 1.7, 1.9, 1.8, 1.0])
    body.tubes.chain(line, 0.48, bone * 0.5, flat=wide, flat_axis=np.array([1.0, 0, 0]), core=0.8, core_share=0.7)


def add_airways(body: Body) -> None:
    """Add the air of trachea and main bronchi."""
    aorta = 0.35 + 0.4 * body.patient.unfolding
    carina = np.array([-0.2, 4.0, -2.6])
    trachea = curve_through([(0, 22, 0.6), (0, 12, -0.8), (-aorta * 0.7, 7, -2.0), carina], 9)
    body.tubes.chain(trachea, 0.9, -0.95 * TISSUE)
    for side in (-1, 1):
        hilum = body.hila[side]
        way = [carina, (carina + hilum) / 2 + np.array([0, 0.2, 0]), hilum + np.array([side * 0.6, -1.2, 0])]
        body.tubes.chain(curve_through(way, 5), 0.6 if side < 0 else 0.52, -0.8 * TISSUE)


def add_vessels(body: Body) -> None:
    """Add hila and a branching tree of vessels in either lung."""
    p, r = body.patient, body.patient.stream("vessels")
    edema, emphysema = p.severity("Edema"), p.severity("Emphysema")
    calibre = p.vessels * (1 + 0.35 * edema) * (1 - 0.25 * emphysema)
    for side, lung in body.lungs.items():
        _hilum(body, side, calibre)
        upper = calibre * (1.15 if body.supine or edema else 0.85)
        _tree(body, lung, body.hila[side], calibre, upper, r)


def _hilum(body: Body, side: int, calibre: float) -> None:
    h = body.hila[side]
    excess = TISSUE * 0.5
    down = [[-side * 0.2, 1.0, 0], [side * 0.5, -0.6, 0], [side * 0.7, -2.6, -0.6], [side * 1.1, -4.8, -1.2]]
    across = [[-side * 1.5, 0.4, 0.4], [0, 0.8, 0.2], [side * 1.3, 1.5, 0]]
    body.tubes.chain(curve_through(h + np.array(down), 8), np.linspace(0.95, 0.5, 7) * calibre, excess)
    body.tubes.chain(curve_through(h + np.array(across), 5), np.linspace(0.9, 0.6, 4) * calibre, excess)


def _tree(body: Body, lung: Lung, hilum: Array, calibre: float, upper: float, r: np.random.Generator) -> None:
    """Grow four generations; every branch bends towards the periphery and stays inside aerated lung."""
    side = lung.side
    heads = np.array(
        [
            [0.5, 1.0, 0.0],
            [0.8, 0.9, 0.5],
            [0.9, 0.5, -0.4],
            [1.0, 0.15, 0.7],
            [1.0, -0.1, -0.6],
            [0.9, -0.55, 0.5],
            [0.8, -0.8, -0.5],
            [0.55, -1.0, 0.2],
            [0.35, -1.0, -0.6],
            [0.25, -1.0, 0.8],
            [0.15, -1.0, -0.7],
        ]
    )
    direction = heads * [side, 1, 1] + r.normal(0, 0.12, heads.shape)
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    start = hilum + np.array([side * 0.6, 0, 0]) + direction * [0.6, 1.6, 0.6]
    radius = 0.35 * calibre * np.where(direction[:, 1] > 0.2, upper / calibre, 1.0)
    length = np.full(len(start), 3.6)
    for _ in range(5):
        bend = r.normal(0, 0.22, direction.shape)
        middle = start + (direction + bend) * (length / 2)[:, None]
        end = start + direction * length[:, None]
        alive = lung.holds(end, 0.4 + radius.max())
        if alive.any():
            body.tubes.segments(start[alive], middle[alive], radius[alive], 0.92 * TISSUE)
            body.tubes.segments(middle[alive], end[alive], radius[alive] * 0.88, 0.92 * TISSUE)
        keep = alive | (r.random(len(alive)) < 0.5)
        end = np.where(alive[:, None], end, start)
        start, direction, radius, length = end[keep], direction[keep], radius[keep], length[keep]
        if len(start) == 0:
            return
        fork = r.normal(0, 0.42, direction.shape)
        both = np.concatenate([direction + fork, direction - fork + r.normal(0, 0.1, direction.shape)])
        direction = both / np.linalg.norm(both, axis=1, keepdims=True)
        start, radius, length = (
            np.tile(start, (2, 1)),
            np.tile(radius * 0.74, 2),
            np.tile(length * 0.8, 2) * r.uniform(0.7, 1.3, 2 * len(length)),
        )
