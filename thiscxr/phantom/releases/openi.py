"""Phantom films as Open-I releases the Indiana University collection: PNGs in one folder, one XML report a study; or
its two tars.

Drawn from several hospital systems, here `phantom-a` and `phantom-c`; no file has the site or the view.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import PurePosixPath
from xml.sax.saxutils import escape

import numpy as np

from thiscxr.labels import FINDINGS, NEGATIVE, NOT_MENTIONED, POSITIVE, FilmRecord
from thiscxr.phantom import Patient
from thiscxr.phantom.releases.encode import on_canvas, png
from thiscxr.phantom.releases.release import Release, ReleasedFilm, Shot, film_size, pick, study_shots
from thiscxr.pixels import Pixels

SITES = ("phantom-a", "phantom-c")
_STUDIES = {("PA", "lateral"): 0.82, ("PA",): 0.12, ("PA", "lateral", "PA"): 0.05, ("AP",): 0.01}
_ASPECTS = {2320 / 2828: 0.5, 2828 / 2320: 0.2, 2048 / 2048: 0.3}
_FORMS = {"L": 0.95, "RGB": 0.05}
_ORPHAN = 4  # the study whose films no report names; the last report has no films
NO_REPORT = "in no report"


@dataclass(frozen=True, slots=True)
class Term:
    """A MeSH heading as the coders wrote it, the drawn finding it stands for, and the states it implies. SIDE: left or
    right."""

    text: str
    positive: tuple[str, ...] = ()
    blank: tuple[str, ...] = ()


_DRAWN = (
    Term("Pulmonary Atelectasis/base/SIDE", ("Atelectasis",)),
    Term("Pulmonary Atelectasis", ("Atelectasis",)),
    Term("Cardiomegaly/mild", ("Cardiomegaly",)),
    Term("Cardiac Shadow/enlarged", ("Cardiomegaly",)),
    Term("Consolidation/lung/lower lobe/SIDE", ("Consolidation", "Lung_Opacity")),
    Term("Pulmonary Edema/interstitial", ("Edema",)),
    Term("Pleural Effusion/SIDE/small", ("Effusion",)),
    Term("Emphysema", ("Emphysema",)),
    Term("Pulmonary Emphysema/severe", ("Emphysema",)),
    Term("Hernia, Hiatal/large", ("Hernia",)),
    Term("Mass/lung/upper lobe/SIDE", ("Mass", "Lung_Lesion")),
    Term("Nodule/lung/lingula", ("Nodule", "Lung_Lesion")),
    Term("Pneumothorax/apex/SIDE/moderate", ("Pneumothorax",)),
    Term("Fractures, Bone/ribs/SIDE/healed", ("Fracture",)),
    Term("Catheters, Indwelling/right", ("Support_Devices",)),
    Term("Implanted Medical Device/left", ("Support_Devices",)),
    Term("Tube, Inserted/trachea, carina", ("Support_Devices",)),
)
# Terms for what is not drawn: some leave a finding open, some say nothing of our findings though they suggest it.
_BESIDES = (
    Term("Pulmonary Congestion", (), ("Edema",)),
    Term("Pulmonary Disease, Chronic Obstructive", (), ("Emphysema",)),
    Term("Lung/hyperdistention/mild", (), ("Emphysema",)),
    Term("Calcified Granuloma/lung/upper lobe/left", (), ("Nodule",)),
    Term("Deformity/ribs/right", (), ("Fracture",)),
    Term("Surgical Instruments/mediastinum", (), ("Support_Devices",)),
    Term("Opacity/lung/base/left/streaky", ("Lung_Opacity",)),
    Term("Opacity/retrocardiac"),
    Term("Subcutaneous Emphysema/thorax"),
    Term("Pericardial Effusion"),
    Term("Spine/degenerative"),
    Term("Technical Quality of Image Unsatisfactory "),
)
_NORMAL, _NOT_INDEXED = Term("normal", ("No Finding",)), Term("No Indexing")
_BESIDES_SHARE, _NOT_INDEXED_SHARE = 0.2, 0.03


def _terms(body: Patient, random: np.random.Generator) -> list[Term]:
    if random.random() < _NOT_INDEXED_SHARE:
        return [_NOT_INDEXED]
    terms = []
    for finding in sorted(body.severities):
        terms.append(_DRAWN[int(random.choice([i for i, term in enumerate(_DRAWN) if term.positive[0] == finding]))])
        side = body.sides.get(finding, "left")
        terms[-1] = replace(terms[-1], text=terms[-1].text.replace("SIDE", side))
    if random.random() < _BESIDES_SHARE:
        terms.append(_BESIDES[int(random.integers(len(_BESIDES)))])
    return terms or [_NORMAL]


def _told(terms: Sequence[Term]) -> dict[str, int]:
    if terms[0] is _NOT_INDEXED:
        return dict.fromkeys(FINDINGS, NOT_MENTIONED)
    states = dict.fromkeys(FINDINGS, NEGATIVE)
    for term in terms:
        states |= dict.fromkeys(term.blank, NOT_MENTIONED)
    for term in terms:
        states |= dict.fromkeys(term.positive, POSITIVE)
    return states


def _number(patient: int) -> int:
    return 1 + patient + patient // 70  # with gaps


def _image(shot: Shot) -> tuple[str, str]:
    """Return the name of a film's file, and its id: the first report doubles its number in the name."""
    report = _number(shot.patient)
    series = ((1, 2), (1, 3), (1, 4), (2, 3))[int(shot.patient_dice("openi series").integers(4))]
    last = f"{(*series, 5)[shot.number]}001"
    rest = f"IM-{1 + report * 617 % 2480:04d}-{last}"
    return f"CXR1_1_{rest}" if report == 1 else f"CXR{report}_{rest}", f"CXR{report}_{rest}"


def _film(shot: Shot, res: int) -> ReleasedFilm:
    body, random = shot.body(), shot.dice("openi")
    name, film = _image(shot)
    report = f"CXR{_number(shot.patient)}"
    orphan = shot.patient == _ORPHAN
    record = FilmRecord(
        film=film,
        file=film,
        patient=report,
        study=report,
        findings=_told(_terms(body, shot.study_dice("openi labels"))),
        refused=NO_REPORT if orphan else "",
    )
    return ReleasedFilm(
        f"NLMCXR_png/{name}.png", record, shot, film_size(res, pick(random, _ASPECTS)), pick(random, _FORMS)
    )


def _shots(seed: int) -> Iterator[Shot]:
    return study_shots(4, seed, SITES, _STUDIES, repeat=0)


def _encode(film: ReleasedFilm, pixels: Pixels) -> bytes:
    return png(on_canvas(pixels, film.size), film.form)


def _tables(films: Sequence[ReleasedFilm], archived: bool) -> Iterator[tuple[str, bytes]]:
    for patient, mine in groupby(films, key=lambda film: film.shot.patient):
        if patient != _ORPHAN:
            images = list(mine)
            shot = images[0].shot
            terms = _terms(shot.body(), shot.study_dice("openi labels"))
            yield _report(patient, terms, [PurePosixPath(film.path).stem for film in images])
    yield _report(films[-1].shot.patient + 1, [_NORMAL], [])


def _report(patient: int, terms: Sequence[Term], images: Sequence[str]) -> tuple[str, bytes]:
    number = _number(patient)
    # Half of the reports also have machine coding, in its own words.
    automatic = [term.text.split("/")[0].lower() for term in terms if term is not _NORMAL] if number % 2 else []
    mesh = [f"      <major>{escape(term.text)}</major>" for term in terms]
    mesh += [f"      <automatic>{escape(word)}</automatic>" for word in automatic]
    findings = "/>" if number % 7 == 0 else ">Computed from a seed. There is no XXXX.</AbstractText>"
    text = _HEAD.format(number=number, findings=findings, mesh="\n   \n".join(mesh))
    text += "".join(_IMAGE.format(image=image, figure=figure) for figure, image in enumerate(images, start=1))
    return f"ecgen-radiology/{number}.xml", (text + "</eCitation>").encode()


_HEAD = """<?xml version="1.0" encoding="utf-8"?>
<eCitation>
   <meta type="rr"/>
   <uId id="CXR{number}"/>
   <pmcId id="{number}"/>
   <docSource>CXR</docSource>
   <IUXRId id="{number}"/>
   <licenseType>open-access</licenseType>
   <licenseURL/>
   <ccLicense/>
   <articleURL/>
   <articleDate>2013-08-01</articleDate>
   <articleType>XR</articleType>
   <publisher>thiscxr phantom</publisher>
   <title>Procedural films, no patient</title>
   <note>The data are computed from a seed.</note>
   <specialty>pulmonary diseases</specialty>
   <subset>CXR</subset>
   <MedlineCitation Owner="thiscxr phantom" Status="supplied by publisher">
   \n      <Article PubModel="Electronic">
      \n         <ArticleTitle>Procedural films, no patient</ArticleTitle>
      \n         <Abstract>
         \n            <AbstractText Label="COMPARISON">None.</AbstractText>
         \n            <AbstractText Label="INDICATION">XXXX-year-old phantom</AbstractText>
         \n            <AbstractText Label="FINDINGS"{findings}
         \n            <AbstractText Label="IMPRESSION">As drawn.</AbstractText>
      \n         </Abstract>
      \n         <Language>eng</Language>
      \n         <PublicationTypeList>
         \n            <PublicationType>Radiology Report</PublicationType>
      \n         </PublicationTypeList>
   \n      </Article>

   </MedlineCitation>
   <MeSH>
   \n{mesh}

   </MeSH>
"""
_IMAGE = """   <parentImage id="{image}">
      \n      \n      <figureId>F{figure}</figureId>
      \n      \n      <caption>Xray Chest PA and Lateral</caption>
      \n      \n      <panel type="single">
         \n         \n         <url>/hadoop/storage/radiology/extract/{image}.jpg</url>
         \n         \n         <imgModality>7</imgModality>
      \n      \n      </panel>
   \n   \n   </parentImage>
"""


def _archive(path: str, rank: float) -> tuple[str, str]:
    folder, _, name = path.partition("/")
    return ("NLMCXR_png.tgz", name) if folder == "NLMCXR_png" else ("NLMCXR_reports.tgz", path)


OPENI = Release(_shots, _film, _encode, _tables, _archive)
