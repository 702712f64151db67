"""Tubes, lines, wires and boxes, as intensive care and surgery leave them on a chest film.

Rendered separately from the body, so that metal does not change the exposure.
"""

import numpy as np

from thiscxr.phantom.anatomy import Body
from thiscxr.phantom.frame import curve_through
from thiscxr.phantom.rays import Array

PLASTIC, METAL = 0.9, 4.0


def add_devices(body: Body, s: float, r: np.random.Generator) -> None:
    """Add one to four devices: the more the higher the severity, always the same ones first."""
    kinds = (_tracheal_tube, _central_line, _gastric_tube, _pacemaker, _sternal_wires, _electrodes)
    order = r.permutation(len(kinds))
    for kind in order[: max(1, int(np.ceil(4 * s - 1e-9)))]:
        kinds[kind](body, r)


def _front(body: Body, y: float) -> float:
    return float(np.interp(y, body.torso.y, body.torso.z_mid + body.torso.z_half))


def _tracheal_tube(body: Body, r: np.random.Generator) -> None:
    line = curve_through(
        [(0.3, 24, 2.0), (0.0, 16, -0.2), (-0.2, 11, -1.0), (-0.3, 4.0 + r.uniform(2.5, 5.0), -1.8)], 10
    )
    body.overlays.chain(line, 0.48, 0.35, core=0.74, core_share=1.0)
    body.overlays.chain(line + np.array([0.42, 0, 0]), 0.09, METAL * 0.8)


def _central_line(body: Body, r: np.random.Generator) -> None:
    if r.random() < 0.5:
        path = [(-5.5, 22, 3.0), (-4.0, 15, 2.0), (-2.9, 9.5, 2.0), (-2.5, 5, 2.2), (-2.3, r.uniform(0, 3), 2.0)]
    else:
        path = [
            (-16.0, 3, 8.0),
            (-11, 9.5, 5.0),
            (-6, 9.8, 4.0),
            (-2.7, 7.8, 2.5),
            (-2.5, 4, 2.2),
            (-2.3, r.uniform(0, 3), 2.0),
        ]
    body.overlays.chain(curve_through(path, 22), 0.13, PLASTIC * 2.2)


def _gastric_tube(body: Body, r: np.random.Generator) -> None:
    floor = body.lungs[1].dome.center[1] + body.lungs[1].dome.radii[1]
    path = [
        (0.4, 24, -0.5),
        (0.3, 14, -3.0),
        (0.9, 4, -4.0),
        (0.7, floor + 3, -4.0),
        (1.8, floor - 1, -2.0),
        (5.0, floor - 3.5, 1.0),
        (6.5, floor - 6.5, 2.0),
    ]
    line = curve_through(path, 26)
    body.overlays.chain(line, 0.24, PLASTIC * 0.8, core=0.6, core_share=0.8)
    body.overlays.chain(line + np.array([0.18, 0, 0]), 0.07, METAL)


def _pacemaker(body: Body, r: np.random.Generator) -> None:
    y = 7.6 + r.uniform(-0.8, 0.8)
    x, z = 9.0 + r.uniform(-0.8, 0.8), _front(body, 7.6) - 1.6
    side = -1 if r.random() < 0.15 else 1
    around = np.linspace(0, 2 * np.pi, 25)
    body.overlays.segments(
        np.array([[side * x, y, z - 0.35]]),
        np.array([[side * x, y, z + 0.35]]),
        2.0,
        2.2,
        flat=2.5,
        flat_axis=np.array([1.0, 0.3 * side, 0]),
    )
    loop = np.stack([side * x + 1.6 * np.cos(around), y - 0.2 + 1.3 * np.sin(around), np.full(25, z - 0.5)], 1)
    body.overlays.chain(loop, 0.09, METAL)
    apex, atrium = np.array(body.heart[0].center), np.array(body.heart[1].center)
    tips: list[Array] = [apex + np.array([3.6, -2.6, 2.0]), atrium + np.array([-0.6, 1.6, 1.0])]
    for tip in tips[: 1 + int(r.random() < 0.75)]:
        vein = [
            (side * (x - 1.5), y + 1.5, z - 1),
            (side * 5.5, 9.6, 4.0),
            (-1.0 if side > 0 else -2.4, 8.6, 2.5),
            (-2.4, 5.5, 2.3),
            (-2.5, 1.5, 1.8),
        ]
        before = [(atrium[0] - 1.2, atrium[1] - 1.5, 1.5)] if tip is tips[0] else []
        line = curve_through([*vein, *before, tip], 30)
        body.overlays.chain(line, 0.11, METAL)
        body.overlays.segments(line[-2:-1], line[-1:], 0.2, METAL)


def _sternal_wires(body: Body, r: np.random.Generator) -> None:
    around = np.linspace(0.5, 2 * np.pi + 0.2, 13)
    for y in np.linspace(8.0, -5.0, 6):
        x, z = r.normal(0, 0.15), _front(body, float(y)) - body.patient.wall
        wide, tall, lean = r.uniform(0.8, 1.2), r.uniform(0.35, 0.6), r.normal(0, 0.25)
        loop = np.stack(
            [
                x + wide * np.cos(around),
                y + tall * np.sin(around) + lean * np.cos(around),
                z - 0.6 + 0.8 * np.sin(around),
            ],
            1,
        )
        body.overlays.chain(loop, 0.075, 7.0)
        body.overlays.segments(np.array([[x + 0.1, y - tall, z]]), np.array([[x + 0.5, y - tall - 0.5, z]]), 0.11, 7.0)


def _electrodes(body: Body, r: np.random.Generator) -> None:
    for x, y in ((-11.0, 9.0), (11.0, 9.2), (12.5, -9.0), (-12.0, -8.0))[: int(r.integers(3, 5))]:
        spot = np.array([x + r.normal(0, 0.8), y + r.normal(0, 0.8), 0.0])
        spot[2] = _front(body, float(spot[1])) - 1.5
        body.overlays.segments(spot[None] - np.array([0, 0, 0.15]), spot[None] + np.array([0, 0, 0.15]), 0.75, 2.2)
        body.overlays.segments(spot[None] - np.array([0, 0, 0.3]), spot[None] + np.array([0, 0, 0.3]), 0.3, METAL)
        away = np.sign(x) * 9
        path = [
            spot,
            spot + np.array([-0.25 * away, -1.5, 0.4]),
            (r.normal(0, 3), -8 + r.normal(0, 2), spot[2] + 0.5),
            (r.normal(0, 4), -26.0, spot[2]),
        ]
        body.overlays.chain(curve_through(path, 18), 0.09, METAL)
