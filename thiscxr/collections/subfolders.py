"""What the folders inside a plain folder of films stand for: patients, parts of a split, or anything else, such as
classes.

A guess by their names and sizes alone, for films without a patient or split in a table or header.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from statistics import median

from thiscxr.words import read_split

_MANY_FOLDERS = 10
_FEW_FILMS = 20
_PATIENT = re.compile(r"(?:patient|pat|pt|person|subject|subj|sub|case|pid)[ _-]*(?:id)?[ _-]*\d+", re.IGNORECASE)
# Numbered, but not patients: classes, parts of a download, places, dates.
_OTHER = re.compile(
    r"(?:class|label|category|cat|grade|stage|type|group|cluster|level|batch|part|fold|split|set|subset|chunk|shard|vol|volume|disc|disk|cd"
    r"|folder|dir|image|img|png|jpe?g|dicom|dcm|data|dataset|site|hospital|center|centre|scanner|device|year|month|covid|train|val|test)"
    r"s?[ _-]*\d+"
    r"|(?:19|20)\d\d(?:[._-]?(?:0[1-9]|1[0-2])(?:[._-]?(?:0[1-9]|[12]\d|3[01]))?)?",
    re.IGNORECASE,
)


def folder_patients(files: Sequence[str]) -> dict[str, str]:
    """Return the folder that stands for a patient, for each of `files` (paths) that lies in one.

    Those are folders named patient, subject or case with a number; or else the outermost folders, where there are many
    with few films each and numbers in their names: a word is a class. Folders of one name in several parts of a split
    are one patient.
    """
    depths = range(1, max((file.count("/") for file in files), default=0) + 1)
    levels = [
        {file: "/".join(file.split("/")[:depth]) for file in files if file.count("/") >= depth} for depth in depths
    ]
    for stands_for_patients in (_called_patients, _many_and_numbered):
        for folders in levels:
            if stands_for_patients(Counter(folders.values())):
                return {file: _without_split(folder) for file, folder in folders.items()}
    return {}


def _called_patients(sizes: Mapping[str, int]) -> bool:
    return sum(_PATIENT.fullmatch(_name(folder)) is not None for folder in sizes) > len(sizes) / 2


def _many_and_numbered(sizes: Mapping[str, int]) -> bool:
    numbered = [
        folder for folder in sizes if any(map(str.isdigit, _name(folder))) and not _OTHER.fullmatch(_name(folder))
    ]
    return len(sizes) >= _MANY_FOLDERS and median(sizes.values()) <= _FEW_FILMS and len(numbered) > len(sizes) / 2


def _name(folder: str) -> str:
    return folder.rpartition("/")[2]


def _without_split(folder: str) -> str:
    return "/".join(part for part in folder.split("/") if read_split(part) is None)


def folder_splits(files: Iterable[str]) -> dict[str, str]:
    """Return train or holdout for each of `files` in a folder named after a part of a split; nothing unless both are
    there."""
    named = {file: next(filter(None, map(read_split, file.split("/")[:-1])), None) for file in files}
    splits = {file: split for file, split in named.items() if split}
    return splits if len(set(splits.values())) == 2 else {}
