"""From a body to line integrals and masks along one set of rays.

Handles solids and rays, not detectors. The air of a lung is what remains after everything inside it is subtracted, each
place once.
"""

from dataclasses import dataclass

import numpy as np

from thiscxr.phantom.anatomy import AP_DISTANCE, PA_DISTANCE, TISSUE, Body, Lung
from thiscxr.phantom.rays import Array, Rays, Span, capsule_span, covered_length, ellipsoid_span, loft_span
from thiscxr.phantom.sites import fractal_noise

TEXTURE_FIELD = 40.0
"""cm of film that the texture's lattice spans, the same for every film width."""


@dataclass(frozen=True)
class Shadow:
    """Line integrals and masks, [res, res] each."""

    attenuation: Array
    lungs: Array
    heart: Array


def aim(body: Body, view: str, res: int, field: float, shift: tuple[float, float], turn_deg: float) -> Rays:
    """Place tube and detector: PA from 180 cm behind, AP from 100 cm in front, lateral from 180 cm with the left side
    on the detector.

    turn_deg: how far the patient stands turned about the long axis. Implemented by moving tube and detector
    sideways: the resulting shear of the beam differs from a rotation only by the cosine.
    """
    p = body.patient
    step = field / res
    at = (np.arange(res) + 0.5) * step - field / 2
    center_y = -1.6 + shift[1]
    rows = center_y - at
    depth, lean = p.half_depth + p.wall + 1.0, float(np.tan(np.deg2rad(turn_deg)))
    if view == "PA":
        tube = depth - PA_DISTANCE
        return Rays(np.array([lean * tube, center_y, tube]), 2, at + shift[0] + lean * depth, rows, depth)
    if view in ("AP", "AP_supine"):
        tube, depth = AP_DISTANCE - depth - 1.5, -depth - 1.5
        return Rays(np.array([lean * tube, center_y, tube]), 2, at + shift[0] + lean * depth, rows, depth)
    detector = p.half_width + p.wall + 2.0
    tube = detector - PA_DISTANCE
    return Rays(np.array([tube, center_y, lean * tube]), 0, shift[0] - 1.0 - at + lean * detector, rows, detector)


def cast(body: Body, rays: Rays) -> Shadow:
    """Integrate the body along the rays."""
    res = len(rays.cols)
    r = body.patient.stream("texture")
    film = np.zeros((res, res), np.float32)
    torso = loft_span(rays, body.torso)
    torso.onto(film, TISSUE)
    _add_outer(film, rays, body, torso)
    heart = [ellipsoid_span(rays, s) for s in body.heart]
    great = [ellipsoid_span(rays, s) for s in body.vessels_great]
    column = [loft_span(rays, s) for s in body.mediastinum]
    lesions = [ellipsoid_span(rays, s) for s in body.opacities]
    domes = {side: ellipsoid_span(rays, lung.dome) for side, lung in body.lungs.items()}
    air_total, cage_any = np.zeros_like(film), np.zeros((res, res), bool)
    mottle = fractal_noise(res, TEXTURE_FIELD, (4.0, 1.7, 0.8, 0.45), r)
    for side, lung in body.lungs.items():
        air, fresh = _fill_lung(film, rays, lung, [*heart, *great, *column, *lesions, domes[side]], mottle)
        air_total += air
        cage_any |= fresh
    _add_clouds(film, rays, body, air_total, mottle)
    for solid in body.solids:
        ellipsoid_span(rays, solid).onto(film, solid.density)
    for bubble, level in body.pockets:
        span = ellipsoid_span(rays, bubble)
        y = rays.at(bubble.center[rays.main])[1][span.rows, None]
        above = np.clip((y - max(level, -1e3)) / max(rays.pixel, 0.15) + 0.5, 0, 1).astype(np.float32)
        full = 2 * max(bubble.extent(rays.main), 1e-3)
        folds = np.clip(1 + 0.2 * mottle[span.rows, span.cols], 0.5, 1.5)  # of the wall, which also takes the rim off
        span.onto(film, bubble.density * above * folds * np.minimum(2.2 * span.length() / full, 1))
    body.tubes.onto(rays, film)
    film += torso_texture(rays, torso, r)
    np.maximum(film, 0, out=film)
    body.overlays.onto(rays, film)
    film *= rays.stretch()
    return Shadow(film, _lung_mask(rays, cage_any, domes, heart, great, column, air_total), _silhouette(res, heart))


def torso_texture(rays: Rays, torso: Span, r: np.random.Generator) -> Array:
    """Uneven fat and muscle: a few per cent of the thickness."""
    res = len(rays.cols)
    noise = fractal_noise(res, TEXTURE_FIELD, (7.0, 3.0, 1.3), r)
    out = np.zeros((res, res), np.float32)
    torso.onto(out, 0.0022)
    return out * noise


def _add_outer(film: Array, rays: Rays, body: Body, torso: Span) -> None:
    share = 0.92 if rays.main == 2 else 0.6
    for arm in body.arms:
        span = capsule_span(rays, arm)
        if span.enter.size:
            film[span.rows, span.cols] += share * TISSUE * (span.length() - covered_length(span, [torso]))
    for breast in body.breasts:
        span = ellipsoid_span(rays, breast)
        if span.enter.size:  # the lower fold is dense and sharp, the upper part runs out into the chest wall
            y = rays.at(breast.center[rays.main])[1][span.rows, None]
            fold = np.clip(0.55 - 0.7 * (y - breast.center[1]) / breast.radii[1], 0, 1).astype(np.float32)
            film[span.rows, span.cols] += share * TISSUE * fold * (span.length() - covered_length(span, [torso]))


def _fill_lung(film: Array, rays: Rays, lung: Lung, others: list[Span], mottle: Array) -> tuple[Array, Array]:
    """Take the air of one lung out of the film; return its depth of air and where its pleural space is."""
    air, seen = np.zeros_like(film), np.zeros(film.shape, bool)
    inner = loft_span(rays, lung.air)
    cage = inner if lung.air is lung.cage else loft_span(rays, lung.cage)
    seen[cage.rows, cage.cols] = cage.length() > 0.4
    if lung.veil > 0:
        others = [*others, _back_layer(rays, lung, inner)]
    depth = np.maximum(inner.length() - covered_length(inner, others), 0)
    air[inner.rows, inner.cols] = depth
    window = (inner.rows, inner.cols)
    film[window] -= depth * (TISSUE - lung.density) * (1 + np.float32(0.035) * mottle[window])
    if lung.gas:
        around = np.zeros_like(film)
        around[cage.rows, cage.cols] = np.maximum(cage.length() - covered_length(cage, [*others, inner]), 0)
        film -= around * TISSUE * 0.98
        rim = lung.air.shrunk(*(np.full(len(lung.air.y), -0.09) for _ in range(4)))
        pleura = loft_span(rays, rim)
        skin = np.zeros_like(film)
        skin[pleura.rows, pleura.cols] = pleura.length() - covered_length(pleura, [inner])
        film += np.minimum(skin, around) * TISSUE * 1.0
    return air, seen


def _back_layer(rays: Rays, lung: Lung, inner: Span) -> Span:
    """The fluid that lies along the back of a supine patient, as a span over the lung's own window."""
    back = lung.cage.z_mid - lung.cage.z_half
    if rays.main == 2:
        y = rays.at(float(lung.cage.z_mid.mean()))[1]
        surface = np.interp(y, lung.cage.y, back)[inner.rows, None].astype(np.float32)
        return Span(
            inner.rows,
            inner.cols,
            np.broadcast_to(surface, inner.enter.shape),
            np.broadcast_to(surface + lung.veil, inner.enter.shape),
        )
    z, y = rays.at(float(lung.cage.x_mid.mean()))
    under = z[None, inner.cols] < np.interp(y, lung.cage.y, back)[inner.rows, None] + lung.veil
    return Span(
        inner.rows, inner.cols, np.where(under, -99, 0).astype(np.float32), np.where(under, 99, 0).astype(np.float32)
    )


def _add_clouds(film: Array, rays: Rays, body: Body, air: Array, mottle: Array) -> None:
    """Fill air spaces softly: a ball of density (1 - rho^2), whose integral is the chord cubed over six radii
    squared."""
    if not body.clouds:
        return
    filled = np.zeros_like(film)
    for ball, patchy in body.clouds:
        span = ellipsoid_span(rays, ball)
        if not span.enter.size:
            continue
        window = (span.rows, span.cols)
        soft = span.length() ** 3 / (6 * ball.extent(rays.main) ** 2)
        patches = np.clip(1 + patchy * 1.1 * mottle[window], 0.05, 2.5)
        filled[window] += ball.density * soft * patches
    room = air * 0.14
    film += room * (1 - np.exp(-filled / np.maximum(room, 1e-4)))


def _silhouette(res: int, spans: list[Span]) -> Array:
    out = np.zeros((res, res), bool)
    for span in spans:
        out[span.rows, span.cols] |= span.length() > 0
    return out


def _lung_mask(
    rays: Rays,
    cage: Array,
    domes: dict[int, Span],
    heart: list[Span],
    great: list[Span],
    column: list[Span],
    air: Array,
) -> Array:
    """The lung fields as a radiologist outlines them: within the cage, over the domes, beside heart and mediastinum;
    fluid included."""
    res = len(rays.cols)
    if rays.main == 0:
        under_both = _silhouette(res, [domes[-1]]) & _silhouette(res, [domes[1]])
        return cage & ~under_both & (air > 1.5)
    sides = np.where(rays.at(0.0)[0] > 0, 1, -1)
    under = np.zeros((res, res), bool)
    for side, span in domes.items():
        under |= _silhouette(res, [span]) & (sides == side)
    return cage & ~under & ~_silhouette(res, [*heart, *great, *column])
