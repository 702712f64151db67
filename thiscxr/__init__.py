"""thiscxr: pool chest x-rays honestly, synthesise new ones, and prove what the result is worth."""

from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # Lazy, so that `import thiscxr` and `thiscxr --help` stay free of torch (PEP 562).
    if name == "load":
        from thiscxr.sample.sampling import load

        return load
    raise AttributeError(f"module 'thiscxr' has no attribute '{name}'")
