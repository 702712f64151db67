"""Two views: films become studies, either film may be missing, both predict better than one, and what cannot be read is
refused in one line."""

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from thiscxr import cli
from thiscxr.labels import FINDINGS, NEGATIVE, NOT_ANNOTATED, NOT_MENTIONED, POSITIVE, UNCERTAIN, FilmRecord, Terms
from thiscxr.pool import Pool
from thiscxr.pool.writer import PoolWriter
from thiscxr.reader.extractors import load_extractor
from thiscxr.reader.network import ReaderConfig, TwoViewReader
from thiscxr.reader.training import Recipe, load_any_reader, load_reader, save_reader
from thiscxr.reader.trust import trusted_reader
from thiscxr.reader.views import evaluate_studies, find_studies, read_studies, train_studies

TERMS = Terms(title="Discs", terms="none", citation="none", url="none", acknowledgement="none")
Film = tuple[str, str, str, dict[str, int], np.ndarray]  # patient, study, view, states, pixels


def write_pool(path: Path, films: Iterable[Film]) -> Pool:
    with PoolWriter(path, 32, 8, {"discs": TERMS}, b"key") as writer:
        for i, (patient, study, view, states, pixels) in enumerate(films):
            record = FilmRecord(str(i), str(i), patient, study, view, "F", 50.0, states)
            writer.add("discs", record, pixels, (32, 32, 8))
    return Pool.open(path)


def disc(rng: np.random.Generator, low: bool) -> np.ndarray:
    """A bright disc of 32 px, low or high."""
    y, x = np.mgrid[:32, :32] / 32
    film = 40 + 150 * ((x - 0.5) ** 2 + (y - (0.7 if low else 0.3)) ** 2 < 0.04) + 12 * rng.standard_normal((32, 32))
    return np.clip(film, 0, 255).astype(np.uint8)


def grey(value: int) -> np.ndarray:
    return np.arange(value, value + 1024, dtype=np.int64).astype(np.uint8).reshape(32, 32)


@pytest.fixture(scope="module")
def discs(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    """240 studies: Effusion shows on the frontal, Hernia on the lateral, Mass on neither; one patient in six
    has one film."""
    rng = np.random.default_rng(0)

    def films() -> Iterable[Film]:
        for i in range(240):
            effusion, hernia = i % 2 == 0, i // 2 % 2 == 0
            states = {"Effusion": POSITIVE if effusion else NEGATIVE, "Hernia": POSITIVE if hernia else NEGATIVE}
            states["Mass"] = POSITIVE if i % 7 == 0 else NEGATIVE
            if i % 12 != 0:
                yield str(i), str(i), "PA" if i % 3 else "AP", states, disc(rng, effusion)
            if i % 12 != 5:
                yield str(i), str(i), "lateral", states, disc(rng, hernia)

    return write_pool(tmp_path_factory.mktemp("discs") / "pool", films())


@pytest.fixture(scope="module")
def reader(discs: Pool) -> TwoViewReader:
    torch.set_num_threads(1)
    recipe = Recipe(res=32, batch=16, max_weight=5)
    return train_studies(find_studies(discs, discs.indices("train")), recipe, 3, 0)


def test_studies_are_learnt_in_half_precision(discs: Pool, reader: TwoViewReader) -> None:
    recipe = Recipe(res=32, batch=16, max_weight=5, bf16=True)
    half = train_studies(find_studies(discs, discs.indices("train")), recipe, 3, 0)
    weights, others = half.heads["findings"].get_parameter("weight"), reader.heads["findings"].get_parameter("weight")
    assert weights.dtype == torch.float32
    assert 0 < (weights - others).abs().max() < 0.2, "rounding alone"


@pytest.fixture(scope="module")
def reader_file(discs: Pool, reader: TwoViewReader, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("reader") / "two.safetensors"
    save_reader(path, reader, discs, {})
    return path


def test_films_of_a_patient_and_a_study_are_one_study(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    films = [
        ("p", "1", "lateral", {}, grey(0)),
        ("p", "1", "PA", {}, grey(1)),
        ("p", "1", "AP", {}, grey(2)),  # a second frontal
        ("p", "2", "AP_supine", {}, grey(3)),  # another visit
        ("q", "1", "lateral", {}, grey(4)),  # another patient whose study has the same name
        ("p", "1", "other", {}, grey(5)),
        ("p", "1", "unknown", {}, grey(6)),
    ]
    pool = write_pool(tmp_path / "pool", films)
    caplog.set_level("INFO")
    studies = find_studies(pool, pool.indices("all"))
    assert studies.films.tolist() == [[1, 0], [3, -1], [-1, 4]]
    assert studies.leading.tolist() == [1, 3, 4]
    assert studies.both.tolist() == [True, False, False]
    assert len(np.unique(studies.patients[:2])) == 1
    assert studies.patients[2] != studies.patients[0]
    counted = "3 studies, 2 with a frontal film, 2 with a lateral one, 1 with both; not read: 1 further films of a view"
    assert f"{counted} and 2 of another or unknown view" in caplog.text
    images = studies.read(np.arange(3))
    assert images.shape == (3, 2, 32, 32)
    assert images[:, :, 0, 0].isnan().tolist() == [[False, False], [False, True], [True, False]]
    np.testing.assert_allclose(images[0, 0], grey(1) / 127.5 - 1, atol=1e-6)
    assert studies.alone("lateral").films.tolist() == [[-1, 0], [-1, -1], [-1, 4]]


@pytest.mark.parametrize(
    ("one", "other", "study"),
    [
        (POSITIVE, NEGATIVE, POSITIVE),
        (POSITIVE, UNCERTAIN, POSITIVE),
        (NEGATIVE, UNCERTAIN, UNCERTAIN),
        (NEGATIVE, NOT_MENTIONED, NEGATIVE),
        (NOT_MENTIONED, NOT_ANNOTATED, NOT_MENTIONED),
        (NOT_ANNOTATED, NOT_ANNOTATED, NOT_ANNOTATED),
    ],
)
def test_findings_are_the_studys(tmp_path: Path, one: int, other: int, study: int) -> None:
    for number, (first, second) in enumerate([(one, other), (other, one)]):
        films = [
            ("p", "1", "PA", {"Mass": first, "No Finding": POSITIVE}, grey(0)),
            ("p", "1", "lateral", {"Mass": second, "No Finding": NEGATIVE}, grey(1)),
        ]
        pool = write_pool(tmp_path / str(number), films)
        states = find_studies(pool, pool.indices("all")).conditions.findings[0]
        assert states[FINDINGS.index("Mass")] == study
        assert states[FINDINGS.index("No Finding")] == NEGATIVE, "one film shows something"


def test_each_film_predicts_its_own_finding_and_both_predict_all(discs: Pool, reader: TwoViewReader) -> None:
    found = evaluate_studies(reader, find_studies(discs, discs.indices("holdout")), "holdout")
    areas = {part: {each.question: each.value for each in evaluation.questions} for part, evaluation in found.items()}
    assert list(found) == ["holdout", "holdout, both views", "holdout, frontal alone", "holdout, lateral alone"]
    assert areas["holdout, both views"]["Effusion"] > 0.95
    assert areas["holdout, both views"]["Hernia"] > 0.95
    assert areas["holdout, frontal alone"]["Effusion"] > 0.95
    assert areas["holdout, lateral alone"]["Hernia"] > 0.95
    assert abs(areas["holdout, frontal alone"]["Hernia"] - 0.5) < 0.3, "the frontal does not show it"
    assert abs(areas["holdout, lateral alone"]["Effusion"] - 0.5) < 0.3, "the lateral does not show it"
    pairs = {found[part].num_films for part in list(found)[1:]}
    assert len(pairs) == 1, "the same studies, whatever is hidden of them"
    assert pairs.pop() < found["holdout"].num_films


def test_without_a_film_the_heads_of_the_other_predict() -> None:
    torch.manual_seed(0)
    network = TwoViewReader(ReaderConfig(("Mass",), ("study",), ("a",), 32, (8, 8), reads="study")).eval()
    images = torch.randn(4, 2, 32, 32)
    images[0, 1] = images[1, 0] = images[2] = torch.nan
    answers = network.answers(images)
    torch.testing.assert_close(answers["findings"][0], network.frontal(images[:1, :1])["findings"][0])
    torch.testing.assert_close(answers["findings"][1], network.lateral(images[1:2, 1:])["findings"][0])
    assert answers["age"][2].isnan().all(), "nothing was shown"
    assert answers["age"][3].isfinite().all()
    swapped = network.answers(images.flip(1))
    assert not torch.allclose(swapped["findings"][3], answers["findings"][3]), "the views are not exchangeable"
    network.train()
    assert network(images[:1])[1][1]["age"].shape == (0, 1), "a batch without laterals trains all the same"


def test_its_file_says_that_it_reads_studies(discs: Pool, reader: TwoViewReader, reader_file: Path) -> None:
    again, metadata = load_any_reader(reader_file)
    assert metadata["architecture"]["reads"] == "study"
    studies = find_studies(discs, discs.indices("holdout"))
    one, other = (read_studies(each, studies).answers for each in (reader, again))  # type: ignore[arg-type]
    np.testing.assert_allclose(one["Effusion"], other["Effusion"], rtol=1e-5)
    assert ReaderConfig((), (), ()).reads == "film", "so do the files of before, which do not say"
    with pytest.raises(ValueError, match="it reads a 'visit', which is not one of film, study"):
        ReaderConfig((), (), (), reads="visit")


@pytest.mark.parametrize("load", [load_reader, lambda path: load_extractor(str(path)), trusted_reader])
def test_it_does_not_score_single_films(reader_file: Path, load: Callable) -> None:
    with pytest.raises(
        ValueError, match="reads the frontal and the lateral film of a study together, which `thiscxr c"
    ):
        load(reader_file)


def test_weights_do_not_spoil_the_probabilities_of_any_head(discs: Pool, reader: TwoViewReader) -> None:
    """One patient in seven has a mass that no film shows; weighted fivefold, it would be predicted for half."""
    studies = find_studies(discs, discs.indices("all"))
    for some in (studies, studies.alone("frontal"), studies.alone("lateral")):
        logits = read_studies(reader, some).answers["Mass"]
        assert 0.05 < np.nanmean(1 / (1 + np.exp(-logits))) < 0.3


def run(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(cli.group, [str(word) for word in words])
    return result.exit_code, result.output + (str(result.exception) if result.exception else "")


def test_the_commands_train_and_evaluate_it(discs: Pool, tmp_path: Path) -> None:
    out = tmp_path / "two.safetensors"
    code, said = run(
        *f"classify train --data {discs.path} --views both --res 32 --epochs 1 --batch 16 --out {out}".split()
    )
    assert code == 0, said
    code, said = run(*f"classify eval --data {discs.path} --model {out} --json".split())
    assert code == 0, said
    found = json.loads(said[said.index("{") :])
    assert {"holdout", "holdout, both views", "holdout, frontal alone", "holdout, lateral alone"} < set(found)
    effusion = found["holdout, both views"]["questions"][0]
    assert effusion["question"] == "Effusion"
    assert effusion["ci95"][0] <= effusion["value"] <= effusion["ci95"][1]
    code, said = run(*f"classify eval --data {discs.path} --model {out} --split train".split())
    assert "train, lateral alone: " in said
    assert " studies of " in said
    assert "are of patients in the classifier's training set" in said
    for option in ("--keep", "--cross-fit", f"--filters {tmp_path}/f.png", f"--gradcam {tmp_path}/g.png"):
        code, said = run(*f"classify eval --data {discs.path} --model {out} {option}".split())
        assert code == 2, said
        assert f"{option.split()[0]} is for classifiers of single films" in said


def films_of(views: Iterable[str], study: Callable[[int, str], str]) -> list[Film]:
    return [(str(i), study(i, view), view, {"Mass": i % 2}, grey(i)) for i in range(60) for view in views]


@pytest.mark.parametrize(
    ("films", "said"),
    [
        (films_of(["PA"], lambda i, view: str(i)), "has no lateral film to train on, and two views were requested"),
        (films_of(["lateral"], lambda i, view: str(i)), "has no frontal film to train on"),
        (
            films_of(["AP", "lateral"], lambda i, view: f"{i}{view}"),
            r": 0 of its \d+ training studies have a frontal and a lateral film, and at least a step of 16 is ",
        ),
        (films_of(["unknown", "other"], lambda i, view: str(i)), r"none of these \d+ films is known to be frontal"),
    ],
    ids=["no laterals", "no frontals", "no studies", "unknown views"],
)
def test_pools_that_have_no_two_views_are_refused(tmp_path: Path, films: list[Film], said: str) -> None:
    pool = write_pool(tmp_path / "pool", films)
    out = tmp_path / "two.safetensors"
    command = f"classify train --data {pool.path} --views both --res 32 --batch 16 --epochs 1 --out {out}"
    code, output = run(*command.split())
    assert code == 1
    assert re.search(said, output), output
    assert not out.exists()
    code, output = run(*command.split(), "--cross-fit")
    assert code == 2
    assert "--cross-fit is for classifiers of single films" in output


def test_a_pool_of_frontals_is_read_by_the_frontal_alone(tmp_path: Path, reader: TwoViewReader) -> None:
    rng = np.random.default_rng(1)
    films = [(str(i), str(i), "PA", {"Effusion": int(i % 2 == 0)}, disc(rng, i % 2 == 0)) for i in range(40)]
    pool = write_pool(tmp_path / "pool", films)
    found = evaluate_studies(reader, find_studies(pool, pool.indices("all")), "all")
    assert list(found) == ["all"]
    assert found["all"].questions[0].value > 0.95
