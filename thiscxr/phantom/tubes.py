"""Tubes: bones, vessels, wires. Mitred cylinders of elliptic section, a thousand of them crossed at once.

Independent of anatomy. All pairs of tube and pixel of its bounding box are laid out in one long array, so the cost is
that of the pixels covered.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from thiscxr.phantom.rays import Array, Rays, covered


@dataclass
class Tubes:
    """Mitred tubes with elliptic section, gathered piece by piece and crossed all at once."""

    pieces: list[tuple[Array, ...]] = field(default_factory=list)

    def chain(self, points: Array, radius: float | Array, density: float | Array, **section: Any) -> None:
        """Add a tube along points [n, 3]; neighbouring pieces meet on the bisecting plane, so that joints are counted
        once. The arguments are those of `segments`."""
        unit = _unit(points[1:] - points[:-1])
        bisector = _unit(np.concatenate([unit[:1], unit[:-1] + unit[1:], unit[-1:]]))
        planes = bisector[:-1], bisector[1:]
        self.segments(points[:-1], points[1:], radius, density, planes=planes, **section)

    def segments(
        self,
        start: Array,
        end: Array,
        radius: float | Array,
        density: float | Array,
        *,
        planes: tuple[Array, Array] | None = None,
        flat: float | Array | None = None,
        flat_axis: Array | None = None,
        core: float = 0.0,
        core_share: float = 0.0,
    ) -> None:
        """Add separate tubes start [n, 3] to end [n, 3], which end at `planes`, normals [n, 3], or square.

        radius, density: one value or one per piece, cm and 1/cm. flat: the half axis along `flat_axis` ([3] or one per
        piece) instead of `radius`. core: relative size of the marrow, whose density is (1 - core_share) of the shell's.
        """
        n, table = len(start), np.empty((len(start), 8))
        first, last = planes or (_unit(end - start),) * 2
        table[:, :3] = (0.31, 0.52, 0.79) if flat_axis is None else flat_axis
        for column, value in enumerate((radius if flat is None else flat, radius, density, core, core_share)):
            table[:, 3 + column] = value
        assert n == len(end), "every tube has a start and an end"
        self.pieces.append((start, end, first, last, table))

    def onto(self, rays: Rays, film: Array) -> None:
        """Add the density times depth of all tubes to a film in place (times `Rays.stretch` it is the line integral).

        A tube thinner than a pixel is rendered one pixel thick and fainter in proportion, so that it neither breaks up
        nor gains mass.
        """
        if not self.pieces:
            return
        start, end, n0, n1, table = (np.concatenate([piece[i] for piece in self.pieces]) for i in range(5))
        hint = table[:, :3]
        r1, r2, density, core, share = (table[:, i] for i in range(3, 8))
        unit = _unit(end - start)
        e1 = _unit(hint - (hint * unit).sum(1, keepdims=True) * unit)
        e2 = cross(unit, e1)
        middle = (start + end) / 2
        u0, v0, _ = rays.project(start)
        u1, v1, _ = rays.project(end)
        _, _, scale = rays.project(middle)
        thin = 0.6 * rays.pixel / np.abs(scale)
        wide1, wide2 = np.maximum(r1, thin), np.maximum(r2, thin)
        density = density * (r1 / wide1) * (r2 / wide2)
        margin = np.maximum(wide1, wide2) * np.abs(scale) * 1.05
        col0, col1 = covered(rays.cols, u0, u1, margin)
        row0, row1 = covered(rays.rows, v0, v1, margin)
        wide, high = np.maximum(col1 - col0, 0), np.maximum(row1 - row0, 0)
        count = wide * high
        piece = np.repeat(np.arange(len(count)), count)
        within = np.arange(len(piece)) - np.repeat(np.cumsum(count) - count, count)
        row = (row0[piece] + within // wide[piece]).astype(np.int64)
        col = (col0[piece] + within % wide[piece]).astype(np.int64)
        coefficients = _tube_coefficients(rays, middle, start, end, n0, n1, e1 / wide1[:, None], e2 / wide2[:, None])
        extra = np.stack([1 - core**2, density, density * share], 1)
        table = np.concatenate([coefficients, extra], 1).astype(np.float32).T.take(piece, axis=1)
        g_col, g_row = rays.g_col.astype(np.float32)[col], rays.g_row.astype(np.float32)[row]
        w1, w2, q1, q2, along0, from0, along1, from1 = (
            table[3 * i] + table[3 * i + 1] * g_col + table[3 * i + 2] * g_row for i in range(8)
        )
        a = w1 * w1 + w2 * w2 + np.float32(1e-6)
        b = w1 * q1 + w2 * q2
        root = b * b - a * (q1 * q1 + q2 * q2 - 1)
        tiny = np.float32(1e-7)
        along0, along1 = (np.where(np.abs(x) < tiny, tiny, x) for x in (along0, along1))
        cut0, cut1 = -from0 / along0, -from1 / along1  # inside: beyond plane 0, before plane 1
        low = np.maximum(np.where(along0 > 0, cut0, -1e4), np.where(along1 < 0, cut1, -1e4))
        high_ = np.minimum(np.where(along0 < 0, cut0, 1e4), np.where(along1 > 0, cut1, 1e4))
        total = np.zeros_like(root)
        for inner, weight in ((np.float32(0), table[25]), (table[24], -table[26])):
            half = np.sqrt(np.maximum(root - a * inner, 0))
            total += weight * np.maximum(np.minimum((half - b) / a, high_) - np.maximum((-half - b) / a, low), 0)
        flat_index = row * len(rays.cols) + col
        film += np.bincount(flat_index, weights=total, minlength=film.size).reshape(film.shape).astype(np.float32)


def cross(a: Array, b: Array) -> Array:
    """Vector product along the last axis; numpy's own spends longer on its generality than on the product."""
    (ax, ay, az), (bx, by, bz) = (np.moveaxis(np.asarray(v), -1, 0) for v in (a, b))
    return np.stack([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx], -1)


def _unit(v: Array) -> Array:
    return v / np.maximum(np.sqrt(np.einsum("ij,ij->i", v, v)), 1e-9)[:, None]


def _tube_coefficients(
    rays: Rays, middle: Array, start: Array, end: Array, n0: Array, n1: Array, b1: Array, b2: Array
) -> Array:
    """float64 [n, 24]: for eight linear functions of (1, g_col, g_row) their coefficients, with depth counted from each
    tube's middle."""
    m, x = rays.main, rays.across
    k = (middle[:, m] - rays.source[m])[:, None]

    def slope(normal: Array) -> Array:
        return np.stack([normal[:, m], normal[:, x], normal[:, 1]], 1)

    def offset(normal: Array, anchor: Array) -> Array:
        reach = rays.source[None] - anchor
        constant = (normal * reach).sum(1) + normal[:, m] * k[:, 0]
        return np.stack([constant, normal[:, x] * k[:, 0], normal[:, 1] * k[:, 0]], 1)

    return np.concatenate(
        [
            slope(b1),
            slope(b2),
            offset(b1, middle),
            offset(b2, middle),
            slope(n0),
            offset(n0, start),
            slope(n1),
            offset(n1, end),
        ],
        1,
    )
