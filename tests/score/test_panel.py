"""Scores of folders and networks: protocol in the key, floors, and sections that are whole or nothing."""

import csv
import errno
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import blob
from tests.score.conftest import folder, whole
from tests.scores import record
from tests.test_cli import run as run_command
from thiscxr.model.conditions import Condition
from thiscxr.phantom import labelled
from thiscxr.pixels.mark import marked
from thiscxr.pool import Pool
from thiscxr.reader.extractors import Extractor, load_extractor
from thiscxr.reader.network import Reader, ReaderConfig
from thiscxr.reader.training import save_reader
from thiscxr.report.terminal import score_table
from thiscxr.report.verdict import verdict
from thiscxr.score import fakes, panel
from thiscxr.score.distributions import Side
from thiscxr.score.fairness import enough_films, fair_groups
from thiscxr.score.fakes import FakeFilms, open_fakes
from thiscxr.score.records import Record


@pytest.fixture
def score(only: Callable[..., None]) -> Callable[..., Record]:
    """The record of the Fréchet distance."""
    only("distances")
    return lambda *some, **options: whole(*some, **options).records[0]


def test_a_record_carries_its_protocol(
    pool: Pool, extractor: Extractor, tmp_path: Path, score: Callable[..., Record]
) -> None:
    films = np.stack([blob(10_000 + i, 32, i % 2 == 0) for i in range(44)])
    rows = [
        {"file": f"seed-{i:08d}.png", "seed": str(i), "truncation": "0.7", "network_sha256": "a" * 64}
        for i in range(len(films))
    ]
    record = score(pool, folder(tmp_path / "fakes", films, rows), extractor)
    n = len(films)
    assert record.key == f"fd_random8_{n}"
    assert (record.measure, record.extractor, record.resolution, record.num_real, record.num_fake) == (
        "fd",
        "random8",
        32,
        n,
        n,
    )
    assert (record.truncation, record.seeds, record.split) == (0.7, f"0-{n - 1}", "all")
    assert (record.network_sha256, record.extractor_sha256, record.pool_fingerprint) == (
        "a" * 64,
        "0" * 64,
        pool.fingerprint,
    )
    assert record.value is not None
    assert record.ci95 is not None
    assert record.ci95[0] <= record.value <= record.ci95[1]
    assert record.key in score_table(panel.Panel([record]))


def test_real_films_score_at_the_floor_and_spoilt_ones_above(
    pool: Pool, extractor: Extractor, tmp_path: Path, score: Callable[..., Record]
) -> None:
    films = pool.read(pool.indices("all"))[::2]
    rng = np.random.default_rng(0)
    noisy = np.clip(films + 40 * rng.standard_normal(films.shape), 0, 255).astype(np.uint8)
    blurred = (
        (
            films.astype(int)
            + np.roll(films, 1, 1)
            + np.roll(films, 1, 2)
            + np.roll(films, -1, 2)
            + np.roll(films, -1, 1)
        )
        // 5
    ).astype(np.uint8)
    collapsed = np.repeat(films[:2], len(films) // 2, axis=0)
    real = score(pool, folder(tmp_path / "real", films), extractor)
    assert real.value < 2 * real.floor
    for name, spoilt in (("noisy", noisy), ("blurred", blurred), ("collapsed", collapsed)):
        assert score(pool, folder(tmp_path / name, spoilt), extractor).value > 3 * real.value, name


def test_numbers_of_marked_films_are_of_the_films(
    pool: Pool, extractor: Extractor, tmp_path: Path, only: Callable[..., None]
) -> None:
    """Everything is measured with the foot of both sets hidden, and a warning reports it; distances of the mark were
    taken for those of the films."""
    only("distances")
    films = pool.read(np.arange(0, len(pool), 4))
    found = {}
    for name, some in (("plain", films), ("marked", np.stack([marked(film, 255) for film in films]))):
        found[name] = {each.key: each for each in whole(pool, folder(tmp_path / name, some), extractor).records}
    assert found["plain"].keys() == found["marked"].keys()
    assert {each.hidden for each in found["plain"].values()} == {None}
    assert {each.hidden for each in found["marked"].values()} == {round(9 / 32, 4)}
    marked_films = found["marked"]
    assert marked_films["precision_random8_60_k5"].value > 0.9, "0 where the mark is not hidden"
    assert marked_films["fd_random8_60"].ci95[0] <= marked_films["fd_random8_60"].floor


def test_too_few_films_are_refused_unless_allowed_and_then_marked_in_the_key(
    pool: Pool, extractor: Extractor, tmp_path: Path, score: Callable[..., Record]
) -> None:
    path = folder(tmp_path / "few", pool.read(pool.indices("all")[:6]))
    with pytest.raises(ValueError, match=r"give 6 per set, not more than the 8 dimensions of random8.*--allow-small"):
        score(pool, path, extractor)
    # Ten jackknife groups need more than ten films per set, so the dimensions are raised instead of the films lowered.
    wide = Extractor("random64", "0" * 64, Reader(ReaderConfig((), (), (), res=32, widths=(8, 64))).eval())
    some = folder(tmp_path / "some", pool.read(pool.indices("all")[:40]))
    assert score(pool, some, wide, allow_small=True).key == "fd_random64_40_small"


def test_too_few_films_are_refused_before_any_is_read_or_generated(
    pool: Pool, extractor: Extractor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Features of all real films were computed first, and as many films generated as were requested."""
    few = folder(tmp_path / "few", pool.read(pool.indices("all")[:6]))
    touched = [(Pool, "read"), (fakes, "sample_films"), (fakes, "store_films")]
    for owner, name in touched:
        monkeypatch.setattr(owner, name, lambda *_, name=name, **__: pytest.fail(f"{name} was called"))
    monkeypatch.setattr(pool, "resolution", 64)
    monkeypatch.setattr(Pool, "at_resolution", lambda pool, _: pool)
    enough = partial(enough_films, pool, [extractor], split="all", allow_small=False)
    for fake, count in ((few, 64), ("nih-64", 8)):
        with (
            pytest.raises(ValueError, match=r"give [68] per set, not more than the 8 dimensions of random8"),
            open_fakes(str(fake), 64, count, 1.0, "cpu", enough),
        ):
            pass


def test_too_few_films_are_refused_before_phantoms_are_drawn(
    pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    few = folder(tmp_path / "few", pool.read(pool.indices("all")[:6]))
    for name in ("draw_posed_films", "draw_labelled_films"):
        monkeypatch.setattr(labelled, name, lambda *_, **__: pytest.fail("phantoms were drawn"))
    code, _, err = run_command(capsys, "score", "--real", pool.path, "--fake", few, "--poses", "--label-noise")
    assert code != 0
    assert "give 6 per set, not more than the " in err


@pytest.mark.parametrize(
    ("section", "reason"),
    [
        ("native_crops", "films per set are too few for an interval"),
        ("fine_structure", "films per set are too few for an interval"),
        ("diversity", "3 films are too few for pairs"),
        ("plausibility", "give 3 per set; plausibility needs at least 20"),
    ],
)
def test_a_section_of_too_few_films_is_left_out_before_any_is_read(
    pool: Pool, extractor: Extractor, monkeypatch: pytest.MonkeyPatch, section: str, reason: str
) -> None:
    rows = pool.indices("all")
    films = FakeFilms(pool.read(rows[:3]), [Condition("PA")] * 3, ["f"] * 3, 1.0, "", None, None, {})
    fair = fair_groups(pool, rows, extractor)
    side = Side(
        rows, pool.codes("patient")[0][rows], np.zeros((len(rows), 8), np.float32), np.zeros((3, 8), np.float32)
    )
    monkeypatch.setattr(Pool, "read", lambda *_: pytest.fail("films were read"))
    looked = panel.Looked(extractor, fair, [side], 3)
    context = panel.Context(pool, pool, rows, films, [looked], "all", 0, "cpu")
    part = getattr(panel, section)
    with pytest.raises(ValueError, match=reason):
        part(context, looked) if section == "native_crops" else part(context)


def test_bands_of_detail_do_not_depend_on_the_depth_of_the_pool(
    pool: Pool, extractor: Extractor, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Powers of 16-bit films beside those of 8-bit ones were 48 dB apart.
    rows, read = pool.indices("all"), Pool.read
    films = FakeFilms(pool.read(rows), [Condition("PA")] * len(rows), ["f"] * len(rows), 1.0, "", None, None, {})
    context = panel.Context(pool, pool, rows, films, [], "all", 0, "cpu")
    shallow = panel.fine_structure(context).records
    monkeypatch.setattr(Pool, "read", lambda self, some: read(self, some).astype(np.uint16) * 257)
    assert panel.fine_structure(context).records == shallow
    assert {each.measure for each in shallow} == {"grid", "sharpness", "band"}


@pytest.mark.parametrize("split", ["train", "holdout"])
def test_the_split_is_kept(
    pool: Pool, extractor: Extractor, tmp_path: Path, split: str, score: Callable[..., Record]
) -> None:
    record = score(pool, folder(tmp_path / "fakes", pool.read(pool.indices(split))), extractor, split=split)
    assert record.split == split
    assert record.num_real <= len(pool.indices(split)) // 2


def test_the_same_films_in_both_sets_are_reported(
    pool: Pool, extractor: Extractor, tmp_path: Path, caplog: pytest.LogCaptureFixture, only: Callable[..., None]
) -> None:
    only("memorisation")
    found = whole(pool, folder(tmp_path / "same", pool.read(pool.indices("all"))), extractor)
    assert "240 of 240 synthetic films are films of" in caplog.text
    assert {each.measure: each.value for each in found.records}["memorised_rate"] > 0.9


def test_the_panel_is_whole_and_reports_what_it_could_not_measure(
    pool: Pool, extractor: Extractor, tmp_path: Path
) -> None:
    path = folder(tmp_path / "fakes", np.stack([blob(10_000 + i, 32, i % 2 == 0) for i in range(120)]))
    found = whole(pool, path, extractor)
    kinds = {each.measure for each in found.records}
    spread = {"precision", "recall", "density", "coverage", "vendi", "msssim"}
    assert {
        "fd",
        "fdinf",
        "kid",
        "near_rate",
        "memorised_rate",
        "real_or_synthetic",
        "grid",
        "sharpness",
        "band",
    } | spread <= kinds
    assert any("the requested conditions of these films are unknown" in note for note in found.notes)
    assert any(note.startswith("no distance of the ctr, viewer left lung") for note in found.notes), (
        "discs are no chests"
    )
    assert all(each.seconds >= 0 and each.num_fake >= 0 for each in found.records)
    with open(path / "samples.csv") as file:
        rows = list(csv.DictReader(file))  # there was no table: one is written
    assert [set(rows[0]), len(rows)] == [{"file", "nearest", "stranger_rank", "memorised"}, 120]
    text = score_table(found)
    assert all(each.key in text for each in found.records)


def test_a_holdout_claim_that_cannot_be_checked_is_refused(
    pool: Pool, extractor: Extractor, tmp_path: Path, only: Callable[..., None]
) -> None:
    only()
    path = folder(tmp_path / "fakes", np.stack([blob(10_000 + i, 32, i % 2 == 0) for i in range(44)]))
    learnt = {"sources": {"folder": {}}, "pool_fingerprint": "another"}
    (path / "network.json").write_text(json.dumps(learnt))
    other = replace_sources(pool, {"folder": {}})
    with pytest.raises(ValueError, match="--split holdout: the network was trained on a folder"):
        whole(other, path, extractor, split="holdout")
    (path / "network.json").write_text(json.dumps({**learnt, "pool_fingerprint": pool.fingerprint}))
    whole(other, path, extractor, split="holdout")


def replace_sources(pool: Pool, sources: dict) -> Pool:
    other = Pool.open(pool.path)
    other.meta = {**other.meta, "sources": sources}
    return other


def test_extractors_by_file(pool: Pool, extractor: Extractor, tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    save_reader(path, extractor.reader, pool, {})
    loaded = load_extractor(str(path))
    assert (loaded.name, loaded.dim, len(loaded.sha256)) == ("mine", 8, 64)
    batch = pool.read(pool.indices("all")[:9])
    np.testing.assert_allclose(
        loaded.features([batch[:4], batch[4:]]), extractor.features([batch]), rtol=1e-4, atol=1e-5
    )
    with pytest.raises(ValueError, match="no classifier file or extractor 'thiscxr65'"):
        load_extractor("thiscxr65")


def test_a_section_that_fails_leaves_no_results(
    pool: Pool, extractor: Extractor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, only: Callable[..., None]
) -> None:
    only("confounders")

    # The verdict mentioned a linear probe whose record had been dropped with its section.
    def broken(*some: object, **options: object) -> None:
        raise ValueError("ties cannot be computed")

    monkeypatch.setattr(panel, "ties", broken)
    found = whole(
        pool, folder(tmp_path / "fakes", np.stack([blob(10_000 + i, 32, i % 2 == 0) for i in range(44)])), extractor
    )
    assert not found.records
    assert "ties cannot be computed" in found.notes
    assert (found.shifts, found.clouds) == ([], {})
    assert not [note for note in found.notes if note.startswith("probe for")], "nor do its other notes"
    assert not [line for line in verdict(found.records) if "linear classifier" in line]


def test_a_section_is_whole_or_nothing() -> None:
    def found(context: panel.Context) -> panel.Panel:
        return panel.Panel([record("fd")], ["a note"], clouds={"real films": np.zeros((0, 2))})

    def lost(context: panel.Context) -> panel.Panel:
        found(context)
        raise ValueError("too few films")

    nothing, whole_part = panel.whole_or_nothing(lost, None), panel.whole_or_nothing(found, None)
    assert nothing == panel.Panel(notes=["too few films"])
    both = panel.Panel(notes=["before"]) + nothing + whole_part
    assert (both.notes, [each.measure for each in both.records]) == (["before", "too few films", "a note"], ["fd"])
    assert both.records[0].seconds is not None
    assert (whole_part.notes, nothing.records) == (["a note"], []), "panels add up and do not change"
    with pytest.raises(KeyError):
        panel.whole_or_nothing(lambda context: {}["a fault of ours"], None)


def test_a_table_that_cannot_be_written_costs_no_score(
    pool: Pool, extractor: Extractor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, only: Callable[..., None]
) -> None:
    only("memorisation")
    path = folder(tmp_path / "fakes", np.stack([blob(10_000 + i, 32, i % 2 == 0) for i in range(44)]))

    @contextmanager
    def full(path: Path) -> Iterator[Path]:
        raise OSError(errno.ENOSPC, "No space left on device")
        yield path

    monkeypatch.setattr("thiscxr.score.memorisation.atomic_path", full)
    found = whole(pool, path, extractor)
    assert "memorised_rate" in {each.measure for each in found.records}
    assert found.audit is not None
    (note,) = (note for note in found.notes if "samples.csv cannot be written" in note)
    assert "No space left on device" in note
