"""Rays through the phantom and the lengths they spend in its solids.

Every solid is convex along a ray, so a crossing is one interval of depth: exact for ellipsoids and capsules under the
diverging beam, and for a loft (a stack of superellipses) taken in the plane of its own centre. Independent of
anatomy. Idea: the FORBILD thorax phantom (Sourbelle, 1999): a body of analytical solids whose line integrals have
closed forms.

Axes in cm: x to the patient's left, y up, z to the front. `depth` is z for frontal films and x for lateral ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

Array = np.ndarray


@dataclass(frozen=True)
class Rays:
    """One ray per pixel: the points source + (depth - source depth) * g.

    g is 1 along the depth axis, `g_col` along the columns' axis and `g_row` along y.
    """

    source: Array
    """float64 [3], cm."""
    main: int
    """Index of the depth axis: 2 frontal, 0 lateral."""
    cols: Array
    """float64 [res]: where the pixel centres lie on the detector along the columns' axis, cm."""
    rows: Array
    """float64 [res]: the same along y, top row first."""
    detector: float
    """Depth of the detector plane, cm."""

    @property
    def across(self) -> int:
        """Index of the axis along which the columns run."""
        return 2 - self.main

    @property
    def reach(self) -> float:
        """Depth from source to detector, with its sign."""
        return self.detector - self.source[self.main]

    @cached_property
    def g_col(self) -> Array:
        """float64 [res]: slope of each column's rays."""
        return (self.cols - self.source[self.across]) / self.reach

    @cached_property
    def g_row(self) -> Array:
        """float64 [res]: slope of each row's rays."""
        return (self.rows - self.source[1]) / self.reach

    @property
    def pixel(self) -> float:
        """Width of a detector pixel, cm."""
        return abs(float(self.cols[1] - self.cols[0]))

    def stretch(self) -> Array:
        """float32 [res, res]: cm of ray per cm of depth."""
        return np.sqrt(1 + self.g_col[None, :] ** 2 + self.g_row[:, None] ** 2).astype(np.float32)

    def at(self, depth: float) -> tuple[Array, Array]:
        """Return where the rays cross a plane of depth: columns' coordinate [res], y [res]."""
        k = depth - self.source[self.main]
        return self.source[self.across] + k * self.g_col, self.source[1] + k * self.g_row

    def project(self, points: Array) -> tuple[Array, Array, Array]:
        """Return detector coordinates (columns' axis, y) and magnification of points [n, 3]."""
        scale = self.reach / (points[:, self.main] - self.source[self.main])
        u = self.source[self.across] + (points[:, self.across] - self.source[self.across]) * scale
        v = self.source[1] + (points[:, 1] - self.source[1]) * scale
        return u, v, scale

    def window(self, u: Array, v: Array, margin: Array) -> tuple[Array, Array, Array, Array]:
        """Return the pixel ranges (col0, col1, row0, row1), ends excluded and clipped to the film, of boxes of half
        side `margin`."""
        return *covered(self.cols, u, u, margin), *covered(self.rows, v, v, margin)


def covered(grid: Array, p0: Array, p1: Array, margin: Array) -> tuple[Array, Array]:
    """Return the ranges of pixels, ends excluded and clipped to the film, from p0 to p1 and `margin` beyond, along one
    side of the film; grid: its pixels' centres."""
    step = float(grid[1] - grid[0])
    lo, hi = np.minimum(p0, p1) - margin, np.maximum(p0, p1) + margin
    a, b = (lo - grid[0]) / step, (hi - grid[0]) / step
    ends = np.ceil(np.minimum(a, b)), np.floor(np.maximum(a, b)) + 1
    first, last = (np.clip(e, 0, len(grid)).astype(np.int64) for e in ends)
    return first, last


@dataclass(frozen=True)
class Ellipsoid:
    """A solid ellipsoid; `axes` are the rows of a rotation (unit vectors of the three radii)."""

    center: tuple[float, float, float]
    radii: tuple[float, float, float]
    axes: Array | tuple[tuple[float, float, float], ...] = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
    density: float = 0.0
    """Attenuation that it adds, 1/cm (negative for gas)."""

    def extent(self, axis: int) -> float:
        """Return the half width along x (0), y (1) or z (2)."""
        return float(np.sqrt(sum((r * a[axis]) ** 2 for r, a in zip(self.radii, self.axes, strict=True))))


@dataclass(frozen=True)
class Capsule:
    """All points within `radius` of a segment."""

    start: tuple[float, float, float]
    end: tuple[float, float, float]
    radius: float


@dataclass(frozen=True)
class Span:
    """Depths where rays enter and leave a solid, on a window of the film; `enter == leave` where they miss."""

    rows: slice
    cols: slice
    enter: Array
    leave: Array

    def clipped(self, other: "Span") -> "Span":
        """Return the part of this span inside `other`, on the window that both share."""
        rows, cols = _shared(self, other)
        a, b = _crop(self, rows, cols), _crop(other, rows, cols)
        enter, leave = np.maximum(a[0], b[0]), np.minimum(a[1], b[1])
        return Span(rows, cols, enter, np.maximum(enter, leave))

    def length(self) -> Array:
        """float32: depth spent inside, on the window."""
        return self.leave - self.enter

    def onto(self, film: Array, weight: float | Array = 1.0) -> None:
        """Add weight * length to a whole film in place."""
        film[self.rows, self.cols] += weight * self.length()


def _shared(one: Span, other: Span) -> tuple[slice, slice]:
    """Return rows and columns of the window that two spans share; none where they do not meet."""
    (top, bottom), (left, right) = (
        (max(a.start, b.start), min(a.stop, b.stop)) for a, b in ((one.rows, other.rows), (one.cols, other.cols))
    )
    return slice(top, max(top, bottom)), slice(left, max(left, right))


def _within(rows: slice, cols: slice, span: Span) -> tuple[slice, slice]:
    """Return rows and columns of the film as those of the window of a span."""
    r, c = span.rows.start, span.cols.start
    return slice(rows.start - r, rows.stop - r), slice(cols.start - c, cols.stop - c)


def _crop(span: Span, rows: slice, cols: slice) -> tuple[Array, Array]:
    part = _within(rows, cols, span)
    return span.enter[part], span.leave[part]


def ellipsoid_span(rays: Rays, solid: Ellipsoid) -> Span:
    """Cross an ellipsoid: exact for the diverging beam.

    With M mapping the solid to the unit ball, o = M (source - centre) and w = M g, the ray meets it where |w|^2 - |w x
    o|^2 > 0. Both terms are quadratic in the column's slope, so whole rows share their coefficients.
    """
    center = np.array(solid.center)
    m = np.array(solid.axes) / np.array(solid.radii)[:, None]
    u, v, scale = rays.project(center[None])
    reach = np.array([max(solid.radii)]) * np.abs(scale) * 1.2 + rays.pixel
    col0, col1, row0, row1 = (int(e[0]) for e in rays.window(u, v, reach))
    cols, rows = slice(col0, max(col0, col1)), slice(row0, max(row0, row1))
    # slopes are relative to the ray through the centre: no large numbers cancel
    aim = float((u[0] - rays.source[rays.across]) / rays.reach)
    t = (rays.g_col[cols] - aim).astype(np.float32)[None]
    o = m @ (rays.source - center)
    w0 = m[:, rays.main] + aim * m[:, rays.across] + rays.g_row[rows, None] * m[:, 1]  # [rows, 3]
    w1 = m[:, rays.across]
    times_o = np.array([[0, -o[2], o[1]], [o[2], 0, -o[0]], [-o[1], o[0], 0]])
    n0, n1 = w0 @ times_o, w1 @ times_o
    square = ((w0 * w0).sum(1), 2 * (w0 @ w1), float(w1 @ w1))
    miss = ((n0 * n0).sum(1), 2 * (n0 @ n1), float(n1 @ n1))
    a = _quadratic(*square, t)
    half = np.sqrt(np.maximum(_quadratic(square[0] - miss[0], square[1] - miss[1], square[2] - miss[2], t), 0)) / a
    middle = np.float32(rays.source[rays.main]) - ((w0 @ o)[:, None].astype(np.float32) + np.float32(w1 @ o) * t) / a
    return Span(rows, cols, middle - half, middle + half)


def _quadratic(constant: Array, linear: Array, square: float, t: Array) -> Array:
    out = linear[:, None].astype(np.float32) + np.float32(square) * t
    out *= t
    out += constant[:, None].astype(np.float32)
    return out


def capsule_span(rays: Rays, solid: Capsule) -> Span:
    """Cross a capsule: the hull of the crossings of its wall and of its two end balls, exact for the diverging beam."""
    p, q, radius = np.array(solid.start), np.array(solid.end), solid.radius
    length = float(np.linalg.norm(q - p))
    assert min(length, radius) > 0, "a capsule needs a length and a radius"
    u, v, scale = rays.project(np.stack([p, q]))
    around = rays.window(u, v, 1.1 * radius * np.abs(scale) + rays.pixel)
    cols, rows = (slice(int(low.min()), int(high.max())) for low, high in (around[:2], around[2:]))
    t = (q - p) / length
    k = p[rays.main] - rays.source[rays.main]
    shape = (rows.stop - rows.start, cols.stop - cols.start)
    g, o = np.zeros((*shape, 3)), np.zeros((*shape, 3))
    g[..., rays.main], g[..., rays.across], g[..., 1] = 1.0, rays.g_col[None, cols], rays.g_row[rows, None]
    o[:] = rays.source - p
    o += k * g
    o[..., rays.main] = 0.0
    gt, ot = g @ t, o @ t
    enter, leave = np.full(shape, np.inf), np.full(shape, -np.inf)
    w, r = g - gt[..., None] * t, o - ot[..., None] * t
    a, b, c = (w * w).sum(-1) + 1e-12, (w * r).sum(-1), (r * r).sum(-1) - radius**2
    root = b * b - a * c
    half = np.sqrt(np.maximum(root, 0))
    slope = np.where(np.abs(gt) < 1e-9, 1e-9, gt)
    caps = np.stack([-ot / slope, (length - ot) / slope])
    lo, hi = np.maximum((-b - half) / a, caps.min(0)), np.minimum((-b + half) / a, caps.max(0))
    hit = (root > 0) & (hi > lo)
    enter, leave = np.where(hit, lo, enter), np.where(hit, hi, leave)
    for along in (0.0, length):
        s = o - along * t
        a, b, c = (g * g).sum(-1), (g * s).sum(-1), (s * s).sum(-1) - radius**2
        root = b * b - a * c
        half = np.sqrt(np.maximum(root, 0))
        enter = np.where(root > 0, np.minimum(enter, (-b - half) / a), enter)
        leave = np.where(root > 0, np.maximum(leave, (-b + half) / a), leave)
    miss = leave <= enter
    enter, leave = np.where(miss, 0, enter + p[rays.main]), np.where(miss, 0, leave + p[rays.main])
    return Span(rows, cols, enter.astype(np.float32), leave.astype(np.float32))


@dataclass(frozen=True)
class Loft:
    """A stack of superellipses |x/a|^n + |z/b|^n = 1 with centre and half axes as functions of y, given on a table of
    heights."""

    y: Array
    """float64 [k], ascending, cm; nothing is drawn beyond its ends."""
    x_mid: Array
    x_half: Array
    z_mid: Array
    z_half: Array
    power: float = 2.5

    def at(self, y: float | Array) -> tuple[Array, ...]:
        """Return x_mid, x_half, z_mid and z_half at heights y."""
        return tuple(np.interp(y, self.y, table) for table in (self.x_mid, self.x_half, self.z_mid, self.z_half))

    def shrunk(self, x_low: Array, x_high: Array, z_back: Array, z_front: Array) -> "Loft":
        """Return the loft with each of its four sides moved inwards by that many cm (arrays over the heights)."""
        x0, x1 = self.x_mid - self.x_half + x_low, self.x_mid + self.x_half - x_high
        z0, z1 = self.z_mid - self.z_half + z_back, self.z_mid + self.z_half - z_front
        x_half, z_half = np.maximum((x1 - x0) / 2, 0), np.maximum((z1 - z0) / 2, 0)
        return Loft(self.y, (x0 + x1) / 2, x_half, (z0 + z1) / 2, z_half, self.power)


def loft_span(rays: Rays, loft: Loft) -> Span:
    """Cross a loft, with every ray's height and side taken where it crosses the plane of the loft's mean centre."""
    mids = (loft.x_mid, loft.z_mid) if rays.main == 2 else (loft.z_mid, loft.x_mid)
    halves = (loft.x_half, loft.z_half) if rays.main == 2 else (loft.z_half, loft.x_half)
    col, y = rays.at(float(mids[1].mean()))
    mid, half, depth_mid, depth_half = (np.interp(y, loft.y, t) for t in (mids[0], halves[0], mids[1], halves[1]))
    inside = (y > loft.y[0]) & (y < loft.y[-1]) & (half > 1e-3)
    alive, n = np.flatnonzero(inside), len(rays.cols)
    if len(alive) == 0:
        return Span(slice(0, 0), slice(0, 0), np.zeros((0, 0), np.float32), np.zeros((0, 0), np.float32))
    rows = slice(int(alive[0]), int(alive[-1]) + 1)
    left, right = (mid - half)[rows].min(), (mid + half)[rows].max()
    near = np.flatnonzero((col > left) & (col < right))
    cols = slice(int(near[0]), int(near[-1]) + 1) if len(near) else slice(n, n)
    side = np.abs((col[None, cols] - mid[rows, None]) / np.maximum(half[rows, None], 1e-3)).astype(np.float32)
    depth = np.maximum(1 - side**loft.power, 0) ** np.float32(1 / loft.power)
    depth *= (depth_half * inside)[rows, None].astype(np.float32)
    center = depth_mid[rows, None].astype(np.float32)
    return Span(rows, cols, center - depth, center + depth)


def covered_length(whole: Span, parts: Sequence[Span]) -> Array:
    """float32, on the window of `whole`: depth that `parts` take of it, each place counted once however many parts
    overlap there."""
    clipped = [part for part in (part.clipped(whole) for part in parts) if part.enter.size]
    clipped.sort(key=lambda part: float(part.enter.mean()))
    # order by entry at every pixel: where two windows do not meet one part is missed, and its place in the order is of
    # no account
    for i in range(len(clipped)):
        for j in range(i + 1, len(clipped)):
            _order(clipped[i], clipped[j])
    taken, reached = np.zeros_like(whole.enter), whole.enter.copy()
    for part in clipped:
        at = _within(part.rows, part.cols, whole)
        taken[at] += np.maximum(part.leave - np.maximum(part.enter, reached[at]), 0)
        reached[at] = np.maximum(reached[at], part.leave)
    return taken


def _order(first: Span, second: Span) -> None:
    """Swap the two in place wherever `second` is entered first."""
    rows, cols = _shared(first, second)
    a, b = _crop(first, rows, cols), _crop(second, rows, cols)
    swap = a[0] > b[0]
    if swap.any():
        for one, two in zip(a, b, strict=True):
            one[:], two[:] = np.where(swap, two, one), np.where(swap, one, two)
