"""The pictures that a site adds to its films."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from thiscxr.gallery.site import build_site
from thiscxr.pixels.mark import word_mask


def test_pictures_of_films_say_synthetic(samples: Path, make_samples: Callable[..., Path], tmp_path: Path) -> None:
    build_site(samples, tmp_path / "out")
    for name, size in (("share.png", (600, 315)), ("contact-sheet.png", (768, 64 + 9))):
        picture = Image.open(tmp_path / "out" / name)
        assert picture.size == size
        assert "not a patient" in picture.text["Disclaimer"]
        mark = (
            word_mask("SYNTHETIC").repeat(2 if name == "share.png" else 1, 0).repeat(2 if name == "share.png" else 1, 1)
        )
        corner = np.array(picture)[-mark.shape[0] :, : mark.shape[1]]
        assert ((corner == 255) == mark).all()
    for count in (1, 2):
        build_site(make_samples(*[{}] * count, name=f"{count}"), tmp_path / f"few-{count}")
        assert Image.open(tmp_path / f"few-{count}" / "share.png").size == (600, 315)


def test_large_films_come_small_too(make_samples: Callable[..., Path], tmp_path: Path) -> None:
    folder = make_samples({}, {})
    large = np.linspace(0, 255, 512 * 400).reshape(400, 512).astype(np.uint8)
    Image.fromarray(large).save(folder / "seed-00000001.png")
    build_site(folder, tmp_path / "out")
    images = re.findall(r"<img [^>]*>", (tmp_path / "out" / "gallery.html").read_text())
    srcsets = [re.findall(r'srcset="([^"]*)"', image) for image in images if "lazy" in image]
    assert srcsets == [[], ["thumbs/seed-00000001.png 192w, films/seed-00000001.png 512w"]]
    thumb = Image.open(tmp_path / "out" / "thumbs" / "seed-00000001.png")
    assert thumb.size == (192, 192)
    assert thumb.text["Seed"] == "1"
    assert "not a patient" in thumb.text["Disclaimer"]
