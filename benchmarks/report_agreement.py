"""How far the labels of `thiscxr label` agree with those that Open-I released beside its reports, and reports labelled a second.

python benchmarks/report_agreement.py RELEASE

RELEASE holds NLMCXR_reports.tgz, as Open-I distributes it (the package torchxrayvision carries it too, in its folder data).
"""

import argparse
import json
import tarfile
import time
from pathlib import Path
from xml.etree import ElementTree

from thiscxr.collections.openi import parse_report, report_findings
from thiscxr.collections.reports import label_report
from thiscxr.labels import FINDINGS, NEGATIVE, POSITIVE, UNCERTAIN


def main() -> None:
    """Print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("release", type=Path)
    found = []
    with tarfile.open(parser.parse_args().release / "NLMCXR_reports.tgz") as tar:
        for member in tar:
            file = tar.extractfile(member) if member.name.endswith(".xml") else None
            if file is not None:
                data = file.read()
                parts = ElementTree.fromstring(data).iter("AbstractText")
                text = "".join(f"{part.get('Label')}: {part.text or ''}\n" for part in parts)
                found.append((text, report_findings(parse_report(data))))
    started = time.process_time()
    ours = [label_report(text).states for text, _ in found]
    rate = len(ours) / (time.process_time() - started)
    table = {}
    for name in FINDINGS:
        pairs = [(states[name], theirs[name]) for states, (_, theirs) in zip(ours, found, strict=True) if theirs.get(name) in (0, 1)]
        both = pairs.count((POSITIVE, POSITIVE))
        said, coded = (sum(pair[i] == POSITIVE for pair in pairs) for i in (0, 1))
        table[name] = {
            "present": said,
            "coded": coded,
            "f1": round(2 * both / max(said + coded, 1), 3),
            "uncertain_of_coded": pairs.count((UNCERTAIN, POSITIVE)),
            "denied_of_coded": pairs.count((NEGATIVE, POSITIVE)),
        }
    print(json.dumps({"reports": len(found), "reports_per_sec": round(rate), "findings": table}))


if __name__ == "__main__":
    main()
