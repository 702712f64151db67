"""Are two films of one seed one person? Agreement of a classifier's predictions, compared with films of two seeds.

    python benchmarks/pair_agreement.py RUN READER

RUN is a network that has learnt laterals, READER a classifier of its films. A frontal and a lateral film: with only the
view requested, so that they share only the latent, and as in `thiscxr sample --pairs`, where both get the condition
that the seed draws. And the first and the last visit of `thiscxr series`, requested as PA. One JSON line per question:
the correlation of the predictions (for the source and the sex, the share of equal ones), for films of one seed and of
two seeds. Some minutes.
"""

import argparse
import json

import numpy as np
import torch

from thiscxr.latent.series import draw_series, in_pairs
from thiscxr.model.conditions import Condition
from thiscxr.pixels import pixels_to_images
from thiscxr.reader.answers import read_answers
from thiscxr.reader.extractors import load_extractor
from thiscxr.reader.network import Reader
from thiscxr.sample.sampling import load, sample_films
from thiscxr.sample.truncation import Truncation

FILMS = 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("reader")
    parser.add_argument(
        "--finding",
        nargs="+",
        default=["Cardiomegaly", "Edema", "Pneumothorax", "Effusion"],
        help="findings that grow in a series",
    )
    args = parser.parse_args()
    network, reader = load(args.model), load_extractor(args.reader).reader
    _compare(reader, "the view", [network.sample(range(FILMS), view=view) for view in ("PA", "lateral")])
    seeds, conditions = in_pairs(network, range(FILMS), Condition())
    films = np.concatenate(list(sample_films(network, seeds, conditions)))
    _compare(reader, "what the seed draws", [films[0::2], films[1::2]])
    for finding in args.finding:
        films = draw_series(network, range(FILMS), finding, 2, Condition("PA"), Truncation()).pixels
        _compare(reader, f"a series of {finding}", [films[0::2], films[1::2]])


def _compare(reader: Reader, requested: str, films: list[np.ndarray]) -> None:
    frontal, lateral = (read_answers(reader, [some]) for some in films)
    for question in frontal:
        if not question.startswith("view "):
            r = [np.corrcoef(frontal[question], np.roll(lateral[question], shift))[0, 1] for shift in (0, 1)]
            facts = {
                "asked": requested,
                "question": question,
                "r_one_seed": round(float(r[0]), 3),
                "r_two_seeds": round(float(r[1]), 3),
            }
            print(json.dumps(facts))
    sexes = [frontal["sex"] > 0, lateral["sex"] > 0]
    for question, (one, other) in {"sex": sexes, "source": [_sources(reader, some) for some in films]}.items():
        equal = [float((one == np.roll(other, shift)).mean()) for shift in (0, 1)]
        facts = {
            "asked": requested,
            "question": question,
            "equal_one_seed": round(equal[0], 3),
            "equal_two_seeds": round(equal[1], 3),
        }
        print(json.dumps(facts))


def _sources(reader: Reader, films: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return reader(torch.from_numpy(pixels_to_images(films))[:, None])["source"].argmax(dim=1).numpy()


if __name__ == "__main__":
    main()
