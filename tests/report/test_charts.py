"""The charts: known answers, labels of others as they are, nothing that depends on the machine or is left behind."""

import base64
import io
import math
import re
import warnings

import matplotlib
import numpy as np
import pytest
from PIL import Image

from tests.drawn import Drawn, charts
from thiscxr.report.charts import (
    Curve,
    Whisker,
    bubbles,
    cloud,
    curves,
    dots,
    heat_map,
    pyramid,
    ranks,
    stacked_bars,
    steps,
    whiskers,
)

BLUE, ORANGE = "#0072b2", "#d55e00"
LABELS = [
    "$x^2$",
    "_under",
    "<b>&amp;\"'",
    "胸水",
    "a\x1b[31m\u202eb",
    "\ud800",
    "",
    "  ",
    "x" * 40 + "y" * 13,
    "a%20b#c",
]


def one(html: str) -> Drawn:
    (drawn,) = charts(html)
    return drawn


def test_bars_are_shares_and_end_in_their_note() -> None:
    rows = [("row", {"one": 3, "two": 1}, "3 films"), ("other", {"two": 7}, "0 films")]
    drawn = one(stacked_bars("bars", rows, {"one": "#111111", "two": "#222222", "none": "#333333"}))
    one_part = np.ptp(drawn.filled("#111111")[0][:, 0])
    first, second = (np.ptp(path[:, 0]) for path in drawn.filled("#222222")[:2])
    assert (first, second) == pytest.approx((one_part / 3, one_part * 4 / 3), rel=1e-4)
    assert {"row", "other", "3 films", "0 films", " one", " two"} <= set(drawn.texts)
    assert " none" not in drawn.texts, "no key for what is not there"


def test_a_whisker_stands_where_its_numbers_are() -> None:
    rows = [
        Whisker("a", 0.5, 0.25, 0.75, 1.0),
        Whisker("b", 0.0, 0.0, 0.0, None),
        Whisker("c", 9.0, 9.0, 9.0, math.nan),
    ]
    drawn = one(whiskers("w", rows, (0.0, 1.0), "held-out"))
    a, b, c = drawn.marks(f"fill: {BLUE}")[:3]
    (floor,) = [place for place in drawn.marks(f"stroke: {ORANGE}") if place[1] == a[1]]
    assert (a[0] - b[0], floor[0] - b[0]) == pytest.approx(((c[0] - b[0]) / 2, c[0] - b[0]), rel=1e-4)
    assert a[1] < b[1] < c[1], "the first row on top"
    assert {"a", "b", "c", " held-out"} <= set(drawn.texts)
    line = next(
        path.get("d", "") for path in drawn.root.iter() if f"stroke: {BLUE}; stroke-width: 2" in path.get("style", "")
    )
    low, high = np.array(re.findall(r"[-\d.]+", line), float)[::2]
    assert ((low + high) / 2, high - low) == pytest.approx((a[0], (c[0] - b[0]) / 2), rel=1e-4)


def test_a_whisker_without_a_span_has_one_from_nought() -> None:
    assert "0" in one(whiskers("w", [Whisker("a", 5.0, 4.0, 6.0, 2.0)])).texts
    small = one(whiskers("w", [Whisker("", -0.01, -0.04, 0.02, 0.005)], dark=True))
    assert len(small.texts) == 2, "the ends of the scale alone"
    assert float(small.texts[0].replace("−", "-")) <= -0.04


def test_cells_are_from_white_to_blue_and_grey_without_a_value() -> None:
    drawn = one(heat_map("heat", ["r"], ["x", "y", "z"], [[0.0, 1.0, None]]))
    data = re.search(r'data:image/png;base64,([^"]+)"', drawn.svg)
    assert data
    cells = np.asarray(Image.open(io.BytesIO(base64.b64decode(data[1]))).convert("RGBA"))
    colours = [tuple(colour) for colour in cells[0, [0, cells.shape[1] // 2, -1]].tolist()]
    assert colours[:2] == [(255, 255, 255, 255), (8, 69, 130, 255)]
    assert colours[2][3] == 0, "the ground is seen"
    assert drawn.filled("#f1f3f5")
    assert ("0" in drawn.texts, "100" in drawn.texts, "nan" in drawn.texts) == (True, True, False)
    many = [str(n) for n in range(30)]
    assert len(one(heat_map("heat", many, many, np.eye(30).tolist())).texts) == 60, "no numbers where they do not fit"


def test_a_pyramid_has_its_counts_and_its_last_label_on_top() -> None:
    drawn = one(pyramid("ages", ["young", "old"], ("women", [1234, 0]), ("men", [0, 617])))
    assert {"young", "old", "1,234", "617", " women", " men"} <= set(drawn.texts)
    assert "0" not in drawn.texts
    women, men = (max(np.ptp(path[:, 0]) for path in drawn.filled(colour)[:2]) for colour in (ORANGE, BLUE))
    assert women == pytest.approx(2 * men, rel=1e-4)
    assert drawn.filled(ORANGE)[0][:, 1].min() > drawn.filled(BLUE)[1][:, 1].max()


@pytest.mark.parametrize("label", LABELS)
def test_labels_of_others_stay_text(label: str) -> None:
    curve = Curve(label, [0.0, 1.0], [0.0, 1.0])
    shown = re.sub("[\x00-\x1f\u202e\ud800]", "\ufffd", label)
    shown = shown if len(shown) < 29 else shown[:14] + "…" + shown[-13:]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawings = (
            [
                stacked_bars(label, [(label, {"a": 1}, label)], {"a": "#111111"}),
                dots("a", [label], [(label, [0.1]), ("b", [math.nan])]),
                curves("a", [curve], "x", (0.0, 1.0)),
                heat_map("a", [label], [label], [[0.5]]),
            ]
            if label.strip()
            else [dots("a", [label], [(label, [0.1])])]
        )
    for drawn in map(one, drawings):
        assert not label.strip() or {shown, f" {shown}"} & set(drawn.texts), drawn.texts


RANDOM = np.random.default_rng(0).normal(size=(40, 2))


@pytest.mark.parametrize(
    "draw",
    [
        lambda: stacked_bars("a", [], {"a": "#111111"}),
        lambda: stacked_bars("a", [("a", {}, "")], {"a": "#111111"}),
        lambda: dots("a", ["a"], [("b", [0.0])]),
        lambda: steps("a", [("a", [0.0, 0.0])], [0, 1, 2]),
        lambda: steps("a", [(str(n), [0.1]) for n in range(20)], [0, 1], [(0, "low"), (1, "high")]),
        lambda: pyramid("a", ["a"], ("", [0]), ("sex unknown", [0])),
        lambda: bubbles("a", []),
        lambda: bubbles("a", [("a", []), ("b", [(1, 1, 1)])]),
        lambda: curves("a", [Curve("a", [0.5], [0.0], [0.0], [0.0])], "x", (0.0, 1.0), (-5.0, 5.0)),
        lambda: cloud("a", [("a", RANDOM), ("b", np.zeros((3, 2)))]),
        lambda: cloud("a", [("a", np.ones((3, 2)))]),
        lambda: ranks("a", [0.0] * 9 + [1.0], dark=True),
        lambda: whiskers("a", [Whisker("a", 0.0, 0.0, 0.0, None)], dark=True),
    ],
)
def test_little_or_nothing_is_drawn_too_and_always_the_same(draw: object) -> None:
    assert callable(draw)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        html = draw()
    one(html)
    before = dict(matplotlib.rcParams)
    with matplotlib.rc_context({"font.size": 40, "axes.facecolor": "red", "svg.fonttype": "path"}):
        assert draw() == html, "whatever the user's own matplotlib looks like"
    assert dict(matplotlib.rcParams) == before
