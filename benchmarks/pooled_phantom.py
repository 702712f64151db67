"""Phantom releases in every layout, broken files included, through one `prepare` to one pool and its page.

Run: python benchmarks/pooled_phantom.py OUT [-n 400] [--side 128] [--res 64]. Prints one JSON line; the pool and its
page (`pool.html`) stay in OUT. About two minutes on two cores.
"""

import argparse
import json
import time
from pathlib import Path

from thiscxr.phantom.releases import RELEASES, write_layout
from thiscxr.pool import verify_pool
from thiscxr.pool.prepare import prepare
from thiscxr.report.pool import describe_pool
from thiscxr.report.pool.page import write_page

VIEWS = ("PA", "AP", "AP_supine", "lateral", "other", "unknown")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("-n", type=int, default=400, help="films a layout")
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--res", type=int, default=64)
    args = parser.parse_args()
    start = time.perf_counter()
    sources = []
    for seed, layout in enumerate(RELEASES):
        root = args.out / layout
        if not root.exists():
            archived = layout in ("nih", "padchest", "openi")  # as downloaded: zips and compressed tars
            write_layout(root, layout, args.n, args.side, seed=seed, defects=0.03, archived=archived)
        sources.append((layout.removesuffix("-jpg"), root))
    written = time.perf_counter()
    summary = prepare(args.out / "pool", sources, args.res, views=VIEWS, key_file=args.out / "key")
    prepared = time.perf_counter()
    facts = describe_pool(args.out / "pool")
    write_page(args.out / "pool.html", facts)
    result = {
        "benchmark": "pooled_phantom",
        "films": summary.num_kept,
        "by_source": summary.kept,
        "not_taken": summary.dropped,
        "refused": summary.rejected,
        "duplicates": facts["duplicates"],
        "warnings": len(facts["warnings"]),
        "problems": verify_pool(args.out / "pool"),
        "page_kb": (args.out / "pool.html").stat().st_size // 1024,
        "seconds": {
            "phantoms": round(written - start),
            "prepare": round(prepared - written),
            "describe": round(time.perf_counter() - prepared),
        },
        "fingerprint": summary.fingerprint[:16],
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
