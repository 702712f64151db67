"""Style mixing: the rows' layers decide what those layers generate, the columns' layers the rest."""

import numpy as np
import pytest

from thiscxr.latent.mixing import mix_films, mixing_grid, parse_layers
from thiscxr.model.conditions import Condition
from thiscxr.pixels.drawing import LEAST_SIDE, enlarge
from thiscxr.sample.sampling import Network
from thiscxr.sample.truncation import Truncation
from thiscxr.sample.writing import spell_ranges

PA = Condition("PA")


def test_layers_are_read_and_spelled() -> None:
    assert parse_layers("0-3", 8) == [0, 1, 2, 3]
    assert parse_layers(" 6- , 0,2-3", 8) == [0, 2, 3, 6, 7]
    assert spell_ranges([0, 2, 3, 6, 7]) == "0,2-3,6-7"
    for text, message in (
        ("", "'' is not a layer"),
        ("a", "'a'"),
        ("3-1", "not all among"),
        ("0-8", "0 to 7"),
        ("0-", "all layers"),
    ):
        with pytest.raises(ValueError, match=message):
            parse_layers(text, 8)


def test_a_film_mixed_with_itself_is_itself(network: Network) -> None:
    rows, columns, mixed = mix_films(network, [4, 5], [5, 6, 7], [0, 1], PA, Truncation())
    assert mixed.shape == (2, 3, 32, 32)
    np.testing.assert_array_equal(rows, network.sample([4, 5], view="PA"))
    np.testing.assert_array_equal(columns, network.sample([5, 6, 7], view="PA"))
    assert np.abs(mixed[1, 0].astype(int) - columns[0]).max() <= 1, "row 5 and column 5"
    assert (mixed[0, 0] != columns[0]).any()


def test_early_layers_give_the_shape(trained: Network) -> None:
    """The bodies differ in their width, which the layers up to 16 px generate: those layers decide, the last ones do
    not."""
    for layers, nearer in (([0, 1, 2, 3], "row"), ([4, 5], "column")):
        rows, columns, mixed = (
            films.astype(float) for films in mix_films(trained, range(6), range(10, 16), layers, PA, Truncation())
        )
        apart = {"row": np.abs(mixed - rows[:, None]).mean(), "column": np.abs(mixed - columns[None]).mean()}
        assert min(apart, key=lambda name: apart[name]) == nearer, apart
        assert min(apart.values()) < 0.75 * max(apart.values()), apart


def test_the_grid_shows_rows_columns_and_mixtures(network: Network) -> None:
    films = mix_films(network, [4, 5], [6, 7, 8], [0, 1], PA, Truncation())
    sheet = mixing_grid(films, [4, 5], [6, 7, 8], [0, 1])
    windows = np.lib.stride_tricks.sliding_window_view(sheet, (LEAST_SIDE, LEAST_SIDE))
    for film in enlarge(np.concatenate([films[0], films[1], films[2].reshape(-1, 32, 32)]), LEAST_SIDE):
        places = np.argwhere((windows[:, :, 0, :48] == film[0, :48]).all(-1))
        assert any((windows[y, x] == film).all() for y, x in places)
    with pytest.raises(ValueError, match="a grid holds 1024"):
        mix_films(network, range(100), range(100), [0], PA, Truncation())
