"""Reading films: known answers for every kind of file, and a reason for everything that is refused."""

import gzip
import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from tests.films import RAMP, encoded, jpeg, png, raw_tiff, smooth, tiff
from thiscxr import pixels as px
from thiscxr.pixels import grey

REAL = Path(__file__).parents[3] / "shared" / "data"


def load(data: bytes, **options) -> px.LoadedFilm:
    return px.load_film(io.BytesIO(data), **options)


def test_eight_bit_grey_comes_back_byte_for_byte():
    film = load(png(RAMP))
    assert film.pixels.dtype == np.uint8
    assert np.array_equal(film.pixels, RAMP)
    assert (film.native_width, film.native_height, film.native_bits, film.inverted) == (64, 64, 8, False)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P"])
def test_other_modes_with_equal_channels_are_the_grey_film(mode):
    assert np.array_equal(load(png(RAMP, mode)).pixels, RAMP)


def test_alpha_is_dropped_not_composited():
    rgba = np.dstack([RAMP, RAMP, RAMP, np.zeros_like(RAMP)])  # fully transparent: compositing would give one colour
    assert np.array_equal(load(png(rgba)).pixels, RAMP)
    assert np.array_equal(load(png(np.dstack([RAMP, np.zeros_like(RAMP)]))).pixels, RAMP)


def close(film: px.LoadedFilm, expected: np.ndarray, within: int = 0) -> bool:
    return film.pixels.shape == expected.shape and bool(np.abs(film.pixels.astype(int) - expected).max() <= within)


def stretched(values: np.ndarray) -> np.ndarray:
    """The grey of a deep film without a window, by numpy's own percentiles of the values."""
    low, high = np.percentile(values, (0.5, 99.5))
    return np.clip((values - low) / (high - low), 0, 1) * 65535


def test_palette_with_transparency_is_the_grey_film():
    image = Image.frombytes("P", (64, 64), (255 - RAMP).tobytes())
    image.putpalette([level for index in range(256) for level in [255 - index] * 3])  # index 0 is white
    assert close(load(encoded(image, "PNG")), RAMP)
    assert close(load(encoded(image, "PNG", transparency=0)), RAMP)
    assert close(load(encoded(image, "PNG", transparency=bytes(range(256)))), RAMP)


def test_one_bit_film_is_black_and_white():
    bits = RAMP > 99
    assert close(load(encoded(Image.fromarray(bits), "PNG")), bits * 255)


def test_cmyk_and_ycck_are_read():
    cmyk = Image.fromarray(RAMP).convert("RGB").convert("CMYK")
    assert close(load(encoded(cmyk, "TIFF")), RAMP, 1)
    assert close(load(encoded(cmyk, "JPEG", quality=100)), RAMP, 3)  # written inverted, as Adobe does
    black_only = Image.merge("CMYK", [Image.new("L", (64, 64))] * 3 + [Image.fromarray(255 - RAMP)])
    assert close(load(encoded(black_only, "JPEG", quality=100)), RAMP, 3)
    # YCCK (Adobe's transform 2): luma of inks; with nil chroma all are 255 - light. Pillow writes 255 - what it is
    # given.
    middle = Image.new("L", (64, 64), 127)
    ycck = bytearray(
        encoded(
            Image.merge("CMYK", [Image.fromarray(RAMP), middle, middle, Image.new("L", (64, 64))]), "JPEG", quality=100
        )
    )
    adobe = ycck.index(b"Adobe")
    assert ycck[adobe + 11] == 0
    ycck[adobe + 11] = 2
    assert np.corrcoef(load(bytes(ycck)).pixels.ravel(), RAMP.ravel())[0, 1] > 0.99


@pytest.mark.parametrize("order", ["<", ">"])
def test_tiff_of_either_byte_order_and_polarity(order):
    deep = smooth(40, 50, 12)
    for photometric, inverted in ((1, False), (0, True)):
        shallow = load(raw_tiff(RAMP, photometric, order))
        assert shallow.inverted == inverted
        assert close(shallow, 255 - RAMP if inverted else RAMP)
        film = load(raw_tiff(deep, photometric, order))
        assert (film.native_bits, film.inverted) == (16, inverted)
        assert close(film, np.rint(65535 - stretched(deep) if inverted else stretched(deep)), 1)
        raw = load(raw_tiff(deep, photometric, order), stretch=False)
        assert close(raw, 65535 - deep.astype(int) if inverted else deep)


def test_tiff_of_thirty_two_bits():
    deep = smooth(40, 50, 16)
    whole = load(raw_tiff(deep.astype(np.int32) * 5000 - 10**8, sample_format=2))
    assert whole.native_bits == 32
    assert close(whole, np.rint(stretched(deep)), 1)
    assert close(load(raw_tiff(deep.astype(np.float32) / 7 - 3, sample_format=3)), np.rint(stretched(deep)), 1)
    # sixteen bits in thirty-two
    assert close(load(raw_tiff(deep.astype(np.int32), sample_format=2)), np.rint(stretched(deep)), 1)


def test_multi_page_and_animated_files_are_refused():
    pages = [Image.fromarray(RAMP), Image.fromarray(255 - RAMP)]
    for kind in ("TIFF", "PNG"):
        with pytest.raises(ValueError, match="more than one picture"):
            load(encoded(pages[0], kind, save_all=True, append_images=pages[1:]))


TURNS = {  # EXIF 2.3, tag 274: how what is stored is to be shown
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.T,
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].T,
    8: lambda a: np.rot90(a),
}


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
@pytest.mark.parametrize("orientation", TURNS)
def test_exif_orientation_is_applied(kind, orientation):
    stored = smooth(40, 60, 8)
    exif = Image.Exif()
    exif[274] = orientation
    film = load(encoded(Image.fromarray(stored), kind, exif=exif, **({"quality": 98} if kind == "JPEG" else {})))
    expected = TURNS[orientation](stored)
    assert close(film, expected, 6 if kind == "JPEG" else 0)
    assert (film.native_height, film.native_width) == expected.shape


def test_unknown_and_broken_orientation_leaves_the_film_alone():
    exif = Image.Exif()
    exif[274] = 77
    assert close(load(png(RAMP, exif=exif)), RAMP)
    assert close(load(png(RAMP, exif=b"Exif\0\0II*\0\xff\xff\xff\xff")), RAMP)


def test_a_photograph_is_refused_and_a_tint_is_not():
    hue = np.mgrid[:64, :64][1] * 4
    photograph = np.dstack([RAMP, hue, 255 - hue]).astype(np.uint8)
    for data in (png(photograph), jpeg(photograph)):
        with pytest.raises(ValueError, match="in colour, not a film"):
            load(data)
    blue_base = np.dstack([RAMP * 0.9, RAMP * 0.95, RAMP]).round().astype(np.uint8)
    assert np.corrcoef(load(png(blue_base)).pixels.ravel(), RAMP.ravel())[0, 1] > 0.999
    noisy = np.clip(RAMP[..., None] + np.random.default_rng(0).normal(0, 5, (64, 64, 3)), 0, 255).astype(np.uint8)
    assert load(jpeg(noisy, quality=60)).pixels.shape == (64, 64)
    marked = np.dstack([RAMP] * 3)
    marked[2:9, 2:20] = (255, 0, 0)  # a coloured label on a grey film
    assert load(png(marked)).pixels.shape == (64, 64)


def test_jpeg_may_be_decoded_smaller_but_never_below_twice_what_is_wanted():
    film = smooth(900, 700, 8)
    full = load(jpeg(film))
    assert full.pixels.shape == (900, 700)
    for min_side, shape in ((350, (900, 700)), (175, (450, 350)), (87, (225, 175)), (40, (113, 88)), (1, (113, 88))):
        small = load(jpeg(film), min_side=min_side)
        assert small.pixels.shape == shape
        assert (small.native_width, small.native_height) == (700, 900)
    direct, reduced = (px.to_square(each.pixels, 128).astype(int) for each in (full, load(jpeg(film), min_side=128)))
    assert np.abs(direct - reduced).max() <= 3


def test_bytes_paths_and_streams_are_the_same_film(tmp_path):
    (tmp_path / "a.png").write_bytes(png(RAMP))
    for source in (png(RAMP), tmp_path / "a.png", io.BytesIO(png(RAMP))):
        assert close(px.load_film(source), RAMP)


def test_gzipped_films_are_unpacked_with_a_bound():
    assert close(load(gzip.compress(png(RAMP))), RAMP)
    with pytest.raises(ValueError, match="absurd size"):
        load(gzip.compress(bytes(px.MAX_PIXELS * 3 + 10), 9))
    with pytest.raises(ValueError, match="truncated file"):
        load(gzip.compress(png(RAMP))[:-9])
    with pytest.raises(ValueError, match="damaged gzip file"):
        load(gzip.compress(png(RAMP))[:-8] + bytes(8))
    with pytest.raises(ValueError, match="more than one file"):
        load(gzip.compress(png(RAMP)) * 2)
    with pytest.raises(ValueError, match="not a PNG"):
        load(gzip.compress(gzip.compress(png(RAMP))))


def test_percentiles_of_a_histogram_are_those_of_the_film():
    for seed in range(20):
        generator = np.random.default_rng(seed)
        words = generator.normal(2000, 10 * (seed + 1), (37, 41)).clip(0, 4095).astype(np.uint16)
        percents = [0.5, 5, 50, 95, 99.5]
        counts = grey.histogram(words)
        assert np.array_equal(counts, np.bincount(words.ravel(), minlength=65536))
        assert np.allclose(
            grey.percentiles(np.arange(65536.0), counts, percents), np.percentile(words, percents), rtol=0, atol=1e-9
        )


def blank_with_marker(value: int, dtype: type) -> np.ndarray:
    film = np.full((200, 200), value, dtype)
    film[10:30, 10:40] = np.iinfo(dtype).max  # 1.5 % of it
    return film


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (png(blank_with_marker(20, np.uint8)), "blank image"),
        (png(blank_with_marker(2000, np.uint16)), "blank image"),
        (jpeg(blank_with_marker(20, np.uint8)), "blank image"),
        (png(np.random.default_rng(0).integers(100, 105, (64, 64)).astype(np.uint8)), "blank image"),
        (png(np.random.default_rng(0).integers(100, 105, (64, 64)).astype(np.uint16)), "blank image"),
        (raw_tiff(blank_with_marker(0, np.uint8).astype(np.float32), sample_format=3), "blank image"),
        (png(smooth(64, 300, 8)), "absurd shape"),
        (png(np.random.default_rng(0).integers(100, 110, (64, 64)).astype(np.uint16)), None),  # little, but not nothing
        (png(smooth(64, 250, 8)), None),
    ],
)
def test_blank_and_oddly_shaped_films_are_refused(data, reason):
    if reason is None:
        assert np.ptp(load(data).pixels) > 100
        return
    with pytest.raises(ValueError, match=reason):
        load(data)


@pytest.mark.parametrize("folder", ["nih-64", "nih-256"])
def test_no_real_film_is_refused_and_each_comes_back_byte_for_byte(folder):
    paths = sorted((REAL / folder / "images").glob("*.png"))
    if not paths:
        pytest.skip(f"real films are not here: {REAL / folder}")
    for path in paths[::4]:
        with Image.open(path) as image:
            film = px.load_film(path, min_side=image.width)
            assert np.array_equal(film.pixels, np.asarray(image))
            assert px.to_square(film.pixels, image.width) is film.pixels


def test_reasons_do_not_depend_on_the_file(tmp_path):
    """They are counted by their text: two files with one defect must have one reason."""
    for make in (png, jpeg, tiff):
        reasons = set()
        for size in (64, 80, 96):
            path = tmp_path / f"secret-{size}"
            data = make(smooth(size, size, 8))
            path.write_bytes(data[: len(data) * 2 // 3])
            with pytest.raises(ValueError) as caught:
                px.load_film(path)
            reasons.add(str(caught.value))
        assert reasons <= {"truncated file", "broken TIFF file", "TIFF file of a kind that Pillow does not read"}
        assert len(reasons) == 1


def test_sixteen_bit_is_stretched_by_percentiles_and_not_clipped_at_255():
    # ten bits in sixteen, as in PadChest
    deep = np.linspace(300, 16383, 64 * 64).round().astype(np.uint16).reshape(64, 64)
    film = load(png(deep))
    low, high = np.percentile(deep, (0.5, 99.5))
    expected = np.clip((deep - low) / (high - low), 0, 1) * 65535
    assert film.pixels.dtype == np.uint16
    assert film.native_bits == 16
    assert np.abs(film.pixels - expected).max() <= 0.5
    # What Pillow's own conversion makes of it, and why it is not used: all of these are white.
    assert (np.array(Image.open(io.BytesIO(png(deep))).convert("L")) == 255).all()
    assert np.array_equal(load(png(deep), stretch=False).pixels, deep)


def test_a_film_records_how_its_greys_were_made():
    deep = smooth(40, 50, 12)
    assert load(png(RAMP)).greys == load(png(deep), stretch=False).greys == "as stored"
    assert load(png(deep)).greys == load(raw_tiff(deep.astype(np.float32), sample_format=3)).greys == "percentiles"


@pytest.mark.parametrize("kind", ["BMP", "WEBP"])
def test_plain_pictures_of_other_kinds_are_films(kind):
    film = smooth(50, 64, 8)
    for mode in ("L", "RGB", "RGBA"):
        read = load(
            encoded(Image.fromarray(film).convert(mode), kind, **({"lossless": True} if kind == "WEBP" else {}))
        )
        assert np.array_equal(read.pixels, film)
        assert (read.native_width, read.native_height, read.native_bits, read.greys) == (64, 50, 8, "as stored")
    with pytest.raises(ValueError, match="picture in colour, not a film"):
        load(encoded(Image.fromarray(np.stack([film, 255 - film, film // 2], 2)), kind))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "WEBP"])
def test_a_file_cut_anywhere_is_refused(kind):
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 48), np.uint8)).save(buffer, kind)
    data = buffer.getvalue()
    load(data)
    for length in [*range(0, len(data) - 2, 37), len(data) - 2, len(data) - 12, len(data) - 20]:
        with pytest.raises(ValueError):
            load(data[:length])


def test_a_flipped_byte_in_a_png_is_refused():
    data = bytearray(png(RAMP))
    data[len(data) // 2] ^= 1
    with pytest.raises(ValueError, match="checksum"):
        load(bytes(data))


def test_reading_truncated_files_is_never_switched_on(monkeypatch):
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(ValueError, match="LOAD_TRUNCATED_IMAGES"):
        load(png(RAMP))


def bomb(width: int, height: int) -> bytes:
    """A valid PNG header that promises a huge picture."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = b"IHDR" + header
    return (
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", 13)
        + body
        + struct.pack(">I", zlib.crc32(body))
        + b"\0\0\0\0IDAT"
        + bytes(4)
    )


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"not a film at all, just words\n" * 20, "it is text"),
        (b"<!DOCTYPE html><html>login</html>", "web page"),
        (bytes(range(256)) * 8, "not a PNG, JPEG, TIFF, BMP, WebP or DICOM file"),
        (png(np.full((64, 64), 7, np.uint8)), "constant image"),
        (png(np.full((64, 64), 700, np.uint16)), "constant image"),
        (png(RAMP[:8]), "a side of fewer than 16 pixels"),
        (bomb(60_000, 60_000), "absurd size"),
        (bomb(10_000, 10_000), "absurd size"),
    ],
)
def test_refusals_name_the_reason(data, reason):
    with pytest.raises(ValueError, match=reason):
        load(data)


def test_not_finite_pixels_are_refused():
    values = np.random.default_rng(0).random((32, 32)).astype(np.float32)
    values[3, 3] = np.nan
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "TIFF")
    with pytest.raises(ValueError, match="not finite"):
        load(buffer.getvalue())


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(ValueError, match="cannot be read"):
        px.load_film(tmp_path / "none.png")


@settings(max_examples=200, deadline=None)
@given(
    st.binary(max_size=300),
    st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0", bytes(128) + b"DICM"]),
)
def test_any_bytes_give_a_film_or_a_reason(data, start):
    with pytest.raises(ValueError, match=r"\S"):
        load(start + data)
