"""The model card of a generator, from its file and its scores alone: no figure is entered by hand, and scores of
another network are refused.

Its sections are those of Mitchell et al. 2019, "Model cards for model reporting", arXiv:1810.03993, in the Markdown of
the Hugging Face hub.
"""

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from thiscxr.files import write_file
from thiscxr.model.network_file import find_network
from thiscxr.pixels import make_grid, save_png
from thiscxr.reader.answers import LEAST_AUC
from thiscxr.report.page import templates
from thiscxr.report.verdict import verdict
from thiscxr.report.words import by_section, explained, number, reading, sentence, title
from thiscxr.sample.provenance import grid_text, origin_of
from thiscxr.sample.sampling import Network, load
from thiscxr.score.records import Record, read_scores
from thiscxr.terms import restriction

SEEDS = 64  # in the picture
FILM_MM = 400  # about the width of a chest film
HIDDEN = ", with the rows of the burned-in mark hidden in all films"
ONE = ("truncation", "seeds", "split", "pool_fingerprint")  # the same for all scores of a card


@dataclass
class Section:
    """A section of the scores: sentences, and the rows of a table."""

    title: str
    lines: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)


def write_card(model: str, scores: Path, out: Path, notes: Path | None = None) -> None:
    """Write the card of a network (FILE, NAME or RUN) and, beside it as PNG, its films of seeds 0 to 63.

    notes: Markdown, inserted verbatim. The same network and scores give the same bytes. Raises ValueError as
    `read_scores` and `one_set`.
    """
    network = load(model)
    records = one_set(scores, read_scores(scores, network.sha256))
    picture = out.with_suffix(".png")
    text = card(
        network,
        model,
        records,
        picture.name,
        notes.read_text(encoding="utf-8") if notes else "",
        command(model, records, out, notes),
    )
    films = network.sample(range(SEEDS))
    save_png(picture, make_grid(films, 8), grid_text(origin_of(network)))
    write_file(out, text)


def one_set(path: Path, records: list[Record]) -> list[Record]:
    """Return the records of a file. Raises ValueError where they are about more than one set of films or more than one
    pool."""
    for each in records:
        for name in ONE:
            if getattr(each, name) != getattr(records[0], name):
                raise ValueError(
                    f"{path}: {each.key} has {name} {getattr(each, name)!r}, "
                    f"{records[0].key} {getattr(records[0], name)!r}; "
                    "a card is about one set of films and one pool: score them separately"
                )
    return records


def card(network: Network, model: str, records: Sequence[Record], picture: str, notes: str, made_by: str) -> str:
    """Return the card. picture: its file name; notes: Markdown; made_by: the command line that makes it."""
    info = network.info
    environment = templates(Path(__file__).parent, keep_trailing_newline=True)
    name = _line(info.name)
    titles = (
        ", ".join(_line(source.get("title") or key) for key, source in info.sources.items())
        or "films of unknown origin"
    )
    return environment.get_template("card.md").render(
        name=name,
        what=(
            f"A StyleGAN2-style generator of chest films of {info.architecture.res} px, trained on films of {titles}. "
            "It generates films of patients who do not exist."
        ),
        restriction=_line(restriction(info.sources)),
        picture=picture,
        facts=facts(network, model, bool(notes)),
        sources=[_source(key, source) for key, source in info.sources.items()],
        vocabulary=known_conditions(network),
        sample=sample_commands(network, model),
        protocol=protocol(network, records),
        verdict=verdict(records),
        sections=sections(records),
        limits=limits(network, records),
        notes=notes.strip(),
        command=made_by,
    )


def facts(network: Network, model: str, noted: bool) -> list[tuple[str, str]]:
    """Return what the file says about the network, and the run folder where the model is one."""
    path, info = find_network(model), network.info
    shape, count = info.architecture, sum(p.numel() for p in network.generator.parameters())
    both = "" if info.augment_strength is None else " with its discriminator"
    rows = [
        ("network, SHA-256", f"`{network.sha256}`"),
        ("size", f"{count:,} parameters, {path.stat().st_size / 1e6:.1f} MB{both}"),
        (
            "architecture",
            f"z {shape.z_dim}, w {shape.w_dim}, mapping of {shape.mapping_layers} layers, "
            f"channels {shape.channel_base} / resolution, at most "
            f"{shape.channel_max}, {shape.patch} × "
            f"{shape.patch} px a position" + (" as Haar bands, with grain" if shape.haar else ""),
        ),
        ("films seen in training", f"{info.images_seen:,}"),
        *([("training started from", _line(info.started_from))] if info.started_from else []),
    ]
    if Path(model).is_dir():
        rows.append(("compute", compute(Path(model))))
    else:
        rows.append(("compute", "not stated in the file" + ("; see the notes below" if noted else "")))
    return [
        *rows,
        ("pool, fingerprint", f"`{info.pool_fingerprint}`"),
        ("made with", f"thiscxr {_line(info.code_version)}"),
    ]


def compute(run: Path) -> str:
    """Return how long a run took and on what, from its config.toml, env.json and stats.jsonl; what is missing is left
    out."""
    parts = []
    if (run / "stats.jsonl").is_file():
        minutes, last = 0.0, 0
        for line in map(json.loads, (run / "stats.jsonl").read_text().splitlines()):
            if line.get("img_per_sec"):
                minutes += max(line["images_seen"] - last, 0) / line["img_per_sec"] / 60
            last = line["images_seen"]
        parts.append(f"{minutes:,.0f} minutes")
    if (run / "config.toml").is_file():
        config = tomllib.loads((run / "config.toml").read_text())
        device = str(config.get("device", ""))
        if device == "cuda" and (run / "env.json").is_file():
            device = ", ".join(json.loads((run / "env.json").read_text()).get("cuda") or ["cuda"])
        parts += [f"{key} {config[key]}" for key in ("threads", "batch", "seed") if key in config]
        parts[1:1] = [device] if device else []
    return _line(", ".join(parts)) or "not stated in the run folder"


def known_conditions(network: Network) -> list[str]:
    """Return the conditions that can be requested."""
    known, table = network.info.vocabulary, network.info.joint_table
    lines = [
        f"{name}: {', '.join(map(_line, values))}"
        for name in ("views", "findings", "sources", "sexes")
        if (values := getattr(known, name))
    ]
    if known.ages:
        lines.append("age in years")
    films = sum(int(row["films"]) for row in table)
    if table:
        lines.append(
            f"with nothing requested, each seed draws from {len(table)} combinations of {films:,} training films"
        )
    return lines


def sample_commands(network: Network, model: str) -> str:
    """Return command lines that sample, with conditions that the network knows."""
    known, name = network.info.vocabulary, _shown(model)
    requested = [f"--view {known.views[-1]}"] if known.views else []
    requested += [f"--sex {known.sexes[0]}"] if known.sexes else []
    requested += ["--age 70"] if known.ages else []
    requested += [f"--finding {name}" for name in known.findings if " " not in name][:1]
    lines = [f"thiscxr sample --model {name} -n 64"]
    if requested:
        lines.append(f"thiscxr sample --model {name} -n 16 {' '.join(requested)}")
    lines.append(f"""python -c 'import thiscxr; films = thiscxr.load("{name}").sample(seeds=range(64))'""")
    return "\n".join(lines)


def protocol(network: Network, records: Sequence[Record]) -> str:
    """Return which films were scored, against which real films, and with which extractors."""
    first = records[0]
    extractors = {each.extractor: each.extractor_sha256 for each in records if each.extractor}
    by = ", ".join(f"`{name}` (SHA-256 `{str(sha256)[:12]}`)" for name, sha256 in extractors.items()) or "no extractor"
    same = (
        "the pool that it was trained on"
        if first.pool_fingerprint == network.info.pool_fingerprint
        else "not the pool it was trained on"
    )
    truncation = "not stated" if first.truncation is None else f"{first.truncation:g}"
    return (
        f"Films of seeds {first.seeds or 'unknown'}, truncation {truncation}, "
        f"against split `{first.split}` of the pool "
        f"`{str(first.pool_fingerprint)[:16]}` ({same}), by {by}{HIDDEN if first.hidden else ''}."
    )


def sections(records: Sequence[Record]) -> list[Section]:
    """Return the scores in words, without those about a classifier rather than the films, such as poses."""
    found = []
    for name, section, some in by_section(records):
        if name in ("reader", "other"):
            continue
        floor = f"Floor: {section.floor}." if section.floor else ""
        part = Section(section.title, [" ".join(filter(None, (section.intro, floor)))])
        for each in some:
            if each.value is None:
                part.lines += [f"{title(each)}: {sentence(each)}"] if each.measure == "reid" else []
                continue
            interval = " to ".join(map(number, each.ci95)) if each.ci95 else "–"
            what = f"{title(each)}: {explained(each)}"
            part.rows.append([what, number(each.value), interval, number(each.floor), reading(each), f"`{each.key}`"])
        if name == "asked" and not part.rows:
            part.lines.append("Nothing could be measured: see below.")
        found.append(part)
    return found


def limits(network: Network, records: Sequence[Record]) -> list[str]:
    """Return what the network cannot do, or what was never confirmed."""
    known, mm = network.info.vocabulary, 2 * FILM_MM / network.info.architecture.res
    small = "small nodules, lines and tubes, a thin pneumothorax, letters" if mm > 2 else "fine lines"
    lines = [f"Nothing smaller than about two pixels, {mm:.2g} mm of a film of {FILM_MM // 10} cm: {small}."]
    lines.append(f"No views but {', '.join(known.views)}." if known.views else "No view can be requested.")
    lines.append(
        f"It knows how films look at {', '.join(map(_line, network.info.sources)) or 'one place'}, and nowhere else."
    )
    requested = {each.question: each for each in records if each.measure == "fidelity"}
    unconfirmed = [
        f"{name} ({number(each.floor)})" for name, each in requested.items() if each.value is None and name != "age"
    ]
    if unconfirmed:
        lines.append(
            "**No classifier has confirmed that a film shows what was requested** for these, with "
            f"the classifier's AUC on held-out patients (its interval must lie above {LEAST_AUC}; "
            f"–: too few films): {', '.join(unconfirmed)}."
        )
    if unmeasured := [name for name in known.findings if name not in requested]:
        lines.append(f"Not measured whether its films show: {', '.join(map(_line, unmeasured))}.")
    return [*lines, "No film is fit for diagnosis, or evidence of anything about a person."]


def command(model: str, records: Sequence[Record], out: Path, notes: Path | None) -> str:
    """Return the command line that makes the card again."""
    count, psi, name = max(each.num_fake for each in records), records[0].truncation, _shown(model)
    options = "" if psi in (None, 1.0) else f" --truncation {psi:g}"
    kept = f" --notes {_shown(notes)}" if notes else ""
    return (
        f"thiscxr score --real POOL --fake {name} -n {count}{options} --out scores.json &&\n"
        f"thiscxr card --model {name} --scores scores.json{kept} --out {_shown(out)}"
    )


def _shown(path: str | Path) -> str:
    """Return a path that may be published: without the folders of this machine."""
    return Path(path).name if Path(path).is_absolute() else str(path)


def _source(key: str, source: Mapping[str, Any]) -> str:
    films = f"{source['films']:,} films" if isinstance(source.get("films"), int) else ""
    parts = (films, *(source.get(name, "") for name in ("citation", "url", "terms", "acknowledgement")))
    return f"**{_line(source.get('title') or key)}**. " + " ".join(_sentence(_line(part)) for part in parts if part)


def _sentence(text: str) -> str:
    return text if text.endswith(".") else f"<{text}>." if text.startswith("http") else f"{text}."


def _line(text: object) -> str:
    """Return text from a file as one line, escaped for Markdown."""
    return " ".join(str(text).split()).replace("<", "&lt;").replace("|", "\\|")
