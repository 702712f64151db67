"""How pixels are stored: channels of sixteen bits, and headers that are wrong about it."""

import io
from itertools import product

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.uid import JPEG2000Lossless, RLELossless

from tests.films import DEEP, RAMP, coded_frame, deep_png, dicom, encoded, png, raw_tiff, smooth
from tests.greys import WINDOW, collimated, levels, off, stretched
from thiscxr import pixels as px

# Channels of sixteen bits.


def channels_of(film: np.ndarray, number: int) -> np.ndarray:
    other = np.random.default_rng(0).integers(0, 65536, film.shape).astype(np.uint16)  # alpha that would ruin it
    return np.dstack([film] * (3 if number > 2 else 1) + [other] * (number % 2 == 0))


@pytest.mark.parametrize("number", [2, 3, 4])
def test_png_of_several_channels_keeps_its_sixteen_bits(number):
    for film, interlaced in product((smooth(50, 70, 12), smooth(50, 70, 16)), (False, True)):
        data = deep_png(channels_of(film, number), interlaced)
        assert np.array_equal(px.load_film(data).pixels, px.load_film(png(film)).pixels)
        assert px.load_film(data).native_bits == 16
        assert np.array_equal(px.load_film(data, stretch=False).pixels, film)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("planar", "packed"), [(False, False), (False, True), (True, False), (True, True)])
@pytest.mark.parametrize(
    ("number", "photometric"), [(2, 1), (2, 0), (3, 2), (4, 2), (4, 5)], ids=["grey", "negative", "rgb", "rgba", "cmyk"]
)
def test_tiff_of_several_channels_keeps_its_sixteen_bits(number, photometric, planar, packed, order):
    film = smooth(50, 70, 12)
    values = channels_of(film, number)
    if photometric == 5:  # ink, and none of black
        values = np.dstack([65535 - film] * 3 + [np.zeros_like(film)])
    for extra in [None] if number == 3 or photometric == 5 else [0, 1, 2]:  # what the last channel is said to be
        data = raw_tiff(
            values, photometric, order, planar=planar, packed=packed, **({} if extra is None else {"t338": extra})
        )
        if planar and packed:
            with pytest.raises(ValueError, match="separate planes that are compressed"):
                px.load_film(data)
            continue
        found = px.load_film(data, stretch=False)
        assert np.array_equal(found.pixels, 65535 - film if photometric == 0 else film), extra
        assert (found.native_bits, found.native_height, found.native_width) == (16, 50, 70)


def test_channels_of_sixteen_bits_are_turned_and_distinguished_from_colours():
    film = smooth(50, 70, 12)
    hue = np.roll(film, 25, axis=1)
    photograph = np.dstack([film, hue, 4095 - film])
    for data in (deep_png(photograph), raw_tiff(photograph, 2), raw_tiff(photograph, 2, planar=True)):
        with pytest.raises(ValueError, match="in colour, not a film"):
            px.load_film(data)
    tint = np.dstack([film * 0.9, film * 0.95, film]).round().astype(np.uint16)
    assert np.corrcoef(px.load_film(deep_png(tint)).pixels.ravel(), film.ravel())[0, 1] > 0.999
    for planar, orientation in product((False, True), range(1, 9)):
        exif = Image.Exif()
        exif[274] = orientation
        expected = px.load_film(png(film, exif=exif), stretch=False)
        found = px.load_film(raw_tiff(np.dstack([film] * 3), 2, planar=planar, t274=orientation), stretch=False)
        assert np.array_equal(found.pixels, expected.pixels)
        assert (found.native_height, found.native_width) == found.pixels.shape


# Headers.


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("true", [10, 12, 16])
def test_bits_stored_may_be_too_small_by_any_number(true, signed):
    film = smooth(80, 90, true)
    values = film.astype(int) - (2 ** (true - 1) if signed else 0)
    expected = stretched(values)
    for said in range(1, true):
        frame = values.astype(np.int64).astype(np.uint16).tobytes()
        data = dicom(film, true, frame=frame, BitsStored=said, HighBit=said - 1, PixelRepresentation=int(signed))
        assert off(data, expected) <= 1, said
        assert px.load_film(data).native_bits == true
    assert off(dicom(film, true, BitsStored=true - 1, HighBit=true - 2, syntax=RLELossless), stretched(film)) <= 1


def test_bits_stored_of_a_film_with_a_sharp_marker_an_overlay_or_undeclared_padding():
    film = 200 + smooth(128, 128, 11) * 3 // 4  # no more than 1,735, but for the marker
    film[4:14, 4:30] = 3900
    assert off(dicom(film, 12, BitsStored=10, HighBit=9), stretched(film)) <= 1
    box = np.zeros_like(film)
    box[30:60, 40:90] = 0x8000
    for rubbish in (
        box,
        box >> 3,
        np.where(box, 0xF000, 0),
        np.random.default_rng(0).integers(0, 16, film.shape) << 12,
    ):
        assert off(dicom(film, 12, frame=(film | rubbish).astype(np.uint16).tobytes()), stretched(film)) <= 1
    noise = (np.random.default_rng(0).random(film.shape) < 0.3).astype(np.uint16) << 15
    assert off(dicom(film, 12, frame=(film | noise).tobytes(), BitsStored=10, HighBit=9), stretched(film)) <= 1
    border, inside = collimated(65535, film)
    shown = levels(dicom(film, 12, frame=border.astype(np.uint16).tobytes()), min_side=128)
    assert np.ptp(shown[inside]) > 0.3  # the border is as white as white can be, not sixteen times as white


@pytest.mark.parametrize("high_bit", [11, 13, 15, 3])
def test_the_high_bit_may_lie_higher(high_bit):
    values = smooth(70, 90, 12)
    stored = (values << max(0, high_bit - 11)).tobytes()
    assert off(dicom(values, 12, frame=stored, HighBit=high_bit, **WINDOW), values / 4095) <= 1


@pytest.mark.parametrize("frames", [0, 1, "", None])
def test_no_number_of_frames_is_one(frames):
    assert off(dicom(DEEP, NumberOfFrames=frames), stretched(DEEP)) <= 1
    with pytest.raises(ValueError, match="its tags"):
        px.load_film(dicom(DEEP, NumberOfFrames=1).replace(b"IS\2\0001 ", b"IS\2\0MY"))


def test_a_mention_of_the_deflated_syntax_is_not_one():
    for tags in (
        {"ImageComments": "sent as 1.2.840.10008.1.2.1.99"},
        {"DerivationDescription": "1.2.840.10008.1.2.1.99"},
    ):
        data = dicom(DEEP, **tags)
        for form in (data, data[132:]):
            assert off(form, stretched(DEEP)) <= 1
        assert px.read_dicom_header(dicom(DEEP, ViewPosition="PA", **tags)).view == "PA"


def part_of_length_0(values: np.ndarray, bits: int, odd: bool) -> bytes:
    """Return a JPEG 2000 stream of even or odd length whose tile-part says length 0, as some encoders write it."""
    stream = bytearray(coded_frame(values, bits, JPEG2000Lossless))
    part = stream.index(b"\xff\x90\x00\x0a")  # SOT (ITU T.800 A.4.2): length, tile, then the length of the part
    stream[part + 6 : part + 10] = bytes(4)
    if len(stream) % 2 != odd:
        comment = b"\xff\x64\x00\x05\x00\x01x"  # COM, seven bytes
        stream[part:part] = comment
    return bytes(stream)


@pytest.mark.parametrize("odd", [True, False])
@pytest.mark.parametrize("pad", [b"", b"\0", b"\0\0\0", b"\xff"])
def test_a_pad_byte_after_jpeg_2000_is_no_part_of_it(odd, pad):
    values = smooth(70, 90, 12)
    stream = part_of_length_0(values, 12, odd)
    assert len(stream) % 2 == odd
    assert off(dicom(values, syntax=JPEG2000Lossless, frame=stream + pad), stretched(values)) <= 1
    boxed = encoded(Image.fromarray(values), "JPEG2000")  # a JP2 file, whose header counts for nothing
    assert off(dicom(values, 16, syntax=JPEG2000Lossless, frame=boxed + pad), stretched(values)) <= 1


def test_coded_pictures_that_are_stored_bare_or_declared_as_not_coded():
    values = smooth(70, 90, 12)
    coded = dicom(values, syntax=JPEG2000Lossless)
    with pytest.raises(ValueError, match="pixels are coded, though it says that they are not"):
        px.load_film(coded.replace(b"1.2.840.10008.1.2.4.90", b"1.2.840.10008.1.2.1\0\0\0"))
    plain = dicom(values, frame=coded_frame(values, 12, JPEG2000Lossless) + bytes(1))
    at = plain.index(b"1.2.840.10008.1.2.1\0") - 8
    bare = plain[:at] + b"\x02\0\x10\0UI\x16\0" + b"1.2.840.10008.1.2.4.90" + plain[at + 28 :]
    assert off(bare, stretched(values)) <= 1


def test_a_palette_of_greys_is_a_film_and_one_of_colours_is_not():
    dataset = pydicom.dcmread(io.BytesIO(dicom(RAMP, 8, "PALETTE COLOR")))
    rising = np.arange(256) * 257
    for red, green, blue, grey in ((rising, rising, rising, True), (rising, rising[::-1], rising, False)):
        for tag, table in ((0x00281101, red), (0x00281102, green), (0x00281103, blue)):
            dataset.add_new(tag, "US", [256, 0, 16])
            dataset.add_new(tag + 0x100, "OW", table.astype("<u2").tobytes())
        file = io.BytesIO()
        dataset.save_as(file)
        if grey:
            assert off(file.getvalue(), RAMP / 255) <= 1
            continue
        with pytest.raises(ValueError, match="in colour"):
            px.load_film(file.getvalue())


def test_pixels_that_are_no_whole_numbers_are_refused_as_such():
    dataset = pydicom.dcmread(io.BytesIO(dicom(DEEP)))
    del dataset.PixelData
    dataset.FloatPixelData = DEEP.astype("<f4").tobytes()
    dataset.BitsAllocated = 32
    file = io.BytesIO()
    dataset.save_as(file)
    with pytest.raises(ValueError, match="no whole numbers"):
        px.load_film(file.getvalue())
