"""Options: their checks, their order, and every shipped preset."""

from dataclasses import asdict, replace
from pathlib import Path

import pytest

from thiscxr.config import AUTO, RESOLUTIONS, Config, load_config, preset_folder


def test_every_preset_loads() -> None:
    presets = sorted(preset_folder().glob("*.toml"))
    assert {path.stem for path in presets} >= {"demo", "plain"}
    for path in presets:
        assert load_config(path) == load_config(Path(path.stem))
        for line in path.read_text().splitlines():
            assert line.startswith("#") or "#" in line, f"{path.name}: '{line}' does not say why"


def test_order_is_default_file_set_flag(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("lr = 0.001\nbatch = 8\nseed = 5\n")
    config = load_config(file, ("batch=16", "seed=6"), seed=7, kimg=None)
    assert (config.lr, config.batch, config.seed, config.kimg) == (0.001, 16, 7, Config().kimg)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("learning_rate=1", "unknown option 'learning_rate'"),
        ("r1_gama=1", "unknown option 'r1_gama' (did you mean 'r1_gamma'?)"),
        ("lr=fast", "lr is 'fast', but must be float"),
        ("batch=2.5", "batch is 2.5, but must be int"),
        ("conditional=1", "conditional is 1, but must be bool"),
        ("lr", "--set lr: expected key=value"),
        ("res=100", "--res 100 is not a power of two from 32 to 1024; the nearest is 128"),
        ("batch=6", "batch is 6, but must be a multiple of 4"),
        ("patch=3", "patch is 3, but must be 1, 2 or 4"),
        ("grow_from=24", "grow_from is 24, but must be 0 or a power of two from 8 (4 patches) to res (64)"),
        ("grow_from=4", "grow_from is 4, but must be 0 or a power of two from 8"),
        ("grow_from=128", "grow_from is 128, but must be 0 or a power of two from 8"),
        ("lr=0", "lr is 0.0, but must be above 0"),
        ("lr=nan", "lr is nan, but must be above 0"),
        ("minutes=-1", "minutes is -1.0, but must be 0 or more"),
        ("minutes=nan", "minutes is nan, but must be 0 or more"),
        ("condition_dropout=2", "condition_dropout is 2.0, but must be between 0 and 0.9"),
        ("seed=9223372036854775808", "seed is 9223372036854775808, but must be below 2^63"),
        ("minutes=inf", "minutes is inf, but must be a finite number"),
        ("batch=inf", "batch is inf, but must be int"),
        ("r1_gamma=-1", "r1_gamma is -1.0, but must be 0 or more"),
        ("device=tpu", "device is 'tpu', but must be auto, cpu, cuda or mps"),
    ],
)
def test_mistakes_are_named(setting: str, message: str) -> None:
    with pytest.raises(ValueError) as error:
        load_config(None, (setting,))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_the_resolution_is_that_of_the_data_where_none_is_given(tmp_path: Path) -> None:
    resolutions = {"pool": 256}
    assert load_config(None, ("grow_from=128",), resolution_of=resolutions.__getitem__, data="pool").res == 256
    assert load_config(None, ("res=128",), resolution_of=resolutions.__getitem__, data="pool").res == 128
    (tmp_path / "x.toml").write_text('data = "pool"\n')
    assert load_config(tmp_path / "x.toml", resolution_of=resolutions.__getitem__).res == 256
    assert load_config(None, resolution_of=resolutions.__getitem__).res == Config().res


def test_a_missing_or_broken_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no config file or preset 'plan' \(did you mean 'plain'\?\)"):
        load_config(Path("plan"))
    (tmp_path / "x.toml").write_text("lr = = 3")
    with pytest.raises(ValueError, match="is not a TOML file"):
        load_config(tmp_path / "x.toml")


def test_the_saved_config_is_the_config_with_nothing_left_open() -> None:
    for res in RESOLUTIONS:
        config = replace(Config(res=res).resolve("cpu", 2), pool_fingerprint="f")
        assert AUTO not in asdict(config).values()
        assert Config(**__import__("tomllib").loads(config.to_toml())) == config


def test_the_fingerprint_forgets_only_what_may_change_between_calls() -> None:
    config = Config().resolve("cpu", 2)
    for change in (
        {"kimg": 5.0},
        {"minutes": 5.0},
        {"save_kimg": 5.0},
        {"out": "x"},
        {"data": "moved"},
        {"threads": 1},
    ):
        assert replace(config, **change).fingerprint == config.fingerprint
    for change in ({"lr": 0.1}, {"seed": 1}, {"device": "cuda"}, {"pool_fingerprint": "other"}, {"batch": 8}):
        assert replace(config, **change).fingerprint != config.fingerprint
