"""The other files of a release, named by kind so that they can be counted."""

import re
from pathlib import PurePosixPath

_PACKED = {
    ".7z",
    ".rar",
    ".zip",
    ".tar",
    ".tgz",
    ".tbz2",
    ".txz",
    ".gz",
    ".bz2",
    ".xz",
    ".zst",
    ".lz4",
    ".lzma",
    ".z",
    ".cab",
    ".iso",
}
_VOLUME = re.compile(r"\.(?:zip|7z|rar|tar|gz)\.\d{2,3}$|\.part\d+\.rar$|\.[rz]\d\d$", re.IGNORECASE)
_PICTURES = {
    ".avif", ".dng", ".exr", ".gif", ".heic", ".heif", ".img", ".j2c", ".j2k", ".jls", ".jp2", ".jpc", ".jpf", ".jph",
    ".jpx", ".jxl", ".mha", ".mhd", ".nii", ".npy", ".npz", ".nrrd", ".pbm", ".pgm", ".pnm", ".ppm", ".psd", ".raw",
    ".svg", ".tga",
}  # fmt: skip
_SUFFIX = re.compile(r"\.[a-z][a-z0-9]{0,9}")


def kind(name: str, films: tuple[str, ...]) -> str:
    """Return the kind of a file by its name, and what to do where it may hold films; films: the suffixes that are
    read."""
    lower = PurePosixPath(name).name.lower()
    if lower.endswith(".txt") and "reports" in PurePosixPath(name).parts[:-1]:
        return "report"
    suffix = PurePosixPath(lower).suffix
    if lower.endswith(films):
        return "film that no table lists"
    if _VOLUME.search(lower):
        return "part of a split archive, not looked into: join and unpack it"
    if lower.endswith(".nii.gz"):
        suffix = ".nii"
    if suffix in _PACKED:
        return f"{suffix} archive, not looked into: unpack it"
    if suffix in _PICTURES:
        return f"{suffix} picture, not read: convert it to PNG"
    return f"{suffix} file" if _SUFFIX.fullmatch(suffix) else "file without a suffix"
