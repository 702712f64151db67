"""The toolkit from Python: every public name, and the tutorial as it is printed."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import thiscxr.api
from thiscxr.pixels import save_png
from thiscxr.pool import Pool

TUTORIAL = Path(__file__).parents[1] / "docs/tutorial.md"


@pytest.mark.parametrize("name", thiscxr.__all__)
def test_every_public_name_is_there_and_documented(name: str) -> None:
    found = getattr(thiscxr, name)
    assert callable(found)
    home = getattr(thiscxr.api, name) if isinstance(found, thiscxr.CallableRoom) else found
    assert len(home.__doc__.splitlines()[0]) > 30
    assert name in dir(thiscxr)
    assert f"thiscxr.{name}(" in TUTORIAL.read_text()


def test_another_name_is_none() -> None:
    with pytest.raises(AttributeError, match="no attribute 'tarin'"):
        thiscxr.tarin  # noqa: B018


@pytest.mark.slow
def test_the_tutorial_runs_to_its_gallery(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", TUTORIAL.read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)
    films = names["films"]
    assert films.shape == (64, 32, 32)
    assert len({film.tobytes() for film in films}) == 64
    assert films.std() > 10
    assert names["panel"].records[0].key == "fd_thiscxr64_198"
    assert (names["site"].parent / "make.html").is_file()


def test_a_dataset_gives_image_condition_and_what_is_known(pool: Pool) -> None:
    dataset = thiscxr.open_pool(pool.path)
    films, rows = dataset.pool, dataset.rows
    loader = torch.utils.data.DataLoader(dataset, batch_size=16, num_workers=1)
    images, conditions, known = (torch.cat(part) for part in zip(*loader, strict=True))
    assert images.shape == (len(rows), 1, 32, 32)
    np.testing.assert_array_equal(((images[:, 0] + 1) * 127.5).round().numpy(), films.read(rows))
    column = {name: conditions[:, place].numpy() for place, name in enumerate(dataset.names)}
    np.testing.assert_array_equal(column["Effusion"], np.where(films.column("Effusion")[rows] == 1, 1, -1))
    np.testing.assert_array_equal(column["view PA"] == 1, films.column("view")[rows] == "PA")
    np.testing.assert_array_equal(column["sex F"] == 1, films.column("sex")[rows] == "F")
    np.testing.assert_allclose(column["age"] * 25 + 50, films.column("age_years")[rows], rtol=1e-5)
    assert known.shape == conditions.shape
    assert bool(known[:, dataset.names.index("Effusion")].all())
    assert {*dataset.patients} == {*films.column("patient")[rows]}
    held = thiscxr.open_pool(pool.path, "holdout", dataset.vocabulary)
    assert held.names == dataset.names
    assert not {*held.patients} & {*dataset.patients}


def test_what_is_not_known_is_masked(pool: Pool, tmp_path: Path) -> None:
    folder = tmp_path / "films"
    folder.mkdir()
    for number, pixels in enumerate(pool.read(np.arange(40))):
        save_png(folder / f"{number}.png", pixels)
    rows = [f"{n}.png,p{n},{'F' if n % 2 else ''},{n if n % 3 else ''},PA,train" for n in range(40)]
    (folder / "metadata.csv").write_text("\n".join(["file_name,patient,sex,age_years,view,split", *rows]) + "\n")
    thiscxr.prepare(tmp_path / "pool", [("folder", folder)], res=32, key_file=tmp_path / "key")
    dataset = thiscxr.open_pool(tmp_path / "pool")
    known = torch.stack([known for _, _, known in dataset])
    means = dict(zip(dataset.names, known.float().mean(dim=0).tolist(), strict=True))
    assert means["view PA"] == 1
    assert 0.4 < means["sex F"] < 0.6
    assert 0.6 < means["age"] == means["age known"] < 0.7


def test_mistakes_get_one_line(pool: Pool, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"unknown option 'kimgs' .did you mean 'kimg'"):
        thiscxr.train(pool.path, out=tmp_path, kimgs=1)
    with pytest.raises(ValueError, match="form is 'jpg', expected one of png, png16, npz, wds"):
        thiscxr.sample("nih-64", out=tmp_path / "films", form="jpg")
    with pytest.raises(ValueError, match="does not exist"):
        thiscxr.open_pool(tmp_path / "none")
