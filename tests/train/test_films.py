"""Training films: their order, how what is rare is repeated, and the conditions that the networks are given."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.conftest import blob
from thiscxr.config import Config
from thiscxr.labels import FINDINGS, NEGATIVE, POSITIVE, FilmRecord, Terms
from thiscxr.pool import Pool
from thiscxr.pool.writer import PoolWriter
from thiscxr.train.draws import Draws
from thiscxr.train.films import Films, repeat_factors

CONFIG = Config(res=32)


def test_an_epoch_shows_every_film_once(pool: Pool) -> None:
    films = Films(pool, CONFIG)
    n = len(films.indices)

    def read(places: torch.Tensor) -> torch.Tensor:
        return films.batch(places)[0]

    seen = read(torch.arange(n)).reshape(n, -1)[:, :40].numpy()
    assert len(np.unique(seen, axis=0)) == n
    across = torch.arange(n - 4, n + 4)
    halves = torch.cat([read(across[:4]), read(across[4:])])
    assert torch.equal(read(across), halves), "a batch across the end of an epoch is the two halves"


def test_the_repeat_factor_is_that_of_the_rarest_finding() -> None:
    positive = np.zeros((1000, 3), bool)
    positive[:400, 0] = positive[:10, 1] = True
    factors = repeat_factors(positive, 0.04)
    np.testing.assert_allclose(factors[:10], np.sqrt(0.04 / 0.01))  # by hand: 2
    np.testing.assert_allclose(factors[10:], 1.0)
    np.testing.assert_allclose(repeat_factors(positive, 0.0), 1.0)


def test_balancing_repeats_what_is_rare_and_keeps_the_length_of_an_epoch(tmp_path: Path) -> None:
    terms = Terms(title="Discs", terms="none", citation="none", url="none", acknowledgement="none")
    with PoolWriter(tmp_path / "pool", 32, 8, {"a": terms, "b": terms}, b"key") as writer:
        # a finding in one film of 4, an AP view in one of 8 without it, source b in one of 16 without either
        for i in range(800):
            view, source = ("AP" if i % 8 == 1 else "PA"), ("b" if i % 16 == 2 else "a")
            findings = {"Effusion": POSITIVE if i % 4 == 0 else NEGATIVE}
            record = FilmRecord(str(i), str(i), str(i), str(i), view, "F", 50.0, findings)
            writer.add(source, record, blob(i, 32, i % 4 == 0), (32, 32, 8))
    films = Films(Pool.open(tmp_path / "pool"), replace(CONFIG, balance=0.25))
    n = len(films.indices)
    shown = np.concatenate([films.epoch_order(epoch) for epoch in range(40)])
    assert len(shown) == 40 * n
    of_b = films.conditions.source == films.conditions.names["source"].index("b")
    ap = films.conditions.view == films.conditions.names["view"].index("AP")
    effusion = films.conditions.findings[:, FINDINGS.index("Effusion")] == POSITIVE
    # by hand: about 2 and √2
    wanted = np.where(of_b, math.sqrt(0.25 / of_b.mean()), np.where(ap, math.sqrt(0.25 / ap.mean()), 1.0))
    wanted[effusion] = max(math.sqrt(0.25 / effusion.mean()), 1.0)
    for rare in (of_b, ap, effusion):
        assert rare[shown].mean() == pytest.approx(wanted[rare].sum() / wanted.sum(), abs=0.005)
    assert of_b[shown].mean() > 1.6 * of_b.mean()
    assert np.bincount(shown, minlength=n).min() > 0, "no film is lost"


def test_thinning_hides_and_never_invents(pool: Pool) -> None:
    films = Films(pool, CONFIG)
    rows = np.arange(100).repeat(20)
    c, given = films.vectors(rows), films.with_dropout(rows, Draws(0, 0, len(rows)))
    assert ((given == c) | (given == 0)).all()
    factors, num_findings = films.vocabulary.factors, len(films.vocabulary.findings)
    hidden = torch.stack([(given[:, part] == 0).all(dim=1) & (c[:, part] != 0).any(dim=1) for part in factors]).float()
    by_factor = hidden.mean(dim=1)
    assert by_factor[num_findings:].numpy() == pytest.approx(0.1 + 0.5 * 0.5, abs=0.04)
    assert by_factor[:num_findings].numpy() == pytest.approx(0.1 + 0.5 * 0.75, abs=0.04)
    only_view = (given[:, :num_findings] == 0).all(dim=1) & (given[:, factors[num_findings]] != 0).any(dim=1)
    assert only_view.float().mean() > 0.1, "a view without findings is the most common request: it must be learnt"
    for part in factors:  # known and unknown together: never half a factor
        assert ((given[:, part] == c[:, part]).all(dim=1) | (given[:, part] == 0).all(dim=1)).all()


def test_contrasts_are_differences_of_the_conditions_of_two_films(two_sources: Pool) -> None:
    films = Films(two_sources, CONFIG)
    rows = np.arange(4000) % len(films.indices)
    draws = Draws(0, 0, len(rows))
    contrasts = films.contrasts(rows, draws)
    own, other = films.vectors(rows), films.vectors(Draws(0, 0, len(rows)).whole(len(films.indices)).numpy())
    for i, part in enumerate(films.vocabulary.factors):
        both = (own[:, part] != 0).any(dim=1) & (other[:, part] != 0).any(dim=1)
        expected = torch.zeros_like(own)
        expected[both, part] = (own - other)[both, part]
        torch.testing.assert_close(contrasts[:, i], expected)
    often = (contrasts != 0).any(dim=2).float().mean(dim=0)
    assert 0.1 < often[0] < 0.5, "Effusion, which both sources know"
    assert (often[len(films.vocabulary.findings) :] > 0).tolist() == [False, True, False, False], (
        "one view, two sources, one sex, one age"
    )


@pytest.fixture(scope="module")
def two_sources(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    """Source a knows effusion, hernia, view and age; source b knows effusion in one film of three and the sex, and has
    no hernia."""
    path = tmp_path_factory.mktemp("two") / "pool"
    terms = Terms(title="Discs", terms="none", citation="none", url="none", acknowledgement="none")
    with PoolWriter(path, 32, 8, {"a": terms, "b": terms}, b"key") as writer:
        for i in range(200):
            state = POSITIVE if i % 4 < 2 else NEGATIVE
            a = FilmRecord(
                str(i),
                str(i),
                str(i),
                str(i),
                "PA",
                "unknown",
                50.0,
                {"Effusion": state, "Hernia": -state + 1 if i % 2 else state},
            )
            writer.add("a", a, blob(i, 32, i % 4 < 2), (32, 32, 8))
            findings = {"Effusion": state} if i % 3 == 0 else {}
            b = FilmRecord(str(i), str(i), str(i), str(i), "unknown", "F", None, findings)
            writer.add("b", b, blob(i + 1000, 32, i % 4 < 2), (32, 32, 8))
    return Pool.open(path)


def test_what_is_left_unknown_does_not_reveal_a_hidden_source(two_sources: Pool) -> None:
    films = Films(two_sources, CONFIG)
    factors = films.vocabulary.factors
    assert films.vocabulary.sources == ("a", "b")
    rows = np.tile(np.arange(len(films.indices)), 40)
    given = films.with_dropout(rows, Draws(0, 0, len(rows)))
    known = torch.stack([(given[:, part] != 0).any(dim=1) for part in factors], dim=1)
    source = len(films.vocabulary.findings) + 1
    of_a = torch.from_numpy(films.conditions.source[rows] == films.conditions.names["source"].index("a"))
    hidden = ~known[:, source]
    patterns = {tuple(row) for row in known[hidden].int().tolist()}
    assert len(patterns) > 1, "a pattern that never varies hides nothing of interest"
    for pattern in patterns:  # the best possible probe: the share of every pattern is the same in both
        shares = [
            (known[hidden & films_of].int() == torch.tensor(pattern)).all(dim=1).float().mean()
            for films_of in (of_a, ~of_a)
        ]
        assert shares[0] == pytest.approx(float(shares[1]), abs=0.02), pattern
    shown = [known[~hidden & films_of].float().mean(dim=0) for films_of in (of_a, ~of_a)]
    assert (shown[0] - shown[1]).abs().max() > 0.5, (
        "with the source given, each keeps what it knows: the check can fail"
    )
