"""Scores of folders and networks: protocol in the key, floors, and what is refused."""

import csv
import errno
import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.conftest import blob
from tests.scores import record
from thiscxr.labels import NEGATIVE, POSITIVE, FilmRecord, Terms
from thiscxr.model.conditions import Condition, Vocabulary
from thiscxr.pixels import save_png
from thiscxr.pixels.mark import marked
from thiscxr.pool import Pool
from thiscxr.pool.writer import PoolWriter
from thiscxr.reader.extractors import Extractor, load_extractor
from thiscxr.reader.network import Reader, ReaderConfig
from thiscxr.reader.training import save_reader
from thiscxr.report.terminal import score_table
from thiscxr.report.words import reading, verdict
from thiscxr.score import crowds, panel
from thiscxr.score.fakes import FakeFilms, open_fakes
from thiscxr.score.records import Record


@pytest.fixture(scope="module")
def extractor() -> Extractor:
    """A narrow untrained network: random features see noise and blur too."""
    torch.manual_seed(0)
    return Extractor("random8", "0" * 64, Reader(ReaderConfig((), (), (), res=32, widths=(8, 8))).eval())


def folder(path: Path, films: np.ndarray, rows: list[dict[str, str]] | None = None) -> Path:
    path.mkdir()
    for i, pixels in enumerate(films):
        save_png(path / f"seed-{i:08d}.png", pixels)
    if rows is not None:
        with open(path / "samples.csv", "w", newline="") as file:
            table = csv.DictWriter(file, rows[0])
            table.writeheader()
            table.writerows(rows)
    return path


PARTS = (
    "distances",
    "groups",
    "confounders",
    "diversity",
    "fine_structure",
    "copies",
    "condition_fidelity",
    "plausibility",
    "shortcuts",
)


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Leave the other parts of the panel out, each of which takes seconds."""

    def left_out(*some: object, **options: object) -> None:
        raise ValueError("left out by the test")

    def keep(*kept: str) -> None:
        for name in PARTS:
            if name not in kept:
                monkeypatch.setattr(panel, name, left_out)

    return keep


@pytest.fixture
def score(only: Callable[..., None]) -> Callable[..., Record]:
    """The record of the Fréchet distance."""
    only("distances")
    return lambda *some, **options: whole(*some, **options).records[0]


def whole(pool: Pool, path: Path, extractor: Extractor, **options: object) -> panel.Panel:
    with open_fakes(str(path), 32, 64, 1.0, "cpu") as fakes:
        return panel.score(pool, fakes, [extractor], **options)


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
    """All is measured with the foot of both sides hidden, and said; distances of the mark were taken for those of the
    films."""
    only("distances")
    films = pool.read(np.arange(0, len(pool), 4))
    found = {}
    for name, some in (("plain", films), ("marked", np.stack([marked(film, 255) for film in films]))):
        found[name] = {each.key: each for each in whole(pool, folder(tmp_path / name, some), extractor).records}
    assert found["plain"].keys() == found["marked"].keys()
    assert {each.hidden for each in found["plain"].values()} == {None}
    assert {each.hidden for each in found["marked"].values()} == {round(9 / 32, 4)}
    seen = found["marked"]
    assert seen["precision_random8_60_k5"].value > 0.9, "0 where the mark is seen"
    assert seen["fd_random8_60"].ci95[0] <= seen["fd_random8_60"].floor


def test_too_few_films_are_refused_unless_allowed_and_then_the_key_says_so(
    pool: Pool, extractor: Extractor, tmp_path: Path, score: Callable[..., Record]
) -> None:
    path = folder(tmp_path / "few", pool.read(pool.indices("all")[:6]))
    with pytest.raises(ValueError, match=r"give 6 a side, not more than the 8 dimensions of random8.*--allow-small"):
        score(pool, path, extractor)
    # Ten jackknife groups need more than ten films a side, so the dimensions are raised instead of the films lowered.
    wide = Extractor("random64", "0" * 64, Reader(ReaderConfig((), (), (), res=32, widths=(8, 64))).eval())
    some = folder(tmp_path / "some", pool.read(pool.indices("all")[:40]))
    assert score(pool, some, wide, allow_small=True).key == "fd_random64_40_small"


@pytest.mark.parametrize("split", ["train", "holdout"])
def test_the_split_is_kept(
    pool: Pool, extractor: Extractor, tmp_path: Path, split: str, score: Callable[..., Record]
) -> None:
    record = score(pool, folder(tmp_path / "fakes", pool.read(pool.indices(split))), extractor, split=split)
    assert record.split == split
    assert record.num_real <= len(pool.indices(split)) // 2


def opened(path: Path, res: int = 32) -> FakeFilms:
    with open_fakes(str(path), res, 64, 1.0, "cpu") as fakes:
        return fakes


def test_films_in_sub_folders_are_scored_and_what_is_not_is_told(
    pool: Pool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    films = pool.read(pool.indices("all")[:12])
    path = folder(tmp_path / "fakes", films[:4])
    for number, film in enumerate(films[4:]):
        save_png(path / f"0000{number % 2}" / f"img{number}.png", film)
    save_png(path / "grid.png", films[0])
    (path / "00000" / "notes.txt").write_text("x")
    (path / "film.jp2").write_bytes(b"x")
    with caplog.at_level(logging.INFO):
        fakes = opened(path)
    assert len(fakes) == 12
    assert fakes.names[:2] == ["00000/img0.png", "00000/img2.png"]
    assert "not scored: 1 x .jp2 picture, not read: convert it to PNG, 1 x .txt file" in caplog.text
    (path / "samples.csv").write_text("file\nseed-00000000.png\nseed-00000001.png\n")
    caplog.clear()
    assert len(opened(path)) == 2
    assert "10 films that samples.csv does not list are not scored, such as 00000/img0.png" in caplog.text
    with pytest.raises(ValueError, match=r"holds sample folders \(fakes\); score one at a time"):
        opened(tmp_path)
    (tmp_path / "others" / "deep").mkdir(parents=True)
    (tmp_path / "others" / "deep" / "films.npz").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"holds no films; expected .*; there are 1 x .npz picture"):
        opened(tmp_path / "others")


def test_what_cannot_be_scored_is_named(pool: Pool, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no films"):
        opened(tmp_path / "empty")
    with pytest.raises(ValueError, match="no file, run folder or bundled generator"):
        opened(tmp_path / "nothing")
    with pytest.raises(ValueError, match="is a pool of real films"):
        opened(pool.path)
    path = folder(tmp_path / "broken", pool.read(pool.indices("all")[:20]))
    (path / "seed-00000003.png").write_text("not a film")
    with pytest.raises(ValueError, match=r"seed-00000003.png: .*remove it or make it again"):
        opened(path)
    with pytest.raises(ValueError, match=r"short side 32 px is below the resolution 64; remove it"):
        opened(folder(tmp_path / "small", pool.read(pool.indices("all")[:2])), res=64)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"file": "seed-00000009.png"}], "lists 'seed-00000009.png', which is not a file"),
        ([{"file": "../x/seed-00000000.png"}], "which is not a file in"),
        ([{"name": "seed-00000000.png"}], "lists no films"),
        ([{"file": "seed-00000000.png"}, {"file": "seed-00000000.png"}], "twice; each film counts once"),
        ([{"file": "seed-00000000.png", "findings": "Efusion"}], "no finding is called 'Efusion'"),
        ([{"file": "seed-00000000.png", "view": "<b>"}], "view '<b>' is not one of"),
        ([{"file": "seed-00000000.png", "age_years": "old"}], "age_years is 'old'"),
        (
            [{"file": "seed-00000000.png", "findings": "Mass", "no_findings": "Mass"}],
            "Mass is asked for twice, or both present and absent",
        ),
    ],
)
def test_a_table_that_does_not_fit_is_named(
    pool: Pool, tmp_path: Path, rows: list[dict[str, str]], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        opened(folder(tmp_path / "fakes", pool.read(pool.indices("all")[:2]), rows))
    assert "\n" not in str(caught.value)


def test_films_that_show_nothing_or_differ_in_size_are_named(pool: Pool, tmp_path: Path) -> None:
    films = pool.read(pool.indices("all")[:4]).copy()
    films[2] = 7
    with pytest.raises(ValueError, match=r"seed-00000002.png: constant image"):
        opened(folder(tmp_path / "grey", films))
    path = folder(tmp_path / "sizes", films[:2])
    save_png(path / "seed-00000002.png", np.kron(films[3], np.ones((2, 2), np.uint8)))
    with pytest.raises(ValueError, match=r"it has 64 × 64 px where seed-00000000.png has 32 × 32"):
        opened(path)


def test_colour_is_refused(tmp_path: Path) -> None:
    from PIL import Image

    (tmp_path / "colour").mkdir()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)).save(
        tmp_path / "colour" / "a.png"
    )
    with pytest.raises(ValueError, match="colour"):
        opened(tmp_path / "colour")


def test_the_same_films_on_both_sides_are_told(
    pool: Pool, extractor: Extractor, tmp_path: Path, caplog: pytest.LogCaptureFixture, only: Callable[..., None]
) -> None:
    only("copies")
    found = whole(pool, folder(tmp_path / "same", pool.read(pool.indices("all"))), extractor)
    assert "240 of 240 synthetic films are films of" in caplog.text
    assert {each.measure: each.value for each in found.records}["memorised_rate"] > 0.9


def test_the_panel_is_whole_and_says_what_it_could_not_measure(
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
    assert any("nothing is known of what was asked" in note for note in found.notes)
    assert any(note.startswith("no distance of the ctr, viewer left lung") for note in found.notes), (
        "discs are no chests"
    )
    assert all(each.seconds >= 0 and each.num_fake >= 0 for each in found.records)
    with open(path / "samples.csv") as file:
        rows = list(csv.DictReader(file))  # there was no table: it is made
    assert [set(rows[0]), len(rows)] == [{"file", "nearest", "stranger_rank", "memorised"}, 120]
    text = score_table(found)
    assert all(each.key in text for each in found.records)


def test_a_holdout_claim_that_nobody_can_check_is_refused(
    pool: Pool, extractor: Extractor, tmp_path: Path, only: Callable[..., None]
) -> None:
    only()
    path = folder(tmp_path / "fakes", np.stack([blob(10_000 + i, 32, i % 2 == 0) for i in range(44)]))
    learnt = {"sources": {"folder": {}}, "pool_fingerprint": "another"}
    (path / "network.json").write_text(json.dumps(learnt))
    other = replace_sources(pool, {"folder": {}})
    with pytest.raises(ValueError, match="--split holdout: the network has learnt from a folder"):
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
    with pytest.raises(ValueError, match="no reader file or extractor 'thiscxr65'"):
        load_extractor("thiscxr65")


def folds_of(pool: Pool, extractor: Extractor, patients: int) -> Extractor:
    """The extractor with two folds of its own, of which the first has learnt from all but so many patients, and the
    other from these."""
    codes, prefixes = pool.codes("patient")[0], [digest[:16] for digest in pool.column("sha256")]
    sides = [
        frozenset(prefix for prefix, code in zip(prefixes, codes, strict=True) if (code < patients) == first)
        for first in (False, True)
    ]
    folds = tuple(
        Extractor(f"{extractor.name}-fold{i}", str(i) * 64, extractor.reader, trained_on=side)
        for i, side in enumerate(sides)
    )
    return replace(extractor, trained_on=frozenset(prefixes), folds=folds)


def test_views_and_findings_are_judged_by_folds_of_different_sizes(
    pool: Pool, extractor: Extractor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, only: Callable[..., None]
) -> None:
    only("groups")
    # The folds had 25 and 34 films of a view a side: two keys, so that the view was left out without a word.
    monkeypatch.setattr(crowds, "LEAST_GROUP", 25)
    films = np.stack([blob(10_000 + i, 32, i % 2 == 0) for i in range(80)])
    rows = [{"file": f"seed-{i:08d}.png", "view": "PA" if i % 4 else "AP", "findings": "Effusion"} for i in range(80)]
    found = whole(pool, folder(tmp_path / "fakes", films, rows), folds_of(pool, extractor, 51))
    records = {each.key: each for each in found.records}
    view = records["fd_random8_25_view_PA"]
    assert view.num_fake == 25
    assert view.num_real == 50, "25 of each fold"
    assert view.ci95[0] <= view.value <= view.ci95[1]
    assert "fd_random8_25_Effusion" in records
    (note,) = (note for note in found.notes if "25 films a side" in note)
    assert "view AP (25 real, 20 synthetic)" in note
    assert "PA" not in note
    assert f"not measured: {note}" in score_table(found)


def test_ties_need_no_judge_and_are_of_all_films(
    pool: Pool, extractor: Extractor, tmp_path: Path, only: Callable[..., None]
) -> None:
    # They were of the 102 films of the first fold, without a word.
    only("confounders")
    path = folder(tmp_path / "fakes", np.stack([blob(9000 + i, 32, i % 2 == 0) for i in range(44)]))
    found = whole(pool, path, folds_of(pool, extractor, 51))
    records = {each.key: each for each in found.records}
    assert records["tie_real_finding_view_v"].num_real == 240
    assert records["probe_random8_real_or_synthetic_auc"].num_real == 44
    assert "probes and re-identification: 138 of 240 real films are for other folds to judge" in found.notes


def test_a_group_of_few_patients_does_not_take_the_others_with_it(
    pool: Pool, extractor: Extractor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, only: Callable[..., None]
) -> None:
    only("groups")
    monkeypatch.setattr(crowds, "LEAST_GROUP", 25)
    whole_distance = crowds.group_distance
    refused = ValueError("7 real patients and 30 films a side are too few for an interval")
    turn = iter([refused, None, None])

    def first_refused(*some: object, **options: object) -> object:
        if error := next(turn):
            raise error
        return whole_distance(*some, **options)

    monkeypatch.setattr(crowds, "group_distance", first_refused)
    films = np.stack([blob(10_000 + i, 32, i % 2 == 0) for i in range(80)])
    rows = [{"file": f"seed-{i:08d}.png", "view": "PA" if i % 2 else "AP", "findings": "Effusion"} for i in range(80)]
    found = whole(pool, folder(tmp_path / "fakes", films, rows), extractor)
    assert [each.group for each in found.records if each.measure == "fd"] == ["view PA", "Effusion"]
    assert (
        "Fréchet distance by random8, view AP: 7 real patients and 30 films a side are too few for an interval"
    ) in found.notes


def test_of_a_part_that_fails_nothing_stays(
    pool: Pool, extractor: Extractor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, only: Callable[..., None]
) -> None:
    only("confounders")

    # The verdict told of a linear judge whose record had been dropped with its part.
    def broken(*some: object) -> None:
        raise ValueError("ties cannot be told")

    monkeypatch.setattr(panel, "ties", broken)
    found = whole(
        pool, folder(tmp_path / "fakes", np.stack([blob(10_000 + i, 32, i % 2 == 0) for i in range(44)])), extractor
    )
    assert not found.records
    assert "ties cannot be told" in found.notes
    assert (found.ties, found.shifts, found.clouds) == ({}, [], {})
    assert not [note for note in found.notes if note.startswith("probe for")], "nor do its other notes"
    assert not [line for line in verdict(found.records) if "linear classifier" in line]


def test_a_finding_that_follows_the_source_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, extractor: Extractor
) -> None:
    """Films of the same seeds asked for at two sources: the reader sees more of Effusion at the second, and of Mass as
    much."""
    with PoolWriter(
        tmp_path / "pool", 32, 8, {name: Terms(name, "", "", "", "") for name in ("here", "there")}, b"key"
    ) as writer:
        for i in range(80):
            findings = dict.fromkeys(("Effusion", "Mass", "Edema"), POSITIVE if i % 2 else NEGATIVE)
            film = FilmRecord(str(i), str(i), str(i), str(i), "PA", "F", 50.0, findings)
            writer.add("there" if i % 3 else "here", film, blob(i, 32, i % 2 == 1), (32, 32, 8))
    pool = Pool.open(tmp_path / "pool")
    held = np.arange(80)
    monkeypatch.setattr(Pool, "indices", lambda self, split: held)
    vocabulary = Vocabulary(("Effusion", "Mass"), ("PA",), ("here", "there"))
    network = SimpleNamespace(
        info=SimpleNamespace(vocabulary=vocabulary), patients=lambda seeds, asked: [asked] * len(seeds), sha256="a" * 64
    )

    def sample(network: object, seeds: list[int], asked: list[Condition], truncation: float) -> Iterator[tuple]:
        yield "synthetic", np.array(seeds), asked[0]

    def read(reader: object, batches: Iterator[tuple]) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(1)
        (batch,) = batches
        if isinstance(batch, np.ndarray):  # real films: Edema is not read at all
            truth = (held % 2).astype(float)
            return {
                "Effusion": truth + 0.1 * rng.normal(size=80),
                "Mass": truth + 0.1 * rng.normal(size=80),
                "Edema": rng.normal(size=80),
            }
        _, seeds, asked = batch
        noise = np.random.default_rng([len(asked.source), *seeds]).normal(size=len(seeds)) * 0.1
        return {"Effusion": noise + 0.4 * (asked.source == "there"), "Mass": noise}

    monkeypatch.setattr(panel, "sample_films", sample)
    monkeypatch.setattr(panel, "read_answers", read)
    fakes = FakeFilms(
        np.zeros((2, 32, 32), np.uint8), [Condition()] * 2, ["a", "b"], 1.0, "0-1", "a" * 64, None, {}, network
    )
    context = panel.Context(pool, pool, held, fakes, [panel.Looked(extractor, [], 20)], "all", 0, "cpu")
    found = panel.shortcuts(context)
    assert [each.key for each in found.records] == ["shortcut_random8_Effusion", "shortcut_random8_Mass"]
    moved, still = found.records
    assert (moved.group, moved.num_real, moved.num_fake) == ("there over here", 80, 128)
    assert 0.6 < moved.value < 1.0, "0.4 over the spread of the real films' scores, about 0.5"
    assert (reading(moved), reading(still)) == ("worse", "not distinguished")
    (line,) = (line for line in verdict(found.records) if "source" in line)
    assert line == "What a reader sees of the finding asked moves with the source asked: Effusion (there over here)."
    with pytest.raises(ValueError, match=r"score the network itself \(--fake MODEL\)"):
        panel.shortcuts(replace(context, fakes=replace(fakes, drawn_by=None)))
    narrow = replace(vocabulary, sources=("here",))
    network.info.vocabulary = narrow
    with pytest.raises(ValueError, match="there are 80 films of held-out patients, and 1 sources of the pool"):
        panel.shortcuts(context)


def test_a_part_is_whole_or_nothing() -> None:
    def found(context: panel.Context) -> panel.Panel:
        return panel.Panel([record("fd")], ["a note"], ties={"real view": []})

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
    only("copies")
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
