"""scores.json: keys do not change, a file gives back what was written, and an invalid file is named in one line."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.scores import SHA, record
from thiscxr.measures.measured import Measured
from thiscxr.report.verdict import verdict
from thiscxr.report.words import reading, sentence, title
from thiscxr.score.records import Record, read_scores, scores_json, write_scores

BY = {"extractor": "my_nb"}
KEYS = [
    ("fd_my_nb_2k", "fd", 2000, BY),
    ("fd_my_nb_454_small_view_PA", "fd", 454, {**BY, "protocol": "small", "group": "view PA"}),
    ("fd_my_nb_2048_No_Finding", "fd", 2048, {**BY, "group": "No Finding"}),
    ("fdinf_my_nb_small", "fdinf", 454, {**BY, "protocol": "small"}),
    ("kid_my_nb_454", "kid", 454, BY),
    ("recall_my_nb_454_k5", "recall", 454, {**BY, "protocol": "k5"}),
    ("vendi_my_nb_454", "vendi", 454, BY),
    ("msssim_3scales_1k", "msssim", 1000, {"protocol": "3scales"}),
    ("near_rate_p1", "near_rate", 99, {"protocol": "p1"}),
    ("memorised_rate", "memorised_rate", 99, {}),
    ("nearest_ratio_median", "nearest_ratio", 99, {"statistic": "median"}),
    ("reid_match_rate_my_nb", "reid", 99, {**BY, "statistic": "match_rate"}),
    ("probe_my_nb_age_over_median_auc", "probe", 99, {**BY, "question": "age over median", "statistic": "auc"}),
    ("probe_my_nb_real_or_synthetic_auc", "real_or_synthetic", 99, {**BY, "statistic": "auc"}),
    ("tie_asked_finding_view_v", "tie", 99,
     {"group": "asked", "question": "Mass", "protocol": "view", "statistic": "v"}),
    ("fidelity_my_nb_view_AP_auc", "fidelity", 99, {**BY, "question": "view AP", "statistic": "auc"}),
    ("anatomy_lungs64_viewer_left_lung_w1", "anatomy", 99,
     {"extractor": "lungs64", "question": "viewer left lung", "statistic": "w1"}),
    ("anatomy_lungs64_view_PA_viewer_left_upper_opacity_ks", "anatomy", 99,
     {"extractor": "lungs64", "group": "view PA", "question": "viewer left upper opacity", "statistic": "ks"}),
    ("anatomy_lungs64_leans_left", "anatomy", 99, {"extractor": "lungs64", "statistic": "leans_left"}),
    ("utility_64px_500steps_3seeds_real_and_synthetic_over_real_as_many_mean_of_findings", "utility", 99,
     {"protocol": "64px_500steps_3seeds", "group": "real + synthetic over real, as many",
      "question": "mean of findings"}),
    ("poses_my_nb_real_turn_view_PA_flipped", "poses", 99,
     {**BY, "group": "real", "protocol": "turn", "question": "view PA", "statistic": "flipped"}),
    ("label_noise_phantom64_150steps_flipped10_truth_auc", "label_noise", 99,
     {"protocol": "phantom64_150steps", "group": "flipped10", "question": "truth", "statistic": "auc"}),
    ("something_new_my_nb_auc", "something_new", 99, {**BY, "statistic": "auc"}),
]  # fmt: skip


@pytest.mark.parametrize(("key", "measure", "size", "fields"), KEYS, ids=[each[0] for each in KEYS])
def test_a_key_is_made_of_the_fields(key: str, measure: str, size: int, fields: dict[str, Any]) -> None:
    assert record(measure, num_fake=size, **fields).key == key


@pytest.mark.parametrize("extractor", ["view", "2k", "a_view_PA_b", "fd_44", "{size}", "(", "Ä"])
def test_an_extractor_may_be_called_anything(extractor: str) -> None:
    assert record("fd", num_fake=44, extractor=extractor).key == f"fd_{extractor}_44"


def test_what_is_written_is_read(tmp_path: Path) -> None:
    written = [record(measure, num_fake=size, **fields) for _, measure, size, fields in KEYS]
    written.append(
        Record.of(Measured("kid", float("nan"), (float("nan"), 1.0), None, 3, 4), network_sha256=SHA, hidden=0.0352)
    )
    written.append(
        Record.of(
            Measured("kid", -0.1234567, (-1.0, 1.0), 1 / 3, 3, 4, null95=(0.4, 0.6), p=0.0123), network_sha256=SHA
        )
    )
    write_scores(tmp_path / "scores.json", written)
    assert read_scores(tmp_path / "scores.json", SHA) == written
    assert (written[-2].value, written[-2].ci95, written[-1].value, written[-1].floor) == (
        None,
        None,
        -0.123457,
        0.333333,
    )
    entries = json.loads((tmp_path / "scores.json").read_text())["records"]
    assert [entry["key"] for entry in entries][:-2] == [key for key, *_ in KEYS]


BAD = [
    ([], r"is a list, as scores were written before version 2; "
         r"make a new one: thiscxr score --real POOL --fake .*scores\.json"),
    ([{"key": "fd_x_2k", "value": 1.0}], "is a list"),
    ({"format_version": 3, "records": [{}]},
     "is of format version 3; this thiscxr reads 2; make a new one: thiscxr score"),
    ({"records": [{}]}, "is of format version None"),
    ({"format_version": 2, "records": []}, "holds no record; expected"),
    ({"format_version": 2}, "holds no records of scores; expected"),
    ("scores", "holds no records of scores"),
    ({"network_sha256": "b" * 64},
     f"fd_600 is of network bbbbbbbbbbbb…, not of {SHA[:12]}…; score this network's films"),
    ({"network_sha256": None}, "is of no named network"),
    ({"measure": ""}, "record 1: measure is ''; expected the name of a measure"),
    ({"value": "good"}, "record 1: value is 'good'; expected a number or null"),
    ({"value": float("nan")}, "value is nan"),
    ({"value": 10**400}, "value is 1000"),
    ({"floor": True}, "floor is True; expected a number or null"),
    ({"ci95": [1]}, r"ci95 is \[1\]; expected \[low, high\] or null"),
    ({"ci95": [1, None]}, r"ci95 is \[1, None\]"),
    ({"num_fake": -1}, "num_fake is -1; expected a number of films"),
    ({"question": None}, "question is None; expected text"),
    ({"seeds": 5}, "seeds is 5; expected text or null"),
    ({"resolution": "64"}, "resolution is '64'; expected a number of pixels or null"),
]  # fmt: skip


@pytest.mark.parametrize(("spoilt", "message"), BAD, ids=[message[:40] for _, message in BAD])
def test_what_is_no_score_is_named(spoilt: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    whole = json.loads(scores_json([record("fd")]))
    if isinstance(spoilt, dict) and not spoilt.keys() & {"records", "format_version"}:
        spoilt = {**whole, "records": [{**whole["records"][0], **spoilt}]}
    path.write_text(json.dumps(spoilt))
    with pytest.raises(ValueError, match=message) as caught:
        read_scores(path, SHA)
    assert "\n" not in str(caught.value)


def test_what_a_record_lacks_is_named(tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    whole = json.loads(scores_json([record("fd")]))
    for name in ("measure", "value", "ci95", "floor", "num_real", "num_fake"):
        (entry,) = whole["records"]
        path.write_text(json.dumps({**whole, "records": [{key: value for key, value in entry.items() if key != name}]}))
        with pytest.raises(ValueError, match=f"record 1 has no {name}; expected"):
            read_scores(path, SHA)
    path.write_text("{")
    with pytest.raises(
        ValueError, match=r"scores\.json is not JSON .*; expected the scores that `thiscxr score --out` writes"
    ):
        read_scores(path, SHA)
    with pytest.raises(ValueError, match=r"none\.json is missing; expected"):
        read_scores(tmp_path / "none.json", SHA)
    with pytest.raises(ValueError, match="cannot be read"):
        read_scores(tmp_path, SHA)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda some: st.lists(some, max_size=3) | st.dictionaries(st.text(max_size=4), some, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from([*json.loads(scores_json([record("fd")]))["records"][0], "more"])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(NAMES, ANYTHING, max_size=3) | ANYTHING)
def test_any_record_is_read_or_named(tmp_path: Path, spoilt: Any) -> None:
    path = tmp_path / "scores.json"
    whole = json.loads(scores_json([record("fd")]))
    path.write_text(
        json.dumps({**whole, "records": [{**whole["records"][0], **spoilt} if isinstance(spoilt, dict) else spoilt]})
    )
    try:
        (found,) = read_scores(path, SHA)
    except ValueError as error:
        said = str(error)
    else:
        said = title(found) + sentence(found) + reading(found) + " ".join(verdict([found]))
    assert said
    assert "\n" not in said
