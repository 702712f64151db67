"""Draw the contact sheet of the phantom for the documentation: seeds 0 to 63 as they come, none chosen.

Run: python docs/phantom_sheet.py [OUT]. Default: docs/pictures/phantom-seeds-0-63.jpg, 8 x 8 films of 192 px.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from thiscxr.files import atomic_path
from thiscxr.phantom import draw_film

COLUMNS, SIDE = 8, 192


def draw_sheet(out: Path) -> None:
    """Write the sheet as a JPEG (quality 85)."""
    films = []
    for seed in range(COLUMNS**2):
        film = Image.fromarray(draw_film(seed, 256).pixels)
        films.append(np.asarray(film.resize((SIDE, SIDE), Image.Resampling.LANCZOS)))
    rows = [np.concatenate(films[i : i + COLUMNS], axis=1) for i in range(0, len(films), COLUMNS)]
    with atomic_path(out) as part:
        Image.fromarray(np.concatenate(rows)).save(part, format="JPEG", quality=85, optimize=True)


if __name__ == "__main__":
    draw_sheet(
        Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "pictures" / "phantom-seeds-0-63.jpg"
    )
