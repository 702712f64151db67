"""Findings as objects in the body: each takes a body and a severity and adds or moves solids.

The size of heart, lungs and diaphragm (cardiomegaly, emphysema, volume loss) is set in `anatomy`; the rest is here.
Only the patient's own random streams are used, so a lesion keeps its place and shape while it grows.
"""

from dataclasses import replace

import numpy as np

from thiscxr.phantom.anatomy import BONE, TISSUE, Body, Lung
from thiscxr.phantom.body import stream
from thiscxr.phantom.devices import add_devices
from thiscxr.phantom.frame import curve_through
from thiscxr.phantom.rays import Array, Ellipsoid, Loft


def add_findings(body: Body) -> None:
    """Add the patient's findings by their severities. Call it before the vessels grow (they avoid fluid and gas) and
    before the ribs are laid."""
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
        # a random branch per finding: one more finding must not move the others
        shape = stream(p.seed, "lesions", number)
        if p.severity(name) > 0:
            add(body, p.severity(name), shape)


def _top(lung: Lung) -> float:
    """Height of the dome under a lung."""
    return lung.dome.center[1] + lung.dome.radii[1]


def _inside(lung: Lung, height: float, outwards: float, forwards: float) -> Array:
    """Point of a lung: height 0 at the dome, 1 at the apex; outwards and forwards -1..1 across its section."""
    y = _top(lung) + height * (lung.cage.y[-1] - _top(lung))
    x_mid, x_half, z_mid, z_half = lung.cage.at(y)
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
    lung.air = _shrink(
        lung, gap * along, 0.12 * gap * along, 0.35 * gap * along, (0.55 if body.supine else 0.45) * gap * along
    )
    sink = (0.6 if body.supine else 1.0) * (0.8 + 2.6 * s)
    lung.air = replace(lung.air, y=y - sink * height)
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
    lung.air = _shrink(lung, rind, 0.35 * rind, rind, 0.8 * rind)


def _consolidation(body: Body, s: float, r: np.random.Generator) -> None:
    """Fill part of a lobe: an airless core that reaches heart, diaphragm or wall, an edge that frays, and open bronchi
    in it."""
    lung = body.lungs[body.patient.sign("Consolidation")]
    side, upper = lung.side, r.random() < 0.4
    middle = _inside(lung, 0.62 if upper else r.uniform(0.1, 0.28), r.uniform(-0.35, 0.4), r.uniform(-0.5, 0.5))
    size = 2.8 + 2.4 * s
    density = 0.16 + 0.16 * s
    lean = np.deg2rad(r.normal(25 * side, 15))
    axes = np.array([[np.cos(lean), np.sin(lean), 0], [-np.sin(lean), np.cos(lean), 0], [0, 0, 1]])
    core = _ball(middle, (size * r.uniform(1.15, 1.4), size * r.uniform(0.8, 1.0), 1.1 * size), density)
    body.clouds.append((Ellipsoid(core.center, core.radii, axes, density), 0.3))
    for _ in range(7):
        reach = r.uniform(0.25, 0.75)  # the pieces overlap the core: the further out, the smaller and fainter
        away = r.normal(0, 1, 3) * [1.2, 0.9, 1.0]
        center = middle + reach * size * away / np.linalg.norm(away)
        part = size * r.uniform(0.45, 0.95) * (1.2 - reach)
        shape = (part * r.uniform(0.9, 1.5), part * r.uniform(0.7, 1.1), part)
        body.clouds.append((Ellipsoid(_ball(center, shape).center, shape, axes, density * (1.25 - reach)), 0.5))
    hilum = body.hila[side]
    trunk = (middle - hilum) / np.linalg.norm(middle - hilum)
    for _ in range(3):
        start = middle - (0.75 * size + r.normal(0, 0.2)) * trunk + r.normal(0, 0.25, 3)
        fork = middle + r.normal(0, 0.22, 3) * size
        body.tubes.chain(_bent(start, fork, r.normal(0, 0.25, 3)), np.linspace(0.24, 0.17, 5), -0.75 * TISSUE)
        for _ in range(2):
            end = fork + 0.5 * size * (trunk + r.normal(0, 0.6, 3))
            body.tubes.chain(_bent(fork, end, r.normal(0, 0.2, 3)), np.linspace(0.17, 0.1, 5), -0.7 * TISSUE)


def _bent(start: Array, end: Array, sag: Array) -> Array:
    """Six points of a line that passes the middle of start and end at a distance `sag`."""
    return curve_through([start, (start + end) / 2 + sag, end], 6)


def _edema(body: Body, s: float, r: np.random.Generator) -> None:
    """Bat wings about both hila, haze over the bases, septal lines at the costal wall."""
    for side, lung in body.lungs.items():
        hilum = body.hila[side]
        wing = 3.0 + 1.6 * s
        density = 0.035 + 0.085 * s
        body.clouds.append(
            (_ball(hilum + np.array([side * 1.8, -0.5, 0]), (wing * 1.1, wing * 1.5, 5.0), density), 0.4)
        )
        for _ in range(7):
            center = hilum + r.normal(0, 1, 3) * [2.0, 3.6, 2.5] + np.array([side * 2.0, -1.0, 0])
            radius = r.uniform(1.3, 2.6)
            body.clouds.append((_ball(center, (radius, radius, radius), density), 0.45))
        body.clouds.append((_ball(_inside(lung, 0.1, 0.1, -0.2), (6.0, 5.5, 7.0), 0.035 * s), 0.4))
        for line in range(2 + int(7 * s)):
            wall = _inside(lung, 0.02 + 0.045 * line, 0.97, r.uniform(-0.3, 0.4))
            inner = wall - np.array([side * r.uniform(0.9, 1.9), r.uniform(-0.3, 0.3), 0])
            _sheet(
                body,
                _bent(wall, inner, np.array([0.0, r.normal(0, 0.12), 0.0])),
                np.linspace(0.11, 0.05, 5),
                0.5,
                1.3 * TISSUE,
            )


def _sheet(body: Body, line: Array, thick: Array, deep: float, density: float) -> None:
    """A sheet seen on edge, `deep` cm to either side of the line: three nested ones, dense in the middle and soft at
    the rim."""
    for share, weight in ((1.7, 0.35), (1.2, 0.35), (0.7, 0.3)):
        body.tubes.chain(
            line, share * thick, weight / share * density, flat=deep * min(share, 1.0), flat_axis=np.array([0.0, 0, 1])
        )


def _atelectasis(body: Body, s: float, r: np.random.Generator) -> None:
    """Plates of collapse over a raised dome, and with severity an airless wedge of the lower lobe."""
    lung = body.lungs[body.patient.sign("Atelectasis")]
    for number in range(1 + int(2.5 * s)):
        y = 0.07 + 0.075 * number + r.uniform(0, 0.02)
        a = r.uniform(-0.55, -0.1)
        inner, outer = (
            _inside(lung, y + r.uniform(-0.03, 0.05), a, -0.1),
            _inside(lung, y + r.uniform(-0.02, 0.05), a + 1.0, 0.05),
        )
        sags = r.normal(0, 0.35) + r.normal(0, 0.08, 3)
        between = zip((0.25, 0.5, 0.8), sags, strict=True)
        way = [inner + t * (outer - inner) + np.array([0, sag, 0]) for t, sag in between]
        line = curve_through([inner, *way, outer], 13)
        body_of_plate = np.array([0.35, 0.6, 0.8, 0.95, 1.05, 1.1, 1.0, 0.9, 0.95, 0.8, 0.6, 0.35])
        _sheet(body, line, (0.16 + 0.08 * s) * r.uniform(0.85, 1.15) * body_of_plate, 1.6, 0.75 * TISSUE)
    corner = _inside(lung, 0.0, -0.75, -0.4)
    tall = 1.5 + 5.0 * s
    wedge = Ellipsoid(
        (float(corner[0]), float(corner[1]) + 0.2 * tall, float(corner[2])),
        (1.4 + 2.2 * s, tall, 3.5),
        density=0.06 + 0.16 * s,
    )
    body.clouds.append((wedge, 0.15))


def _nodule(body: Body, s: float, r: np.random.Generator) -> None:
    """A small lobulated solid in a soft shell, so that it fades over its rim."""
    lung = body.lungs[body.patient.sign("Nodule")]
    radius = 0.75 + 0.75 * s
    center = _inside(lung, r.uniform(0.2, 0.75), r.uniform(0.05, 0.6), r.uniform(-0.5, 0.4))
    shape = (radius * r.uniform(0.88, 1.12), radius * r.uniform(0.88, 1.12), radius)
    body.clouds.append((_ball(center, (1.3 * shape[0], 1.3 * shape[1], 1.3 * radius), 0.2), 0.1))
    body.opacities.append(_ball(center, (0.75 * shape[0], 0.75 * shape[1], 0.8 * radius)))
    for _ in range(3):
        away = r.normal(0, 1, 3) * [1, 1, 0.4]
        part = radius * r.uniform(0.45, 0.65)
        at = center + 0.5 * radius * away / np.linalg.norm(away)
        body.opacities.append(_ball(at, (part, part, part)))
        body.clouds.append((_ball(at, (1.4 * part, 1.4 * part, part), 0.12), 0.1))


def _mass(body: Body, s: float, r: np.random.Generator) -> None:
    """A lobulated solid: overlapping balls in a thin soft shell."""
    lung = body.lungs[body.patient.sign("Mass")]
    radius = 1.9 + 2.0 * s
    center = _inside(lung, r.uniform(0.25, 0.75), r.uniform(-0.2, 0.45), r.uniform(-0.5, 0.4))
    shape = (radius * r.uniform(0.85, 1.05), radius * r.uniform(0.85, 1.05), radius)
    body.opacities.append(_ball(center, (0.92 * shape[0], 0.92 * shape[1], radius)))
    body.clouds.append((_ball(center, (1.25 * shape[0], 1.25 * shape[1], 1.25 * radius), 0.11), 0.5))
    for _ in range(4):
        direction = r.normal(0, 1, 3) * [1, 1, 0.6]
        part = radius * r.uniform(0.4, 0.62)
        body.opacities.append(
            _ball(center + 0.66 * radius * direction / np.linalg.norm(direction), (part, 0.9 * part, part))
        )


def _hernia(body: Body, s: float, r: np.random.Generator) -> None:
    """Stomach behind the heart, with gas over a fluid level when erect."""
    floor = _top(body.lungs[1])
    size = 2.3 + 2.4 * s
    center = np.array([r.uniform(0.2, 1.6), floor + 0.55 * size, -5.0])
    body.opacities.append(_ball(center, (size * 1.1, size * 0.95, size * 0.75)))
    body.pockets.append(
        (
            _ball(center, (size * 0.92, size * 0.78, size * 0.6), -0.85 * TISSUE),
            -np.inf if body.supine else float(center[1]) - 0.05 * size,
        )
    )


def _bullae(body: Body, s: float, r: np.random.Generator) -> None:
    """Thin-walled bubbles in the upper lobes; the size of the lungs is set in `anatomy`."""
    for side in (-1, 1):
        for _ in range(3):
            center = _inside(body.lungs[side], r.uniform(0.45, 0.8), r.uniform(-0.1, 0.55), r.uniform(-0.4, 0.3))
            size = r.uniform(1.0, 2.0) * (0.5 + 0.9 * s)
            shape = (size * r.uniform(0.8, 1.1), size, size)
            body.solids += [
                _ball(center, shape, 0.11),
                _ball(center, (shape[0] - 0.12, shape[1] - 0.12, shape[2] - 0.12), -0.11 - 0.02 * s),
            ]


def _fracture(body: Body, s: float, r: np.random.Generator) -> None:
    """Break neighbouring ribs in a row behind the side, a little callus along their ends, and in four patients of five
    the clavicle."""
    side = body.patient.sign("Fracture")
    first, row = int(r.integers(4, 7)), int(r.integers(5, 8))
    for number in range(first, first + 2 + round(2 * s)):
        drop = (0.4 + 0.35 * s) * r.uniform(0.7, 1.2)
        line, at = body.ribs[(side, number)], row + int(r.integers(-1, 2))
        broken = _broken(line, at, drop, 0.1 * side, 4.0)
        body.ribs[(side, number)] = broken
        for stump, behind in ((broken[at], broken[at - 1]), (broken[at + 2], broken[at + 3])):
            along = (behind - stump) / np.linalg.norm(behind - stump)
            callus = stump + np.array([0.0, 0.15, 0.4, 0.8, 1.2])[:, None] * along
            thick = np.array([0.42, 0.48, 0.48, 0.44])
            dense = BONE * np.array([0.5, 0.14, 0.09, 0.04])
            body.tubes.chain(callus, thick, dense, flat=1.45 * thick, flat_axis=np.array([0.0, 1.0, 0.15]))
    if r.random() < 0.8:
        body.clavicles[side] = _broken(body.clavicles[side], int(r.integers(5, 8)), 1.0 + 1.3 * s, 0.5 * side, 9.0)


def _broken(line: Array, at: int, drop: float, slide: float, fade: float) -> Array:
    """Part a bone before its point `at`: the outer piece sinks by `drop` cm and slides by `slide` of that, less so
    `fade` points on."""
    less = np.exp(-np.arange(len(line) - at) / fade)[:, None]
    moved = line[at:] + less * np.array([-slide * drop, -drop, 0.0])
    start = moved[:1] + 0.45 * (line[at - 1] - line[at])
    stump = line[at - 1 : at] + 0.25 * (line[at] - line[at - 1])
    return np.concatenate([line[:at], stump, np.full((1, 3), np.nan), start, moved])
