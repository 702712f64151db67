"""Sampling: one seed, one film; conditions; files that say what they are; all or nothing."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import thiscxr
from thiscxr.files import sha256_file
from thiscxr.labels import FINDINGS, NEGATIVE, POSITIVE
from thiscxr.model import network_file
from thiscxr.model.conditions import Condition, Vocabulary
from thiscxr.model.network_file import find_network, load_network, save_network
from thiscxr.pixels import load_film, read_png_text
from thiscxr.sample import writing
from thiscxr.sample.provenance import Film, Origin
from thiscxr.sample.sampling import Network, load, request, sample_films
from thiscxr.sample.truncation import Truncation, parse_truncation


def test_a_seed_gives_the_same_film_whatever_the_batch(network: Network) -> None:
    seeds = list(range(9))
    conditions = network.conditions(seeds, Condition())
    films = {b: np.concatenate(list(sample_films(network, seeds, conditions, batch=b))).astype(int) for b in (1, 4, 9)}
    assert films[1].shape == (9, 32, 32)
    assert abs(films[1] - films[4]).max() <= 1
    assert abs(films[1] - films[9]).max() <= 1
    assert abs(films[9][0] - films[9][1]).max() > 10, "different seeds must differ"
    torch.testing.assert_close(
        torch.from_numpy(network.sample([3])[0].astype(int)), torch.from_numpy(films[1][3]), atol=1, rtol=0
    )


def test_the_lines_of_the_readme() -> None:
    """thiscxr.load("nih-64").sample(seeds=range(64), view="PA"), and the same films one by one."""
    network = thiscxr.load("nih-64")
    films = network.sample(seeds=range(64), view="PA")
    assert (films.shape, films.dtype) == ((64, 64, 64), np.uint8)
    for seed in (0, 17, 63):
        assert np.abs(network.sample(seeds=[seed], view="PA")[0].astype(int) - films[seed]).max() <= 1


def test_a_request_changes_the_film_and_nothing_else_does(network: Network) -> None:
    plain, again = (network.sample(range(3), view="PA") for _ in range(2))
    np.testing.assert_array_equal(plain, again)
    assert (network.sample(range(3), view="AP") != plain).any()
    assert (network.sample(range(3), view="PA", truncation=0.5) != plain).any()


def test_truncation_by_layer(network: Network) -> None:
    """Ranges that cover all layers alike are one psi; early layers and late ones each change the film; the rest is not
    truncated."""
    whole = network.sample(range(3), view="PA", truncation=0.4)
    np.testing.assert_array_equal(
        network.sample(range(3), view="PA", truncation=parse_truncation("0.4:0-3,0.4:4-")), whole
    )
    early, late, none = (
        network.sample(range(3), view="PA", truncation=parse_truncation(text)) for text in ("0.4:0-3", "0.4:4-", "1")
    )
    assert all(
        (one != other).any()
        for one, other in ((early, late), (early, none), (late, none), (early, whole), (late, whole))
    )
    np.testing.assert_array_equal(network.sample(range(3), view="PA"), none)
    assert parse_truncation("0.5:0-3,1.0:4-").per_layer(6) == [0.5, 0.5, 0.5, 0.5, 1.0, 1.0]
    assert parse_truncation(" 0.5:5 , 0:1-2").per_layer(6) == [1.0, 0.0, 0.0, 1.0, 1.0, 0.5]


@pytest.mark.parametrize("text", ["0.7", "0.5:0-3,1:4-", "0.5:2", "0:0-", "0.123456789", "1e-05:2"])
def test_truncation_is_spelled_as_it_is_read(text: str) -> None:
    assert str(parse_truncation(text)) == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'' is neither"), ("x", "'x' is neither"), ("0.5:", "neither"), ("0.5:3-1", "not all among"),
        ("0.5:0-99", "not all among"), ("3", "between 0 and 2"), ("3:0-1", "between 0 and 2"),
        ("nan", "between 0 and 2"), ("0.5:0-3,0.7:3-4", "layer 3 is named twice"), ("0.5:0-3,", "neither"),
        ("-0.5:0", "neither"),
    ],
)  # fmt: skip
def test_bad_truncations_are_named(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_truncation(text).per_layer(8)


@settings(max_examples=100, deadline=None)
@given(st.one_of(st.text(max_size=12), st.text("0123456789.:,- ", max_size=12)))
def test_any_text_is_a_truncation_or_one_line(text: str) -> None:
    try:
        truncation = parse_truncation(text)
    except ValueError as error:
        message = str(error)
    else:
        assert parse_truncation(str(truncation)) == truncation
        message = "fine"
    assert message


def test_without_a_request_each_seed_draws_its_own_condition(network: Network) -> None:
    drawn = network.conditions(range(200), Condition())
    assert {c.view for c in drawn} == {"PA", "AP"}
    assert network.conditions([7], Condition()) == [drawn[7]]
    assert network.conditions([1, 2], Condition(view="AP")) == [Condition(view="AP")] * 2


def test_contradictions_and_the_never_learnt_are_refused(network: Network) -> None:
    with pytest.raises(ValueError, match="'Effusion' is requested both present and absent"):
        request(findings=["Effusion"], no_findings=["Effusion"])
    with pytest.raises(ValueError, match="finding 'Hernia' was not learnt by this network; it knows: Effusion"):
        network.sample([0], findings=["Hernia"])
    with pytest.raises(ValueError, match="truncation is nan, but must be between 0 and 2"):
        network.sample([0], truncation=float("nan"))
    with pytest.raises(ValueError, match="'No Finding' and finding 'Mass' are requested in one film"):
        request(findings=["No Finding", "Mass"])
    assert request(findings=["No Finding", "Support_Devices"]).present == ["No Finding", "Support_Devices"]
    with pytest.raises(ValueError, match="age 300 is out of range"):
        request(age_years=300)


def test_files_say_what_they_are(network: Network, tmp_path: Path) -> None:
    out = tmp_path / "samples"
    seeds = [0, 5]
    writing.write_samples(
        network, seeds, network.conditions(seeds, Condition(view="PA", findings={"Effusion": POSITIVE})), 0.7, out
    )
    assert sorted(path.name for path in out.iterdir()) == [
        "grid.png",
        "network.json",
        "samples.csv",
        "seed-00000000.png",
        "seed-00000005.png",
    ]
    text = read_png_text(out / "seed-00000005.png")
    assert "not a patient, not for diagnosis" in text["Disclaimer"]
    assert (text["Seed"], text["Network"], text["Truncation"]) == ("5", network.sha256, "0.7")
    assert json.loads(text["Asked"]) == {"view": "PA", "findings": "Effusion"}
    assert "not a patient" in read_png_text(out / "grid.png")["Disclaimer"]
    with open(out / "samples.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["seed"] for row in rows] == ["0", "5"]
    assert rows[0]["findings"] == "Effusion"
    assert rows[0]["sex"] == ""
    facts = json.loads((out / "network.json").read_text())
    assert facts["sources"]["discs"]["title"] == "Discs"
    assert facts["sha256"] == network.sha256
    np.testing.assert_array_equal(
        load_film(out / "seed-00000000.png").pixels,
        network.sample([0], view="PA", findings=["Effusion"], truncation=0.7)[0],
    )


def test_a_second_call_replaces_and_foreign_files_are_never_lost(network: Network, tmp_path: Path) -> None:
    out = tmp_path / "samples"
    for seeds in ([0, 1, 2], [4]):
        writing.write_samples(network, seeds, network.conditions(seeds, Condition()), 1.0, out)
    assert len(list(out.glob("seed-*.png"))) == 1
    (out / "thesis.docx").write_text("precious")
    with pytest.raises(ValueError, match=r"holds 'thesis.docx', which is not a sample"):
        writing.write_samples(network, [0], [Condition()], 1.0, out)
    assert (out / "thesis.docx").read_text() == "precious"


@pytest.mark.parametrize(("text", "seeds"), [("0-3", [0, 1, 2, 3]), ("7", [7]), ("1,5-6, 9", [1, 5, 6, 9])])
def test_seed_ranges_are_inclusive(text: str, seeds: list[int]) -> None:
    assert writing.parse_seeds(text) == seeds


@pytest.mark.parametrize("text", ["", "a", "3-1", "1,1", "-4", "0-99999999999", "1.5", "9007199254740992"])
def test_bad_seed_lists_are_named(text: str) -> None:
    with pytest.raises(ValueError, match="--seeds"):
        writing.parse_seeds(text)


def test_a_network_file_survives_a_round_trip(network_file: Path, vocabulary: Vocabulary) -> None:
    generator, info = load_network(network_file)
    assert (info.name, info.images_seen, info.vocabulary) == ("discs", 1000, vocabulary)
    half = network_file.with_name("half.safetensors")
    save_network(half, generator, info, torch.float16)
    assert half.stat().st_size < 0.6 * network_file.stat().st_size
    a, b = (load(path).sample(range(4)).astype(int) for path in (network_file, half))
    assert abs(a - b).mean() < 0.5


def test_what_is_not_a_network_is_refused_in_one_line(network_file: Path, tmp_path: Path) -> None:
    pickled, text, foreign, cut = (
        tmp_path / name for name in ("a.safetensors", "b.safetensors", "c.safetensors", "d.safetensors")
    )
    torch.save({"w": torch.zeros(3)}, pickled)
    text.write_text("not a network")
    from safetensors.torch import save_file

    save_file({"w": torch.zeros(3)}, foreign)
    cut.write_bytes(network_file.read_bytes()[:5000])
    for path, message in (
        (pickled, "is not a safetensors file"),
        (text, "is not a safetensors file"),
        (cut, "is not a safetensors file"),
        (foreign, "is not a thiscxr generator"),
        (tmp_path / "none.safetensors", "no file, run folder or bundled generator"),
        (tmp_path, "is a folder without network-latest.safetensors"),
    ):
        with pytest.raises(ValueError, match=message) as error:
            load(str(path))
        assert "\n" not in str(error.value)


def test_the_newest_network_of_a_run_is_found(network_file: Path, tmp_path: Path) -> None:
    (tmp_path / "network-latest.safetensors").write_bytes(network_file.read_bytes())
    assert find_network(str(tmp_path)) == tmp_path / "network-latest.safetensors"


def test_a_pool_does_not_hide_the_bundled_network_of_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nih-64").mkdir()
    assert find_network("nih-64") == network_file.WEIGHTS / "nih-64.safetensors"
    with pytest.raises(ValueError, match="is a folder without network-latest"):
        find_network("./nih-64")


def test_the_package_offers_load_without_importing_torch_first(network_file: Path) -> None:
    assert thiscxr.load(network_file).info.name == "discs"
    with pytest.raises(AttributeError):
        thiscxr.nothing  # noqa: B018


def test_another_format_version_is_refused_with_what_to_do(network_file: Path, tmp_path: Path) -> None:
    from safetensors import safe_open
    from safetensors.torch import save_file

    with safe_open(network_file, framework="pt") as file:
        metadata = json.loads(file.metadata()["thiscxr"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    damaged = {**tensors, "w_mean": tensors["w_mean"] + 1}
    save_file(damaged, tmp_path / "damaged.safetensors", metadata={"thiscxr": json.dumps(metadata)})
    save_file(
        tensors, tmp_path / "changed.safetensors", metadata={"thiscxr": json.dumps({**metadata, "name": "another"})}
    )
    for name in ("damaged", "changed"):
        with pytest.raises(ValueError, match="was changed after it was written"):
            load(tmp_path / f"{name}.safetensors")
    del metadata["content_sha256"]  # as in files of old
    save_file(
        tensors, tmp_path / "next.safetensors", metadata={"thiscxr": json.dumps({**metadata, "format_version": 3})}
    )
    with pytest.raises(ValueError, match=r"has format 3, but thiscxr .* reads 1 and 2; export it again or upgrade"):
        load(tmp_path / "next.safetensors")
    architecture = {**metadata["architecture"], "channel_max": 8}
    save_file(
        tensors,
        tmp_path / "wrong.safetensors",
        metadata={"thiscxr": json.dumps({**metadata, "architecture": architecture})},
    )
    with pytest.raises(ValueError, match="description and its tensors do not fit"):
        load(tmp_path / "wrong.safetensors")
    broken = {"sources": ["nih"], "vocabulary": [], "joint_table": [{"films": 3}]}
    for i, (key, value) in enumerate(broken.items()):
        save_file(tensors, tmp_path / f"{i}.safetensors", metadata={"thiscxr": json.dumps({**metadata, key: value})})
        with pytest.raises(ValueError, match="description and its tensors do not fit"):
            load(tmp_path / f"{i}.safetensors")
    save_file(tensors, tmp_path / "list.safetensors", metadata={"thiscxr": "[]"})
    with pytest.raises(ValueError, match="its metadata is no table"):
        load(tmp_path / "list.safetensors")
    save_file(
        {**tensors, "w_mean": tensors["w_mean"] * torch.nan},
        tmp_path / "nan.safetensors",
        metadata={"thiscxr": json.dumps(metadata)},
    )
    with pytest.raises(ValueError, match="the tensor w_mean holds values that are not finite"):
        load(tmp_path / "nan.safetensors")


def test_a_network_that_is_replaced_meanwhile_keeps_its_own_hash(
    network_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from thiscxr.sample import sampling

    path = tmp_path / "network-latest.safetensors"
    path.write_bytes(network_file.read_bytes())
    generator, info = load_network(network_file)

    def slow(path: Path) -> tuple[Any, Any]:
        found = load_network(path)
        if info.images_seen == found[1].images_seen:  # replaced by a later one once, while the first is being read
            save_network(path, generator, replace(info, images_seen=2000))
        return found

    monkeypatch.setattr(sampling, "load_network", slow)
    network = load(tmp_path)
    assert network.info.images_seen == 2000
    assert network.sha256 == sha256_file(path)


def test_case_and_underscores_do_not_matter() -> None:
    requested = request(
        view="pa", sex="f", findings=["pleural thickening", "CARDIOMEGALY"], no_findings=["lung_lesion"]
    )
    assert requested == request(
        view="PA", sex="F", findings=["Pleural_Thickening", "Cardiomegaly"], no_findings=["Lung_Lesion"]
    )
    assert request(findings=["no_finding"]).present == ["No Finding"]
    with pytest.raises(ValueError, match="is requested both present and absent"):
        request(findings=["mass"], no_findings=["Mass"])


def test_the_bundled_networks_are_whole_and_a_changed_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = load("nih-64")
    assert network.sample(range(2), view="PA").shape == (2, 64, 64)
    assert network.info.sources["nih"]["citation"]
    assert all(row["films"] >= 5 for row in network.info.joint_table)
    for path in network_file.WEIGHTS.iterdir():
        if path.suffix in (".safetensors", ".json"):
            (tmp_path / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr(network_file, "WEIGHTS", tmp_path)
    data = bytearray((tmp_path / "nih-64.safetensors").read_bytes())
    data[-1] ^= 1
    (tmp_path / "nih-64.safetensors").write_bytes(data)
    with pytest.raises(ValueError, match="not the file that was shipped"):
        load("nih-64")


CONDITIONS = st.builds(
    Condition,
    st.sampled_from([None, "PA", "AP"]),
    st.sampled_from([None, "F", "M"]),
    st.sampled_from([None, 44.0, 0.5, 101.0]),
    st.sampled_from([None, "nih", "mimic-cxr"]),
    st.dictionaries(st.sampled_from(FINDINGS), st.sampled_from([POSITIVE, NEGATIVE]), max_size=5),
)


@given(CONDITIONS)
def test_what_was_requested_is_read_back_from_its_line(condition: Condition) -> None:
    row = writing.sample_row("x.png", Film(3, condition, Truncation(1.0), Origin("discs", "a" * 64, (), "")))
    assert writing.requested_condition(row) == condition


def test_a_minimal_line_requests_nothing_and_a_wrong_one_is_named() -> None:
    assert writing.requested_condition({"file": "x.png", "seed": "3"}) == Condition()
    assert writing.requested_condition({"file": "x.png", "findings": None}) == Condition()  # a line that ends early
    for row, message in (
        ({"findings": "Effusoin"}, "samples.csv, x.png: no finding is called 'Effusoin' .did you mean 'Effusion'"),
        ({"findings": "Mass", "no_findings": "Edema|Mass"}, "Mass is requested twice, or both present and absent"),
        ({"age_years": "old"}, "age_years is 'old'; expected 0 to 120 years, or nothing"),
        ({"age_years": "nan"}, "age_years is 'nan'"),
        ({"view": "<b>"}, "view '<b>' is not one of"),
    ):
        with pytest.raises(ValueError, match=message):
            writing.requested_condition({"file": "x.png", **row})
