"""Phantom films as PadChest releases its own: 16-bit PNGs of 12 and 10 used bits, one table of 36 columns; or the
numbered zips.

One hospital, `phantom-d`.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from thiscxr.labels import FINDINGS, NEGATIVE, NOT_MENTIONED, POSITIVE, FilmRecord
from thiscxr.phantom import Patient
from thiscxr.phantom.releases.encode import deepened, on_canvas, png
from thiscxr.phantom.releases.release import Release, ReleasedFilm, Shot, csv_bytes, film_size, pick, study_shots
from thiscxr.pixels import Pixels

SITE = "phantom-d"
TABLE = "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv"
HEADER = (
    ",ImageID,ImageDir,StudyDate_DICOM,StudyID,PatientID,PatientBirth,PatientSex_DICOM,ViewPosition_DICOM,Projection,MethodProjection,"
    "Pediatric,Modality_DICOM,Manufacturer_DICOM,PhotometricInterpretation_DICOM,PixelRepresentation_DICOM,PixelAspectRatio_DICOM,"
    "SpatialResolution_DICOM,BitsStored_DICOM,WindowCenter_DICOM,WindowWidth_DICOM,Rows_DICOM,Columns_DICOM,XRayTubeCurrent_DICOM,"
    "Exposure_DICOM,ExposureInuAs_DICOM,ExposureTime,RelativeXRayExposure_DICOM,ReportID,Report,MethodLabel,Labels,Localizations,"
    "LabelsLocalizationsBySentence,labelCUIS,LocalizationsCUIS"
)


@dataclass(frozen=True, slots=True)
class Token:
    """A word of the label lists: its UMLS code ("" for none), its places, and the states it implies."""

    cui: str
    places: tuple[str, ...] = ()
    positive: tuple[str, ...] = ()
    blank: tuple[str, ...] = ()  # no longer surely absent


_DRAWN = {
    "laminar atelectasis": Token("", ("loc basal",), ("Atelectasis",), ("Lung_Opacity",)),
    "atelectasis": Token("C0004144", ("loc retrocardiac",), ("Atelectasis",), ("Lung_Opacity",)),
    "cardiomegaly": Token("C0018800", ("loc cardiac",), ("Cardiomegaly",), ("Enlarged_Cardiomediastinum",)),
    "consolidation": Token(
        "C0521530",
        ("loc middle lobe", "loc perihilar"),
        ("Consolidation", "Infiltration", "Lung_Opacity"),
        ("Pneumonia",),
    ),
    "pulmonary edema": Token("C0034063", (), ("Edema",), ("Lung_Opacity",)),
    "kerley lines": Token("", (), ("Edema",)),
    "pleural effusion": Token("C2073625", ("loc pleural", "loc costophrenic angle"), ("Effusion",)),
    "emphysema": Token("C0034067", ("loc lobar", "loc upper lobe"), ("Emphysema",)),
    "hiatal hernia": Token("C3489393", (), ("Hernia",)),
    "pulmonary mass": Token("C0149726", ("loc right upper lobe",), ("Mass", "Lung_Lesion"), ("Lung_Opacity",)),
    "nodule": Token("C0034079", ("loc right upper lobe",), ("Nodule", "Lung_Lesion"), ("Lung_Opacity",)),
    "pneumothorax": Token("C2073565", ("loc apical",), ("Pneumothorax",)),
    "rib fracture": Token("C0035522", ("loc rib",), ("Fracture",)),
    "callus rib fracture": Token("C0006767", ("loc rib",), ("Fracture",)),
    "pacemaker": Token("C0030163", ("loc subclavian vein",), ("Support_Devices",)),
    "NSG tube": Token("", ("loc infradiaphragm",), ("Support_Devices",)),
    "endotracheal tube": Token("C0336630", ("loc tracheal",), ("Support_Devices",)),
}
# Words for what is not drawn: some leave a finding open, some say nothing of our findings though they suggest it.
_BESIDES = {
    "COPD signs": Token("C0024117", (), (), ("Emphysema",)),
    "costophrenic angle blunting": Token("C0742855", ("loc costophrenic angle",), (), ("Effusion",)),
    "hilar congestion": Token("C0582411", ("loc hilar",), (), ("Edema",)),
    "volume loss": Token("C3203358", ("loc hemithorax",), (), ("Atelectasis",)),
    "aortic elongation": Token("", ("loc aortic",), (), ("Enlarged_Cardiomediastinum",)),
    "sternotomy": Token("C0185792", (), (), ("Support_Devices",)),
    "scoliosis": Token("C0036439"),
    "pseudonodule": Token("", ("loc basal",)),
    "subcutaneous emphysema": Token("C0038536"),
    "pericardial effusion": Token("C0031039", ("loc cardiac",)),
}
TOKENS = {
    **_DRAWN,
    **_BESIDES,
    "normal": Token("", (), ("No Finding",)),
    "suboptimal study": Token("C2828075"),
    "unchanged": Token(""),
    "exclude": Token(""),
}
PLACE_CUIS = {
    "loc left": "C0443246", "loc right": "C0444532", "loc basal": "C1282378", "loc cardiac": "C1522601",
    "loc pleural": "C0032225", "loc right upper lobe": "C1261074", "loc rib": "C0035561", "loc tracheal": "C0040578",
    "loc hilar": "C0205150", "loc aortic": "C0003483", "loc apical": "C0734296", "loc hemithorax": "C0934569",
    "loc middle lobe": "C4281590", "loc costophrenic angle": "C0230151", "loc lobar": "C0225752",
    "loc upper lobe": "C0225756", "loc perihilar": "C0225702", "loc subclavian vein": "C0038532",
}  # fmt: skip
_BESIDES_SHARE = 0.15
# of studies
_KINDS = {"": 0.78, "unchanged": 0.08, "suboptimal study": 0.04, "exclude": 0.03, "empty": 0.04, "nan": 0.03}
_UNUSABLE = {"exclude": "excluded by the collection", "empty": "no label", "nan": "no label"}


@dataclass(frozen=True, slots=True)
class _Device:
    """An x-ray room as in the table."""

    maker: str
    modality: str
    bits: int
    window: tuple[str, str]
    aspect: str
    resolution: str
    tube: tuple[str, str, str, str]  # current, exposure, exposure in uAs, time
    positions: tuple[str, str, str]  # PA, AP and lateral in ViewPosition_DICOM
    share: float


_PHILIPS, _IMAGING = "PhilipsMedicalSystems", "ImagingDynamicsCompanyLtd"
_NO_TUBE = ("None", "None", "None", "None")
_SQUARE = "['1', '1']"
_WORDS = ("POSTEROANTERIOR", "ANTEROPOSTERIOR", "LATERAL")
_DEVICES = (
    _Device(_IMAGING, "CR", 12, ("", ""), "None", "None", ("250", "2", "2500", "10"), _WORDS, 0.4),
    _Device(_PHILIPS, "CR", 12, ("2047.0", "4095.0"), _SQUARE, "0.2", _NO_TUBE, ("nan", "nan", "nan"), 0.32),
    _Device(_PHILIPS, "DX", 12, ("2047.5", "4095"), "None", "0.148", _NO_TUBE, ("PA", "AP", "LL"), 0.12),
    _Device(
        _PHILIPS, "CR", 10, ("5.115000e+02", "1.023000e+03"), "None", "None", _NO_TUBE, ("nan", "nan", "nan"), 0.13
    ),
    _Device(_PHILIPS, "CR", 10, ("None", "None"), "None", "None", _NO_TUBE, ("nan", "nan", "nan"), 0.03),
)
_PROJECTIONS = {"PA": "PA", "AP": "AP", "AP_supine": "AP_horizontal", "lateral": "L"}
_ASPECTS = {2140 / 1760: 0.55, 3520 / 4280: 0.15, 1.0: 0.3}


def _digits(what: str, length: int) -> str:
    """Return a decimal number of that many digits; the release has ids longer than any machine integer."""
    return str(10 ** (length - 1) + int(hashlib.sha512(what.encode()).hexdigest(), 16) % (9 * 10 ** (length - 1)))


def _patient_id(seed: int) -> str:
    return _digits(f"patient {seed}", 39 - seed % 3)


def _report_id(seed: int, study: int) -> str:
    return str(3_000_000 + int(_digits(f"report {seed} {study}", 12)) % 6_999_999)


def _tokens(body: Patient, random: np.random.Generator) -> tuple[str, list[str]]:
    """Return the kind of a study's row, and its label list as printed, with stray spaces, repetitions and empty
    words."""
    kind = pick(random, _KINDS)
    if kind in _UNUSABLE:
        return kind, {"exclude": ["exclude"], "empty": [""], "nan": []}[kind]
    words = []
    for finding in sorted(body.severities):
        words.append(str(random.choice([word for word, token in _DRAWN.items() if finding in token.positive[:1]])))
    if random.random() < _BESIDES_SHARE:
        # said of 226 films that have something
        words += ["normal"] if not words and not kind and random.random() < 0.5 else []
        words.append(str(random.choice(list(_BESIDES))))
    if kind:
        words.insert(0, kind)
    words = words or ["normal"]
    spoilt = random.random()
    if spoilt < 0.05:
        words.append(words[0])
    elif spoilt < 0.1:
        words.append("")
    return kind, [words[0], *(word if random.random() < 0.7 else f" {word}" for word in words[1:])]


def reported(words: Iterable[str]) -> dict[str, int]:
    """Return the states that a usable label list implies: a positive word, else a word that leaves it open, else
    absent."""
    said = {word.strip() for word in words} - {""}
    silent = bool(said & {"unchanged", "suboptimal study"})
    states = dict.fromkeys(FINDINGS, NOT_MENTIONED if silent else NEGATIVE)
    for word in said:
        states |= dict.fromkeys(TOKENS[word].blank, NOT_MENTIONED)
    for word in said - ({"normal"} if len(said) > 1 else set()):
        states |= dict.fromkeys(TOKENS[word].positive, POSITIVE)
    return states


def _printed(codes: Iterable[str]) -> str:
    """Return codes as numpy prints an array of them: no commas, and a line break after the sixth."""
    return np.array2string(np.array([code for code in codes if code]), max_line_width=75)


def _label_cells(words: list[str], body: Patient, by_physician: bool) -> dict[str, str]:
    places: dict[str, list[str]] = {}
    for word in dict.fromkeys(words):
        token = TOKENS.get(word.strip(), Token(""))
        side = [f"loc {body.sides[name]}" for name in token.positive[:1] if name in body.sides]
        places[word] = [*side, *token.places]
    everywhere = list(dict.fromkeys(place for mine in places.values() for place in mine))
    sentences = [[word, *mine] for word, mine in places.items()]
    return {
        "Labels": str(words),
        "Localizations": str(everywhere),
        "LabelsLocalizationsBySentence": str(
            sentences if by_physician else [part for sentence in sentences for part in sentence]
        ),
        "labelCUIS": _printed(TOKENS[word.strip()].cui for word in places if word.strip()),
        "LocalizationsCUIS": _printed(PLACE_CUIS.get(place, "") for place in everywhere),
    }


_NO_LABELS = {
    "Labels": "nan",
    "Localizations": "nan",
    "LabelsLocalizationsBySentence": "nan",
    "labelCUIS": "",
    "LocalizationsCUIS": "",
}


def _study(shot: Shot) -> tuple[str, str, bool]:
    """Return StudyID, ReportID, and whether a physician labelled the study."""
    random = shot.study_dice("padchest study")
    by_physician = bool(random.random() < 0.25)
    what = f"study {shot.seed} {shot.study}"
    study = _digits(what, 38 + int(random.integers(2))) if by_physician else "216840111366964013" + _digits(what, 27)
    # Some reports were filed with a second patient's study, whatever that one shows.
    neighbour = shot.patient > 0 and random.random() < 0.015
    return study, _report_id(shot.seed - 1, 0) if neighbour else _report_id(shot.seed, shot.study), by_physician


def _patient(shot: Shot) -> str:
    # Some films of a study went to another patient's number.
    stray = shot.number > 0 and shot.dice("padchest stray").random() < 0.02
    return _patient_id(shot.seed + 5 * 10**17 if stray else shot.seed)


def _projection(shot: Shot, device: _Device, random: np.random.Generator) -> tuple[dict[str, str], str]:
    """Return the cells of the projection, and the view that they mean."""
    position = device.positions[{"PA": 0, "lateral": 2}.get(shot.view, 1)] if shot.view != "AP_supine" else "nan"
    projection, view, method = _PROJECTIONS[shot.view], shot.view, "Manual review of DICOM fields"
    strange = random.random()
    if strange < 0.015:
        projection, view = "COSTAL", "other"
    elif strange < 0.02:
        projection, view, position = "EXCLUDE", "other", "OBLICUA"
    elif position == "nan" and shot.view in ("PA", "lateral") and random.random() < 0.3:
        method = "resnet-50.t7"
        if random.random() < 0.1:
            projection, view = "UNK", "unknown"
    return {"ViewPosition_DICOM": position, "Projection": projection, "MethodProjection": method}, view


def _device_cells(device: _Device, random: np.random.Generator) -> dict[str, str]:
    center, width = device.window
    current, exposure, exposure_uas, time = device.tube
    return {
        "Modality_DICOM": device.modality,
        "Manufacturer_DICOM": device.maker,
        "PhotometricInterpretation_DICOM": "MONOCHROME2",
        "PixelRepresentation_DICOM": "0",
        "PixelAspectRatio_DICOM": device.aspect,
        "SpatialResolution_DICOM": device.resolution,
        "BitsStored_DICOM": str(device.bits),
        "WindowCenter_DICOM": center or str(random.integers(1950, 2300)),
        "WindowWidth_DICOM": width or str(random.integers(1900, 2500)),
        "XRayTubeCurrent_DICOM": current,
        "Exposure_DICOM": exposure,
        "ExposureInuAs_DICOM": exposure_uas,
        "ExposureTime": time,
        "RelativeXRayExposure_DICOM": "None" if device.bits == 10 else str(round(float(random.uniform(-2, 1)), 2)),
    }


def _person(shot: Shot, age_years: int) -> dict[str, str]:
    """Return the cells of who was filmed and when; all studies of a patient are of one year, in which they have one
    age."""
    random = shot.patient_dice("padchest patient")
    year, month, day = random.integers((2007, 1, 1), (2018, 5, 29))
    strange = random.random()
    return {
        "StudyDate_DICOM": f"{year}{month + 4 * shot.study:02d}{day:02d}",
        "PatientID": _patient(shot),
        "PatientBirth": f"{year - age_years}.0" if random.random() > 0.01 else "nan",
        "PatientSex_DICOM": "O" if strange < 0.02 else "nan" if strange < 0.03 else shot.body().sex,
        # adults among them, as in the release: it is no age filter
        "Pediatric": "PED" if random.random() < 0.01 else "No",
    }


def _film(shot: Shot, res: int) -> ReleasedFilm:
    body, random = shot.body(), shot.dice("padchest")
    study, report, by_physician = _study(shot)
    suffix = _digits(f"{study} {shot.number}", 8)
    code = np.base_repr(int(suffix) + 36**5, 36).lower() if by_physician else f"{suffix[:2]}-{suffix[2:5]}-{suffix[5:]}"
    supine = shot.view == "AP_supine"
    device = pick(random, {device: device.share for device in _DEVICES if device.maker == _PHILIPS or not supine})
    projection, view = _projection(shot, device, random)
    size = film_size(res, pick(random, _ASPECTS))
    kind, words = _tokens(body, shot.study_dice("padchest labels"))
    cells = {
        "ImageID": f"{study}_{code}.png",
        "StudyID": study,
        **_person(shot, body.age_years),
        **projection,
        **_device_cells(device, random),
        "Rows_DICOM": str(size[1]),
        "Columns_DICOM": str(size[0]),
        "ReportID": report,
        "Report": "nan" if kind == "nan" else " radiograf calcul sin pacient .",
        "MethodLabel": "Physician" if by_physician else "RNN_model",
        **(_label_cells(words, body, by_physician) if kind != "nan" else _NO_LABELS),
    }
    record = FilmRecord(
        film=cells["ImageID"],
        file=cells["ImageID"],
        patient=cells["PatientID"],
        study=study,
        view=view,
        sex=cells["PatientSex_DICOM"] if cells["PatientSex_DICOM"] in ("M", "F") else "unknown",
        age_years=body.age_years if cells["PatientBirth"] != "nan" else None,
        findings=dict.fromkeys(FINDINGS, NOT_MENTIONED) if kind in _UNUSABLE else reported(words),
        refused=_UNUSABLE.get(kind, ""),
    )
    return ReleasedFilm(cells["ImageID"], record, shot, size, str(device.bits), cells)


def _shots(seed: int) -> Iterator[Shot]:
    return study_shots(3, seed, (SITE,))


def _placed(films: list[ReleasedFilm]) -> list[ReleasedFilm]:
    placed = []
    for row, film in enumerate(films):
        # Fifty folders of equal size; the rounding puts the last row alone into another. The supplement is all read by
        # physicians.
        by_physician = film.cells["MethodLabel"] == "Physician"
        supplement = by_physician and film.shot.study_dice("padchest supplement").random() < 0.1
        folder = "54" if supplement else str(50 * (row + 1) // len(films))
        cells = {"": str(row), "ImageDir": folder, **film.cells}
        placed.append(replace(film, path=f"{folder}/{film.path}", cells=cells))
    return placed


def _encode(film: ReleasedFilm, pixels: Pixels) -> bytes:
    # The authors windowed to the stored range and divided by 4096 whatever the bits: films of 10 bits came out four
    # times as dark.
    stored = on_canvas(deepened(pixels, int(film.form), film.shot.dice("padchest noise")), film.size)
    return png(np.rint(stored * (65535 / 4096)).astype(np.uint16))


def _tables(films: Sequence[ReleasedFilm], archived: bool) -> Iterator[tuple[str, bytes]]:
    columns = HEADER.split(",")
    yield TABLE, csv_bytes(HEADER, ([film.cells[column] for column in columns] for film in films))


def _archive(path: str, rank: float) -> tuple[str, str] | None:
    folder, _, name = path.partition("/")
    return (f"{folder}.zip", name) if name else None  # files in the zips are flat


PADCHEST = Release(_shots, _film, _encode, _tables, _archive, _placed)
