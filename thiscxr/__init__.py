"""thiscxr: pool chest x-rays honestly, synthesise new ones, and prove what the result is worth."""

import os
from typing import Any

__version__ = "0.1.0"

# Before torch is there: how long its threads (of GNU's OpenMP) spin at the end of each small step until they sleep. By default that is
# milliseconds, in which a core does nothing for whoever else has work: on a busy machine, steps then take many times as long.
if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & {*os.environ}:
    os.environ["GOMP_SPINCOUNT"] = "10000"


def __getattr__(name: str) -> Any:
    # Lazy, so that `import thiscxr` and `thiscxr --help` stay free of torch (PEP 562).
    if name == "load":
        from thiscxr.sample.sampling import load

        return load
    raise AttributeError(f"module 'thiscxr' has no attribute '{name}'")
