"""Kermany et al. 2018: AP films of children of one to five years, Guangzhou; no table: folders give the label and names
the patient.

As released by Mendeley Data (version 2: `person17_bacteria_56.jpeg`, `IM-0115-0001.jpeg`; version 3:
`VIRUS-1015198-0001.jpeg`) and by Kaggle, with a folder `val/` and everything a second time. Age and sex are
not given, and the release's split has patients in both parts.
"""

import logging
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from thiscxr.collections.archives import compressed_tars, release_files, stream
from thiscxr.collections.collection import IMAGE_SUFFIXES, Collection, looks_like
from thiscxr.collections.names import plain_name
from thiscxr.labels import NEGATIVE, POSITIVE, FilmRecord

_FINDINGS = {
    "normal": {"No Finding": POSITIVE, "Pneumonia": NEGATIVE},
    "pneumonia": {"No Finding": NEGATIVE, "Pneumonia": POSITIVE},
}
_PATIENT = re.compile(r"(?<![a-z])(im-|person|normal-|bacteria-|virus-)0*(\d+)")  # NORMAL2-IM-0115 is IM-0115


def _paths(root: Path) -> Iterator[str]:
    """Yield the path inside the release of every file, in archives too; a compressed tar is read from front to
    back."""
    yield from (name for name, _ in release_files(root))
    for folder, tar in compressed_tars(root):
        names: list[str] = []
        for _ in stream(tar, lambda name, names=names: bool(names.append(name))):  # type: ignore[misc]
            pass  # only the names are wanted
        yield from (folder + name for name in names)


def image_key(path: str) -> str:
    """Return part of the split, class and name of an image: a copy in one more folder, or in another format, is the
    same film."""
    *folders, name = plain_name(path).replace("\\", "/").lower().split("/")
    return "/".join([*folders[-2:], PurePosixPath(name).stem])


def _record(film: str) -> FilmRecord | None:
    """Return a film by its `image_key`, None where neither folders nor name give the label."""
    *folders, name = film.split("/")
    found = _PATIENT.search(name)
    word, number = found.groups() if found else ("", "")
    by_name = {"": "", "im-": "normal", "normal-": "normal"}.get(word, "pneumonia")
    label = next((folder for folder in reversed(folders) if folder in _FINDINGS), by_name)
    if not label:
        return None
    # Whether person17 of two folders is one child is not documented: it is taken as one. Numbers after the other words
    # are other patients.
    patient = {"": film, "im-": f"IM-{number}", "person": f"person{number}"}.get(word, f"patient{number}")
    return FilmRecord(
        film=film, file=film, patient=patient, study=film, view="AP", findings=_FINDINGS[label], labeler="physicians"
    )


def read_labels(root: Path) -> list[FilmRecord]:
    """Return every film in or under a folder NORMAL or PNEUMONIA, or whose name gives the label, by path; all other
    findings are not annotated.

    Raises ValueError when there is none.
    """
    # Mendeley's archive holds retinas beside the chests (OCT/, OCT2017/), and they have a class NORMAL too.
    chests = (path for path in _paths(root) if not re.search(r"(^|/)oct[^/]*/", path, re.IGNORECASE))
    keys = sorted({image_key(path) for path in chests if path.lower().endswith(IMAGE_SUFFIXES)})
    films = [film for key in keys if (film := _record(key))]
    if not films:
        raise ValueError(
            f"{root} has no films as Kermany et al. release them; expected "
            "chest_xray/train/NORMAL/IM-0115-0001.jpeg and the like, "
            f"zipped or not, in that folder{looks_like(root)}"
        )
    if own := sum(film.patient == film.film for film in films):
        logging.getLogger(__name__).warning(
            "%s: the names of %d of %d films have no patient (IM-0115, person17): each counts as a patient of its own",
            root,
            own,
            len(films),
        )
    return films


KERMANY = Collection("kermany", read_labels, image_key, suffixes=(".jpeg", ".jpg", *IMAGE_SUFFIXES))
