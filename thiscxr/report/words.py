"""What the scores say in sentences that claim no more than they do.

The same sentences stand in the terminal, the report, the card and the page of evidence.
"""

from collections.abc import Mapping, Sequence
from typing import Any

MOST_COPIES = 0.02  # share of the films that may be flagged as copies, or twice that of real strangers, for a set to be shared

Record = Mapping[str, Any]


def verdict(records: Sequence[Record]) -> list[str]:
    """Return the sentences, of the first score of each kind; of copies, of every set of films. Empty without scores."""
    first: dict[str, Record] = {}
    for record in records:
        if record.get("value") is not None:
            first.setdefault("told" if "_real_or_synthetic_" in record["key"] else record["key"].split("_")[0], record)
    lines = []
    if (fd := first.get("fd")) and fd.get("floor"):
        times, (low, high) = fd["value"] / fd["floor"], fd.get("ci95") or (fd["value"], fd["value"])
        how = f"{times:.1f} times as far from real patients as" if times > 1.05 else "nearer to real patients than"
        if 0.95 <= times <= 1.05 or low <= fd["floor"] <= high:  # what the interval cannot tell is not said
            how = "about as far from real patients as"
        lines.append(f"As a crowd, and by one extractor ({fd['key']}), the films lie {how} other real patients do.")
    if recall := first.get("recall"):
        floor = f", of other real films {recall['floor']:.0%}" if recall.get("floor") is not None else ""
        lines.append(f"{recall['value']:.0%} of the real films have a synthetic film in their neighbourhood{floor}.")
    lines += copies(records)
    if told := first.get("told"):
        interval = f", {told['ci95'][0]:.2f} to {told['ci95'][1]:.2f}" if told.get("ci95") else ""
        lines.append(f"A linear judge tells synthetic from real films with an AUC of {told['value']:.2f}{interval}; 0.5 is guessing.")
    return lines


def copies(records: Sequence[Record]) -> list[str]:
    """Return a sentence a score of copies: how many films are flagged, and, above the limit, that the set is not to be shared.

    By the share of these very films, not by its interval: what is shared is this set, and not what another draw would give.
    """
    lines = []
    for record in records:
        if record["key"] != "memorised_rate" or record.get("value") is None:
            continue
        value, floor = record["value"], record.get("floor") or 0.0
        share = f"{value:.1%} of the films ({round(value * record['num_fake'])})"
        if value > max(MOST_COPIES, 2 * floor):
            told = f"{share} are copies of real films, or nearly so: of real strangers {floor:.1%} would be flagged."
            lines.append(f"{told} Do not share this set as it is.")
        else:
            lines.append(f"{share} are flagged as copies; of real strangers {floor:.1%} would be.")
    return lines
