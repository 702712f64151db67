"""The page that makes films, for tests: its network, its button and its canvas, and the same films from Python."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
import torch

from thiscxr.model.conditions import Condition, Vocabulary
from thiscxr.model.generator import Generator, GeneratorConfig
from thiscxr.model.network_file import NetworkInfo, save_network
from thiscxr.sample.sampling import Network, request, sample_films

GREY_LEVELS = 1  # the largest difference that is allowed, from the network that the page has, in half precision


def save_fresh(path: Path, config: GeneratorConfig, vocabulary: Vocabulary, rows: list[dict[str, Any]]) -> Path:
    """A network file of random weights, whose biases, noise and grain can be seen in its films."""
    torch.manual_seed(0)
    generator = Generator(config)
    with torch.no_grad():
        generator.w_mean.normal_()
        for name, value in generator.named_parameters():
            if name.endswith("noise_strength"):
                value.fill_(0.3)
            elif name.endswith("bias"):
                value.add_(0.1 * torch.randn_like(value))
            elif "to_grey" in name and name.endswith("conv.weight"):
                value.mul_(0.15)  # films of medium contrast: in black and white no difference would show
        if generator.synthesis.grain is not None:
            generator.synthesis.grain.gain.fill_(1.0)
            for value in (generator.synthesis.grain.kernel, generator.synthesis.grain.conv.weight):
                value.normal_()
    save_network(path, generator, NetworkInfo("fresh", config, vocabulary, rows, 0, "", {}))
    return path


def python_film(network: Network, seed: int, truncation: float = 1.0, **requested: Any) -> np.ndarray:
    conditions = network.conditions([seed], request(**requested))
    return next(iter(sample_films(network, [seed], conditions, truncation)))[0]


def press(page: Any, **fields: Any) -> None:
    """Request by the address, press the button, and wait for the film."""
    page.look(f"history.replaceState(null, '', '#' + {json.dumps(urlencode(fields, doseq=True))})")
    page.look("dispatchEvent(new HashChangeEvent('hashchange'))")
    page.page.click("#generate")
    page.until(f"document.getElementById('film').dataset.seed === '{fields.get('seed', 0)}'")


def pixels(page: Any, canvas: str = "film") -> np.ndarray:
    """Return uint8 [res, res] of a canvas."""
    data = page.look(
        f"""(() => {{
            const {{ width, height }} = document.getElementById("{canvas}");
            const colours = document.getElementById("{canvas}").getContext("2d").getImageData(0, 0, width, height).data;
            return Array.from({{ length: width * height }}, (_, i) => colours[4 * i]);
        }})()"""
    )
    side = int(len(data) ** 0.5)
    return np.array(data, np.uint8).reshape(side, side)


def in_json(condition: Condition) -> dict[str, Any]:
    """Return a condition as the page holds it."""
    known = {name: getattr(condition, name) for name in ("view", "sex", "age_years", "source")}
    return {**known, "findings": condition.present, "no_findings": condition.absent}


def difference(a: np.ndarray, b: np.ndarray) -> int:
    return int(np.abs(a.astype(int) - b).max())
