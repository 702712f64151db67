"""Findings as objects in the body: each takes a body and a severity and adds or moves solids.

Size of heart, lungs and diaphragm (cardiomegaly, emphysema, volume loss) is anatomy's; the rest is here. Only the patient's own
random streams are used, so a lesion keeps its place and shape while it grows.
"""

import numpy as np

from thiscxr.data.phantom_anatomy import TISSUE, Body, Lung
from thiscxr.data.phantom_body import stream
from thiscxr.data.phantom_devices import add_devices
from thiscxr.data.phantom_frame import curve_through
from thiscxr.data.phantom_rays import Array, Ellipsoid, Loft


def add_findings(body: Body) -> None:
    """Add what the patient's severities ask. Call it before the vessels grow (they avoid fluid and gas) and before the ribs are laid."""
    p = body.patient
    drawn = (
        ("Pneumothorax", _pneumothorax),
        ("Effusion", _effusion),
        ("Consolidation", _consolidation),
        ("Edema", _edema),
        ("Atelectasis", _atelectasis),
        ("Nodule", _nodule),
        ("Mass", _mass),
        ("Hernia", _hernia),
        ("Emphysema", _bullae),
        ("Fracture", _fracture),
        ("Support_Devices", add_devices),
    )
    for number, (name, add) in enumerate(drawn):
        # a branch of its own for each finding: one more finding must not move the others
        shape = stream(p.seed, "lesions", number)
        if p.severity(name) > 0:
            add(body, p.severity(name), shape)


def _top(lung: Lung) -> float:
    """Height of the dome under a lung."""
    return lung.dome.center[1] + lung.dome.radii[1]


def _inside(lung: Lung, height: float, outwards: float, forwards: float) -> Array:
    """Point of a lung: height 0 at the dome, 1 at the apex; outwards and forwards -1..1 across its section."""
    y = _top(lung) + height * (lung.cage.y[-1] - _top(lung))
    x_mid, x_half, z_mid, z_half = (
        float(np.interp(y, lung.cage.y, t)) for t in (lung.cage.x_mid, lung.cage.x_half, lung.cage.z_mid, lung.cage.z_half)
    )
    return np.array([x_mid + lung.side * outwards * x_half, y, z_mid + forwards * z_half])


def _shrink(lung: Lung, lateral: Array, medial: Array, back: Array, front: Array) -> Loft:
    low, high = (medial, lateral) if lung.side > 0 else (lateral, medial)
    return lung.air.shrunk(low, high, back, front)


def _ball(center: Array, radii: tuple[float, float, float], density: float = 0.0) -> Ellipsoid:
    return Ellipsoid((float(center[0]), float(center[1]), float(center[2])), radii, density=density)


def _pneumothorax(body: Body, s: float, r: np.random.Generator) -> None:
    """Let the lung fall away from the chest wall: most at the apex when erect, at the base in front when supine."""
    lung = body.lungs[body.patient.sign("Pneumothorax")]
    y = lung.air.y
    height = np.clip((y - _top(lung)) / (y[-1] - _top(lung)), 0, 1)
    gap = 0.7 + 4.2 * s
    along = 0.75 - 0.25 * height if body.supine else 0.35 + 0.65 * height
    lung.air = _shrink(lung, gap * along, 0.12 * gap * along, 0.35 * gap * along, (0.55 if body.supine else 0.45) * gap * along)
    sink = (0.6 if body.supine else 1.0) * (0.8 + 2.6 * s)
    sunk = y - sink * height
    lung.air = Loft(sunk, lung.air.x_mid, lung.air.x_half, lung.air.z_mid, lung.air.z_half, lung.air.power)
    lung.density += 0.012 + 0.03 * s
    lung.gas = True


def _effusion(body: Body, s: float, r: np.random.Generator) -> None:
    """Wrap the lung in a rind of fluid that thickens downwards exponentially, so that its edge is the meniscus.

    Supine, fluid lies along the back.
    """
    lung = body.lungs[body.patient.sign("Effusion")]
    y = lung.air.y
    amount = 0.35 * s if body.supine else s
    level = _top(lung) - 3.6 + 13.0 * amount**1.15
    rind = np.minimum(np.exp((level - y) / (1.3 + 1.2 * s)), 30.0)
    if body.supine:
        lung.veil = 1.0 + 6.0 * s
        rind = rind + 0.5 * s
    lung.air = _shrink(lung, rind, 0.6 * rind, rind, 0.8 * rind)


def _consolidation(body: Body, s: float, r: np.random.Generator) -> None:
    """Fill part of a lobe, patchily and with soft edges, and leave its bronchi open."""
    lung = body.lungs[body.patient.sign("Consolidation")]
    upper = r.random() < 0.4
    middle = _inside(lung, 0.62 if upper else r.uniform(0.12, 0.3), r.uniform(-0.1, 0.35), r.uniform(-0.5, 0.5))
    size = 2.6 + 2.6 * s
    density = 0.10 + 0.12 * s
    body.clouds.append((_ball(middle, (size * 1.15, size * 0.95, size), density), 0.45))
    for _ in range(4):
        center = middle + r.normal(0, 0.5, 3) * size
        body.clouds.append((_ball(center, (0.6 * size, 0.55 * size, 0.6 * size), density), 0.6))
    for _ in range(5):
        start = body.hila[lung.side] + r.normal(0, 0.3, 3)
        end = middle + r.normal(0, 0.45, 3) * size
        bend = (start + end) / 2 + r.normal(0, 0.4, 3)
        body.tubes.chain(
            curve_through([tuple(start + 0.35 * (end - start)), tuple(bend + 0.2 * (end - start)), tuple(end)], 6), 0.16, -0.5 * TISSUE
        )


def _edema(body: Body, s: float, r: np.random.Generator) -> None:
    """Bat wings about both hila, haze over the bases, septal lines at the costal wall."""
    for side, lung in body.lungs.items():
        hilum = body.hila[side]
        wing = 3.0 + 1.6 * s
        density = 0.035 + 0.085 * s
        body.clouds.append((_ball(hilum + np.array([side * 1.8, -0.5, 0]), (wing * 1.1, wing * 1.5, 5.0), density), 0.55))
        for _ in range(7):
            center = hilum + r.normal(0, 1, 3) * [2.0, 3.6, 2.5] + np.array([side * 2.0, -1.0, 0])
            radius = r.uniform(1.3, 2.6)
            body.clouds.append((_ball(center, (radius, radius, radius), density * 1.3), 0.7))
        body.clouds.append((_ball(_inside(lung, 0.1, 0.1, -0.2), (6.0, 5.5, 7.0), 0.035 * s), 0.4))
        for line in range(2 + int(7 * s)):
            wall = _inside(lung, 0.02 + 0.045 * line, 0.97, r.uniform(-0.3, 0.4))
            inner = wall - np.array([side * r.uniform(1.2, 2.2), r.uniform(-0.15, 0.15), 0])
            body.tubes.segments(wall[None], inner[None], 0.09, TISSUE * 1.1, flat=0.5, flat_axis=np.array([0.0, 0, 1]))


def _atelectasis(body: Body, s: float, r: np.random.Generator) -> None:
    """Plates of collapse over a raised dome, and with severity an airless wedge of the lower lobe."""
    lung = body.lungs[body.patient.sign("Atelectasis")]
    for number in range(1 + int(2.5 * s)):
        y = 0.07 + 0.075 * number + r.uniform(0, 0.02)
        inner, outer = _inside(lung, y + r.uniform(-0.03, 0.05), -0.55, -0.1), _inside(lung, y + r.uniform(-0.02, 0.05), 0.72, 0.05)
        middle = (inner + outer) / 2 + np.array([0, r.uniform(-0.5, 0.3), 0])
        line = curve_through([tuple(inner), tuple(middle), tuple(outer)], 8)
        thick = (0.16 + 0.16 * s) * r.uniform(0.8, 1.2) * np.array([0.6, 0.9, 1.1, 1.1, 1.0, 0.8, 0.6])
        body.tubes.chain(line, thick, 0.6 * TISSUE, flat=2.4, flat_axis=np.array([0.0, 0, 1]))
    corner = _inside(lung, 0.0, -0.75, -0.4)
    tall = 1.5 + 5.0 * s
    wedge = Ellipsoid(
        (float(corner[0]), float(corner[1]) + 0.2 * tall, float(corner[2])), (1.4 + 2.2 * s, tall, 3.5), density=0.06 + 0.16 * s
    )
    body.clouds.append((wedge, 0.15))


def _nodule(body: Body, s: float, r: np.random.Generator) -> None:
    """A round solid a little denser than tissue, as old granulomas are."""
    lung = body.lungs[body.patient.sign("Nodule")]
    radius = 0.75 + 0.75 * s
    center = _inside(lung, r.uniform(0.2, 0.75), r.uniform(0.05, 0.6), r.uniform(-0.5, 0.4))
    nodule = _ball(center, (radius * r.uniform(0.92, 1.08), radius * r.uniform(0.92, 1.08), radius), 0.07)
    body.opacities.append(nodule)
    body.solids.append(nodule)


def _mass(body: Body, s: float, r: np.random.Generator) -> None:
    """A lobulated solid: overlapping balls."""
    lung = body.lungs[body.patient.sign("Mass")]
    radius = 1.9 + 2.0 * s
    center = _inside(lung, r.uniform(0.25, 0.75), r.uniform(-0.2, 0.45), r.uniform(-0.5, 0.4))
    body.opacities.append(_ball(center, (radius, radius * 0.95, radius)))
    for _ in range(3):
        direction = r.normal(0, 1, 3)
        direction /= np.linalg.norm(direction)
        body.opacities.append(_ball(center + 0.6 * radius * direction, (radius * 0.62, radius * 0.62, radius * 0.62)))


def _hernia(body: Body, s: float, r: np.random.Generator) -> None:
    """Stomach behind the heart, with gas over a fluid level when erect."""
    floor = _top(body.lungs[1])
    size = 2.3 + 2.4 * s
    center = np.array([r.uniform(0.2, 1.6), floor + 0.55 * size, -5.0])
    body.opacities.append(_ball(center, (size * 1.1, size * 0.95, size * 0.75)))
    body.pockets.append(
        (_ball(center, (size * 0.92, size * 0.78, size * 0.6), -0.85 * TISSUE), -np.inf if body.supine else float(center[1]) - 0.05 * size)
    )


def _bullae(body: Body, s: float, r: np.random.Generator) -> None:
    """Thin-walled bubbles in the upper lobes; the size of the lungs is anatomy's."""
    for side in (-1, 1):
        for _ in range(3):
            center = _inside(body.lungs[side], r.uniform(0.45, 0.8), r.uniform(-0.1, 0.55), r.uniform(-0.4, 0.3))
            size = r.uniform(1.0, 2.0) * (0.5 + 0.9 * s)
            shape = (size * r.uniform(0.8, 1.1), size, size)
            body.solids += [
                _ball(center, shape, 0.16),
                _ball(center, (shape[0] - 0.12, shape[1] - 0.12, shape[2] - 0.12), -0.16 - 0.02 * s),
            ]


def _fracture(body: Body, s: float, r: np.random.Generator) -> None:
    """Break neighbouring ribs in a row behind the side, with callus about the gaps, and in four patients of five the clavicle."""
    side = body.patient.sign("Fracture")
    first, row = int(r.integers(4, 7)), int(r.integers(5, 8))
    for number in range(first, first + 2 + round(3 * s)):
        drop = (1.0 + 0.8 * s) * r.uniform(0.8, 1.2)
        line, at = body.ribs[(side, number)], row + int(r.integers(-1, 1))
        body.ribs[(side, number)] = _broken(line, at, side, drop, 4.0)
        size = 0.55 + 0.35 * s
        for end, sink in ((line[at - 1], 0.1), (line[at], 0.85)):
            body.solids.append(_ball(end - np.array([0, sink * drop, 0]), (1.15 * size, 0.95 * size, 1.15 * size), 0.16))
    if r.random() < 0.8:
        body.clavicles[side] = _broken(body.clavicles[side], int(r.integers(5, 8)), side, 1.0 + 1.3 * s, 9.0)


def _broken(line: Array, at: int, side: int, drop: float, fade: float) -> Array:
    """Part a bone before its point `at`: the outer piece sinks by `drop` cm and slides inwards, less so `fade` points further out."""
    less = np.exp(-np.arange(len(line) - at) / fade)[:, None]
    moved = line[at:] + less * np.array([-0.5 * side * drop, -drop, 0.0])
    start = moved[:1] + 0.45 * (line[at - 1] - line[at])
    stump = line[at - 1 : at] + 0.25 * (line[at] - line[at - 1])
    return np.concatenate([line[:at], stump, np.full((1, 3), np.nan), start, moved])
