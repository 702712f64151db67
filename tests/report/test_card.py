"""The model card: every figure is of the scores given, of the file or of the run folder, and nothing else is taken."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.scores import record, written
from thiscxr.files import sha256_file
from thiscxr.model.conditions import Vocabulary
from thiscxr.model.generator import Generator, GeneratorConfig
from thiscxr.model.network_file import WEIGHTS, NetworkInfo, bundled_weights, save_network
from thiscxr.pixels import read_png_text
from thiscxr.report.card import card, facts, write_card
from thiscxr.report.words import reading, sentence, title
from thiscxr.sample.sampling import load
from thiscxr.score.records import Record

MIMIC = {"title": "MIMIC-CXR", "terms": "no | sharing", "citation": "Johnson\n<b>2019", "url": "https://physionet.org"}
DISCS = {"title": "Discs", "terms": "none at all", "citation": "Disc 2020", "url": "https://discs.example", "films": 41}


@pytest.fixture(scope="module")
def network_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    vocabulary = Vocabulary(("No Finding", "Effusion", "Mass"), ("AP", "PA"), ("discs",))
    generator = Generator(GeneratorConfig(32, vocabulary.dim, 16, 16, 2, channel_base=256, channel_max=16))
    table = [{"view": "PA", "sex": None, "age_bin": None, "source": "discs", "present": [], "absent": [], "films": 37}]
    path = tmp_path_factory.mktemp("network") / "discs.safetensors"
    save_network(
        path, generator, NetworkInfo("discs", generator.config, vocabulary, table, 4321, "f" * 64, {"discs": DISCS})
    )
    return path


@pytest.fixture
def planted(network_file: Path) -> list[Record]:
    """A score of each kind, each with figures that nothing else has."""
    by = {"extractor": "random8", "extractor_sha256": "ab" * 32}
    kinds: list[tuple[str, dict[str, Any]]] = [
        ("fd", by), ("fd", {**by, "group": "view PA"}), ("fdinf", by), ("kid", by),
        ("precision", {**by, "protocol": "k5"}), ("recall", {**by, "protocol": "k5"}),
        ("density", {**by, "protocol": "k5"}), ("coverage", {**by, "protocol": "k5"}), ("vendi", by),
        ("msssim", {"protocol": "3scales"}), ("near_rate", {"protocol": "p1"}), ("memorised_rate", {}),
        ("nearest_ratio", {"statistic": "median"}), ("reid", {**by, "statistic": "auc"}),
        ("reid", {**by, "statistic": "rank1"}), ("reid", {**by, "statistic": "match_rate"}),
        ("tie", {"group": "asked", "question": "Mass", "protocol": "view", "statistic": "v"}),
        ("real_or_synthetic", {**by, "statistic": "auc"}), ("probe", {**by, "question": "age", "statistic": "mae"}),
        ("fidelity", {**by, "question": "view PA", "statistic": "auc"}),
        ("anatomy", {"question": "ctr", "statistic": "w1"}), ("anatomy", {"statistic": "implausible"}),
        ("anatomy", {"question": "viewer left opacity", "statistic": "ks", "group": "view PA", "p": 0.001}),
        ("utility", {"question": "mean of findings", "group": "real + synthetic over real"}),
    ]  # fmt: skip
    common = {
        "truncation": 1.0,
        "seeds": "0-98",
        "split": "all",
        "pool_fingerprint": "f" * 64,
        "network_sha256": sha256_file(network_file),
    }
    common |= {"num_real": 77, "num_fake": 99}
    found = [
        record(measure, 0.1013 + i / 50, (0.1007 + i / 50, 0.1021 + i / 50), 0.6031 + i / 50, **fields, **common)
        for i, (measure, fields) in enumerate(kinds)
    ]
    found.append(record("anatomy", 0.8123, (0.7456, 0.8789), question="ctr cardiomegaly", statistic="auc", **common))
    found.append(record("fidelity", None, None, 0.7219, question="Effusion", statistic="auc", **by, **common))
    return [
        *found,
        record("poses", 0.9999, (0.9998, 1.0), 0.0, group="real", protocol="turn", question="sex", **common),
    ]


def test_every_figure_is_of_the_scores(network_file: Path, planted: list[Record], tmp_path: Path) -> None:
    write_card(str(network_file), written(tmp_path / "scores.json", *planted), tmp_path / "CARD.md")
    text = (tmp_path / "CARD.md").read_text()
    cells = {row[-2].strip(" `"): row for line in text.splitlines() if len(row := line.split("|")) == 8}
    del cells["key"], cells["---"]
    rows = {each.key: each for each in planted if each.value is not None and each.measure != "poses"}
    assert cells.keys() == rows.keys()
    for key, cell in cells.items():
        figures = [float(number) for number in re.findall(r"-?[\d.]+(?:e-?\d+)?", " ".join(cell[2:5]))]
        known = [rows[key].value, *rows[key].ci95, rows[key].floor]
        assert figures == pytest.approx([each for each in known if each is not None], rel=1e-3)
    figures = [
        number for each in planted for number in (each.value, each.floor, *(each.ci95 or ())) if number is not None
    ]
    given = {round(abs(number), 3) for number in figures}
    worth = text[text.index("## Evaluation") : text.index("## Limitations")]
    decimals = {
        round(float(number), 3) for number in re.findall(r"\d*\.\d+(?![\d%]|\.)", worth.split("Every figure", 1)[1])
    }
    assert decimals <= given | {0.5}, "a figure that no score has; 0.5 is guessing"
    for needed in (
        sha256_file(network_file),
        "4,321",
        "Disc 2020",
        "https://discs.example",
        "none at all",
        "Not a patient, not for diagnosis",
    ):
        assert needed in text, needed
    assert "Effusion (0.7219)" in text, "what the classifier cannot confirm, with its AUC"
    assert "Not measured whether its films show: No Finding, Mass" in text
    assert "0.9999" not in text


def test_the_same_scores_give_the_same_card(network_file: Path, planted: list[Record], tmp_path: Path) -> None:
    for folder in ("a", "b", "c"):
        (tmp_path / folder).mkdir()
        planted[0] = replace(planted[0], value=0.1013 if folder != "c" else 0.1015)
        write_card(str(network_file), written(tmp_path / "scores.json", *planted), tmp_path / folder / "CARD.md")
    a, b, c = ((tmp_path / folder / "CARD.md").read_text() for folder in "abc")
    assert a == b
    assert [
        (one, other)
        for one, other in zip(a.splitlines(), c.splitlines(), strict=True)
        if one != other and "0.1015" not in other
    ] == []
    assert a != c
    pictures = [(tmp_path / folder / "CARD.png").read_bytes() for folder in "ab"]
    assert pictures[0] == pictures[1]
    assert read_png_text(tmp_path / "a" / "CARD.png")["Network"] == sha256_file(network_file)
    assert "(CARD.png)" in a


def test_scores_of_something_else_are_refused(network_file: Path, planted: list[Record], tmp_path: Path) -> None:
    path, first = tmp_path / "scores.json", planted[0]
    for spoilt, message in (
        (
            [*planted, replace(first, network_sha256="b" * 64)],
            f"is of network bbbbbbbbbbbb…, not of {first.network_sha256[:12]}…",
        ),
        ([first, replace(planted[1], truncation=0.7)], r"has truncation 0\.7, .* a card is about one set of films"),
        ([first, replace(planted[1], pool_fingerprint="0")], r"has pool_fingerprint '0'"),
    ):
        with pytest.raises(ValueError, match=message):
            write_card(str(network_file), written(path, *spoilt), tmp_path / "CARD.md")
    assert not (tmp_path / "CARD.md").exists()


def test_what_was_not_measured_is_listed(network_file: Path, planted: list[Record]) -> None:
    network = load(network_file)
    few = [each for each in planted if each.measure not in ("memorised_rate", "fidelity", "reid")]
    few.append(replace(planted[0], measure="reid", statistic="auc", value=None, ci95=None, floor=None, num_real=3))
    few = [replace(each, ci95=(0.4, 0.9)) if each.question == "ctr cardiomegaly" else each for each in few]
    text = card(network, str(network_file), few, "x.png", "", "make it")
    assert "was not measured. Do not take a film for private because it is synthetic." in text
    assert "could not be measured: 3 patients have several films" in text
    assert "The measures of anatomy cannot be trusted on these real films" in text
    assert "Not measured whether its films show: No Finding, Effusion, Mass" in text
    assert "not stated in the file" in text


def test_terms_bind_the_card_and_text_of_a_file_stays_text(network_file: Path, planted: list[Record]) -> None:
    network = load(network_file)
    bound = replace(network, info=replace(network.info, sources={**network.info.sources, "mimic-cxr": MIMIC}))
    text = card(bound, str(network_file), planted, "x.png", "by hand", "make it")
    assert "**Trained on MIMIC-CXR, whose terms restrict sharing: for local use only.**" in text
    assert "Johnson &lt;b>2019. <https://physionet.org>. no \\| sharing." in text
    assert "## Notes of the makers\n\nby hand\n" in text
    assert "restrict sharing" not in card(network, str(network_file), planted, "x.png", "", "make it")


def test_a_run_folder_gives_the_cost_of_training(network_file: Path, planted: list[Record], tmp_path: Path) -> None:
    run = tmp_path / "00000-discs-32"
    run.mkdir()
    (run / "network-latest.safetensors").write_bytes(network_file.read_bytes())
    lines = [
        {"images_seen": 1000, "img_per_sec": 10.0},
        {"images_seen": 4000, "img_per_sec": 100.0},
        {"images_seen": 4000},
    ]
    (run / "stats.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (run / "config.toml").write_text('device = "cuda"\nthreads = 3\nbatch = 16\nseed = 5\n')
    (run / "env.json").write_text(json.dumps({"cuda": ["Some GPU"]}))
    text = card(load(run), str(run), planted, "x.png", "", "make it")
    assert "| compute | 2 minutes, Some GPU, threads 3, batch 16, seed 5 |" in text
    assert f"{tmp_path}" not in text, "nobody's folders"


def test_a_network_that_started_from_another_names_it(network_file: Path, planted: list[Record]) -> None:
    network = load(network_file)
    later = replace(network, info=replace(network.info, started_from="discs-16, 1,200 films"))
    text, of_nothing = (card(one, str(network_file), planted, "x.png", "", "make it") for one in (later, network))
    assert "| training started from | discs-16, 1,200 films |" in text
    assert "started from" not in of_nothing


def test_the_bundled_card_is_of_the_bundled_network() -> None:
    for name, entry in bundled_weights("generator").items():
        text = (WEIGHTS / f"{name}.md").read_text()
        assert f"`{entry['sha256']}`" in text, f"make {name}.md anew: the command is its last lines"
        assert read_png_text(WEIGHTS / f"{name}.png")["Network"] == entry["sha256"]


def test_words_and_readings() -> None:
    base = record("fd", 2.0, (1.5, 2.5), 1.0)
    assert (title(base), reading(base)) == ("Fréchet distance", "worse")
    assert reading(replace(base, floor=2.0)) == "not distinguished"
    assert reading(replace(base, floor=3.0)) == "better"
    assert reading(replace(base, ci95=None)) == reading(replace(base, floor=None)) == ""
    assert reading(replace(base, measure="recall")) == "better"
    assert reading(replace(base, measure="probe", statistic="auc")) == "above", "the nearer to the floor, the better"
    error = replace(base, measure="fidelity", statistic="mae", question="age")
    assert (title(error), reading(error)) == ("Predicted as requested: age, error", "worse")
    assert title(replace(base, group="Pleural_Thickening")) == "Fréchet distance, Pleural Thickening only"
    tie = record(
        "tie", 0.5, (0.4, 0.6), 0.1, group="real", question="Pleural_Thickening", protocol="source", statistic="v"
    )
    assert title(tie) == "Association of a finding with the source, real films"
    assert sentence(tie) == (
        "The strongest association: Pleural Thickening (Cramér's V). Findings without an association stay below: 0.1."
    )
    assert title(record("something_new")) == "Something_new"


def test_the_size_of_a_file_is_not_that_of_the_generator_alone(network_file: Path, tmp_path: Path) -> None:
    network, both = load(network_file), tmp_path / "both.safetensors"
    info = replace(network.info, augment_strength=0.5)
    save_network(both, network.generator, info, discriminator={"some": torch.zeros(1_000_000)})
    assert dict(facts(network, str(network_file), False))["size"].endswith("0.1 MB")
    assert dict(facts(load(both), str(both), False))["size"].endswith("4.1 MB with its discriminator")
