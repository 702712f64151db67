"""A small random network to sample from, and one that saw films which may not be shared."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests import bodies
from thiscxr.collections import COLLECTIONS
from thiscxr.labels import NEGATIVE, POSITIVE
from thiscxr.model.conditions import Condition, Vocabulary, joint_table
from thiscxr.model.generator import Generator, GeneratorConfig
from thiscxr.model.network_file import NetworkInfo, save_network
from thiscxr.sample.sampling import Network, load


@pytest.fixture(scope="session")
def vocabulary() -> Vocabulary:
    """What the network learnt."""
    return Vocabulary(("Effusion",), ("AP", "PA"), ("discs",))


@pytest.fixture(scope="session")
def network_file(tmp_path_factory: pytest.TempPathFactory, film_conditions, vocabulary: Vocabulary) -> Path:
    """A random generator with strong noise and a joint table of two kinds of films."""
    torch.manual_seed(0)
    generator = Generator(GeneratorConfig(32, vocabulary.dim, 16, 16, 2, channel_base=256, channel_max=16))
    for conv in generator.synthesis.convs:
        torch.nn.init.constant_(conv.noise_strength, 0.3)
    films = [Condition("PA", "F", 44.0, "discs", {"Effusion": POSITIVE})] * 30 + [
        Condition("AP", "M", 61.0, "discs", {"Effusion": NEGATIVE})
    ] * 10
    table = joint_table(film_conditions(films), np.arange(40), vocabulary)
    terms = {"discs": {"title": "Discs", "terms": "", "citation": "", "url": "", "acknowledgement": ""}}
    info = NetworkInfo("discs", generator.config, vocabulary, table, 1000, "f" * 64, terms)
    path = tmp_path_factory.mktemp("network") / "discs.safetensors"
    save_network(path, generator, info)
    return path


@pytest.fixture
def network(network_file: Path) -> Network:
    return load(network_file)


@pytest.fixture
def restricted(network: Network) -> Network:
    """The same network, had it seen MIMIC-CXR too."""
    terms = COLLECTIONS["mimic-cxr"].terms
    seen = {
        "title": terms.title,
        "terms": terms.terms,
        "citation": terms.citation,
        "url": terms.url,
        "acknowledgement": "",
    }
    return replace(network, info=replace(network.info, sources={**network.info.sources, "mimic-cxr": seen}))


@pytest.fixture(scope="session")
def trained_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network whose truth is known, see `bodies.py`."""
    terms = {"drawn": {"title": "Drawn bodies", "terms": "", "citation": "", "url": "", "acknowledgement": ""}}
    generator = bodies.train()
    info = NetworkInfo("drawn", generator.config, bodies.VOCABULARY, [], 6400, "e" * 64, terms)
    path = tmp_path_factory.mktemp("trained") / "drawn.safetensors"
    save_network(path, generator, info)
    return path


@pytest.fixture
def trained(trained_file: Path) -> Network:
    return load(trained_file)
