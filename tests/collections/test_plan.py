"""Which films are wanted and where they lie; which patients are held out together."""

from pathlib import Path

import numpy as np
import pytest

from tests.films import png
from thiscxr.collections.ids import patient_split
from thiscxr.collections.plan import MISSING, wanted_films
from thiscxr.collections.rsna import MAP
from thiscxr.collections.splits import Splits
from thiscxr.labels import FilmRecord
from thiscxr.phantom.releases import truth, write_layout
from thiscxr.pixels import save_png
from thiscxr.pool.prepare import prepare

HEADER = "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position\n"


def nih(root: Path, *names: str) -> Path:
    root.mkdir(exist_ok=True)
    rows = [f"{name},No Finding,0,{int(name[:8])},50,M,PA\n" for name in names]
    (root / "Data_Entry_2017_v2020.csv").write_text(HEADER + "".join(rows))
    return root


def film(seed: int, res: int = 32) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (res, res), np.uint8)


def test_the_larger_of_two_copies_is_taken_and_the_release_format_before_others(tmp_path):
    root = nih(tmp_path, "00000001_000.png", "00000002_000.png")
    for place, res in (("images-224", 32), ("images_001/images", 64)):
        for name in ("00000001_000.png", "00000002_000.jpg"):
            (root / place).mkdir(parents=True, exist_ok=True)
            (root / place / name).write_bytes(png(film(1, res)))
    save_png(root / "images-224" / "00000002_000.png", film(2))
    (part,) = wanted_films([("nih", root)])
    assert part.files["00000001_000.png"].path == str(root / "images_001/images/00000001_000.png")
    assert part.files["00000002_000.png"].path == str(root / "images-224/00000002_000.png")


def test_a_film_that_lies_in_the_second_folder_only_is_found(tmp_path):
    one, two = (nih(tmp_path / name, "00000001_000.png", "00000002_000.png", "00000003_000.png") for name in "ab")
    save_png(one / "00000001_000.png", film(1))
    save_png(two / "00000002_000.png", film(2))
    (part,) = wanted_films([("nih", one), ("nih", two)])
    assert list(part.films) == ["00000001_000.png", "00000002_000.png"]
    assert part.dropped == {"listed twice": 3, MISSING: 1}
    assert len(part.released) == len(part.films) + part.dropped.total()


@pytest.mark.parametrize("layout", ["nih", "openi"])
def test_what_compressed_tars_lack_is_missing_and_counts_add_up(tmp_path, layout):
    write_layout(tmp_path / "release", layout, 12, 32, archived=True)
    first = next(
        path
        for path in sorted((tmp_path / "release").iterdir())
        if path.name.endswith("gz") and "report" not in path.name
    )
    first.unlink()
    (part,) = wanted_films([(layout, tmp_path / "release")])
    listed = len(part.released)
    met = [record.film for record, data in part.streamed(lambda record: False) if data]
    assert sorted(met) == sorted(part.films)
    assert part.dropped[MISSING] > 0
    assert len(part.films) + part.dropped.total() == listed


@pytest.mark.slow
def test_an_archived_release_gives_the_pool_of_the_unpacked_one(tmp_path):
    for layout in ("nih", "chexpert", "padchest", "openi"):
        for archived in (False, True):
            write_layout(tmp_path / f"{layout}{archived}", layout, 6, 32, archived=archived)
        pools = [
            prepare(
                tmp_path / f"pool-{layout}{archived}",
                [(layout, tmp_path / f"{layout}{archived}")],
                32,
                key_file=tmp_path / "key",
            )
            for archived in (False, True)
        ]
        assert pools[0].fingerprint == pools[1].fingerprint, layout
        assert pools[0].num_kept == pools[1].num_kept > 0


def test_rsna_and_nih_are_not_pooled_without_the_map(tmp_path):
    rsna = tmp_path / "rsna"
    rsna.mkdir()
    (rsna / "stage_2_train_labels.csv").write_text("patientId,x,y,width,height,Target\nabc,,,,,0\n")
    sources = [("nih", nih(tmp_path / "nih", "00000001_000.png")), ("rsna", rsna)]
    with pytest.raises(ValueError, match=f"{MAP}, the map between them, is missing") as caught:
        wanted_films(sources, labels_only=True)
    assert "\n" not in str(caught.value)
    assert len(wanted_films(sources[1:], labels_only=True)) == 1


def test_nothing_is_lost_between_rows_and_reasons(tmp_path):
    for layout in ("padchest", "mimic-cxr"):
        write_layout(tmp_path / layout, layout, 20, 32, defects=0.3)
        (part,) = wanted_films([(layout, tmp_path / layout)])
        assert len(part.released) == len(part.films) + part.dropped.total()
        assert {record.film for record in part.released} == {known.record.film for known in truth(layout, 20)}


def record(patient: str, **facts) -> FilmRecord:
    return FilmRecord(patient, patient, patient, patient, **facts)


def splits_of(films: list[tuple[str, FilmRecord]], *ties: tuple[int, int]) -> list[str]:
    splits = Splits()
    for source, one in films:
        splits.add(source, one)
    for one, other in ties:
        splits.tie((films[one][0], films[one][1].patient), (films[other][0], films[other][1].patient))
    splits.close()
    return [splits.of(source, one) for source, one in films]


def test_without_ties_every_patient_has_the_split_of_the_id():
    films = [("nih", record(str(patient))) for patient in range(200)]
    assert splits_of(films) == [patient_split("nih", str(patient)) for patient in range(200)]


def test_linked_patients_are_in_one_split_and_held_out_if_any_is():
    held = next(str(i) for i in range(99) if patient_split("nih", str(i)) == "holdout")
    trained = [str(i) for i in range(99) if patient_split("nih", str(i)) == patient_split("rsna", str(i)) == "train"][
        :3
    ]
    films = [("nih", record(held)), *(("nih", record(patient)) for patient in trained), ("rsna", record(trained[0]))]
    assert splits_of(films) == ["holdout", "train", "train", "train", "train"]
    assert splits_of(films, (0, 1), (1, 2), (4, 3)) == ["holdout", "holdout", "holdout", "train", "train"]
    assert splits_of(films, (3, 2), (2, 0), (4, 3)) == ["holdout", "train", "holdout", "holdout", "holdout"]


def test_official_splits_go_before_the_patients_own_and_split_as_follows_another():
    held = next(str(i) for i in range(99) if patient_split("nih", str(i)) == "holdout")
    trained = next(
        str(i) for i in range(99) if patient_split("rsna", str(i)) == patient_split("nih", str(i)) == "train"
    )
    assert splits_of([("nih", record(held, split="train")), ("nih", record(trained, split="holdout"))]) == [
        "train",
        "holdout",
    ]
    assert splits_of([("rsna", record(trained, split_as=("nih", held)))]) == ["holdout"]
    # the NIH film's official split decides for the RSNA film of the same patient
    assert splits_of([("nih", record(trained, split="holdout")), ("rsna", record("x", split_as=("nih", trained)))]) == [
        "holdout",
        "holdout",
    ]


def test_labels_from_reports_are_requested_of_collections_that_have_reports(tmp_path):
    with pytest.raises(
        ValueError, match="--nih is released without reports; it is for --mimic-cxr, --openi, and --folder"
    ) as caught:
        wanted_films([("nih", nih(tmp_path / "nih", "00000001_000.png"))], labels_only=True, labels="reports")
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=r"--labels report .* is not one of released, reports"):
        wanted_films([("nih", tmp_path / "nih")], labels_only=True, labels="report")
