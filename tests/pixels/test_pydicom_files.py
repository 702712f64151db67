"""Every file that comes with pydicom: a film with the values of pydicom's own decoders, or the reason why not."""

import gzip
import io
from pathlib import Path

import numpy as np
import pydicom
import pydicom.data
import pytest

from tests.greys import default_grey, difference
from thiscxr import pixels as px

# What becomes of every file that comes with pydicom, by reason; "" are films.
PYDICOM_FILES = {
    "": """
        693_J2KI.dcm CT_small.dcm J2K_pixelrep_mismatch.dcm JPEG-lossy.dcm JPEG2000.dcm JPGExtended.dcm MR_small.dcm
        MR_small_RLE.dcm MR_small_bigendian.dcm MR_small_expb.dcm MR_small_implicit.dcm MR_small_jp2klossless.dcm
        MR_small_jpeg_ls_lossless.dcm MR_small_padded.dcm dicomdirtests/77654033/CR1/6154
        dicomdirtests/77654033/CR2/6247 dicomdirtests/77654033/CR3/6278 dicomdirtests/77654033/CT2/17106
        dicomdirtests/98892001/CT2N/6293 dicomdirtests/98892001/CT2N/6924 dicomdirtests/98892001/CT5N/2062
        dicomdirtests/98892001/CT5N/2392 dicomdirtests/98892001/CT5N/2693 dicomdirtests/98892001/CT5N/3023
        dicomdirtests/98892001/CT5N/3353 dicomdirtests/98892003/MR1/15820 dicomdirtests/98892003/MR1/4919
        dicomdirtests/98892003/MR1/5641 dicomdirtests/98892003/MR2/15970 dicomdirtests/98892003/MR2/4950
        dicomdirtests/98892003/MR2/4981 dicomdirtests/98892003/MR2/5011 dicomdirtests/98892003/MR2/6273
        dicomdirtests/98892003/MR2/6605 dicomdirtests/98892003/MR2/6935 dicomdirtests/98892003/MR700/4467
        dicomdirtests/98892003/MR700/4528 dicomdirtests/98892003/MR700/4558 dicomdirtests/98892003/MR700/4588
        dicomdirtests/98892003/MR700/4618 dicomdirtests/98892003/MR700/4648 dicomdirtests/98892003/MR700/4678
        examples_overlay.dcm image_dfl.dcm zipMR.gz
    """,
    "DICOM file in colour, not a plain film": """
        ExplVR_BigEnd.dcm SC_rgb_dcmtk_+eb+cr.dcm SC_rgb_dcmtk_+eb+cy+n1.dcm SC_rgb_dcmtk_+eb+cy+n2.dcm
        SC_rgb_dcmtk_+eb+cy+np.dcm SC_rgb_dcmtk_+eb+cy+s2.dcm SC_rgb_dcmtk_+eb+cy+s4.dcm SC_rgb_gdcm_KY.dcm
        SC_rgb_jls_lossy_line.dcm SC_rgb_jls_lossy_sample.dcm SC_rgb_jpeg_dcmtk.dcm SC_rgb_jpeg_gdcm.dcm
        SC_rgb_jpeg_lossy_gdcm.dcm SC_rgb_rle.dcm SC_rgb_rle_16bit.dcm SC_ybr_full_422_uncompressed.dcm
        examples_jpeg2k.dcm examples_palette.dcm examples_rgb_color.dcm
    """,
    "DICOM file without pixels, or cut off before them": """
        ExplVR_BigEndNoMeta.dcm ExplVR_LitEndNoMeta.dcm UN_sequence.dcm dicomdirtests/DICOMDIR
        dicomdirtests/DICOMDIR-bigEnd dicomdirtests/DICOMDIR-empty.dcm dicomdirtests/DICOMDIR-implicit
        dicomdirtests/DICOMDIR-nooffset dicomdirtests/DICOMDIR-nopatient dicomdirtests/DICOMDIR-reordered
        dicomdirtests/TINY_ALPHA/DICOMDIR dicomdirtests/TINY_ALPHA/PT000000/* empty_charset_LEI.dcm
        no_meta_group_length.dcm priv_SQ.dcm reportsi.dcm reportsi_with_empty_number_tags.dcm rtplan.dcm
        rtplan_truncated.dcm rtstruct.dcm test-SR.dcm waveform_ecg.dcm
    """,
    "broken DICOM file (its coded picture)": """
        GDCMJ2K_TextGBR.dcm
    """,
    "broken DICOM file (its coded picture is not the one of its header)": """
        JPEG2000-embedded-sequence-delimiter.dcm
    """,
    "a side of fewer than 16 pixels": """
        JPEGLSNearLossless_08.dcm JPEGLSNearLossless_16.dcm SC_rgb_small_odd.dcm SC_rgb_small_odd_big_endian.dcm
        SC_rgb_small_odd_jpeg.dcm rtdose_1frame.dcm rtdose_expb_1frame.dcm rtdose_rle_1frame.dcm
    """,
    "truncated file": """
        MR_truncated.dcm
    """,
    "broken DICOM file (its tags)": """
        badVR.dcm
    """,
    "not a PNG, JPEG, TIFF, BMP, WebP or DICOM file (it is text)": """
        README.txt dicomdirtests/README.txt dicomdirtests/TINY_ALPHA/README rtplan.dump rtstruct.dump test1.json
        test_PN.json
    """,
    "blank image (almost all of it is one grey)": """
        SC_jpeg_no_color_transform.dcm SC_jpeg_no_color_transform_2.dcm SC_rgb_jpeg.dcm SC_rgb_jpeg_app14_dcmd.dcm
        SC_rgb_jpeg_dcmd.dcm dicomdirtests/77654033/CT2/17136
    """,
    "DICOM file of more than one frame": """
        SC_rgb_rle_16bit_2frame.dcm SC_rgb_rle_2frame.dcm SC_rgb_rle_32bit_2frame.dcm examples_ybr_color.dcm rtdose.dcm
        rtdose_expb.dcm rtdose_rle.dcm
    """,
    "DICOM file of neither 8 nor 16 bits a pixel": """
        SC_rgb_rle_32bit.dcm liver_1frame.dcm liver_expb_1frame.dcm
    """,
    "not a PNG, JPEG, TIFF, BMP, WebP or DICOM file": """
        crayons.icc no_meta.dcm
    """,
    "constant image: its window or look-up table shows nothing of it": """
        dicomdirtests/77654033/CT2/17166 dicomdirtests/77654033/CT2/17196
    """,
    "DICOM file without Rows": """
        meta_missing_tsyntax.dcm nested_priv_SQ.dcm
    """,
}


def pydicom_paths() -> dict[str, Path]:
    root = Path(pydicom.data.__file__).parent / "test_files"
    return {path.relative_to(root).as_posix(): path for path in sorted(root.rglob("*")) if path.is_file()}


@pytest.mark.parametrize(("reason", "names"), PYDICOM_FILES.items())
def test_files_of_pydicom(reason, names):
    paths = pydicom_paths()
    for name in names.split():
        for path in [
            path
            for known, path in paths.items()
            if known == name or (name.endswith("*") and known.startswith(name[:-1]))
        ]:
            if reason:
                with pytest.raises(ValueError) as caught:
                    px.load_film(path)
                assert str(caught.value) == reason, name
            else:
                film = px.load_film(path)
                data = path.read_bytes()
                dataset = pydicom.dcmread(io.BytesIO(gzip.decompress(data) if name.endswith(".gz") else data))
                assert (film.native_height, film.native_width) == (dataset.Rows, dataset.Columns), name
                assert film.pixels.shape == (dataset.Rows, dataset.Columns) or film.greys == "percentiles", name


def test_the_table_names_every_file_of_pydicom():
    named = [name for names in PYDICOM_FILES.values() for name in names.split()]
    assert len(named) == len(set(named))
    unnamed = {
        name
        for name in pydicom_paths()
        if name not in named and not name.startswith("dicomdirtests/TINY_ALPHA/PT000000/")
    }
    if pydicom.__version__ == "3.0.2":
        assert not unnamed


@pytest.mark.parametrize(
    "name",
    [
        "JPGExtended.dcm",
        "J2K_pixelrep_mismatch.dcm",
        "693_J2KI.dcm",
        "MR_small_jpeg_ls_lossless.dcm",
        "image_dfl.dcm",
        "examples_overlay.dcm",
    ],
)
def test_films_of_pydicom_have_the_values_of_its_own_decoders(name):
    path = pydicom_paths()[name]
    dataset = pydicom.dcmread(path)
    if name == "JPGExtended.dcm":
        with pytest.raises(RuntimeError):
            _ = dataset.pixel_array  # pydicom has no decoder for it without a GPL package
        assert px.load_film(path).pixels.std() > 1000
        return
    window = [dataset.get(tag) is not None for tag in ("WindowCenter", "WindowWidth")]
    values = pydicom.pixels.apply_modality_lut(dataset.pixel_array, dataset)
    if all(window):
        center, width = (float(np.atleast_1d(dataset[tag].value)[0]) for tag in ("WindowCenter", "WindowWidth"))
        expected = np.clip((values - (center - 0.5)) / (width - 1) + 0.5, 0, 1) * 65535
    else:
        expected = default_grey(values, dataset.BitsStored)
    assert difference(px.load_film(path), expected) <= 1
