"""A series is drawn where the reader can tell the finding on real patients, and refused with its AUC where it cannot."""

from dataclasses import replace

import numpy as np
import pytest

from thiscxr.data.labels import FINDINGS
from thiscxr.data.pool import Pool
from thiscxr.model.classifier import Reader, ReaderConfig
from thiscxr.sample.sampling import load
from thiscxr.score.confirm import growth_table, probability, refuse_unconfirmed
from thiscxr.score.extractors import Extractor, load_extractor
from thiscxr.train.reader import Recipe, train_reader

READER = Reader(ReaderConfig(("Effusion", "Mass"), ("PA",), ("discs",), 32)).eval()
JUDGED = {"auc": {"Effusion": 0.9, "Mass": 0.9}, "auc_ci95": {"Effusion": [0.76, 0.95], "Mass": [0.74, 0.97]}, "films": 50}
KNOWN = Extractor("known", "0" * 64, READER, frozenset({"discs"}), judged=JUDGED)


def test_the_lower_end_of_the_interval_decides() -> None:
    assert refuse_unconfirmed("Effusion", KNOWN, ["discs", "others"]) == "AUC 0.900 [0.760, 0.950] on 50 held-out films"
    for finding, extractor, sources, message in (
        ("Mass", KNOWN, ["discs"], r"cannot confirm 'Mass': AUC 0.900 \[0.740, 0.970\] on 50 held-out films, .* above 0.75"),
        ("Hernia", KNOWN, ["discs"], "does not read 'Hernia', .*; it reads: Effusion, Mass"),
        ("Effusion", KNOWN, ["nih"], "reader known learnt from discs and the network from nih; give a --reader"),
        ("Effusion", replace(KNOWN, judged={}), [], "does not say how well it tells 'Effusion'; give --real POOL"),
        ("Effusion", replace(KNOWN, judged={"auc": {"Effusion": 0.9}, "films": 50}), [], "no interval; give --real POOL"),
        ("Effusion", replace(KNOWN, judged={"auc": {"Effusion": 0.7}, "films": 50}), [], "AUC 0.700 on 50 held-out films"),
    ):
        with pytest.raises(ValueError, match=message):
            refuse_unconfirmed(finding, extractor, sources)


def test_nothing_can_be_claimed_of_the_bundled_network() -> None:
    """The best finding of the bundled reader has an interval from 0.71 to 0.90: every series is refused, with its AUC."""
    reader, network = load_extractor("thiscxr64"), load("nih-64")
    for finding in set(network.info.vocabulary.findings):
        with pytest.raises(ValueError, match=r"AUC 0\.\d{3}"):
            refuse_unconfirmed(finding, reader, network.info.sources)


def test_a_pool_judges_the_reader_on_patients_that_it_does_not_know(pool: Pool) -> None:
    good = Extractor("good", "1" * 64, train_reader(pool, 5, 0, recipe=Recipe(res=32)), frozenset({"discs"}))
    words = refuse_unconfirmed("Effusion", good, ["discs"], pool)
    held = pool.indices("holdout")
    assert words.endswith(f"on {len(held)} held-out films")
    seen = probability(good, pool.read(held), "Effusion")
    present = pool.findings[held, FINDINGS.index("Effusion")] == 1
    won = seen[present][:, None] - seen[~present]
    assert words.startswith(f"AUC {((won > 0) + 0.5 * (won == 0)).mean():.3f} ["), "the same as counted pair by pair"
    with pytest.raises(ValueError, match="cannot confirm 'Effusion': AUC"):
        refuse_unconfirmed("Effusion", Extractor("untaught", "2" * 64, READER, frozenset({"discs"})), ["discs"], pool)
    with pytest.raises(ValueError, match="no held-out films with and without 'Mass'"):
        refuse_unconfirmed("Mass", KNOWN, ["discs"], pool)


def test_the_table_counts_who_grows() -> None:
    table = growth_table(np.array([[0.1, 0.2, 0.6], [0.1, 0.05, 0.2], [0.5, 0.4, 0.3]]), "Effusion", "known")
    assert "0.23  0.22  0.37" in table
    assert "in 2 of 3 patients; never falling in 1" in table
