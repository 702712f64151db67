"""thiscxr: pool chest x-rays honestly, synthesise new ones, and prove what the result is worth."""

import importlib
import os
from types import ModuleType
from typing import Any

__version__ = "0.2.0"

# Before torch is imported: how long its threads (GNU OpenMP) spin at the end of each small step before they sleep. By
# default that is milliseconds, in which the core is idle for other processes: on a busy machine, steps then take many
# times as long.
if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & {*os.environ}:
    os.environ["GOMP_SPINCOUNT"] = "10000"


# Where each public name lives. Lazy, so that `import thiscxr` and `thiscxr --help` stay free of torch (PEP 562).
_HOMES = {
    "prepare": "pool.prepare.prepare",
    "open_pool": "train.dataset.open_pool",
    "load_film": "pixels.load_film",
    "label_report": "collections.reports.label_report",
    "load": "sample.sampling.load",
    "load_reader": "reader.trust.trusted_reader",
    "frechet_distance": "measures.frechet.frechet_distance",
    "write_site": "api.write_site",
}
_ROOMS = ("phantom", "train", "sample", "score")  # packages that can be called
__all__ = [*_HOMES, *_ROOMS]


class CallableRoom(ModuleType):
    """A package that can be called, as a function of `thiscxr.api`: `thiscxr.train(pool)` trains, `thiscxr.train.loop`
    is the loop.

    Python binds an imported package to its name in the parent, which would replace a function of that name.
    """

    def __call__(self, *args: Any, **options: Any) -> Any:
        return getattr(importlib.import_module("thiscxr.api"), self.__name__.rpartition(".")[2])(*args, **options)


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return importlib.import_module(f"thiscxr.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'thiscxr' has no attribute '{name}'")
    module, _, attribute = f"thiscxr.{_HOMES[name]}".rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
