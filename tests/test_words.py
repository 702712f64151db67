"""Words of other people's tables: what they mean, what stands for nothing, and what is not understood."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thiscxr.labels import SEXES, STATES, VIEWS
from thiscxr.words import MAX_AGE, is_missing, read_age, read_sex, read_split, read_state, read_view, read_year

MISSING = [
    "",
    " ",
    "NaN",
    "nan",
    "N/A",
    "n/a",
    "NA",
    "#N/A",
    "None",
    "null",
    "?",
    "-",
    "--",
    "unknown",
    "Not available",
    "\u00a0",
]


@pytest.mark.parametrize("text", MISSING)
def test_what_stands_for_nothing(text):
    assert is_missing(text)
    assert (read_sex(text), read_view(text), read_state(text), read_age(text)) == ("unknown", "unknown", -2, None)


@pytest.mark.parametrize(
    ("text", "age"),
    [
        ("51", 51), ("051", 51), ("51.0", 51), ("51,5", 51.5), ("060Y", 60), ("60y", 60), ("60 years", 60),
        ("60-year-old", 60), ("60 yrs.", 60), ("60 y/o", 60), ("6M", 0.5), ("018M", 1.5), ("18 months", 1.5),
        ("026W", 26 * 7 / 365.25), ("010D", 10 / 365.25), ("0", 0), ("90+", 90), (">89", 89), ("\uff15\uff11", 51),
        ("120", 120),
        ("411", None), ("121", None), ("-1", None), ("-9", None), ("999", None), ("1967", None), ("20140915", None),
        ("5e1", None), ("old", None), ("60-69", None), ("060X", None), ("M", None), ("1/2", None), ("inf", None),
        ("#VALUE!", None),
    ],
)  # fmt: skip
def test_ages(text, age):
    assert read_age(text) == (None if age is None else pytest.approx(age))
    assert not is_missing(text)


def test_an_age_may_have_a_lower_limit():
    assert (read_age("101"), read_age("101", 100)) == (101, None)


@pytest.mark.parametrize(
    ("sex", "texts"),
    [
        ("M", "M m Male MALE male man Boy männlich Masculino homme 男"),
        ("F", "F f Female FEMALE female Woman girl weiblich w Femenino féminin 女"),
        ("unknown", "U O other Unknown"),
        (None, "0 1 2 Y Malee x1 M/F -1"),
    ],
)
def test_sexes(sex, texts):
    assert {text: read_sex(text) for text in texts.split()} == dict.fromkeys(texts.split(), sex)


@pytest.mark.parametrize(
    ("view", "texts"),
    [
        (
            "PA",
            "pa|PA|PA view|P.A.|postero-anterior|Posteroanterior|Posterior "
            "Anterior|PA Erect|chest PA|Frontal PA|PA_view",
        ),
        ("AP", "ap|AP portable|AP Semi-Erect|ANTERO-POSTERIOR|anteroposterior|AP (mobile)|AP upright|AP sitting"),
        ("AP_supine", "AP_supine|AP supine|ap-supine|AP Supine|supine|SUP|AP_horizontal|AP RECUMBENT"),
        ("lateral", "Lateral|L|LL|RL|LAT|left lateral|LATERAL LEFT|Lateral view|XTABLE LATERAL|LARGE LATERAL"),
        ("other", "other|LLD|AP LLD|PA RLD|lateral decubitus|LAO|oblique|AP AXIAL|Lordotic|COSTAL|swimmers"),
        ("unknown", "frontal|Frontal view|unknown|UNK|"),
        (None, "PA and lateral|AP/PA|chest|portable|anterior|PA supine|R|PA1|1|front|papa|L5 S1"),
    ],
)
def test_views(view, texts):
    assert {text: read_view(text) for text in texts.split("|")} == dict.fromkeys(texts.split("|"), view)


@pytest.mark.parametrize(
    ("state", "texts"),
    [
        (1, "1 1.0 1,0 +1 True yes positive Present"), (0, "0 0.0 0,0 -0 false No negative absent"),
        (-1, "-1 -1.0 uncertain"), (-2, "-2 not_mentioned"), (-3, "-3.0"), (None, "2 -4 0.5 1.5 10 1_0 mild x 1e0 inf"),
    ],
)  # fmt: skip
def test_states(state, texts):
    assert {text: read_state(text) for text in texts.split()} == dict.fromkeys(texts.split(), state)


def test_splits_and_years():
    assert [read_split(text) for text in ("Train", "validation", "val", "TEST", "valid", "dev", "", "fold 1")] == [
        "train", *["holdout"] * 5, None, None,
    ]  # fmt: skip
    assert [read_year(text) for text in ("20140915", "1930.0", "1930", "2014-09-15", "30", "nan")] == [
        2014,
        1930,
        1930,
        2014,
        None,
        None,
    ]


@given(text=st.text(max_size=12) | st.text("0123456789.,YMWDpalmf -+/", max_size=8))
def test_any_text_is_understood_or_not_and_nothing_else(text):
    age, sex, view, state = read_age(text), read_sex(text), read_view(text), read_state(text)
    assert age is None or 0 <= age <= MAX_AGE
    assert sex is None or sex in SEXES
    assert view is None or view in VIEWS
    assert state is None or state in STATES
    assert read_split(text) in (None, "train", "holdout")


@given(number=st.integers(0, MAX_AGE), unit=st.sampled_from(["", "Y", "M", "W", "D"]), zeros=st.integers(0, 2))
def test_ages_as_dicom_writes_them(number, unit, zeros):
    years = {"": 1, "Y": 1, "M": 1 / 12, "W": 7 / 365.25, "D": 1 / 365.25}[unit]
    assert math.isclose(read_age("0" * zeros + str(number) + unit), number * years)


@given(view=st.sampled_from(VIEWS), sex=st.sampled_from(SEXES), state=st.sampled_from(list(STATES)), data=st.data())
def test_the_vocabulary_is_understood_in_any_case(view, sex, state, data):
    change = data.draw(
        st.sampled_from(
            [str.lower, str.upper, str.title, lambda word: f" {word} ", lambda word: word.replace("_", " ")]
        )
    )
    assert (read_view(change(view)), read_sex(change(sex)), read_state(change(str(state)))) == (view, sex, state)
    assert read_state(change(STATES[state])) == state
