"""Starting from a run: both networks, their average and Adam's moments come over where they fit, and what starts fresh
is counted."""

import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.conftest import blob
from tests.test_cli import run as run_command
from tests.train.test_loop import assert_same, small
from thiscxr.config import AUTO, Config
from thiscxr.labels import NEGATIVE, POSITIVE, FilmRecord, Terms
from thiscxr.model.network_file import load_network, save_network
from thiscxr.pool import Pool
from thiscxr.pool.writer import PoolWriter
from thiscxr.train import loop, runs
from thiscxr.train.films import Films
from thiscxr.train.origin import open_origin
from thiscxr.train.start import block_positions, resolve_init, start
from thiscxr.train.training import Training


def make_pool(path: Path, res: int, source: str, findings: tuple[str, ...]) -> Pool:
    """80 films, each of a patient, in which these findings and Effusion are known, and sex is not."""
    terms = Terms(title=source, terms="none", citation="none", url="none", acknowledgement="none")
    with PoolWriter(path, res, 8, {source: terms}, b"key") as writer:
        for i in range(80):
            known = dict.fromkeys(findings, POSITIVE if i % 2 else NEGATIVE)
            known["Effusion"] = NEGATIVE if i % 4 < 2 else POSITIVE
            view = "lateral" if i % 3 else "PA"
            record = FilmRecord(str(i), str(i), str(i), str(i), view, "unknown", 50.0, known)
            writer.add(source, record, blob(i, res, i % 4 >= 2), (res, res, 8))
    return Pool.open(path)


@pytest.fixture(scope="module")
def rings(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    """Films of 64 px of another collection than `pool`, with other views and findings."""
    return make_pool(tmp_path_factory.mktemp("rings") / "pool", 64, "rings", ("Cardiomegaly", "Mass"))


@pytest.fixture(scope="module")
def made(pool: Pool, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of 32 px, twenty steps, grown to the full resolution."""
    return loop.train(small(pool, tmp_path_factory.mktemp("made")), pool, "discs")


@pytest.fixture
def base(made: Path, tmp_path: Path) -> Path:
    """A copy of that run, to be spoilt."""
    return shutil.copytree(made, tmp_path / "base")


def grown(rings: Pool, base: Path, out: Path, **changes: object) -> Config:
    """A training of 64 px that starts from the run."""
    config = small(rings, out, res=64, init=str(base), pool_fingerprint=rings.fingerprint, grow_kimg=0.03)
    return replace(config, **{"fade_kimg": 0.02, "kimg": 0.08, "rest_kimg": AUTO, **changes})


def begun(config: Config, pool: Pool) -> tuple[Training, list[str]]:
    training = Training(config, Films(pool, config))
    return training, start(training)


def test_a_run_of_the_same_kind_comes_over_whole(pool: Pool, base: Path, tmp_path: Path) -> None:
    state = runs.load_state(base)
    assert state is not None
    config = resolve_init(small(pool, tmp_path, init=str(base), rest_kimg=AUTO, seed=1))
    assert (config.rest_kimg, config.grow_from) == (0.0, 32)
    training, lines = begun(config, pool)
    for name in ("G", "D", "G_ema"):
        for key, value in getattr(training, name).state_dict().items():
            assert torch.equal(value, state[name][key]), f"{name} {key}"
    for name in ("G", "D"):
        optimizer, saved = getattr(training, f"opt_{name}"), state[f"opt_{name}"]["state"]
        places = {key: place for place, key in enumerate(key for key in state[name] if key != "w_mean")}
        for key, parameter in getattr(training, name).named_parameters():
            for kind, value in optimizer.state[parameter].items():
                assert torch.equal(value, saved[places[key]][kind]), f"{kind} of {name} {key}"
            assert len(optimizer.state[parameter]) == 3, f"no moments of {name} {key}"
    assert training.strength == state["strength"] > 0
    assert "(32 px, 160 films seen): 7 of 7 conditions are known to it" in lines[0]
    assert re.fullmatch(r"generator: (\d+) of \1 tensors taken, with Adam's moments of \1; fresh: nothing", lines[1])
    assert re.fullmatch(r"discriminator: (\d+) of \1 tensors taken, with .* moments of \d+; fresh: nothing", lines[2])
    assert lines[3] == "the generator does not rest"


def test_the_average_continues_and_is_not_begun_again(pool: Pool, base: Path, tmp_path: Path) -> None:
    state = runs.load_state(base)
    assert state is not None
    runs.save_state(base, {**state, "seen_before": 40})  # a run that began with another one
    training, _ = begun(resolve_init(small(pool, tmp_path, init=str(base), rest_kimg=AUTO, ema_kimg=0.1)), pool)
    before, living = (one.synthesis.constant.clone() for one in (training.G_ema, training.G))
    training.step()
    moved = training.G_ema.synthesis.constant
    # 200 films seen before, and a half-life of 5 % of what was seen: it was 0.4 films without these
    assert (moved - before).norm() < 0.8 * (training.G.synthesis.constant - before).norm()
    assert not torch.equal(living, training.G.synthesis.constant), "the generator did not rest"
    assert training.seen_before == 200


def test_growth_takes_the_blocks_of_equal_resolution_and_conditions_by_name(
    rings: Pool, base: Path, tmp_path: Path
) -> None:
    state = runs.load_state(base)
    assert state is not None
    config = resolve_init(grown(rings, base, tmp_path))
    assert (config.rest_kimg, config.grow_from) == (0.0, 32)
    training, lines = begun(config, rings)
    old, new = state["D"], training.D.state_dict()
    fresh = {name for name in new if name not in old or not torch.equal(new[name], old[name])}
    assert {name.rpartition(".")[0].partition(".conv")[0].partition(".skip")[0] for name in fresh} == {
        "from_grey.32", "blocks.32", "embed",
    }  # fmt: skip
    # Known to both: Effusion, PA, that the age is known, the age.
    known = load_network(base / "network-latest.safetensors")[1].vocabulary
    assert (known.findings, known.views, known.sources) == (("Effusion",), ("AP", "PA"), ("discs",))
    vocabulary = training.films.vocabulary
    assert vocabulary.findings == ("Cardiomegaly", "Effusion", "Mass")
    assert (vocabulary.views, vocabulary.sources) == (("PA", "lateral"), ("rings",))
    ratio = (vocabulary.dim / known.dim) ** 0.5
    assert ratio != 1
    for mine, its in ((1, 0), (3, 2), (6, 5), (7, 6)):
        torch.testing.assert_close(new["embed.weight"][:, mine], old["embed.weight"][:, its] * ratio)
    for mine in (0, 2, 4, 5):
        assert not new["embed.weight"][:, mine].any(), "what is new adds nothing"
    at = {name: training.opt_D.state.get(value, {}) for name, value in training.D.named_parameters()}
    assert all(bool(moments) == (name not in fresh) for name, moments in at.items() if name != "dense.bias")
    assert "4 of 8 conditions are known to it" in lines[0]
    assert re.search(r"; fresh: conditions \(by name\) 1, 64 px \d+, grain \d+$", lines[1])
    assert re.search(r"; fresh: 64 px 7, conditions \(by name\) 1$", lines[2])


def test_a_condition_that_both_know_is_scored_as_before(pool: Pool, rings: Pool, base: Path, tmp_path: Path) -> None:
    same = resolve_init(small(pool, tmp_path, init=str(base), rest_kimg=AUTO))
    old, _ = begun(same, pool)
    new, _ = begun(resolve_init(grown(rings, base, tmp_path)), rings)
    images = torch.from_numpy(np.stack([blob(i, 32, True) for i in range(8)])).float()[:, None] / 127.5 - 1
    before, after = (torch.zeros(8, one.films.vocabulary.dim) for one in (old, new))
    before[:, 0], before[:, 2] = 1, 1  # Effusion, PA
    after[:, 1], after[:, 3] = 1, 1
    with torch.no_grad():
        torch.testing.assert_close(new.D(images, after), old.D(images, before))
        assert (old.D(images, before) - old.D(images, before * 0)).abs().max() > 1e-3


def test_such_a_training_resumes_bit_for_bit_and_without_the_run(
    rings: Pool, base: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    whole = loop.train(resolve_init(grown(rings, base, tmp_path / "whole")), rings, "rings")
    # stopped while 64 px are blended in
    loop.train(resolve_init(grown(rings, base, tmp_path / "parts", kimg=0.04)), rings, "rings")
    for state in base.glob("state-*"):
        state.unlink()
    parts = loop.train(resolve_init(grown(rings, base, tmp_path / "parts")), rings, "rings")
    assert [run.name for run in parts.parent.iterdir()] == ["00000-rings-64"], "resumed, not begun again"
    assert_same(whole, parts)
    assert runs.load_state(parts)["seen_before"] == 160
    assert "discriminator: " in (whole / "log.txt").read_text()
    for run in (whole, parts):
        _, info = load_network(run / "network-latest.safetensors")
        assert sorted(info.sources) == ["discs", "rings"]
        assert info.started_from == "00000-discs-32, 160 films"


def test_a_state_of_before_resumes(pool: Pool, base: Path) -> None:
    state = runs.load_state(base)
    assert state is not None
    del state["seen_before"], state["started_from"]
    training = Training(config := small(pool, base), Films(pool, config))
    training.restore(state)
    assert (training.seen_before, training.started_from) == (0, "")


def test_the_state_file_means_the_run_and_the_network_file_the_generator_alone(
    pool: Pool, base: Path, tmp_path: Path
) -> None:
    by = {
        name: resolve_init(small(pool, tmp_path, init=str(base / name), rest_kimg=AUTO))
        for name in ("", "state-latest.pt", "network-latest.safetensors")
    }
    assert by[""].init_sha256 == by["state-latest.pt"].init_sha256 != by["network-latest.safetensors"].init_sha256
    assert [config.rest_kimg for config in by.values()] == [0.0, 0.0, 10.0]
    training, lines = begun(by["network-latest.safetensors"], pool)
    assert lines[1] == "discriminator: fresh; the generator rests for 10 kimg"
    assert not training.opt_G.state
    given = small(pool, tmp_path, init=str(base), rest_kimg=2.0)
    assert resolve_init(given).rest_kimg == 2.0, "the user's value counts"


def test_a_discriminator_that_does_not_know_the_first_resolution_gives_the_generator_a_rest(
    rings: Pool, base: Path, tmp_path: Path
) -> None:
    for first in (0, 64):
        assert resolve_init(grown(rings, base, tmp_path, grow_from=first)).rest_kimg == 10.0, first


def test_patches_of_twice_the_pixels_read_a_doubled_film_as_before(
    pool: Pool, rings: Pool, base: Path, tmp_path: Path
) -> None:
    # Both have 16 × 16 positions: what is known of 32 px is known of 64 px.
    config = resolve_init(grown(rings, base, tmp_path, patch=4))
    assert (config.grow_from, config.rest_kimg) == (64, 0.0)
    large, lines = begun(config, rings)
    small_patch, _ = begun(resolve_init(small(pool, tmp_path, init=str(base), rest_kimg=AUTO)), pool)
    films = torch.rand(4, 1, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    doubled = films.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)  # its finest bands are 0
    unknown = [torch.zeros(4, training.films.vocabulary.dim) for training in (small_patch, large)]
    with torch.no_grad():
        scores = small_patch.D(films, unknown[0]), large.D(doubled, unknown[1])
        assert scores[0].std() > 0.01
        torch.testing.assert_close(scores[1], scores[0], rtol=0, atol=1e-5)
        assert not torch.allclose(large.D(doubled.flip(2), unknown[1]), scores[0], atol=1e-3)
    assert "; its patches become those of 4 px;" in lines[0]
    assert "16 of 18 tensors taken, with Adam's moments of 16; fresh: 64 px 1, conditions" in lines[2]
    large.step()


def test_a_file_may_bring_its_discriminator(pool: Pool, base: Path, tmp_path: Path) -> None:
    run = open_origin(str(base))
    assert run.saved is not None
    path, alone = tmp_path / "both.safetensors", tmp_path / "alone.safetensors"
    info = replace(run.info, augment_strength=0.25)
    save_network(path, run.generator, info, discriminator=run.saved.discriminator)
    save_network(alone, run.generator, run.info)
    for a, b in zip(load_network(path)[0].parameters(), load_network(alone)[0].parameters(), strict=True):
        assert torch.equal(a, b)

    def started(init: Path, **changes: object) -> tuple[Training, list[str]]:
        config = small(pool, tmp_path, init=str(init), rest_kimg=AUTO, **changes)
        return begun(resolve_init(config), pool)

    training, lines = started(path)
    for name, value in training.D.state_dict().items():
        assert torch.equal(value, run.saved.discriminator[name]), name
    for a, b in zip(training.G.parameters(), run.generator.parameters(), strict=True):
        assert torch.equal(a, b)
    assert training.strength == 0.25
    assert "18 of 18 tensors taken, with Adam's moments of 0; fresh: nothing" in lines[2]
    assert lines[3] == "the generator does not rest"
    training.step()
    wrong: Any
    for wrong in (None, "much", [0.5]):
        odd = replace(info, augment_strength=wrong)
        save_network(tmp_path / "n", run.generator, odd, discriminator=run.saved.discriminator)
        with pytest.raises(ValueError, match=r"do not fit \(a discriminator has an augment_strength"):
            load_network(tmp_path / "n")
    save_network(tmp_path / "n", run.generator, info)
    with pytest.raises(ValueError, match=r"do not fit \(a discriminator has an augment_strength"):
        load_network(tmp_path / "n")
    spoilt = {name: value * torch.nan for name, value in run.saved.discriminator.items()}
    save_network(tmp_path / "n", run.generator, info, discriminator=spoilt)
    with pytest.raises(ValueError, match=r"discriminator.* holds values that are not finite"):
        load_network(tmp_path / "n")
    # One that reads pixels otherwise cannot be taken, as from a file without it.
    for init, changes in ((alone, {}), (path, {"patch": 1})):
        training, lines = started(init, **changes)
        assert training.strength == 0
        assert lines[1].startswith("discriminator: fresh; "), changes


def test_a_run_that_has_not_grown_hands_over_what_has_learnt(pool: Pool, tmp_path: Path) -> None:
    base = loop.train(small(pool, tmp_path / "base", kimg=0.024), pool, "discs")  # of 50 films at 16 px
    run, file = open_origin(str(base)), tmp_path / "both.safetensors"
    assert run.saved is not None
    save_network(file, run.generator, replace(run.info, augment_strength=0.0), discriminator=run.saved.discriminator)
    for init in (base, file):  # of a file every block counted as trained
        config = resolve_init(small(pool, tmp_path, init=str(init), rest_kimg=AUTO))
        assert (config.grow_from, config.rest_kimg) == (16, 0.0)
        training, lines = begun(config, pool)
        assert "(16 px, 24 films seen)" in lines[0]
        assert all("fresh: 32 px" in line for line in lines[1:3])
        for name, value in training.D.named_parameters():
            if block_positions(name) == 32 // training.config.patch:
                assert value not in training.opt_D.state
        training.step()


def test_runs_that_do_not_fit_are_refused_in_one_line(pool: Pool, base: Path, tmp_path: Path) -> None:
    def error_of(**changes: object) -> str:
        config = small(pool, tmp_path / "out", **{"init": str(base), "rest_kimg": AUTO, **changes})
        with pytest.raises(ValueError) as error:
            resolve_init(config)
        assert "\n" not in str(error.value)
        return str(error.value)

    network = base / "network-latest.safetensors"
    alone = f"--init {network} takes its generator alone"
    assert error_of(haar=False) == (
        f"--init {base}: the discriminator of this run reads patches of 2 px as Haar bands where this training reads "
        "patches of 2 px; add --set patch=2 --set haar=true, or give the run's "
        "network-latest.safetensors to take the generator alone"
    )
    assert "where this training reads single pixels" in error_of(patch=1)
    assert "channel_base 128 where this training has 64; add --set channel_base=128" in error_of(channel_base=64)
    damaged = (base / "state-latest.pt").read_bytes()
    kinds = {
        "cut off": damaged[: len(damaged) // 2],
        "a byte changed": damaged[:9000] + bytes([damaged[9000] ^ 1]) + damaged[9001:],
        "empty": b"",
        "text": b"no state",
    }
    for kind, content in kinds.items():
        (base / "state-latest.pt").write_bytes(content)
        assert error_of() == f"{base}: state-latest.pt cannot be read; {alone}", kind
    torch.save([1, 2], base / "state-latest.pt")
    assert "state-latest.pt cannot be read" in error_of()
    torch.save({"format_version": 1}, base / "state-latest.pt")
    assert f"has another format than 2, which this version resumes; {alone}" in error_of()
    torch.save({"format_version": 2, "images_seen": 8, "G": {}}, base / "state-latest.pt")
    assert re.search(f"do not fit .*; {re.escape(alone)}$", error_of())
    (base / "state-latest.pt").write_bytes(damaged)
    options = (base / "config.toml").read_text()
    (base / "config.toml").write_text("lr = 0.003\n")
    assert re.search(f"expected the options of this version .*; {re.escape(alone)}$", error_of())
    (base / "config.toml").write_text(options)
    (base / "state-latest.pt").unlink()
    assert (
        error_of() == f"--init {base}: found no saved state (state-latest.pt or state-previous.pt) in {base}; {alone}"
    )
    assert "found no saved state" in error_of(init=str(base / "state-latest.pt"))
    network.unlink()
    assert error_of().endswith("train it until it has saved one")


def test_of_a_damaged_state_the_one_before_is_taken(
    pool: Pool, base: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copy(base / "state-latest.pt", base / "state-previous.pt")
    (base / "state-latest.pt").write_bytes(b"cut")
    _, lines = begun(resolve_init(small(pool, tmp_path, init=str(base), rest_kimg=AUTO)), pool)
    assert "160 films seen" in lines[0]
    assert "state-latest.pt is damaged" in caplog.text


def test_a_run_that_continues_meanwhile_is_noticed(pool: Pool, base: Path, tmp_path: Path) -> None:
    config = resolve_init(small(pool, tmp_path, init=str(base), rest_kimg=AUTO))
    state = runs.load_state(base)
    assert state is not None
    runs.save_state(base, {**state, "images_seen": 168})
    with pytest.raises(ValueError, match="has changed since this call began"):
        begun(config, pool)


def test_the_dry_run_says_what_is_taken(
    rings: Pool, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = grown(rings, base, tmp_path)
    settings = ("z_dim", "w_dim", "mapping_layers", "channel_max", "batch", "threads")
    flags = [flag for name in settings for flag in ("--set", f"{name}={getattr(config, name)}")]
    code, out, err = run_command(
        capsys, "train", "--data", rings.path, "--init", base, "--out", tmp_path / "out", "--dry-run", *flags
    )
    assert code == 0, err
    assert {"rest_kimg = 0.0", "channel_base = 128"} <= set(out.splitlines())
    assert re.search(r"^# generator: \d+ of \d+ tensors taken, .*; fresh: ", out, re.MULTILINE)
    assert re.search(r"^# discriminator: \d+ of \d+ tensors taken, .*; fresh: 64 px \d", out, re.MULTILINE)
    assert not (tmp_path / "out").exists()
