"""Films of the page, single and in pairs, asked for what `thiscxr sample` is asked for; skipped where there is no
chromium."""

import json
from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.generator_page import difference, in_json, pixels, press, python_film, save_fresh
from thiscxr.gallery.site import build_site
from thiscxr.latent.series import in_pairs
from thiscxr.model.conditions import Vocabulary
from thiscxr.model.generator import GeneratorConfig
from thiscxr.pixels import read_png_text
from thiscxr.sample.latents import MAX_SEED
from thiscxr.sample.provenance import Film, origin_of
from thiscxr.sample.sampling import load, request, sample_films
from thiscxr.sample.truncation import Truncation


@pytest.fixture(scope="module")
def lateral_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site of a small network of frontal and lateral films, whose training films were of all kinds."""
    vocabulary = Vocabulary(
        ("No Finding", "Effusion", "Mass", "Support_Devices"), ("AP", "PA", "lateral"), ("here", "there")
    )
    config = GeneratorConfig(res=32, c_dim=vocabulary.dim, z_dim=32, w_dim=32, mapping_layers=2, channel_max=24)
    row = {
        "view": "PA",
        "sex": "F",
        "age_bin": 40,
        "source": "here",
        "present": ["No Finding"],
        "absent": ["Effusion", "Mass"],
        "films": 3,
    }
    ill = {"view": "AP", "source": "there", "present": ["Effusion", "Support_Devices"], "absent": ["No Finding"]}
    unknown = {"view": "lateral", "sex": None, "age_bin": None, "present": ["Mass"], "absent": ["No Finding"]}
    rows = [row, {**row, **ill}, {**row, **ill, "sex": "M", "age_bin": 70}, {**row, **unknown}]
    path = save_fresh(tmp_path_factory.mktemp("lateral") / "lateral.safetensors", config, vocabulary, rows)
    build_site(None, path.parent / "out", model=path)
    return path.parent / "out"


REQUESTS: list[tuple[dict[str, Any], dict[str, Any]]] = [  # of the page, and of `sample`
    ({}, {}),
    ({"view": "AP"}, {"view": "AP"}),
    ({"finding": "Mass"}, {"findings": ["Mass"]}),
    ({"finding": ["No Finding", "Support_Devices"]}, {"findings": ["No Finding", "Support_Devices"]}),
    ({"no-finding": ["Effusion", "Mass"]}, {"no_findings": ["Effusion", "Mass"]}),
    ({"sex": "M", "age": 0}, {"sex": "M", "age_years": 0}),
    ({"source": "here", "age": 120}, {"source": "here", "age_years": 120}),
]


def test_browser_generates_the_pairs_of_sample(visit: Any, lateral_site: Path) -> None:
    network = load(lateral_site / "generator" / "network.safetensors")  # in half precision, as the page has it
    page = visit((lateral_site / "make.html").as_uri())
    seeds = [0, 1, 3, 2**40 + 3, MAX_SEED]
    drawn = network.conditions(seeds, request())
    assert {one.view for one in drawn} == {"PA", "AP", "lateral"}
    apart = []
    for i, (fields, words) in enumerate(REQUESTS):
        for seed in (seeds[i % 5], seeds[(i + 2) % 5]):
            press(page, seed=seed, truncation=0.9, pair=1, **fields)
            pair, conditions = in_pairs(network, [seed], request(**words))
            films = next(iter(sample_films(network, pair, conditions, 0.9)))
            for film, condition, canvas in zip(films, conditions, ("film", "film-partner"), strict=True):
                assert difference(pixels(page, canvas), film) <= 1, (seed, fields, condition)
            # As the pair was once generated: what was not requested, unknown.
            alone = [
                python_film(network, seed, 0.9, **{"view": "PA", **words}),
                python_film(network, seed, 0.9, **words | {"view": "lateral"}),
            ]
            apart.append(max(difference(film, other) for film, other in zip(films, alone, strict=True)))
    assert min(apart) > 10
    press(page, seed=1, pair=1, finding="Mass")
    page.until("document.getElementById('film-partner').offsetWidth > 0")
    names = [f"synthetic-seed-00000001-{view}.png" for view in ("PA", "lateral")]
    with (
        page.page.expect_download(lambda one: one.suggested_filename == names[0]) as frontal,
        page.page.expect_download(lambda one: one.suggested_filename == names[1]) as lateral,
    ):
        page.page.click("#save")
    for download, condition in zip(
        (frontal, lateral), in_pairs(network, [1], request(findings=["Mass"]))[1], strict=True
    ):
        text = read_png_text(Path(download.value.path()))
        assert json.loads(text["Asked"]) == Film(1, condition, Truncation(), origin_of(network)).requested
    press(page, seed=6)
    assert not page.page.is_visible("#film-partner")


def test_browser_requests_of_both_films_of_a_pair_what_sample_requests(visit: Any, lateral_site: Path) -> None:
    network = load(lateral_site / "generator" / "network.safetensors")
    vocabulary, table, seeds = network.info.vocabulary, list(network.info.joint_table), range(8)
    requests, expected = [], []
    for states in product(("1", "-1", ""), repeat=len(vocabulary.findings)):
        words = {key: [name for name, one in zip(vocabulary.findings, states, strict=True) if one == state]
                 for key, state in (("findings", "1"), ("no_findings", "-1"))}  # fmt: skip
        try:
            conditions = in_pairs(network, seeds, request(**words, sex="M"))[1]
        except ValueError as error:
            expected += [str(error)] * 2 * len(seeds)
        else:
            expected += [in_json(condition) for condition in conditions]
        asked = {**in_json(request(sex="M")), **words}
        requests += [[seed, asked, part] for seed in seeds for part in ("frontal", "lateral")]
    page = visit((lateral_site / "make.html").as_uri())
    press(page, seed=1)  # loads generator.js
    facts = json.dumps({"joint_table": table, "vocabulary": vocabulary.to_json()})
    asked_for = page.look(
        f"""{json.dumps(requests)}.map((each) => {{
            try {{ return thiscxrGenerator().conditionOf({facts}, ...each); }} catch (error) {{ return error.message; }}
        }})"""
    )
    assert asked_for == expected
    assert sum(isinstance(one, str) for one in expected) == 2 * len(seeds) * 15
    assert len({json.dumps(one) for one in expected}) > 100


def test_browser_generates_the_single_films_of_sample(visit: Any, lateral_site: Path) -> None:
    network = load(lateral_site / "generator" / "network.safetensors")
    page = visit((lateral_site / "make.html").as_uri())
    for seed, (fields, words) in enumerate([*REQUESTS, ({"view": "lateral"}, {"view": "lateral"})]):
        press(page, seed=seed, **fields)
        assert difference(pixels(page), python_film(network, seed, **words)) <= 1, (seed, fields)


def test_browser_refuses_what_sample_refuses(visit: Any, lateral_site: Path) -> None:
    network = load(lateral_site / "generator" / "network.safetensors")
    with pytest.raises(ValueError, match="are requested in one film"):
        python_film(network, 0, findings=["No Finding", "Effusion"])
    with pytest.raises(ValueError, match="a frontal and a lateral film"):
        in_pairs(network, [0], request(view="lateral"))
    with pytest.raises(ValueError, match="requested both present and absent"):
        python_film(network, 0, findings=["Effusion"], no_findings=["Effusion"])
    page = visit((lateral_site / "make.html").as_uri())
    press(page, seed=2)
    for fields, said in (
        ({"finding": ["No Finding", "Effusion"]}, "'No Finding' and finding 'Effusion' are requested in one film"),
        ({"view": "lateral", "pair": 1}, "A pair is a frontal and a lateral film"),
        ({"finding": "Effusion", "no-finding": "Effusion"}, "no-finding Effusion"),
    ):
        page.look(f"location.hash = {json.dumps('#' + urlencode(fields, doseq=True))}")
        page.until(f"document.getElementById('status').textContent.includes({json.dumps(said)})")
