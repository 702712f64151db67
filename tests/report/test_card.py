"""The model card: every figure is of the scores given, of the file or of the run folder, and nothing else is taken."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from thiscxr.files import sha256_file
from thiscxr.model.conditions import Vocabulary
from thiscxr.model.generator import Generator, GeneratorConfig
from thiscxr.model.network_file import WEIGHTS, NetworkInfo, bundled_weights, save_network
from thiscxr.pixels import read_png_text
from thiscxr.report.card import card, read_scores, write_card
from thiscxr.report.card_words import reading, words_of
from thiscxr.sample.sampling import load

MIMIC = {"title": "MIMIC-CXR", "terms": "no | sharing", "citation": "Johnson\n<b>2019", "url": "https://physionet.org"}
DISCS = {"title": "Discs", "terms": "none at all", "citation": "Disc 2020", "url": "https://discs.example", "films": 41}
Scores = list[dict[str, Any]]


@pytest.fixture(scope="module")
def network_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    vocabulary = Vocabulary(("No Finding", "Effusion", "Mass"), ("AP", "PA"), ("discs",))
    generator = Generator(GeneratorConfig(32, vocabulary.dim, 16, 16, 2, channel_base=256, channel_max=16))
    table = [{"view": "PA", "sex": None, "age_bin": None, "source": "discs", "present": [], "absent": [], "films": 37}]
    path = tmp_path_factory.mktemp("network") / "discs.safetensors"
    save_network(path, generator, NetworkInfo("discs", generator.config, vocabulary, table, 4321, "f" * 64, {"discs": DISCS}))
    return path


def record(key: str, value: float | None, ci95: list[float] | None, floor: float | None, sha256: str) -> dict[str, Any]:
    extractor = "random8" if "random8" in key else None
    common = {"truncation": 1.0, "seeds": "0-98", "split": "all", "pool_fingerprint": "f" * 64, "network_sha256": sha256}
    whose = {"extractor": extractor, "extractor_sha256": "ab" * 32 if extractor else None, "code_version": "0", "seconds": 1.0}
    return {"key": key, "value": value, "ci95": ci95, "floor": floor, "num_real": 77, "num_fake": 99} | whose | common


@pytest.fixture
def planted(network_file: Path) -> Scores:
    """A score of each kind, each with figures that nothing else has."""
    keys = (
        "fd_random8_99", "fd_random8_99_view_PA", "fdinf_random8", "kid_random8_99", "precision_random8_99_k5", "recall_random8_99_k5",
        "density_random8_99_k5", "coverage_random8_99_k5", "vendi_random8_99", "msssim_3scales_99", "near_rate_p1", "memorised_rate",
        "nearest_ratio_median", "reid_auc_random8", "reid_rank1_random8", "reid_match_rate_random8", "tie_asked_finding_view_v",
        "probe_random8_real_or_synthetic_auc", "probe_random8_age_mae", "fidelity_random8_view_PA_auc", "anatomy_lungs64_ctr_w1",
        "anatomy_lungs64_implausible", "utility_64px_3seeds_real_and_synthetic_over_real_mean_of_findings",
    )  # fmt: skip
    sha256 = sha256_file(network_file)
    found = [record(key, 0.1013 + i / 50, [0.1007 + i / 50, 0.1021 + i / 50], 0.6031 + i / 50, sha256) for i, key in enumerate(keys)]
    found.append(record("anatomy_lungs64_ctr_cardiomegaly_auc", 0.8123, [0.7456, 0.8789], None, sha256))
    found.append(record("fidelity_random8_Effusion_auc", None, None, 0.7219, sha256))
    return [*found, record("poses_random8_real_turn_sex_flipped", 0.9999, [0.9998, 1.0], 0.0, sha256)]


def write(path: Path, records: object) -> Path:
    path.write_text(json.dumps(records))
    return path


def test_every_figure_is_of_the_scores(network_file: Path, planted: Scores, tmp_path: Path) -> None:
    write_card(str(network_file), write(tmp_path / "scores.json", planted), tmp_path / "CARD.md")
    text = (tmp_path / "CARD.md").read_text()
    cells = {row[-2].strip(" `"): row for line in text.splitlines() if len(row := line.split("|")) == 8}
    del cells["key"], cells["---"]
    rows = {
        each["key"]: each
        for each in planted
        if each["value"] is not None and not each["key"].startswith(("poses", "anatomy_lungs64_ctr_c"))
    }
    assert cells.keys() == rows.keys()
    for key, cell in cells.items():
        figures = [float(number) for number in re.findall(r"-?[\d.]+(?:e-?\d+)?", " ".join(cell[2:5]))]
        assert figures == pytest.approx([rows[key]["value"], *rows[key]["ci95"], rows[key]["floor"]], rel=1e-3)
    given = {
        round(abs(number), 3) for each in planted for number in (each["value"], each["floor"], *(each["ci95"] or ())) if number is not None
    }
    worth = text[text.index("## What its films are worth") : text.index("## What it cannot do")]
    decimals = {round(float(number), 3) for number in re.findall(r"\d*\.\d+(?![\d%]|\.)", worth.split("Every figure", 1)[1])}
    assert decimals <= given, "a figure that no score has"
    for needed in (
        sha256_file(network_file),
        "4,321",
        "Disc 2020",
        "https://discs.example",
        "none at all",
        "Not a patient, not for diagnosis",
    ):
        assert needed in text, needed
    assert "Effusion (0.7219)" in text, "what the reader cannot confirm, with its AUC"
    assert "Nobody has looked whether its films show: No Finding, Mass" in text
    assert "0.9999" not in text


def test_the_same_scores_give_the_same_card(network_file: Path, planted: Scores, tmp_path: Path) -> None:
    for folder in ("a", "b", "c"):
        (tmp_path / folder).mkdir()
        planted[0]["value"] = 0.1013 if folder != "c" else 0.1015
        write_card(str(network_file), write(tmp_path / "scores.json", planted), tmp_path / folder / "CARD.md")
    a, b, c = ((tmp_path / folder / "CARD.md").read_text() for folder in "abc")
    assert a == b
    assert [(one, other) for one, other in zip(a.splitlines(), c.splitlines(), strict=True) if one != other and "0.1015" not in other] == []
    assert a != c
    pictures = [(tmp_path / folder / "CARD.png").read_bytes() for folder in "ab"]
    assert pictures[0] == pictures[1]
    assert read_png_text(tmp_path / "a" / "CARD.png")["Network"] == sha256_file(network_file)
    assert "(CARD.png)" in a


def test_scores_of_something_else_are_refused(network_file: Path, planted: Scores, tmp_path: Path) -> None:
    sha256, path = sha256_file(network_file), tmp_path / "scores.json"
    for spoilt, message in (
        ([{**planted[0], "network_sha256": "b" * 64}], rf"fd_random8_99 is of network bbbbbbbbbbbb…, but the card is of {sha256[:12]}…"),
        ([*planted, {**planted[0], "network_sha256": "b" * 64}], r"is of network bbbbbbbbbbbb…"),
        ([{**planted[0], "network_sha256": None}], r"is of no named network"),
        ([planted[0], {**planted[1], "truncation": 0.7}], r"has truncation 0\.7, .* a card tells of one set of films"),
        ([planted[0], {**planted[1], "pool_fingerprint": "0"}], r"has pool_fingerprint '0'"),
        ([], r"no list of scores"),
        ({"key": 1}, r"no list of scores"),
        ([{"key": "fd", "value": 1.0}], r"no list of scores"),
    ):
        with pytest.raises(ValueError, match=message):
            write_card(str(network_file), write(path, spoilt), tmp_path / "CARD.md")
    path.write_text("{")
    with pytest.raises(ValueError, match=r"scores\.json is not JSON"):
        read_scores(path, sha256)
    with pytest.raises(ValueError, match=r"none\.json is missing"):
        read_scores(tmp_path / "none.json", sha256)
    assert not (tmp_path / "CARD.md").exists()


def test_what_was_not_measured_is_said(network_file: Path, planted: Scores) -> None:
    network = load(network_file)
    few = [each for each in planted if not each["key"].startswith(("memorised", "fidelity", "reid"))]
    few.append({**planted[0], "key": "reid_auc_random8", "value": None, "ci95": None, "floor": None, "num_real": 3})
    few = [{**each, "ci95": [0.4, 0.9]} if each["key"].endswith("cardiomegaly_auc") else each for each in few]
    text = card(network, str(network_file), few, "x.png", "", "make it")
    assert "Not looked for. Do not take a film for private because it is synthetic." in text
    assert "not measurable: 3 patients have several films, and 20 are needed" in text
    assert "**Not to be trusted here**" in text
    assert "Nobody has looked whether its films show: No Finding, Effusion, Mass" in text
    assert "not told by the file" in text


def test_terms_bind_the_card_and_text_of_a_file_stays_text(network_file: Path, planted: Scores) -> None:
    network = load(network_file)
    bound = replace(network, info=replace(network.info, sources={**network.info.sources, "mimic-cxr": MIMIC}))
    text = card(bound, str(network_file), planted, "x.png", "by hand", "make it")
    assert "**Trained on MIMIC-CXR, whose terms restrict sharing: for local use only.**" in text
    assert "Johnson &lt;b>2019. <https://physionet.org>. no \\| sharing." in text
    assert "## Notes of the makers\n\nby hand\n" in text
    assert "restrict sharing" not in card(network, str(network_file), planted, "x.png", "", "make it")


def test_a_run_folder_tells_what_it_cost(network_file: Path, planted: Scores, tmp_path: Path) -> None:
    run = tmp_path / "00000-discs-32"
    run.mkdir()
    (run / "network-latest.safetensors").write_bytes(network_file.read_bytes())
    lines = [{"images_seen": 1000, "img_per_sec": 10.0}, {"images_seen": 4000, "img_per_sec": 100.0}, {"images_seen": 4000}]
    (run / "stats.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (run / "config.toml").write_text('device = "cuda"\nthreads = 3\nbatch = 16\nseed = 5\n')
    (run / "env.json").write_text(json.dumps({"cuda": ["Some GPU"]}))
    text = card(load(run), str(run), planted, "x.png", "", "make it")
    assert "| compute | 2 minutes, Some GPU, threads 3, batch 16, seed 5 |" in text
    assert f"{tmp_path}" not in text, "nobody's folders"


def test_the_bundled_card_is_of_the_bundled_network() -> None:
    for name, entry in bundled_weights("generator").items():
        text = (WEIGHTS / f"{name}.md").read_text()
        assert f"`{entry['sha256']}`" in text, f"make {name}.md anew: the command is its last lines"
        assert read_png_text(WEIGHTS / f"{name}.png")["Network"] == entry["sha256"]


def test_words_and_readings() -> None:
    base = record("fd_x_99", 2.0, [1.5, 2.5], 1.0, "a") | {"extractor": "x"}
    assert (words_of(base), reading(base)) == ("Fréchet distance", "worse")
    assert reading({**base, "floor": 2.0}) == "not told apart"
    assert reading({**base, "floor": 3.0}) == "better"
    assert reading({**base, "ci95": None}) == reading({**base, "floor": None}) == ""
    assert reading({**base, "key": "recall_x_99_k5"}) == "better"
    assert reading({**base, "key": "fidelity_x_age_mae"}) == "worse"
    assert words_of({**base, "key": "fidelity_x_age_mae"}) == "asked and seen: age (error in years)"
    assert words_of({**base, "key": "fd_x_99_small_Pleural_Thickening"}) == "Fréchet distance, Pleural_Thickening only"
    assert words_of({**base, "key": "fd_x_99_view_PA"}) == "Fréchet distance, view PA only"
    assert words_of({**base, "key": "label_noise_phantom64"}) == ""
