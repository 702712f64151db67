"""Reading films: known answers for every kind of file, and a reason for everything that is refused."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom.dataset import FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian

from thiscxr.data import pixels as px

RAMP = np.linspace(0, 255, 64 * 64).round().astype(np.uint8).reshape(64, 64)


def png(array: np.ndarray, mode: str | None = None, **save) -> bytes:
    buffer = io.BytesIO()
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(buffer, "PNG", **save)
    return buffer.getvalue()


def load(data: bytes, **options) -> px.LoadedFilm:
    return px.load_film(io.BytesIO(data), **options)


def dicom(values: np.ndarray, bits: int = 12, photometric: str = "MONOCHROME2", **tags) -> bytes:
    """A minimal DX file; values unsigned."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = pydicom.Dataset()
    dataset.file_meta = meta
    dataset.SOPClassUID, dataset.SOPInstanceUID, dataset.Modality = meta.MediaStorageSOPClassUID, "1.2.3", "DX"
    dataset.Rows, dataset.Columns = values.shape[:2]
    dataset.SamplesPerPixel = values.shape[2] if values.ndim == 3 else 1
    if values.ndim == 3:
        dataset.PlanarConfiguration = 0
    dataset.PhotometricInterpretation = photometric
    dataset.BitsAllocated = 8 if bits <= 8 else 16
    dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = bits, bits - 1, 0
    dataset.PixelData = values.astype(np.uint8 if bits <= 8 else "<u2").tobytes()
    for name, value in tags.items():
        setattr(dataset, name, value)
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


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


def test_cmyk_jpeg_and_tiff_are_read():
    buffer = io.BytesIO()
    Image.fromarray(RAMP).convert("RGB").convert("CMYK").save(buffer, "TIFF")
    assert np.abs(load(buffer.getvalue()).pixels.astype(int) - RAMP).max() <= 1
    buffer = io.BytesIO()
    Image.fromarray(RAMP).save(buffer, "JPEG", quality=95)
    assert np.abs(load(buffer.getvalue()).pixels.astype(int) - RAMP).max() <= 8


def test_sixteen_bit_is_stretched_by_percentiles_and_not_clipped_at_255():
    deep = np.linspace(300, 16383, 64 * 64).round().astype(np.uint16).reshape(64, 64)  # ten bits in sixteen, as in PadChest
    film = load(png(deep))
    low, high = np.percentile(deep, (0.5, 99.5))
    expected = np.clip((deep - low) / (high - low), 0, 1) * 65535
    assert film.pixels.dtype == np.uint16
    assert film.native_bits == 16
    assert np.abs(film.pixels - expected).max() <= 0.5
    # What Pillow's own conversion makes of it, and why it is not used: all of these are white.
    assert (np.array(Image.open(io.BytesIO(png(deep))).convert("L")) == 255).all()
    assert np.array_equal(load(png(deep), stretch=False).pixels, deep)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
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
    assert px.ImageFile.LOAD_TRUNCATED_IMAGES is False
    monkeypatch.setattr(px.ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(ValueError, match="LOAD_TRUNCATED_IMAGES"):
        load(png(RAMP))


def bomb(width: int, height: int) -> bytes:
    """A valid PNG header that promises a huge picture."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = b"IHDR" + header
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body)) + b"\0\0\0\0IDAT" + bytes(4)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"not a film at all, just words\n" * 20, "it is text"),
        (b"<!DOCTYPE html><html>login</html>", "web page"),
        (bytes(range(256)) * 8, "not a PNG, JPEG, TIFF or DICOM file"),
        (png(np.full((64, 64), 7, np.uint8)), "constant image"),
        (png(np.full((64, 64), 700, np.uint16)), "constant image"),
        (png(RAMP[:8]), "only 64x8 pixels"),
        (bomb(60_000, 60_000), "absurd size"),
        (bomb(10_000, 10_000), "absurd size 10000x10000"),
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


DEEP = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)  # 0 .. 4095: all of 12 bits


def test_dicom_window_of_twelve_bits():
    """Expected values by hand from DICOM PS3.3 C.11.2.1.2.1, without pydicom's windowing."""
    film = load(dicom(DEEP, WindowCenter=2048, WindowWidth=1024))
    expected = np.clip((DEEP - 2047.5) / 1023 + 0.5, 0, 1) * 65535
    assert np.abs(film.pixels - expected).max() <= 1
    assert (film.native_bits, film.inverted) == (12, False)
    first = load(dicom(DEEP, WindowCenter=[2048, 100], WindowWidth=[1024, 10]))
    assert np.array_equal(first.pixels, film.pixels)


def test_dicom_monochrome1_is_the_negative():
    plain, negative = (load(dicom(DEEP, photometric=name, WindowCenter=2048, WindowWidth=1024)) for name in ("MONOCHROME2", "MONOCHROME1"))
    assert negative.inverted
    assert np.array_equal(negative.pixels, 65535 - plain.pixels)
    assert negative.pixels[0, 0] == 65535


def test_dicom_rescale_comes_before_the_window():
    moved = load(dicom(DEEP, RescaleSlope=2, RescaleIntercept=-1000, WindowCenter=2 * 2048 - 1000, WindowWidth=2048))
    expected = np.clip((2.0 * DEEP - 1000 - (3096 - 0.5)) / 2047 + 0.5, 0, 1) * 65535
    assert np.abs(moved.pixels - expected).max() <= 1


def test_dicom_without_a_window_is_stretched_by_percentiles_of_the_data():
    few = (DEEP // 4).astype(np.uint16)  # 10 bits in a file that says 12
    low, high = np.percentile(few, (0.5, 99.5))
    assert np.abs(load(dicom(few)).pixels - np.clip((few - low) / (high - low), 0, 1) * 65535).max() <= 0.5


def test_dicom_voi_lut_is_applied():
    lut = pydicom.Dataset()
    lut.add_new("LUTDescriptor", "US", [4096, 0, 16])
    lut.add_new("LUTData", "OW", (65535 - 16 * np.arange(4096)).astype("<u2").tobytes())  # a falling table
    film = load(dicom(DEEP, VOILUTSequence=[lut]))
    assert film.pixels[0, 0] == 65535
    assert film.pixels[-1, -1] == 0


def test_eight_and_sixteen_bit_dicom():
    assert load(dicom(RAMP, bits=8)).native_bits == 8
    assert load(dicom(DEEP * 16, bits=16)).pixels.max() == 65535


def test_bad_dicom_is_refused():
    with pytest.raises(ValueError, match="colour"):
        load(dicom(np.dstack([RAMP] * 3), bits=8, photometric="RGB"))
    whole = dicom(DEEP, WindowCenter=2048, WindowWidth=1024)
    for length in (200, len(whole) // 2, len(whole) - 2):
        with pytest.raises(ValueError):
            load(whole[:length])
    with pytest.raises(ValueError, match="window width 0"):
        load(dicom(DEEP, WindowCenter=2048, WindowWidth=0))
    with pytest.raises(ValueError, match="constant"):
        load(dicom(np.full((64, 64), 9), WindowCenter=2048, WindowWidth=10))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300), st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0", bytes(128) + b"DICM"]))
def test_any_bytes_give_a_film_or_a_reason(data, start):
    with pytest.raises(ValueError, match=r"\S"):
        load(start + data)


def test_square_film_at_the_resolution_is_left_alone():
    bordered = RAMP.copy()
    bordered[:5] = 0
    assert px.to_square(bordered, 64) is bordered


def test_crop_and_pad_keep_the_shape_of_things():
    """A disc stays a disc: the second moments along both axes agree."""
    for height, width in ((300, 256), (256, 300), (600, 256), (256, 600)):
        y, x = np.mgrid[:height, :width]
        film = np.where((y - height / 2) ** 2 + (x - width / 2) ** 2 < 60**2, 255, 10).astype(np.uint8)
        film[0, ::2] = film[-1, ::2] = 11  # keep the border from being constant
        film[::2, 0] = film[::2, -1] = 11
        square = px.to_square(film, 128)
        rows, columns = np.nonzero(square > 128)
        assert square.shape == (128, 128)
        assert abs(rows.std() / columns.std() - 1) < 0.02
        padded = max(height, width) / min(height, width) > px.CROP_ASPECT
        assert abs(rows.std() * 2 - 60 * 128 / (max(height, width) if padded else min(height, width))) < 1
        assert (square[0].max() == 0 or square[:, 0].max() == 0) == padded


def test_constant_borders_are_cropped_only_when_enough_is_left():
    film = np.zeros((100, 100), np.uint8)
    film[10:90, 10:90] = np.random.default_rng(0).integers(0, 256, (80, 80))
    assert px.content_box(film) == (10, 10, 90, 90)
    inside = Image.fromarray(film[10:90, 10:90]).resize((64, 64), Image.Resampling.LANCZOS)
    assert np.array_equal(px.to_square(film, 64), np.array(inside))
    small = np.zeros((70, 70), np.uint8)
    small[10:60, 10:60] = film[10:60, 10:60]
    assert px.to_square(small, 64)[0].max() <= 5  # cropped it would be 50 pixels, so the border stays


def test_films_are_never_enlarged():
    with pytest.raises(ValueError, match="short side 60 px is below the resolution 64"):
        px.to_square(np.zeros((200, 60), np.uint8), 64)


def test_restored_aspect_undoes_the_squash():
    y, x = np.mgrid[:512, :512]
    disc = np.where((y - 256) ** 2 + ((x - 256) * 1.25) ** 2 < 150**2, 255, 10).astype(np.uint8)  # a disc of a 5:4 film, squashed
    disc[0, ::2] = disc[-1, ::2] = disc[::2, 0] = disc[::2, -1] = 11
    rows, columns = np.nonzero(px.to_square(disc, 128) > 128)
    assert rows.std() / columns.std() > 1.2
    rows, columns = np.nonzero(px.to_square(disc, 128, aspect=1.25) > 128)
    assert abs(rows.std() / columns.std() - 1) < 0.02
    with pytest.raises(ValueError, match="short side 410 px once its aspect is restored"):
        px.to_square(disc, 512, aspect=1.25)


@given(st.sampled_from([8, 16]))
def test_pixels_survive_the_way_to_images_and_back(bits):
    dtype = np.uint8 if bits == 8 else np.uint16
    every = np.arange(2**bits).astype(dtype)
    images = px.pixels_to_images(every)
    assert images.dtype == np.float32
    assert (images[0], images[-1]) == (-1, 1)
    assert np.array_equal(px.images_to_pixels(images, bits), every)
    assert px.images_to_xrv(images).max() == 1024
    assert px.images_to_xrv(images).min() == -1024


def test_bits_are_exact_both_ways():
    every = np.arange(256, dtype=np.uint8)
    assert np.array_equal(px.to_bits(px.to_bits(every, 16), 8), every)
    assert px.to_bits(every, 16)[-1] == 65535
    deep = np.arange(65536, dtype=np.uint16)
    assert np.array_equal(px.to_bits(deep, 8), np.rint(deep / 257))


def test_values_outside_the_range_are_clipped():
    assert px.images_to_pixels(np.array([-3.0, 0.0, 3.0])).tolist() == [0, 128, 255]


def test_grid_is_in_reading_order():
    films = np.arange(5, dtype=np.uint8)[:, None, None] * np.ones((1, 2, 3), np.uint8)
    sheet = px.make_grid(films, 3)
    assert sheet.shape == (4, 9)
    assert sheet[::2, ::3].tolist() == [[0, 1, 2], [3, 4, 0]]


def test_png_text_round_trip_is_deterministic(tmp_path: Path):
    text = {"Comment": "synthetic, not a patient", "Größe": "64 px – ok"}
    px.save_png(tmp_path / "a.png", RAMP, text)
    px.save_png(tmp_path / "b.png", RAMP, text)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert px.read_png_text(tmp_path / "a.png") == text
    assert np.array_equal(px.load_film(tmp_path / "a.png").pixels, RAMP)
    px.save_png(tmp_path / "deep.png", DEEP)
    assert np.array_equal(px.load_film(tmp_path / "deep.png", stretch=False).pixels, DEEP)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png", "deep.png"]


@pytest.mark.parametrize(("position", "view"), [("PA", "PA"), ("AP", "AP"), ("LL", "lateral"), ("LLD", "unknown"), ("", "unknown")])
def test_the_view_of_a_dicom_header(tmp_path, position, view):
    (tmp_path / "a.dcm").write_bytes(dicom(DEEP, ViewPosition=position))
    assert px.read_dicom_view(tmp_path / "a.dcm") == view
    (tmp_path / "b.dcm").write_text("no DICOM")
    assert px.read_dicom_view(tmp_path / "b.dcm") == "unknown"
