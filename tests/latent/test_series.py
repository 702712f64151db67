"""Pairs and series: one patient in all films, a finding that grows in them, and files that belong together."""

import csv
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread

from thiscxr.labels import NEGATIVE, POSITIVE
from thiscxr.latent.series import Series, draw_series, growth_table, in_pairs, write_series
from thiscxr.model.conditions import Condition
from thiscxr.pixels import load_film, read_png_text
from thiscxr.sample.dicom import DicomOptions, dicom_format
from thiscxr.sample.formats import FORMATS, PNG
from thiscxr.sample.sampling import Network, load
from thiscxr.sample.truncation import Truncation
from thiscxr.sample.writing import write_samples

SEEDS = [3, 4, 5]


PA = Condition("PA")


def drawn(network: Network, seeds: Sequence[int] = SEEDS) -> Series:
    return draw_series(network, seeds, "Effusion", 5, PA, Truncation())


def filled(films: np.ndarray) -> np.ndarray:
    """How bright the lower half of the body is: how high the fluid stands."""
    return films[:, 16:, 6:26].astype(float).mean(axis=(1, 2))


def widths(films: np.ndarray) -> np.ndarray:
    """How wide the body is, in columns: what stands out of the ground below the lungs."""
    return (films[:, 29:].astype(float).mean(axis=1) > 90).sum(axis=1)


def test_a_pair_is_one_body_in_two_views(trained: Network) -> None:
    seeds, conditions = in_pairs(trained, range(24), Condition("PA"))
    assert (seeds[:4], [c.view for c in conditions[:4]]) == ([0, 0, 1, 1], ["PA", "lateral", "PA", "lateral"])
    films = np.concatenate([trained.sample(range(24), view=view) for view in ("PA", "lateral")])
    frontal, lateral = np.split(widths(films), 2)
    assert np.ptp(frontal) >= 4, "or the next line says nothing"
    assert np.corrcoef(frontal, lateral)[0, 1] > 0.8
    assert (films[:24] != films[24:]).any(axis=(1, 2)).all()
    without_a_request = in_pairs(trained, [1], Condition())[1]
    assert [c.view for c in without_a_request] == ["PA", "lateral"]


@pytest.mark.parametrize("requested", [Condition("AP"), Condition("AP", findings={"Effusion": POSITIVE})])
def test_what_is_not_requested_is_drawn_once_per_patient(requested: Condition) -> None:
    network = load("nih-64")
    for one in network.patients(range(64), requested):
        assert (one.view, one.source) == ("AP", "nih")
        assert "No Finding" not in one.present or one.present == ["No Finding"]
        assert {*requested.present} <= {*one.present}
    films = draw_series(network, range(8), "Effusion", 3, requested, Truncation()).films
    people = [(film.condition.sex, film.condition.age_years) for film in films]
    assert all(len({*people[i : i + 3]}) == 1 for i in range(0, 24, 3)), "one patient in all visits"
    assert {sex for sex, _ in people} >= {"F", "M"}, "and not the same in every series"
    with pytest.raises(ValueError, match="finding 'Fracture' was not learnt"):
        network.patients([1], Condition(findings={"Fracture": POSITIVE}))


def test_pairs_are_refused_where_no_lateral_was_learnt(network: Network, trained: Network) -> None:
    for model in (network, load("nih-64")):
        with pytest.raises(
            ValueError, match=r"^--pairs: view 'lateral' was not learnt by this network; it knows: AP, PA$"
        ):
            in_pairs(model, [0], Condition("PA"))
    with pytest.raises(ValueError, match="leave --view out"):
        in_pairs(trained, [0], Condition("lateral"))


def test_a_pair_is_two_files_of_one_study(trained: Network, tmp_path: Path) -> None:
    for kind, form in (("png", PNG), ("dcm", dicom_format(DicomOptions()))):
        write_samples(trained, *in_pairs(trained, [5, 7], Condition(sex="M")), 1.0, tmp_path / kind, form)
        names = {path.name for path in (tmp_path / kind).glob(f"seed-*.{kind}")}
        assert names == {f"seed-{seed:08d}-{view}.{kind}" for seed in (5, 7) for view in ("PA", "lateral")}
    np.testing.assert_array_equal(
        load_film(tmp_path / "png" / "seed-00000005-lateral.png").pixels,
        trained.sample([5], view="lateral", sex="M")[0],
    )
    frontal, lateral, other = (
        dcmread(tmp_path / "dcm" / f"seed-0000000{name}.dcm") for name in ("5-PA", "5-lateral", "7-PA")
    )
    same = ("PatientID", "PatientName", "PatientSex", "StudyInstanceUID", "AccessionNumber", "StudyDate", "StudyTime")
    assert [getattr(frontal, name) for name in same] == [getattr(lateral, name) for name in same]
    differing = ("SeriesInstanceUID", "SOPInstanceUID", "SeriesNumber", "ViewPosition")
    assert all(getattr(frontal, name) != getattr(lateral, name) for name in differing)
    assert frontal.StudyInstanceUID != other.StudyInstanceUID
    write_samples(trained, [5], [Condition("PA")], 1.0, tmp_path / "png")  # what pairs wrote counts as samples


def test_the_finding_grows_and_the_body_stays(trained: Network) -> None:
    found = drawn(trained, range(12))
    films = found.pixels.reshape(12, 5, 32, 32)
    for patient in films:
        level = filled(patient)
        assert (np.diff(level) > 0).all(), level
        assert level[-1] - level[0] > 15
    width = np.stack([widths(patient) for patient in films])
    assert np.ptp(width, axis=1).mean() < 0.5 * np.ptp(width[:, 0])
    healthy, ill = (["No Finding"], ["Effusion"]), (["Effusion"], ["No Finding"])
    for i, (present, absent) in ((0, healthy), (4, ill)):
        ends = trained.sample(range(12), view="PA", findings=present, no_findings=absent)
        assert np.abs(ends.astype(int) - films[:, i]).max() <= 1, "the ends are films as they are requested"


def test_what_was_requested_is_stated_at_the_ends_only() -> None:
    network = load("nih-64")
    first, middle, last = draw_series(network, [2], "Effusion", 3, Condition("PA"), Truncation()).films
    assert (first.condition.findings["Effusion"], last.condition.findings["Effusion"]) == (NEGATIVE, POSITIVE)
    assert (first.condition.findings["No Finding"], last.condition.findings["No Finding"]) == (POSITIVE, NEGATIVE)
    assert dict(middle.condition.findings) == {}
    assert "Effusion at 50% of the way" in middle.requested_words
    assert "Nobody has said that it is there" in middle.requested_words


def test_a_series_of_files(trained: Network, tmp_path: Path) -> None:
    found = drawn(trained)
    predicted = np.linspace(0, 1, 15)
    write_series(found, trained, tmp_path / "out", PNG, predicted)
    with open(tmp_path / "out" / "samples.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows[:6]] == [f"seed-00000003-visit-{n}.png" for n in range(1, 6)] + [
        "seed-00000004-visit-1.png"
    ]
    assert [row["strength"] for row in rows[:5]] == ["0", "0.25", "0.5", "0.75", "1"]
    assert (rows[0]["no_findings"], rows[4]["findings"], rows[14]["reader_sees"]) == ("Effusion", "Effusion", "1.0000")
    days = [int(row["day"]) for row in rows[:5]]
    assert days[0] == 0
    assert all(3 <= gap <= 16 for gap in np.diff(days))
    np.testing.assert_array_equal(load_film(tmp_path / "out" / rows[7]["file"]).pixels, found.pixels[7])
    text = read_png_text(tmp_path / "out" / rows[7]["file"])
    assert text["Visit"].startswith("visit 3, day ")
    assert "not a patient" in text["Disclaimer"]
    write_series(found, trained, tmp_path / "out", FORMATS["png16"], predicted)  # replaces what it wrote itself
    (tmp_path / "out" / "thesis.docx").write_text("precious")
    with pytest.raises(ValueError, match=r"'thesis\.docx', which is not a sample"):
        write_series(found, trained, tmp_path / "out", PNG, predicted)


def test_a_series_of_dicom_files_is_one_patient_and_a_study_a_visit(tmp_path: Path) -> None:
    network = load("nih-64")
    seeds = range(9)
    found = draw_series(network, seeds, "Effusion", 12, Condition("PA", "F", 61.0), Truncation())
    write_series(found, network, tmp_path / "out", dicom_format(DicomOptions("dx")), np.zeros(108))
    ages = set()
    for seed in seeds:
        files: list[Dataset] = [dcmread(tmp_path / "out" / f"seed-{seed:08d}-visit-{n}.dcm") for n in range(1, 13)]
        for same in ("PatientID", "PatientName", "PatientBirthDate", "PatientSex"):
            assert len({str(getattr(file, same)) for file in files}) == 1, same
        for own in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "AccessionNumber"):
            assert len({getattr(file, own) for file in files}) == 12, own
        dates = [file.StudyDate for file in files]
        assert dates == sorted(set(dates))
        born = datetime.strptime(files[0].PatientBirthDate, "%Y%m%d")
        for file in files:
            day = datetime.strptime(file.StudyDate, "%Y%m%d")
            years = day.year - born.year - ((day.month, day.day) < (born.month, born.day))
            assert file.PatientAge == f"{years:03d}Y"
            ages.add(years)
        assert files[0].PatientAge == "061Y"
    assert ages == {61, 62}, "some have a birthday on the way"


def test_the_table_counts_who_grows() -> None:
    table = growth_table(np.array([[0.1, 0.2, 0.6], [0.1, 0.05, 0.2], [0.5, 0.4, 0.3]]), "Effusion", "known")
    assert "0.23  0.22  0.37" in table
    assert "in 2 of 3 patients; never falling in 1" in table


def test_series_that_cannot_be_are_refused(trained: Network) -> None:
    for finding, steps, message in (
        ("No Finding", 5, "'No Finding' cannot grow"),
        ("Effusion", 1, "a series has 2 or more"),
        ("Effusion", 5000, "at most 4096 films"),
        ("Mass", 5, "finding 'Mass' was not learnt by this network"),
    ):
        with pytest.raises(ValueError, match=message):
            draw_series(trained, [0], finding, steps, Condition("PA"), Truncation())
