"""The published totals of each collection, from its official label table.

The tables are those that torchxrayvision ships; it is looked for, never imported.
"""

from collections import Counter
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

import pytest

from thiscxr.collections import chexpert, nih, openi, padchest, rsna, vindr
from thiscxr.collections.archives import ReleaseFile
from thiscxr.collections.tables import read_table
from thiscxr.labels import FINDINGS, NEGATIVE, NOT_MENTIONED, POSITIVE, UNCERTAIN, FilmRecord
from thiscxr.report.pool import describe_sources

_SPEC = find_spec("torchxrayvision")
TABLES = Path(str(_SPEC and _SPEC.origin)).parent / "data"
pytestmark = pytest.mark.skipif(
    _SPEC is None, reason="torchxrayvision, which ships the official label tables, is not installed"
)

# positive, uncertain, negative, blank: of all 223,414 rows, of the 191,027 rows called Frontal, of the 187,641 studies
CHEXPERT = {
    "No Finding": ((22381, 0, 0, 201033), (16974, 0, 0, 174053), (16627, 0, 0, 171014)),
    "Enlarged_Cardiomediastinum": (
        (10798, 12403, 21638, 178575),
        (9187, 10286, 15345, 156209),
        (9020, 10148, 15032, 153441),
    ),
    "Cardiomegaly": ((27000, 8087, 11116, 177211), (23385, 6707, 7869, 153066), (23002, 6597, 7712, 150330)),
    "Lung_Opacity": ((105581, 5598, 6599, 105636), (94211, 4431, 5051, 87334), (92669, 4341, 4949, 85682)),
    "Lung_Lesion": ((9186, 1488, 1270, 211470), (7040, 1108, 776, 182103), (6856, 1071, 752, 178962)),
    "Edema": ((52246, 12984, 20726, 137458), (49675, 11818, 15915, 113619), (48905, 11571, 15667, 111498)),
    "Consolidation": ((14783, 27742, 28097, 152792), (12983, 24381, 19608, 134055), (12730, 23976, 19203, 131732)),
    "Pneumonia": ((6039, 18770, 2799, 195806), (4675, 15981, 1875, 168496), (4576, 15658, 1833, 165574)),
    "Atelectasis": ((33376, 33739, 1328, 154971), (29720, 29863, 1025, 130419), (29333, 29377, 1007, 127924)),
    "Pneumothorax": ((19448, 3145, 56341, 144480), (17693, 2708, 47823, 122803), (17313, 2663, 47006, 120659)),
    "Effusion": ((86187, 11628, 35396, 90203), (76899, 9578, 25299, 79251), (75696, 9419, 24832, 77694)),
    "Pleural_Other": ((3523, 2653, 316, 216922), (2505, 1812, 209, 186501), (2441, 1771, 206, 183223)),
    "Fracture": ((9040, 642, 2512, 211220), (7436, 499, 1993, 181099), (7270, 484, 1949, 177938)),
    "Support_Devices": ((116001, 1079, 6137, 100197), (107170, 915, 5340, 77602), (105831, 898, 5257, 75655)),
}
# all, PA, AP
NIH = {
    "Atelectasis": (11559, 5728, 5831), "Cardiomegaly": (2776, 1563, 1213), "Consolidation": (4667, 1521, 3146),
    "Edema": (2303, 276, 2027), "Effusion": (13317, 6589, 6728), "Emphysema": (2516, 1499, 1017),
    "Fibrosis": (1686, 1408, 278), "Hernia": (227, 192, 35), "Infiltration": (19894, 9353, 10541),
    "Mass": (5782, 3567, 2215), "No Finding": (60361, 39302, 21059), "Nodule": (6331, 4177, 2154),
    "Pleural_Thickening": (3385, 2418, 967), "Pneumonia": (1431, 630, 801), "Pneumothorax": (5302, 3407, 1895),
}  # fmt: skip
# usable rows: frontal, PA, all views
PADCHEST = {
    "Atelectasis": (6168, 3981, 8961), "Cardiomegaly": (9837, 8411, 15006), "Consolidation": (1765, 996, 2634),
    "Edema": (1363, 258, 1559), "Effusion": (7040, 3339, 10018), "Emphysema": (932, 860, 1537),
    "Fibrosis": (941, 896, 1631), "Hernia": (1609, 1481, 2363), "Infiltration": (14363, 7783, 20750),
    "Mass": (632, 566, 1083), "Nodule": (2549, 2337, 4072), "Pleural_Thickening": (3373, 3196, 5156),
    "Pneumonia": (5223, 3403, 8174), "Pneumothorax": (416, 223, 573), "Enlarged_Cardiomediastinum": (794, 598, 1116),
    "Lung_Opacity": (15787, 8831, 22892), "Lung_Lesion": (3130, 2854, 5071), "Pleural_Other": (3896, 3631, 6000),
    "Fracture": (3010, 2607, 4631), "Support_Devices": (12578, 3663, 14982), "No Finding": (35946, 34270, 50390),
}  # fmt: skip
# reports, images
OPENI = {
    "Atelectasis": (332, 616), "Cardiomegaly": (395, 693), "Consolidation": (30, 53), "Edema": (46, 87),
    "Effusion": (163, 292), "Emphysema": (102, 199), "Fibrosis": (20, 36), "Hernia": (50, 90),
    "Infiltration": (65, 116), "Mass": (12, 23), "Nodule": (100, 189), "Pleural_Thickening": (47, 82),
    "Pneumonia": (42, 77), "Pneumothorax": (27, 54), "Lung_Opacity": (579, 1057), "Lung_Lesion": (110, 208),
    "Pleural_Other": (58, 101), "Fracture": (84, 165), "Support_Devices": (272, 391),
    "Enlarged_Cardiomediastinum": (21, 42), "No Finding": (1391, 2696),
}  # fmt: skip

# any reader, at least two
VINDR = {
    "Atelectasis": (186, 62), "Cardiomegaly": (2300, 1817), "Consolidation": (353, 121), "Infiltration": (613, 245),
    "Lung_Opacity": (1322, 547), "Lung_Lesion": (826, 405), "Effusion": (1032, 634), "Pleural_Thickening": (1981, 882),
    "Pneumothorax": (96, 58), "Fibrosis": (1617, 1017), "No Finding": (10_606, 10_606),
}  # fmt: skip


def positives(films: Iterable[FilmRecord], names: Iterable[str]) -> dict[str, int]:
    films = list(films)
    return {name: sum(film.findings[name] == POSITIVE for film in films) for name in names}


def size(films: Iterable[FilmRecord]) -> tuple[int, int]:
    films = list(films)
    return len(films), len({film.patient for film in films})


@pytest.fixture(scope="module")
def chexpert_films() -> list[FilmRecord]:
    return chexpert.read_labels(TABLES)


@pytest.fixture(scope="module")
def padchest_films() -> list[FilmRecord]:
    return padchest.read_labels(TABLES)


@pytest.fixture(scope="module")
def chexpert_rows() -> list[tuple[str, dict[str, int]]]:
    """The rows unchanged: Frontal or Lateral, and the states before the rule of No Finding."""
    names = [name for name in FINDINGS if name in chexpert.COLUMNS]
    rows = chexpert.label_rows(ReleaseFile(str(TABLES / "chexpert_train.csv.gz")), ["Frontal/Lateral"])
    return [(row["Frontal/Lateral"], dict(zip(names, states, strict=True))) for _, row, states in rows]


@pytest.mark.slow
def test_chexpert_table(chexpert_films, chexpert_rows):
    rows = chexpert_rows
    frontal = [states for side, states in rows if side == "Frontal"]
    # constant inside a study
    studies = {film.study: states for film, (_, states) in zip(chexpert_films, rows, strict=True)}
    for name, expected in CHEXPERT.items():
        for states, counts in zip(([states for _, states in rows], frontal, studies.values()), expected, strict=True):
            found = Counter(state[name] for state in states)
            assert tuple(found[state] for state in (POSITIVE, UNCERTAIN, NEGATIVE, NOT_MENTIONED)) == counts, name


@pytest.mark.slow
def test_chexpert_rule_of_no_finding_fills_213120_blanks_and_nothing_else(chexpert_films, chexpert_rows):
    changes = Counter(
        (name, before, film.findings[name])
        for film, (_, states) in zip(chexpert_films, chexpert_rows, strict=True)
        for name, before in states.items()
        if film.findings[name] != before
    )
    assert {(before, after) for _, before, after in changes} == {(NOT_MENTIONED, NEGATIVE)}
    assert sum(changes.values()) == 213_120
    assert len({name for name, _, _ in changes}) == 12
    normal = [film for film in chexpert_films if film.findings["No Finding"] == POSITIVE]
    assert Counter(film.findings["Support_Devices"] for film in normal) == {
        POSITIVE: 8808,
        NEGATIVE: 671,
        UNCERTAIN: 110,
        NOT_MENTIONED: 12_792,
    }


@pytest.mark.slow
def test_chexpert_films(chexpert_films):
    assert size(chexpert_films) == (223_414, 64_540)
    assert len({film.study for film in chexpert_films}) == 187_641
    # 17 rows called Frontal are laterals by their LL and RL.
    assert Counter(film.view for film in chexpert_films) == {"AP": 161_590, "PA": 29_420, "lateral": 32_387 + 17}
    assert Counter(film.sex for film in chexpert_films) == {"M": 132_636, "F": 90_777, "unknown": 1}
    ages = Counter(film.age_years for film in chexpert_films)
    assert (ages[90], ages[None], min(age for age in ages if age is not None)) == (7579, 3, 18)
    assert [len({film.patient for film in chexpert_films if film.view == view}) for view in ("PA", "AP")] == [
        20_543,
        53_359,
    ]
    assert {film.labeler for film in chexpert_films} == {"CheXpert labeler"}


@pytest.mark.slow
def test_nih_findings():
    films = nih.read_labels(TABLES)
    assert size(films) == (112_120, 30_805)
    assert Counter(film.sex for film in films) == {"M": 63_340, "F": 48_780}
    assert [size(film for film in films if film.view == view) for view in ("PA", "AP")] == [
        (67_310, 28_868),
        (44_810, 9060),
    ]
    ages = [film.age_years for film in films]
    assert (min(ages), max(ages), sum(age == 0 for age in ages), sum(age < 18 for age in ages)) == (0, 95, 14, 5402)
    parts = [films, [film for film in films if film.view == "PA"], [film for film in films if film.view == "AP"]]
    counts = [positives(part, NIH) for part in parts]
    assert {name: tuple(count[name] for count in counts) for name in NIH} == NIH
    assert positives(films, ["Lung_Lesion"]) == {"Lung_Lesion": 11_207}


@pytest.mark.slow
def test_padchest_filter_chain(padchest_films):
    films = padchest_films
    assert size(films) == (160_861, 67_625)
    chain = []
    for reason in ("labels missing", "labels empty", "labels say exclude"):
        films = [film for film in films if film.refused != reason]
        chain.append(size(films))
    frontal = [film for film in films if film.view in ("PA", "AP", "AP_supine")]
    assert [*chain, size(frontal)] == [(160_758, 67_594), (159_981, 67_383), (158_669, 66_989), (109_070, 66_619)]
    assert sum(film.view == "PA" for film in frontal) == 90_442
    # The last two steps need the column Pediatric, which no film record has.
    table = TABLES / f"{padchest.TABLES[0]}.gz"
    pediatric = {row["ImageID"] for _, row in read_table(table, ["Pediatric"]) if row["Pediatric"] != "No"}
    adults = [film for film in frontal if film.film not in pediatric]
    assert size(adults) == (108_822, 66_473)
    adults = [film for film in adults if film.age_years is not None and film.age_years >= 18]
    assert size(adults) == (103_683, 62_373)
    assert size(film for film in adults if film.view == "PA") == (86_912, 58_541)
    assert size(film for film in adults if film.view == "PA" and film.labeler == "physician") == (23_235, 21_765)
    assert Counter(film.view for film in adults) == {"PA": 86_912, "AP": 3328, "AP_supine": 13_443}


@pytest.mark.slow
def test_padchest_films(padchest_films):
    views = {"PA": 91_728, "lateral": 49_579, "AP_supine": 14_346, "AP": 4559, "other": 630 + 11, "unknown": 8}
    assert Counter(film.view for film in padchest_films) == views
    assert Counter(film.sex for film in padchest_films) == {"M": 80_920, "F": 79_919, "unknown": 18 + 4}
    assert Counter(film.labeler for film in padchest_films) == {"RNN": 121_808, "physician": 39_053}
    ages = [film.age_years for film in padchest_films if film.age_years is not None]
    assert (len(ages), min(ages), max(ages)) == (160_855, 0, 105)
    assert (sum(age > 100 for age in ages), sum(age < 18 for age in ages), sum(age < 10 for age in ages)) == (
        15,
        7186,
        4823,
    )
    tied = [film for film in padchest_films if film.split_as is not None]
    assert size(tied) == (5909, 2242)
    assert len({film.split_as for film in tied}) == 1121


@pytest.mark.slow
def test_padchest_findings(padchest_films):
    usable = [film for film in padchest_films if not film.refused]
    frontal = [film for film in usable if film.view in ("PA", "AP", "AP_supine")]
    counts = [
        positives(films, PADCHEST) for films in (frontal, [film for film in frontal if film.view == "PA"], usable)
    ]
    assert {name: tuple(count[name] for count in counts) for name in PADCHEST} == PADCHEST
    for name in FINDINGS:
        states = Counter(film.findings[name] for film in frontal)
        assert set(states) <= {POSITIVE, NOT_MENTIONED, NEGATIVE}
        assert states[POSITIVE] + states[NOT_MENTIONED] + states[NEGATIVE] == 109_070


@pytest.mark.slow
def test_padchest_words():
    words: Counter[str] = Counter()
    silent = 0
    for _, row in read_table(TABLES / f"{padchest.TABLES[0]}.gz", ["Labels"]):
        tokens = padchest.label_tokens(row["Labels"]) or frozenset()
        words.update(tokens)
        usable = tokens and "exclude" not in tokens and row["Projection"] in ("PA", "AP", "AP_horizontal")
        silent += bool(usable and tokens & {"unchanged", "suboptimal study"})
    assert len(words) == 193
    assert set(words) == padchest.WORDS
    assert silent == 11_088
    common = {
        "normal": 50_616, "COPD signs": 23_280, "cardiomegaly": 15_022, "unchanged": 14_334,
        "aortic elongation": 10_824, "pleural effusion": 9853, "scoliosis": 8333, "pneumonia": 7953, "NSG tube": 5390,
        "exclude": 1312, "suboptimal study": 1839,
    }  # fmt: skip
    assert {word: words[word] for word in common} == common


@pytest.mark.slow
def test_openi_reports_and_images():
    reports = openi.read_reports(TABLES)
    assert Counter(len(report.films) for report in reports) == {0: 104, 1: 446, 2: 3208, 3: 181, 4: 15, 5: 1}
    assert sum(report.headings == {"no indexing"} for report in reports) == 95
    assert len({heading.split("/")[0] for report in reports for heading in report.headings}) == 120
    films = openi.read_labels(TABLES)
    assert size(films) == (7470, 3851)
    assert len({film.film for film in films}) == 7470
    by_report = Counter(
        name
        for report in reports
        for name, state in openi.report_findings(report.headings).items()
        if state == POSITIVE
    )
    assert {name: (by_report[name], count) for name, count in positives(films, OPENI).items()} == OPENI
    # The one unlike name in torchxrayvision's table of DICOM headers, and the doubled number of report 1, are all that
    # keeps the two apart.
    headers = {
        openi.image_key(row["imageid"]) for _, row in read_table(TABLES / "nlmcxr_dicom_metadata.csv.gz", ["imageid"])
    }
    assert {film.film for film in films} - headers == {"CXR1000_IM-0003-1001"}


def test_vindr_votes():
    films = vindr.read_labels(TABLES)
    assert size(films) == (15_000, 15_000)
    states = {name: Counter(film.findings[name] for film in films) for name in VINDR}
    assert {name: (count[POSITIVE] + count[UNCERTAIN], count[POSITIVE]) for name, count in states.items()} == VINDR
    assert set(films[0].findings) == set(VINDR)


def test_rsna_targets():
    films = rsna.read_labels(TABLES)
    assert len(films) == 26_684
    found = Counter((film.view, film.findings["Lung_Opacity"]) for film in films)
    assert found == {
        ("AP", POSITIVE): 4664,
        ("AP", NEGATIVE): 12_173 - 4664,
        ("PA", POSITIVE): 1348,
        ("PA", NEGATIVE): 14_511 - 1348,
    }
    assert sum(film.age_years is None for film in films) == 5  # 148 to 155 in the old header


@pytest.mark.slow
def test_describe_counts_what_is_kept_and_why_the_rest_is_dropped():
    facts = describe_sources([("padchest", TABLES)], labels_only=True)["sources"]["padchest"]
    kept, dropped = facts["kept"], facts["dropped"]
    assert facts["released"]["films"] == 160_861
    assert (kept["films"], kept["patients"]) == (109_070, 66_619)
    assert [dropped[f"labels {reason}"] for reason in ("missing", "empty", "say exclude")] == [103, 777, 1312]
    assert sum(dropped.values()) == 160_861 - 109_070
    assert {name: states["positive"] for name, states in kept["findings"].items()} == {
        name: counts[0] for name, counts in PADCHEST.items()
    }
    assert {states["not_annotated"] for states in kept["findings"].values()} == {0}
