"""Starting from a network: what both know gives the same film, what is new adds nothing, and the run needs the file no
more."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from tests.conftest import blob
from tests.train.test_loop import assert_same, small
from thiscxr.config import AUTO, Config, load_config
from thiscxr.labels import NEGATIVE, POSITIVE, FilmRecord, Terms
from thiscxr.model import network_file
from thiscxr.model.conditions import Condition, Vocabulary
from thiscxr.model.generator import Generator, GeneratorConfig
from thiscxr.model.haar import analysis, without_mean
from thiscxr.model.resample import upsample2
from thiscxr.phantom.releases import write_layout
from thiscxr.pool import Pool
from thiscxr.pool.writer import PoolWriter
from thiscxr.train import loop
from thiscxr.train.films import Films
from thiscxr.train.growth import stage
from thiscxr.train.origin import generated_res
from thiscxr.train.start import (
    check_widths,
    copy_head,
    copy_known,
    output_layers_fit,
    resolve_init,
    start,
    with_inherited,
)
from thiscxr.train.training import Training

KNOWN = Vocabulary(("Effusion", "Mass"), ("AP", "PA"), ("discs",))
WIDER = Vocabulary(("Cardiomegaly", "Effusion"), ("PA", "lateral"), ("discs", "rings"))
NOBODY = Vocabulary((), (), (), (), False)


def generator(res: int, vocabulary: Vocabulary, seed: int, patch: int = 2, haar: bool = True) -> Generator:
    torch.manual_seed(seed)
    made = Generator(
        GeneratorConfig(res, vocabulary.dim, 16, 16, 2, channel_base=256, channel_max=16, patch=patch, haar=haar)
    )
    for name, value in made.named_parameters():
        if value.dim() < 2 and "embed" not in name:
            # biases and noise strengths are zero when new, and would hide a mistake
            torch.nn.init.normal_(value, std=0.3)
    if made.mapping.embed is not None:
        torch.nn.init.normal_(made.mapping.embed.bias, std=0.3)
    torch.nn.init.normal_(made.w_mean)
    if haar:
        torch.nn.init.ones_(made.synthesis.grain.gain)
    return made


def generate(
    made: Generator, vocabulary: Vocabulary, condition: Condition, truncation: float = 0.7, grain: float = 0.0
) -> torch.Tensor:
    random = torch.Generator().manual_seed(5)
    z = torch.randn(3, 16, generator=random)
    noises = [torch.randn(3, 1, res, res, generator=random) for res in made.config.noise_resolutions]
    noises[-1] *= grain if made.config.haar else 1.0
    with torch.no_grad():
        return made(z, torch.from_numpy(vocabulary.encode([condition] * 3)), noises, truncation)


SHARED = [
    Condition(),
    Condition(view="PA", sex="F", age_years=70.0, source="discs", findings={"Effusion": POSITIVE}),
    Condition(age_years=20.0, findings={"Effusion": NEGATIVE}),
]


@pytest.mark.parametrize("haar", [True, False])
@pytest.mark.parametrize("condition", SHARED)
def test_a_condition_that_both_know_gives_the_same_film_at_twice_the_resolution(
    condition: Condition, haar: bool
) -> None:
    old, new = generator(32, KNOWN, 0, haar=haar), generator(64, WIDER, 1, haar=haar)
    copy_known(new, WIDER, old, KNOWN)
    film = generate(old, KNOWN, condition)
    assert film.std() > 0.1
    torch.testing.assert_close(
        generate(new, WIDER, condition, grain=1.0), upsample2(film, edge=haar), atol=1e-4, rtol=1e-4
    )


def test_grain_goes_with_a_network_of_the_same_resolution() -> None:
    old, new = generator(32, KNOWN, 0), generator(32, WIDER, 1)
    copy_known(new, WIDER, old, KNOWN)
    film = generate(old, KNOWN, Condition(), grain=1.0)
    torch.testing.assert_close(generate(new, WIDER, Condition(), grain=1.0), film, atol=1e-4, rtol=1e-4)
    assert (film - generate(old, KNOWN, Condition())).abs().max() > 0.01


def test_patches_of_four_give_the_film_of_patches_of_two_at_twice_the_resolution_and_back() -> None:
    old, new, back = generator(32, KNOWN, 0), generator(64, KNOWN, 1, patch=4), generator(32, KNOWN, 2)
    copy_known(new, KNOWN, old, KNOWN)
    film = generate(old, KNOWN, Condition())
    torch.testing.assert_close(
        generate(new, KNOWN, Condition(), grain=1.0), upsample2(film, edge=True), atol=1e-4, rtol=1e-4
    )
    copy_known(back, KNOWN, new, KNOWN)
    torch.testing.assert_close(generate(back, KNOWN, Condition()), film, atol=1e-4, rtol=1e-4)
    assert generated_res(old) // 2 * 4 == generated_res(new) == 64


def test_single_pixels_become_the_smooth_value() -> None:
    single, smooth = (generator(64, KNOWN, 0, patch, haar=patch > 1).synthesis.to_grey[1] for patch in (1, 2))
    x, w = torch.randn(2, 16, 8, 8), torch.randn(2, 16)
    with torch.no_grad():
        copy_head(smooth, single)
        torch.testing.assert_close(smooth(x, w), upsample2(single(x, w), edge=True), atol=1e-5, rtol=1e-5)


def test_free_pixels_become_bands_and_lose_their_grid() -> None:
    free, smooth = (generator(64, KNOWN, 0, haar=haar).synthesis.to_grey[1] for haar in (False, True))
    x, w = torch.randn(2, 16, 8, 8), torch.randn(2, 16)
    flat = torch.ones(2, 16, 8, 8)
    with torch.no_grad():
        copy_head(smooth, free)
        images, grid = free(x, w), free(flat, w)[:, :, 2:4, 2:4]
        grid = (grid - grid.mean(dim=(2, 3), keepdim=True)).repeat(1, 1, 8, 8)
        assert grid.abs().max() > 0.1
        means = F.avg_pool2d(images, 2)
        inside = slice(4, 12)  # at the border the two heads see other things beyond it
        found = smooth(x, w)[..., inside, inside]
        # Flat x by another style gives another grid, so only what it leaves in the kernels can be separated from the
        # rest by its own test.
        detail = smooth.synthesis[1:, 1:] @ (analysis(2)[1:] @ free.conv.weight.flatten(1))
        detail = without_mean(detail.view_as(free.conv.weight))
        styled = x * free.conv.style(w)[:, :, None, None] * free.conv.gain
        details = F.pixel_shuffle(F.conv2d(styled, detail, padding=1), 2)
        torch.testing.assert_close(found, (upsample2(means) + details)[..., inside, inside], atol=1e-4, rtol=1e-4)
        assert smooth(flat, w).diff(dim=3).abs().max() < 1e-5, "the grid is gone"


def test_what_cannot_generate_bands_starts_new() -> None:
    free, bands = generator(32, KNOWN, 0, haar=False), generator(32, KNOWN, 1)
    fresh = free.synthesis.to_grey[0].conv.weight.clone()
    copy_known(free, KNOWN, bands, KNOWN)
    assert torch.equal(free.synthesis.to_grey[0].conv.weight, fresh)
    assert torch.equal(free.synthesis.constant, bands.synthesis.constant)
    cases = {
        (True, 2, True, 4): True,
        (True, 4, False, 1): True,
        (False, 2, False, 2): True,
        (False, 2, True, 2): False,
    }
    cases |= {(False, 2, False, 1): False, (True, 1, True, 2): False, (True, 1, False, 1): True}
    for (haar, patch, init_haar, init_patch), alike in cases.items():
        old = GeneratorConfig(64, 0, patch=init_patch, haar=init_haar)
        assert output_layers_fit(Config(haar=haar, patch=patch), old) is alike


def test_what_is_new_maps_as_unknown_and_what_is_known_does_not() -> None:
    old, new = generator(32, KNOWN, 0), generator(32, WIDER, 1)
    copy_known(new, WIDER, old, KNOWN)
    nothing = generate(new, WIDER, Condition())
    for condition in (
        Condition(view="lateral"),
        Condition(source="rings"),
        Condition(findings={"Cardiomegaly": POSITIVE}),
    ):
        torch.testing.assert_close(generate(new, WIDER, condition), nothing)
    for condition in (
        Condition(view="PA"),
        Condition(source="discs"),
        Condition(sex="M"),
        Condition(findings={"Effusion": POSITIVE}),
    ):
        assert (generate(new, WIDER, condition) - nothing).abs().max() > 1e-3, condition


@pytest.mark.parametrize(("before", "after"), [(NOBODY, WIDER), (KNOWN, NOBODY), (NOBODY, NOBODY)])
def test_conditions_come_and_go(before: Vocabulary, after: Vocabulary) -> None:
    old, new = generator(32, before, 0), generator(32, after, 1)
    copy_known(new, after, old, before)
    same = generate(old, before, Condition())
    torch.testing.assert_close(generate(new, after, Condition()), same, atol=1e-4, rtol=1e-4)
    if after.dim:
        new.mapping(torch.randn(8, 16), torch.randn(8, after.dim)).square().sum().backward()
        assert (new.mapping.embed.weight.grad.abs().sum(dim=0) > 0).all(), (
            "what starts at nothing must be able to learn"
        )


def test_a_smaller_resolution_and_other_patches_share_the_blocks() -> None:
    old = generator(64, KNOWN, 0)
    smaller, singles = generator(32, KNOWN, 1), generator(64, KNOWN, 1, patch=1, haar=False)
    fresh = singles.synthesis.to_grey[0].conv.weight.clone()
    copy_known(smaller, KNOWN, old, KNOWN)
    copy_known(singles, KNOWN, old, KNOWN)
    for made in (smaller, singles):
        for conv, before in zip(made.synthesis.convs, old.synthesis.convs, strict=False):
            assert torch.equal(conv.conv.weight, before.conv.weight)
    assert torch.equal(smaller.synthesis.to_grey[1].conv.weight, old.synthesis.to_grey[1].conv.weight)
    assert torch.equal(singles.synthesis.to_grey[0].conv.weight, fresh), "the output layers differ"


def test_the_resolution_is_what_has_grown() -> None:
    made = generator(64, KNOWN, 0)
    assert generated_res(made) == 64
    made.synthesis.bake(2)  # blocks of 4 and 8 places of two pixels
    assert generated_res(made) == 16


def test_of_one_source_with_other_terms_both_are_kept() -> None:
    a, b, c = ({"terms": name} for name in "abc")
    assert with_inherited({"nih": a, "folder": b}, {"nih": a, "folder": c}) == {
        "nih": a,
        "folder": b,
        "folder (before)": c,
    }
    assert with_inherited({"nih": a}, {"chexpert": b}) == {"nih": a, "chexpert": b}
    assert with_inherited({"nih": {**a, "films": 10}}, {"nih": {**a, "films": 20}}) == {"nih": {**a, "films": 10}}


@pytest.fixture(scope="module")
def rings(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    """80 films of 64 px of another collection, in which Cardiomegaly is known, and sex is not."""
    path = tmp_path_factory.mktemp("rings") / "pool"
    terms = Terms(title="Rings", terms="ask first", citation="none", url="none", acknowledgement="none")
    with PoolWriter(path, 64, 8, {"rings": terms}, b"key") as writer:
        for i in range(80):
            large = i % 2 == 0
            findings = {
                "Cardiomegaly": POSITIVE if large else NEGATIVE,
                "Effusion": NEGATIVE if i % 4 < 2 else POSITIVE,
            }
            writer.add(
                "rings",
                FilmRecord(str(i), str(i), str(i), str(i), "PA", "unknown", 50.0, findings),
                blob(i, 64, large),
                (64, 64, 8),
            )
    return Pool.open(path)


@pytest.fixture
def base(pool: Pool, tmp_path: Path) -> Path:
    """The folder of a run of 32 px."""
    return loop.train(small(pool, tmp_path / "base", kimg=0.12), pool, "discs")


def begun(rings: Pool, base: Path, out: Path, **changes: object) -> Config:
    config = small(
        rings,
        out,
        res=64,
        init=str(base / "network-latest.safetensors"),
        pool_fingerprint=rings.fingerprint,
        grow_kimg=0.03,
        fade_kimg=0.02,
        kimg=0.08,
    )
    return replace(config, **{"rest_kimg": 0.016, **changes})


def test_a_training_grows_on_carries_the_terms_and_resumes_without_the_file(
    rings: Pool, base: Path, tmp_path: Path
) -> None:
    config = begun(rings, base, tmp_path / "whole")
    resolved = resolve_init(config)
    assert resolved.grow_from == 32
    assert len(resolved.init_sha256) == 64
    assert resolved.fingerprint not in (config.fingerprint, replace(resolved, init_sha256="0").fingerprint)
    whole = loop.train(resolved, rings, "rings")
    loop.train(resolve_init(begun(rings, base, tmp_path / "parts", kimg=0.04)), rings, "rings")
    shutil.rmtree(base)
    again = resolve_init(begun(rings, base, tmp_path / "parts"))
    assert again.fingerprint == resolved.fingerprint
    unmade = resolve_init(begun(rings, base, tmp_path / "parts", pool_fingerprint=AUTO))
    assert (unmade.init_sha256, unmade.pool_fingerprint) == (resolved.init_sha256, AUTO), (
        "before a phantom pool is made"
    )
    parts = loop.train(again, rings, "rings")
    assert [run.name for run in parts.parent.iterdir()] == ["00000-rings-64"], "resumed, not begun again"
    assert_same(whole, parts)
    _, info = network_file.load_network(parts / "network-latest.safetensors")
    assert {name: terms["terms"] for name, terms in info.sources.items()} == {"rings": "ask first", "discs": "none"}
    for run, new in ((tmp_path / "parts", True), (tmp_path / "elsewhere", False)):
        with pytest.raises(ValueError, match="no file, run folder or bundled generator"):
            resolve_init(begun(rings, base, run), new)


def test_the_first_film_is_that_of_the_network(rings: Pool, base: Path, tmp_path: Path) -> None:
    config = resolve_init(begun(rings, base, tmp_path))
    training = Training(config, Films(rings, config))
    fresh = training.D.conv.weight.clone()
    taken, fresh_parts = start(training)
    assert taken.startswith("starts from")
    # Effusion, PA, and the two of the age
    assert taken.endswith("4 of 6 conditions are known to it; with it go the terms of discs")
    assert fresh_parts == "discriminator: fresh; the generator rests for 0.016 kimg"
    assert torch.equal(training.D.conv.weight, fresh)
    old, info = network_file.load_network(base / "network-latest.safetensors")
    condition = Condition(view="PA", age_years=40.0, findings={"Effusion": POSITIVE})
    film = generate(training.averaged(), training.films.vocabulary, condition)
    torch.testing.assert_close(
        film, upsample2(generate(old, info.vocabulary, condition), edge=True), atol=1e-4, rtol=1e-4
    )
    assert torch.equal(training.G.synthesis.constant, training.G_ema.synthesis.constant)


def test_widths_that_were_not_requested_and_other_patches(rings: Pool, base: Path, tmp_path: Path) -> None:
    config = begun(rings, base, tmp_path, channel_base=64, patch=1)
    with pytest.raises(ValueError, match="channel_base 128 where this training has 64; add --set channel_base=128"):
        resolve_init(config)
    config = resolve_init(config, fit=True)
    assert config.channel_base == 128
    assert config.rest_kimg == 0, "a generator of noise must not rest"
    assert "its output layers start new (patches of 1 for its 2)" in start(Training(config, Films(rings, config)))[0]
    shutil.rmtree(base)
    loop.new_run(tmp_path, config, "rings")
    assert (
        resolve_init(begun(rings, base, tmp_path, channel_base=64, patch=1), fit=True).fingerprint == config.fingerprint
    )


def test_the_generator_rests_until_the_new_discriminator_has_learnt(rings: Pool, base: Path, tmp_path: Path) -> None:
    config = resolve_init(begun(rings, base, tmp_path))
    training = Training(config, Films(rings, config))
    start(training)
    G, D = training.G.synthesis.constant.clone(), training.D.conv.weight.clone()
    for _ in range(2):  # 16 films
        training.step()
    assert torch.equal(training.G.synthesis.constant, G)
    assert not torch.equal(training.D.conv.weight, D)
    training.step()
    assert not torch.equal(training.G.synthesis.constant, G)
    assert [stage(config, films).res for films in (0, 45, 47)] == [32, 32, 64], "30 films at 32 px after a rest of 16"
    assert stage(replace(config, init_sha256=""), 31).res == 64, "a start from nothing does not rest"


def test_mistakes_are_reported_in_one_line(rings: Pool, base: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError) as error:
        resolve_init(begun(rings, base, tmp_path, z_dim=32, channel_max=8))
    assert str(error.value) == (
        f"--init {base / 'network-latest.safetensors'}: the network has z_dim 16 where this training has 32, "
        "channel_max 16 where this training has 8; "
        "add --set z_dim=16 --set channel_max=16"
    )
    (tmp_path / "x.safetensors").write_bytes(b"nothing")
    kinds = {
        str(base / "reals.png"): "is not a safetensors file",
        str(tmp_path / "x.safetensors"): "is not a safetensors file",
        str(network_file.find_weights("thiscxr64", "reader")): "is not a thiscxr generator",
        str(tmp_path): "is a folder without network-latest.safetensors",
        "nih-46": "did you mean 'nih-64'",
    }
    for init, message in kinds.items():
        with pytest.raises(ValueError, match=message):
            resolve_init(begun(rings, base, tmp_path, init=init))
    assert resolve_init(begun(rings, base, tmp_path, init="")).init_sha256 == ""
    assert resolve_init(begun(rings, base, tmp_path, grow_from=0)).grow_from == 0, "who wants no growth gets none"


def test_a_network_that_changes_meanwhile_is_noticed(rings: Pool, base: Path, tmp_path: Path) -> None:
    config = resolve_init(begun(rings, base, tmp_path))
    old, info = network_file.load_network(base / "network-latest.safetensors")
    network_file.save_network(base / "network-latest.safetensors", old, replace(info, images_seen=1))
    with pytest.raises(ValueError, match="has changed since this call began"):
        start(Training(config, Films(rings, config)))


def test_channels_may_differ_where_nothing_is_shared() -> None:
    init = GeneratorConfig(32, 0, channel_base=256, channel_max=16, patch=2)  # 16 channels in each block
    check_widths(Config(res=64, channel_base=320, channel_max=16), init)  # 10 at 32 places, which it does not have
    with pytest.raises(ValueError, match=r"add --set channel_base=256$"):
        check_widths(Config(res=64, channel_base=240, channel_max=16), init)  # 15 at 16 places


def test_a_bundled_network_on_the_conditions_of_a_phantom_pool(tmp_path: Path) -> None:
    write_layout(tmp_path / "pool", "pool", 60, 32, 0, workers=1)
    pool = Pool.open(tmp_path / "pool")
    given = load_config(data=str(pool.path), res=32, init="nih-64", batch=4, grow_kimg=0, rest_kimg=0)
    config = resolve_init(given.resolve("cpu", 1), fit=True)
    training = Training(config, Films(pool, config))
    line = start(training)[0]
    _, info = network_file.load_network(network_file.find_network("nih-64"))
    learnt, wanted = set(info.vocabulary.names), training.films.vocabulary.names
    known = [name for name in wanted if name in learnt]
    assert {"Effusion", "view PA", "sex F", "age"} <= set(known)
    assert {name for name in wanted if name.startswith("source")} & learnt == set(), "its hospitals are new"
    assert f"{len(known)} of {len(wanted)} conditions are known to it; its pixels become Haar bands" in line
    embed = training.G.mapping.embed
    assert embed is not None
    taken = [name for name, weights in zip(wanted, embed.weight.T, strict=True) if weights.any()]
    assert taken == known
    assert training.started_from == f"nih-64, {info.images_seen:,} films"
    before = training.G.synthesis.constant.clone()
    training.step()
    assert not torch.equal(training.G.synthesis.constant, before)
