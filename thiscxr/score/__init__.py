"""What synthetic films are worth; called, `thiscxr.score(pool, samples)` is `thiscxr.api.score`."""

import sys

from thiscxr import CallableRoom

sys.modules[__name__].__class__ = CallableRoom
