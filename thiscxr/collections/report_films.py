"""Reports as the labels of films: what `prepare` takes from them. Their text goes no further than here."""

import logging
from collections import Counter
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path, PurePosixPath

from thiscxr.collections.archives import ReleaseFile
from thiscxr.collections.collection import share
from thiscxr.collections.names import AS_LATIN_1
from thiscxr.collections.report_text import why_unread
from thiscxr.collections.reports import label_report

LABELER = "report rules"
FOLDER = "reports"


class ReportFindings(AbstractContextManager["ReportFindings"]):
    """Reads the reports of one collection; at the end of the block a warning counts those that could not be read,
    without their words."""

    def __init__(self, where: Path | str) -> None:
        self.where = where
        self._unread: Counter[str] = Counter()

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None and self._unread:
            counts = ", ".join(f"{why} {count}" for why, count in sorted(self._unread.items()))
            logging.getLogger(__name__).warning("%s: reports that cannot be read label no film: %s", self.where, counts)

    def read(self, text: str) -> Mapping[str, int] | None:
        """Return the states of all findings; None for a report that is empty, not text or not in English."""
        if why := why_unread(text):
            self._unread[why] += 1
            return None
        return share(label_report(text).states)

    def read_file(self, file: ReleaseFile) -> Mapping[str, int] | None:
        """Return the states that a text file says, in UTF-8 or Latin-1; None where it cannot be read."""
        try:
            data = file.read()
        except (OSError, ValueError):
            self._unread["damaged file"] += 1
            return None
        return self.read(data.decode("utf-8-sig", AS_LATIN_1))


class ReportFolders:
    """The files `reports/ID.txt` of a plain folder, wherever such a folder lies; ID is a film's name without its
    suffix, or its study."""

    def __init__(self, files: Mapping[str, ReleaseFile]) -> None:
        self._files: dict[tuple[str, str], ReleaseFile] = {}  # (folder that holds reports/, ID) -> file
        self._taken: set[tuple[str, str]] = set()
        for path, file in files.items():
            folder, _, name = path.rpartition(f"{FOLDER}/")
            if (
                name.lower().endswith(".txt")
                and (not folder or folder.endswith("/"))
                and FOLDER in PurePosixPath(path).parts[:-1]
            ):
                self._files[folder, name[: -len(".txt")]] = file

    def find(self, path: str, study: str) -> ReleaseFile | None:
        """Return the report of the film at `path` inside the folder, the nearest one; its name goes before its
        study."""
        for parent in (*PurePosixPath(path).parents, None) if self._files else ():
            folder = "" if parent in (None, PurePosixPath(".")) else f"{parent}/"
            inside = path.removeprefix(folder)
            for name in (inside.rpartition(".")[0], inside.rpartition("/")[2].rpartition(".")[0], study):
                if name and (folder, name) in self._files:
                    self._taken.add((folder, name))
                    return self._files[folder, name]
        return None

    def warn(self, where: Path) -> None:
        """Count the reports that are no film's."""
        if left := len(self._files) - len(self._taken):
            logging.getLogger(__name__).warning(
                "%s: %d of %d reports in %s/ are no film's: expected the name of a film or of its study, and .txt",
                where, left, len(self._files), FOLDER,
            )  # fmt: skip
