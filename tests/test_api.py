"""The toolkit from Python: every public name, and the tutorial as it is printed."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

import thiscxr.api
from thiscxr.train.dataset import PoolDataset

TUTORIAL = Path(__file__).parents[1] / "docs/tutorial.md"


@pytest.fixture(scope="module")
def tutorial(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """What the names of the tutorial are after its code has run."""
    (code,) = re.findall(r"```python\n(.*?)```", TUTORIAL.read_text(), re.DOTALL)
    names: dict[str, object] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("tutorial"))
        exec(code, names)
        names["pool"], names["site"] = Path.cwd() / str(names["pool"]), Path.cwd() / str(names["site"])
    return names


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


def test_the_tutorial_runs_to_its_gallery(tutorial: dict[str, object]) -> None:
    films, panel, site = tutorial["films"], tutorial["panel"], tutorial["site"]
    assert isinstance(films, np.ndarray)
    assert films.shape == (64, 32, 32)
    assert films.std() > 10
    assert len(films) == len({film.tobytes() for film in films})
    assert panel.records[0]["key"] == "fd_thiscxr64_198"  # type: ignore[attr-defined]
    assert isinstance(site, Path)
    assert (site.parent / "make.html").is_file()


def test_a_dataset_gives_image_condition_and_what_is_known(tutorial: dict[str, object]) -> None:
    dataset = tutorial["dataset"]
    assert isinstance(dataset, PoolDataset)
    films, rows = dataset.pool, dataset.rows
    loader = torch.utils.data.DataLoader(dataset, batch_size=16, num_workers=1)
    images, conditions, known = (torch.cat(part) for part in zip(*loader, strict=True))
    assert images.shape == (len(rows), 1, 32, 32)
    assert images.min() >= -1
    assert images.max() <= 1
    np.testing.assert_array_equal(((images[:, 0] + 1) * 127.5).round().numpy(), films.read(rows))
    column = {name: conditions[:, place].numpy() for place, name in enumerate(dataset.names)}
    np.testing.assert_array_equal(column["Effusion"], np.where(films.column("Effusion")[rows] == 1, 1, -1))
    np.testing.assert_array_equal(column["view PA"] == 1, films.column("view")[rows] == "PA")
    np.testing.assert_array_equal(column["sex F"] == 1, films.column("sex")[rows] == "F")
    np.testing.assert_allclose(column["age"] * 25 + 50, films.column("age_years")[rows], rtol=1e-5)
    assert known.shape == conditions.shape
    assert bool(known.all())
    assert {*dataset.patients} == {*films.column("patient")[rows]}


def test_what_is_not_known_is_masked(tutorial: dict[str, object], tmp_path: Path) -> None:
    roots = tmp_path / "films"
    (roots / "a").mkdir(parents=True)
    pool = thiscxr.open_pool(tutorial["pool"])  # type: ignore[arg-type]
    for number, (image, _, _) in enumerate(pool):
        if number < 40:
            film = ((image[0].numpy() + 1) * 127.5).round().astype(np.uint8)
            from thiscxr.pixels import save_png

            save_png(roots / f"{number}.png", film)
    table = [
        "file,patient,sex,age_years,view,Effusion,split",
        *(f"{n}.png,p{n},{'F' if n % 2 else ''},{n if n % 3 else ''},PA,{n % 2},train" for n in range(40)),
    ]
    (roots / "labels.csv").write_text("\n".join(table) + "\n")
    thiscxr.prepare(tmp_path / "pool", [("folder", roots)], res=32, key_file=tmp_path / "key")
    dataset = thiscxr.open_pool(tmp_path / "pool")
    sex, age = dataset.names.index("sex F"), dataset.names.index("age")
    known = torch.stack([known for _, _, known in dataset])
    assert 0 < known[:, sex].sum() < len(dataset)
    assert 0 < known[:, age].sum() < len(dataset)
    assert torch.equal(known[:, age], known[:, dataset.names.index("age known")])


def test_mistakes_get_one_line(tutorial: dict[str, object], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"unknown option 'kimgs'; .did you mean 'kimg'"):
        thiscxr.train(tutorial["pool"], out=tmp_path, kimgs=1)
    with pytest.raises(ValueError, match="form is 'jpg', expected one of png, png16, npz, wds"):
        thiscxr.sample(tutorial["run"], out=tmp_path / "films", form="jpg")
    with pytest.raises(ValueError, match="does not exist"):
        thiscxr.open_pool(tmp_path / "none")
