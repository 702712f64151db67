"""Animated files hold the given frames at their rate and their notice; contact sheets hold films and captions."""

import io

import numpy as np
import pytest
from PIL import Image

from thiscxr.pixels.animation import encode_animation
from thiscxr.pixels.drawing import draw_sheet, enlarge

FRAMES = enlarge(np.random.default_rng(0).integers(0, 256, (7, 32, 32)).astype(np.uint8), 64)
WORDS = "Synthetic: not a patient"
XMP = "<x:xmpmeta>é, not a patient</x:xmpmeta>"


@pytest.mark.parametrize(("kind", "tick_ms"), [("webp", 1), ("gif", 10)])
def test_frames_are_read_back_whole_with_their_notice(kind: str, tick_ms: int) -> None:
    data = encode_animation(FRAMES, 15, kind, WORDS, XMP)
    assert data == encode_animation(FRAMES, 15, kind, WORDS, XMP), "the same film is the same file"
    with Image.open(io.BytesIO(data)) as image:
        assert image.n_frames == 7
        assert image.info["loop"] == 0
        said = image.info["xmp"].decode() if kind == "webp" else image.info["comment"].decode()
        assert said == (XMP if kind == "webp" else WORDS)
        total = 0.0
        for number in range(7):
            image.seek(number)
            np.testing.assert_array_equal(np.asarray(image.convert("L")), FRAMES[number])
            total += image.info["duration"]
    assert abs(total - 7000 / 15) <= tick_ms / 2, "rounding must not add up"


def test_mp4_is_read_back_with_comment_and_xmp() -> None:
    av = pytest.importorskip("av")
    data = encode_animation(FRAMES, 15, "mp4", WORDS, XMP)
    with av.open(io.BytesIO(data)) as container:
        assert container.metadata["comment"] == WORDS
        assert container.streams.video[0].average_rate == 15
        frames = [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]
    assert len(frames) == 7
    assert np.abs(np.stack(frames).astype(int) - FRAMES).mean() < 8  # of noise, which no codec likes
    assert data.endswith(XMP.encode())


def test_impossible_formats_and_rates_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="60 frames/s are too fast for a GIF: players show at most 50"):
        encode_animation(FRAMES, 60, "gif", WORDS, XMP)
    with pytest.raises(ValueError, match="'avi' is not a kind of animation; expected one of webp, gif, mp4"):
        encode_animation(FRAMES, 15, "avi", WORDS, XMP)
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(ValueError, match=r"pip install 'thiscxr\[video\]'"):
        encode_animation(FRAMES, 15, "mp4", WORDS, XMP)


def test_a_contact_sheet_holds_every_film_once_and_its_captions() -> None:
    films = list(FRAMES)
    sheet = draw_sheet(
        [films[:3], [None, *films[3:5]]], [["a", "b", "c"], ["", "d", "e"]], ["head"], ["a long line at the foot " * 9]
    )
    windows = np.lib.stride_tricks.sliding_window_view(sheet, (64, 64))
    for film in films[:5]:
        places = np.argwhere((windows[:, :, 0, :32] == film[0, :32]).all(-1))
        assert sum((windows[y, x] == film).all() for y, x in places) == 1
    assert sheet[:20].max() == 255
    assert sheet[-20:].max() == 255
    coloured = draw_sheet([[films[0], films[1][..., None].repeat(3, -1)]], [["a", "b"]], [], [])
    assert coloured.shape[2] == 3
    np.testing.assert_array_equal(enlarge(films[0], 100), films[0].repeat(2, 0).repeat(2, 1))
