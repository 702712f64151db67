"""Films in a row as one animated file: WebP and GIF by Pillow, MP4 by PyAV where it is installed.

The notice is kept where each format has a place for it: an XMP packet (WebP, MP4), a comment (GIF, MP4).
"""

import io
from fractions import Fraction
from typing import Any

import numpy as np
from PIL import Image

from thiscxr.pixels.grey import Pixels

ANIMATIONS = ("webp", "gif", "mp4")
# a GIF counts hundredths of a second (GIF89a, section 23); players slow down frames shorter than two of them
GIF_TICK_MS = 10
# XMP specification part 3, section 1.2.1: an MP4's uuid box
_XMP_BOX = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")


def encode_animation(frames: Pixels, fps: int, kind: str, comment: str, xmp: str) -> bytes:
    """Return uint8 [n, h, w] as an animated file; the same input gives the same bytes. WebP is lossless, MP4 is
    H.264 in 4:2:0.

    Raises ValueError for a kind that is not in ANIMATIONS, a rate that GIF does not support, and for MP4 without PyAV.
    """
    if kind not in ANIMATIONS:
        raise ValueError(f"'{kind}' is not a kind of animation; expected one of {', '.join(ANIMATIONS)}")
    if kind == "gif" and fps * 2 * GIF_TICK_MS > 1000:
        raise ValueError(
            f"{fps} frames/s are too fast for a GIF: players show at most {1000 // (2 * GIF_TICK_MS)}; use webp"
        )
    if kind == "mp4":
        return _mp4(frames, fps, comment) + _box(xmp)
    first, *rest = (Image.fromarray(frame) for frame in frames)
    options: dict[str, Any] = {"save_all": True, "append_images": rest, "loop": 0}
    if kind == "webp":
        options |= {"duration": _durations(len(frames), fps, 1), "lossless": True, "xmp": xmp.encode()}
    else:
        options |= {
            "duration": _durations(len(frames), fps, GIF_TICK_MS),
            "comment": comment.encode(),
            "optimize": False,
        }
    file = io.BytesIO()
    first.save(file, format=kind.upper(), **options)
    return file.getvalue()


def _durations(count: int, fps: int, tick_ms: int) -> list[int]:
    """Return the milliseconds of each frame in whole ticks, so that rounding errors do not add up."""
    edges = np.rint(np.arange(count + 1) * 1000 / fps / tick_ms).astype(int) * tick_ms
    return np.diff(edges).tolist()


def _mp4(frames: Pixels, fps: int, comment: str) -> bytes:
    try:
        import av
    except ImportError:
        raise ValueError(
            "MP4 needs PyAV; install it with: pip install 'thiscxr[video]', or use --format webp"
        ) from None
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        container.metadata["comment"] = comment
        stream: Any = container.add_stream("h264", rate=Fraction(fps), options={"crf": "12", "threads": "1"})
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:], "yuv420p"
        for frame in frames:
            for packet in stream.encode(av.VideoFrame.from_ndarray(frame, format="gray")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return file.getvalue()


def _box(xmp: str) -> bytes:
    data = xmp.encode()
    return (24 + len(data)).to_bytes(4, "big") + b"uuid" + _XMP_BOX + data
