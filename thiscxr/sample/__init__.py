"""Seeds to films and files; called, `thiscxr.sample("nih-64", n=64)` is `thiscxr.api.sample`."""

import sys

from thiscxr import CallableRoom

sys.modules[__name__].__class__ = CallableRoom
