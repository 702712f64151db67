"""Private ids, the key and map that stay with their owner, and the patient-wise split.

A pool never holds a collection's own ids: only HMACs of them, under a key that stays outside the pool. The split does
not depend on the key, so that two people who prepare the same collection hold out the same patients.
"""

import csv
import hashlib
import hmac
import math
import os
import re
import secrets
from collections.abc import Iterable
from pathlib import Path

from thiscxr.files import atomic_path

HOLDOUT_SHARE = 0.2
LONG_ID = 16  # digits: more than a spreadsheet keeps of a number
SURELY_ROUNDED = 20.0  # bits: by chance in one of a million
_DIGITS_KEPT = range(15, 18)  # of a number: 15 by spreadsheets, up to 17 where a 64-bit float is written out
_FLOAT_BITS = 53
# 1e5 without a sign may be a hexadecimal id
_FLOAT = re.compile(r"[0-9]([.,][0-9]+)?[eE]\+[0-9]+|[0-9][.,][0-9]+[eE][0-9]+")
_KEY_BYTES = 32
_MIN_KEY_BYTES = 16


def default_key_file() -> Path:
    """Return the path of the key that is made once for each user."""
    config = os.environ.get("XDG_CONFIG_HOME")
    return (Path(config) if config else Path.home() / ".config") / "thiscxr" / "key"


def load_key(key_file: Path) -> bytes:
    """Return the key in `key_file`, making the file (readable by its owner alone) when it is not there.

    Raises ValueError when the file holds fewer than 16 bytes, or cannot be read or made.
    """
    try:
        key_file.parent.mkdir(parents=True, exist_ok=True)
        try:
            # O_EXCL: of two first runs at the same time, one makes the key and the other reads it.
            handle = os.open(key_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            key = key_file.read_bytes().strip()
        else:
            key = secrets.token_hex(_KEY_BYTES).encode()
            with os.fdopen(handle, "wb") as file:
                file.write(key + b"\n")
    except OSError as error:
        raise ValueError(
            f"key file {key_file} cannot be read or made ({error.strerror}); name another with --key-file"
        ) from error
    if len(key) < _MIN_KEY_BYTES:
        raise ValueError(
            f"key file {key_file} holds {len(key)} bytes, expected at least "
            f"{_MIN_KEY_BYTES}; name another with --key-file"
        )
    return key


def write_private_map(key_file: Path, fingerprint: str, rows: Iterable[tuple[str, str, str, str, str]]) -> Path:
    """Write which film is which, readable by its owner alone, beside the key and never in the pool; return its path.

    rows: film id of the pool, source, the collection's own id, path, and why it was refused ("" if it was not).
    """
    path = key_file.with_name(f"{key_file.name}.map-{fingerprint[:12]}.csv")
    with (
        atomic_path(path) as part,
        # file names are written in the bytes that they have on the disk, UTF-8 or not
        open(
            os.open(part, os.O_WRONLY | os.O_CREAT, 0o600), "w", encoding="utf-8", errors="surrogateescape", newline=""
        ) as file,
    ):
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("film_id", "source", "film", "path", "refused"))
        table.writerows(rows)
    return path


def private_id(key: bytes, kind: str, source: str, own_id: str) -> str:
    """Return 32 hexadecimal digits: HMAC-SHA256 of a film's, patient's or study's own id, cut to 128 bits.

    `kind` and `source` go into the message, so that patient 17 of one collection is not patient 17 of another.
    """
    return hmac.digest(key, "\0".join((kind, source, own_id)).encode(), "sha256").hex()[:32]


def patient_split(source: str, patient: str) -> str:
    """Return "train" or "holdout": a function of collection and patient id alone, about a fifth held out."""
    digest = hashlib.sha256(f"{source}\0{patient}".encode()).digest()
    return "holdout" if int.from_bytes(digest[:8], "big") < HOLDOUT_SHARE * 2**64 else "train"


def rounding(own_id: str) -> float | None:
    """Return the evidence, in bits, that a spreadsheet rounded an id as a number; inf for one written as 1.83E+38.

    In a long id, zeros after the 15 digits that a spreadsheet keeps, or exactly the value of a 64-bit float, are hardly
    chance. 0: other digits there, so it is whole. None: it is short, no number, or undecidable.
    """
    if _FLOAT.fullmatch(own_id):
        return math.inf
    if not (own_id.isascii() and own_id.isdecimal() and LONG_ID <= len(own_id) <= 300):
        return None
    number, zeros = int(own_id), len(own_id) - len(own_id.rstrip("0"))
    spare = number.bit_length() - _FLOAT_BITS
    in_binary = float(spare) if spare > 0 and zeros < 2 and int(float(number)) == number else 0.0
    in_decimal = zeros * math.log2(10) if len(own_id) - zeros in _DIGITS_KEPT else 0.0
    return max(in_binary, in_decimal) or (None if zeros else 0.0)
