"""The command line: one click group, one short function a command.

Heavy imports are inside the commands, so that `thiscxr --help` answers at once. stdout carries results, stderr carries chatter.
"""

import errno
import functools
import json
import logging
import os
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import thiscxr
from thiscxr.files import cache_folder

if TYPE_CHECKING:
    from thiscxr.config import Config

DEVICES = ("auto", "cpu", "cuda", "mps")


def main(*command: str) -> None:
    """Run the command line; `command` is put in front of the arguments. One line and exit code 1 on a failure, 2 on a usage error."""
    debug = "--debug" in sys.argv
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        group.main(args=[*command, *sys.argv[1:]], prog_name="thiscxr", standalone_mode=False)
    except click.ClickException as error:
        if speaks():
            error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(0)
    except Exception as error:
        if not speaks():
            pass
        elif debug:
            traceback.print_exc()
        elif isinstance(error, ValueError | OSError | FloatingPointError):
            advice = "; free some space and run the same command again" if getattr(error, "errno", None) == errno.ENOSPC else ""
            print(f"error: {' '.join(str(error).split())}{advice}", file=sys.stderr)
        else:
            print(f"error: {type(error).__name__}: {error} (a fault of thiscxr: please report it, with --debug)", file=sys.stderr)
        sys.exit(1)


def speaks() -> bool:
    """Return whether this process tells of a failure: alone, or the first of torchrun's processes to meet it."""
    if "RANK" not in os.environ:
        return True
    from thiscxr.train.team import first_to_fail

    return first_to_fail()


def common(seed: bool = True, device: bool = True) -> Callable[[Callable], Callable]:
    """Add the options that every command has."""

    def decorate(function: Callable) -> Callable:
        if seed:
            function = click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of everything random.")(function)
        if device:
            function = click.option("--device", type=click.Choice(DEVICES), default="auto", show_default=True)(function)
        return click.option("--debug", is_flag=True, expose_value=False, help="Show the traceback of a failure.")(function)

    return decorate


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(thiscxr.__version__, prog_name="thiscxr")
def group() -> None:
    """Pool chest x-rays, train a generator on them, sample, score, and show the result. Synthetic films are not for diagnosis."""


FOLDER = click.Path(path_type=Path)


# Titles of the collections by flag; thiscxr.data.sources knows the rest, and more than --help should import.
SOURCES = {
    "nih": "NIH ChestX-ray14",
    "chexpert": "CheXpert",
    "mimic-cxr": "MIMIC-CXR or MIMIC-CXR-JPG",
    "padchest": "PadChest",
    "openi": "Open-I",
    "vindr": "VinDr-CXR",
    "rsna": "the RSNA pneumonia challenge",
    "folder": "a plain folder of films",
}


@group.command()
@click.argument("out", type=FOLDER)
@click.option("-n", "count", type=click.IntRange(1), default=2000, show_default=True, help="Films.")
@click.option("--res", type=int, default=256, show_default=True, help="Side in pixels.")
@click.option(
    "--layout",
    default="pool",
    show_default=True,
    help="pool, or as a collection releases its films: nih, chexpert, mimic-cxr-jpg, mimic-cxr, padchest, openi, folder.",
)
@click.option("--defects", type=click.FloatRange(0, 1), default=0.0, show_default=True, help="Share of files missing or broken on purpose.")
@click.option("--archived", is_flag=True, help="Zips and tars, where the collection is distributed so.")
@click.option("--key-file", type=FOLDER, help="Key of the ids in a pool; default: a public one, since there is nobody to protect.")
@click.option("--workers", type=click.IntRange(1), help="Processes; default: one a core. The films are the same for any number.")
@common(device=False)
def phantom(out: Path, count: int, res: int, layout: str, seed: int, **options: Any) -> None:
    """Write procedural chest films with known anatomy and findings.

    Example: thiscxr phantom pool -n 2000 --res 64
    """
    from thiscxr.data.layouts import write_layout

    write_layout(out, layout, count, res, seed, **options)
    click.echo(out)


def source_options(function: Callable) -> Callable:
    """Add one repeatable flag a collection."""
    for key, title in reversed(SOURCES.items()):
        function = click.option(f"--{key}", type=FOLDER, multiple=True, metavar="DIR", help=f"Root of {title}; repeatable.")(function)
    return function


def chosen_sources(flags: dict[str, Any]) -> list[tuple[str, Path]]:
    """Return (collection, root) for each source flag given."""
    return [(key, root) for key in SOURCES for root in flags[key.replace("-", "_")]]


VIEWS = click.option("--views", help="Comma-separated; default PA,AP,AP_supine (and unknown for folder, openi and rsna).")


def chosen_views(views: str | None) -> tuple[str, ...] | None:
    """Return the views of the flag, None when it was not given."""
    return tuple(view.strip() for view in views.split(",")) if views else None


@group.command()
@click.argument("pool", type=FOLDER)
@source_options
@click.option("--res", type=int, required=True, help="Side in pixels, a power of two from 32 to 1024.")
@VIEWS
@click.option("--aspect", type=click.Choice(["released", "restore"]), default="released", show_default=True, help="NIH films are squashed.")
@click.option("--derive", is_flag=True, help="Derive findings that a collection implies but does not annotate.")
@click.option("--max-rejected", type=click.FloatRange(0, 1), default=0.1, show_default=True, help="Share of refused films that fails it.")
@click.option("--key-file", type=FOLDER, help="Key of the ids; default: one made once in your configuration folder.")
@click.option("--workers", type=click.IntRange(1), help="Processes; default: one a core. The pool is the same for any number.")
@click.option("--dask", "scheduler", default="", metavar="ADDRESS", help="Decode on the Dask cluster whose scheduler is there.")
@common(seed=False, device=False)
def prepare(pool: Path, views: str | None, **options: Any) -> None:
    """Read collections as released and write one pool. An interrupted call goes on where it stopped when it is made again.

    Example: thiscxr prepare pool --nih ChestXray-NIHCC --res 64
    """
    from thiscxr.data.prepare import prepare as prepare_pool

    sources = chosen_sources(options)
    if not sources:
        raise click.UsageError(f"no collection given; use one or more of {', '.join(f'--{key} DIR' for key in SOURCES)}")
    names = ("res", "aspect", "derive", "max_rejected", "key_file", "workers", "scheduler")
    click.echo(prepare_pool(pool, sources, views=chosen_views(views), **{name: options[name] for name in names}))


@group.command()
@click.argument("pool", type=FOLDER)
@common(seed=False, device=False)
def verify(pool: Path) -> None:
    """Check every hash and invariant of a pool.

    Example: thiscxr verify pool
    """
    from thiscxr.data.pool import verify_pool

    problems = verify_pool(pool)
    if problems:
        raise ValueError(f"{pool}: {len(problems)} problem{'s' * (len(problems) > 1)}: {'; '.join(problems[:5])}")
    click.echo(f"{pool}: whole")


@group.command()
@click.argument("pool", type=FOLDER, required=False)
@source_options
@click.option("--labels-only", is_flag=True, help="Read only the label files, not the films.")
@VIEWS
@click.option("--json", "as_json", is_flag=True, help="The same as JSON.")
@click.option("--html", type=FOLDER, metavar="FILE", help="The same as one page with plots.")
@common(seed=False, device=False)
def describe(pool: Path | None, labels_only: bool, views: str | None, as_json: bool, html: Path | None, **flags: Any) -> None:
    """Show what is inside a pool, or a release before preparing it.

    Example: thiscxr describe --nih ChestXray-NIHCC --labels-only --json
    """
    from thiscxr.data import describe as describing
    from thiscxr.data.describe.page import write_page

    sources = chosen_sources(flags)
    if (pool is None) == (not sources):
        raise click.UsageError(f"give either a pool or collections ({', '.join(f'--{key} DIR' for key in SOURCES)})")
    facts = describing.describe_pool(pool) if pool else describing.describe_sources(sources, chosen_views(views), labels_only)
    if html is not None:
        write_page(html, facts)
    click.echo(json.dumps(facts, indent=2) if as_json else describing.describe_text(facts))


def resolve_device(device: str) -> str:
    """Return cpu, cuda or mps for "auto"; raises ValueError when the device asked for is not there."""
    import torch

    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        return next(name for name, available in there.items() if available)
    if not there[device]:
        raise ValueError(f"--device {device}: this torch ({torch.__version__}) finds none; use --device {resolve_device('auto')}")
    return device


@group.command()
@click.option("--data", type=str, metavar="POOL", help="Default: a phantom pool, made once in the cache.")
@click.option("--res", type=int, help="Side in pixels; default: the pool's, or 64.")
@click.option("--config", "file", type=click.Path(path_type=Path), help="TOML file or the name of a preset.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Any option of the config; repeatable.")
@click.option("--init", metavar="FILE|NAME|RUN", help="Start from that network: of another resolution, source or conditions.")
@click.option("--out", help="Folder of the run folders.  [default: runs]")
@click.option("--kimg", type=float, help="Thousand films in total.")
@click.option("--minutes", type=float, help="Stop this call cleanly after that time.")
@click.option("--save-kimg", type=float, help="Thousand films between saved states; default: about every five minutes.")
@click.option("--new", is_flag=True, help="Start another run instead of resuming.")
@click.option("--dry-run", is_flag=True, help="Print the resolved config and what it takes, and stop.")
@click.option("--seed", type=click.IntRange(0), help="Of everything random.")
@click.option("--device", type=click.Choice(DEVICES))
@click.option("--debug", is_flag=True, expose_value=False, help="Show the traceback of a failure.")
def train(file: Path | None, settings: tuple[str, ...], new: bool, dry_run: bool, **flags: Any) -> None:
    """Train a generator, or go on where the same command stopped.

    Example: python train_gan.py --data pool --res 64 --minutes 60
    """
    from thiscxr.config import load_config
    from thiscxr.data.pool import Pool
    from thiscxr.train.loop import train as run_training
    from thiscxr.train.probe import probe
    from thiscxr.train.start import resolve_init
    from thiscxr.train.team import fair_threads

    open_pool = functools.cache(lambda data: Pool.open(Path(data)))
    given = load_config(file, settings, side_of=lambda data: open_pool(data).resolution, **flags)
    pool = open_pool(given.data) if given.data else None
    config = given.resolve(resolve_device(given.device), fair_threads())
    if pool is not None:
        config = replace(config, pool_fingerprint=pool.fingerprint)
    config = resolve_init(config, new, fit=given.channel_base == "auto")
    if pool is None and (path := phantom_pool(config, make=not dry_run)):
        pool = Pool.open(path)
        config = replace(config, pool_fingerprint=pool.fingerprint)
    leads = os.environ.get("RANK", "0") == "0"  # of the processes of torchrun one speaks
    if leads:
        click.echo(config.to_toml(), err=not dry_run, nl=False)
    if dry_run or pool is None:
        click.echo("".join(f"# {line}\n" for line in probe(config, pool)) if leads else "", nl=False)
        return
    name = Path(config.data).resolve().name if config.data else "phantom"
    run = run_training(config, pool, name, new)
    if leads:
        click.echo(run)


def phantom_pool(config: "Config", make: bool) -> Path | None:
    """Return the phantom pool of a config, in the cache; where it is not there yet, it is made or there is none."""
    from thiscxr.data.layouts import write_layout

    films = int(config.phantom_films)
    path = cache_folder() / f"phantom-{config.res}-{films}-{config.phantom_seed}-{thiscxr.__version__}"
    if not (path / "pool.json").is_file():
        if not make:
            return None
        while os.environ.get("LOCAL_RANK", "0") != "0":  # under torchrun the first process of a machine makes it
            time.sleep(0.5)
            if (path / "pool.json").is_file():
                return path
        logging.getLogger("thiscxr").info("making %d phantom films of %d px in %s", films, config.res, path)
        write_layout(path, "pool", films, config.res, config.phantom_seed)
    return path


MODEL = click.option("--model", default="nih-64", show_default=True, help="FILE, NAME (see `thiscxr models`) or RUN folder.")
PERMISSION = click.option(
    "--i-have-permission", "permission", is_flag=True, help="To share what a network of restricted films made; every file then says so."
)


@group.command()
@click.option("--json", "as_json", is_flag=True, help="The same as JSON.")
@common(seed=False, device=False)
def models(as_json: bool) -> None:
    """List the bundled networks with their cards in short.

    Example: thiscxr models
    """
    from thiscxr.train.runs import bundled_weights

    table = bundled_weights("generator") | bundled_weights("reader") | bundled_weights("segmenter")
    if as_json:
        click.echo(json.dumps(table, indent=2))
        return
    for name, entry in table.items():
        click.echo(f"{name:<12} {entry['kind']:<10} {entry['summary']}")


@group.command()
@MODEL
@click.option("-n", "count", type=click.IntRange(1), help="Films.  [default: one a seed, or 64]")
@click.option("--seeds", "seed_list", help="Such as 0-63,100; ranges are inclusive.  [default: 0 to n-1]")
@click.option("--finding", "findings", multiple=True, help="Ask for a finding; repeatable.")
@click.option("--no-finding", "no_findings", multiple=True, help="Ask for its absence; repeatable.")
@click.option("--view", help="PA, AP, … as the network learnt them.")
@click.option("--sex", type=click.Choice(["F", "M"]))
@click.option("--age", "age_years", type=float, help="Years.")
@click.option("--source", help="The look of one collection.")
@click.option("--truncation", default="1.0", show_default=True, help="psi: below 1, nearer to the mean film; or by layer: 0.5:0-3,1.0:4-.")
@click.option("--plan", type=FOLDER, metavar="FILE", help="CSV of conditions and n: a labelled set, with labels.csv.")
@click.option("--format", "form", type=click.Choice(["png", "png16", "dicom", "npz", "wds"]), default="png", show_default=True)
@click.option(
    "--dicom-class", "sop_class", type=click.Choice(["sc", "dx"]), help="Secondary Capture, or DX for presentation.  [default: sc]"
)
@click.option("--bits", type=click.IntRange(8, 16), help="Of a DICOM file.  [default: 12]")
@click.option("--photometric", type=click.Choice(["MONOCHROME2", "MONOCHROME1"]), help="Of a DICOM file.  [default: MONOCHROME2]")
@click.option("--compress", type=click.Choice(["none", "rle", "j2k"]), help="A DICOM file, without loss.  [default: none]")
@click.option("--no-mark", "mark", flag_value=False, default=None, type=bool, help="Do not burn SYNTHETIC into a DICOM file.")
@click.option("--malformed", is_flag=True, help="DICOM files that are broken on purpose, with malformed.csv, instead of films.")
@click.option("--release", is_flag=True, help="Leave out films that are too close to a real one; needs --against.")
@click.option("--against", type=FOLDER, metavar="POOL", help="With --release: the pool that the network was trained on.")
@PERMISSION
@click.option("--out", type=FOLDER, default=Path("samples"), show_default=True)
@common(seed=False)
def sample(
    model: str,
    count: int | None,
    seed_list: str | None,
    truncation: str,
    plan: Path | None,
    form: str,
    malformed: bool,
    permission: bool,
    release: bool,
    against: Path | None,
    out: Path,
    device: str,
    **rest: Any,
) -> None:
    """Write synthetic films, a grid, and samples.csv. An interrupted call goes on where it stopped when it is made again.

    Example: thiscxr sample -n 64 --view PA
    """
    from thiscxr.sample.dicom import DicomOptions, dicom_format
    from thiscxr.sample.formats import FORMATS
    from thiscxr.sample.malformed import write_malformed
    from thiscxr.sample.plan import plan_seeds, read_plan
    from thiscxr.sample.sampling import ask, load
    from thiscxr.sample.truncation import parse_truncation
    from thiscxr.sample.writing import parse_seeds, write_samples

    names = ("sop_class", "bits", "photometric", "compress", "mark")
    given = {name: value for name in names if (value := rest.pop(name)) is not None}
    if form != "dicom" and (given or malformed):
        raise click.UsageError("--dicom-class, --bits, --photometric, --compress, --no-mark and --malformed need --format dicom")
    dicom, psi, condition = DicomOptions(**given), parse_truncation(truncation), ask(**rest)
    if plan is not None and (malformed or count is not None or any(rest.values())):
        raise click.UsageError("--plan says what is asked for and how often; leave -n, --malformed and the conditions out")
    seeds = parse_seeds(seed_list) if seed_list else list(range(count or (1 if malformed else 64)))
    if count is not None and count != len(seeds):
        raise click.UsageError(f"-n {count} does not agree with --seeds {seed_list}, which are {len(seeds)}; drop one of the two")
    network = load(model, resolve_device(device))
    if plan is not None:
        conditions = read_plan(plan, network.info.vocabulary)
        seeds = plan_seeds(seeds if seed_list else None, len(conditions))
    else:
        conditions = network.conditions(seeds, condition)
    gate = None
    if release:
        from thiscxr.data.pool import Pool
        from thiscxr.score.release import release as through_the_gate

        if against is None or malformed:
            raise click.UsageError("--release compares films with real ones: give --against POOL, the one the network was trained on")
        gate = through_the_gate(Pool.open(against), network, seeds, conditions, psi, permission)
        told = "%d of %d films are left out: too close to a real film"
        logging.getLogger("thiscxr").info(told, gate.num_left_out, len(seeds))
        seeds, conditions = gate.seeds, gate.conditions
    if malformed:
        write_malformed(network, seeds, conditions, psi, out, dicom, permission)
    else:
        chosen = dicom_format(dicom) if form == "dicom" else FORMATS[form]
        write_samples(network, seeds, conditions, psi, out, chosen, permission, labels=plan is not None)
    if gate is not None:
        from thiscxr.score.memorisation import annotate

        annotate(out, [str(seed) for seed in seeds], gate.columns, key="seed")
    click.echo(out)


@group.group()
def classify() -> None:
    """Train and judge the reader, the multi-label network that is also the feature extractor."""


def recipe_options(function: Callable) -> Callable:
    """Add what decides how a reader is made."""
    for option in (
        click.option(
            "--pretrained", type=FOLDER, metavar="FILE", help="torchvision's ImageNet weights of densenet121 (.safetensors, .pth)."
        ),
        click.option("--batch", type=click.IntRange(1), help="Films a step.  [default: 64; densenet121: 16]"),
        click.option(
            "--max-weight", type=click.FloatRange(1), default=1.0, show_default=True, help="A rare finding present weighs up to this."
        ),
        click.option(
            "--uncertain", type=click.Choice(["ignore", "zeros", "ones"]), default="ignore", show_default=True, help="What -1 teaches."
        ),
        click.option("--res", type=click.IntRange(32), help="Side at which films are read.  [default: 64; densenet121: 224]"),
        click.option("--backbone", type=click.Choice(["small", "densenet121"]), default="small", show_default=True),
        click.option("--epochs", type=click.IntRange(1), default=60, show_default=True),
    ):
        function = option(function)
    return function


@classify.command("train")
@click.option("--data", type=FOLDER, required=True, metavar="POOL")
@recipe_options
@click.option("--cross-fit", is_flag=True, help="Two more networks on halves of all patients, so that every film has a fair judge.")
@click.option("--out", type=FOLDER, required=True, metavar="FILE", help="A .safetensors file.")
@common()
def classify_train(data: Path, epochs: int, cross_fit: bool, out: Path, seed: int, device: str, **options: Any) -> None:
    """Train a reader on a pool's training patients and print how it does on the held-out ones.

    Example: thiscxr classify train --data pool --cross-fit --out reader.safetensors
    """
    from thiscxr.data.pool import Pool
    from thiscxr.score.judge import judge, read_films
    from thiscxr.train.reader import Recipe, save_reader, train_folds, train_reader

    pool, device = Pool.open(data), resolve_device(device)
    if not len(held := pool.indices("holdout")):
        raise ValueError(f"{data} holds out no patient, so that nobody could say how well the reader reads; add films")
    recipe = Recipe(**options)
    reader = train_reader(pool, epochs, seed, device, recipe)
    folds = train_folds(pool, epochs, seed, device, recipe) if cross_fit else ()
    judged = judge([read_films(reader, pool, held)], seed).brief()
    save_reader(out, reader, pool, judged, folds)
    click.echo(json.dumps(judged, indent=2))


@classify.command("eval")
@click.option("--data", type=FOLDER, required=True, metavar="POOL")
@click.option("--model", default="thiscxr64", show_default=True, help="A bundled reader or a .safetensors file.")
@click.option("--split", type=click.Choice(["holdout", "train", "all"]), default="holdout", show_default=True)
@click.option("--cross-fit", is_flag=True, help="Also all films, each by the fold that has not seen the patient.")
@click.option("--reliability", is_flag=True, help="Also the reliability tables of the findings.")
@click.option(
    "--gradcam", type=FOLDER, metavar="FILE", help="Picture of where findings are seen. It shows films of the pool: keep it private."
)
@click.option("--filters", type=FOLDER, metavar="FILE", help="Picture of the filters of the first layer.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
@common()
def classify_eval(
    data: Path,
    model: str,
    split: str,
    cross_fit: bool,
    reliability: bool,
    gradcam: Path | None,
    filters: Path | None,
    as_json: bool,
    seed: int,
    device: str,
) -> None:
    """Tell how well a reader reads a pool: AUC per finding, view and sex with intervals, calibration, age error, all per source.

    Example: thiscxr classify eval --data pool
    """
    from thiscxr.data.pixels import save_png
    from thiscxr.data.pool import Pool
    from thiscxr.score.extractors import load_extractor
    from thiscxr.score.fairness import fair_groups, seen_films
    from thiscxr.score.judge import judge, judgement_table, read_films
    from thiscxr.score.saliency import saliency_sheet
    from thiscxr.train.board import filter_grid

    pool, extractor = Pool.open(data), load_extractor(model, resolve_device(device))
    if cross_fit and not extractor.folds:
        raise ValueError(f"{model} has no folds; train one that has: thiscxr classify train --cross-fit")
    rows = pool.indices(split)
    reading = read_films(extractor.reader, pool, rows)
    found = {split: judge([reading], seed)}
    sources = list(dict.fromkeys(reading.sources))
    if len(sources) > 1:
        found |= {f"{split}, {source}": judge([reading.of_source(source)], seed) for source in sources}
    if cross_fit:
        fair = fair_groups(pool, pool.indices("all"), extractor)
        found["cross-fitted"] = judge([read_films(each.reader, pool, some) for each, some in fair], seed)
    if seen := int(seen_films(pool, extractor)[rows].sum()):
        click.echo(f"{seen} of these {len(rows)} films are of patients whom the reader knows", err=True)
    if filters is not None:
        save_png(filters, filter_grid(extractor.reader.first_filters))
    if gradcam is not None:
        sheet, shown = saliency_sheet(extractor.reader, pool, rows, reading, found[split])
        save_png(gradcam, sheet, {"Description": f"from above: {', '.join(shown)}"})
        click.echo(f"{gradcam}: from above {', '.join(shown)}", err=True)
    if as_json:
        click.echo(json.dumps({"reader_sha256": extractor.sha256} | {name: each.to_json() for name, each in found.items()}, indent=2))
    else:
        click.echo("\n\n".join(judgement_table(name, each, reliability) for name, each in found.items()))


@classify.command("matrix")
@click.option("--data", type=FOLDER, required=True, metavar="POOL")
@recipe_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@common()
def classify_matrix(data: Path, epochs: int, as_json: bool, seed: int, device: str, **options: Any) -> None:
    """Train one reader a source and test each on the held-out patients of every source: do readers travel?

    Example: thiscxr classify matrix --data pool --epochs 30
    """
    import numpy as np

    from thiscxr.data.pool import Pool
    from thiscxr.score.judge import generalisation, generalisation_table
    from thiscxr.train.reader import Recipe, train_reader

    pool, device = Pool.open(data), resolve_device(device)
    recipe = Recipe(**options)
    rows = pool.indices("train")
    of = {source: rows[pool.column("source")[rows] == source] for source in np.unique(pool.column("source")).tolist()}
    if len(of) < 2:
        raise ValueError(f"{data} has films of {next(iter(of), 'no source')} alone; a matrix needs two sources or more")
    if few := [source for source, films in of.items() if len(films) < recipe.step]:
        raise ValueError(
            f"{data} has fewer than {recipe.step} training films of {few[0]}; leave it out of the pool, or take a smaller --batch"
        )
    readers = {source: train_reader(pool, epochs, seed, device, recipe, films, f"reader of {source}") for source, films in of.items()}
    found = generalisation(pool, readers, seed)
    click.echo(json.dumps([vars(each) for each in found], indent=2) if as_json else generalisation_table(found))


@group.group(invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="The same as JSON.")
@common(seed=False, device=False)
@click.pass_context
def extractors(context: click.Context, as_json: bool) -> None:
    """List the feature extractors: features, side, licence, and where their weights are.

    Example: thiscxr extractors --json
    """
    from thiscxr.score.extractors import list_extractors

    if context.invoked_subcommand is not None:
        return
    table = list_extractors()
    if as_json:
        click.echo(json.dumps(table, indent=2))
        return
    click.echo(f"{'name':<24} {'dim':>5} {'side':>5}  {'sha256':<16}  {'licence':<10}  weights")
    for entry in table:
        where = entry["weights"] or f"not here: {entry['url']}"
        click.echo(
            f"{entry['name']:<24} {entry['dim']:>5} {entry['side']:>5}  {(entry['sha256'] or 'not published')[:16]:<16}"
            f"  {entry['licence'].split(' (')[0].split(',')[0]:<10}  {where}"
        )


@extractors.command("import")
@click.argument("file", type=FOLDER, required=False)
@click.option("--name", help="Whose weights they are; default: told by the file.")
@click.option("--utility", is_flag=True, help="Do films help a reader on held-out patients? 10 to 15 minutes.")
@click.option("--poses", is_flag=True, help="Where is the reader fooled as films are moved? Some minutes.")
@click.option("--label-noise", is_flag=True, help="What flipped labels do, on phantoms. Some minutes.")
@click.option("--allow-download", is_flag=True, help="Fetch the file of --name from where it was published.")
@common(seed=False, device=False)
def extractors_import(file: Path | None, name: str | None, allow_download: bool) -> None:
    """Check a weight file that others published and keep it as safetensors in the cache. Nothing in it is run.

    Example: thiscxr extractors import pt_inception-2015-12-05-6726825d.pth
    """
    from thiscxr.score.weights import download_weights, import_weights

    if file is not None:
        click.echo(import_weights(file, name))
    elif name and allow_download:
        click.echo(download_weights(name))
    else:
        raise click.UsageError("give the weight FILE, or --name NAME with --allow-download")


@group.command()
@click.option("--real", type=FOLDER, required=True, metavar="POOL")
@click.option("--fake", required=True, metavar="DIR|MODEL", help="A folder of films, or FILE, NAME or RUN to sample from.")
@click.option(
    "--extractor",
    "names",
    multiple=True,
    default=["thiscxr64"],
    show_default=True,
    help="See `thiscxr extractors`, or a file.",
)
@click.option("-n", "count", type=click.IntRange(2), default=2048, show_default=True, help="Samples at most, when --fake is a model.")
@click.option("--truncation", type=click.FloatRange(0, 2), default=1.0, show_default=True, help="When --fake is a model.")
@click.option("--split", type=click.Choice(["all", "holdout", "train"]), default="all", show_default=True, help="Of the real films.")
@click.option("--allow-small", is_flag=True, help="Fewer films than feature dimensions: the key then says so.")
@click.option("--allow-download", is_flag=True, help="Fetch the weights of a public extractor that are not here.")
@click.option("--out", type=FOLDER, metavar="FILE", help="Write scores.json there.")
@click.option("--html", type=FOLDER, metavar="FILE", help="The same as one page with plots. It shows films of the pool: keep it private.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@common()
def score(
    real: Path,
    fake: str,
    names: tuple[str, ...],
    count: int,
    out: Path | None,
    html: Path | None,
    as_json: bool,
    device: str,
    **options: Any,
) -> None:
    """Score synthetic films against a pool: distances, diversity, copies, confounders, what was asked against what is seen.

    Example: thiscxr score --real pool --fake samples --out scores.json --html scores.html
    """
    from thiscxr.data.pool import Pool
    from thiscxr.score import panel
    from thiscxr.score.extractors import load_extractor
    from thiscxr.score.fakes import open_fakes

    device = resolve_device(device)
    pool = Pool.open(real)
    extractors = [load_extractor(name, device, options["allow_download"]) for name in dict.fromkeys(names)]
    del options["allow_download"]
    with open_fakes(fake, pool.resolution, count, options.pop("truncation"), device) as fakes:
        found = panel.score(pool, fakes, extractors, device=device, **options)
        if html is not None:
            from thiscxr.score.report import write_report

            write_report(html, pool, fakes, found)
    if out is not None:
        panel.write_scores(out, found.records)
    click.echo(json.dumps(found.records, indent=2) if as_json else panel.score_table(found))


@group.command()
@click.option("--samples", type=FOLDER, metavar="DIR", help="A folder that `thiscxr sample` wrote.")
@click.option("--scores", type=FOLDER, metavar="FILE", help="scores.json of these samples.")
@click.option("--model", metavar="MODEL", help="FILE, NAME or RUN: adds make.html, which draws films in the visitor's browser.")
@click.option(
    "--backend", type=click.Choice(["javascript", "onnxruntime-web"]), default="javascript", show_default=True, help="Of make.html."
)
@click.option("--node-modules", type=FOLDER, metavar="DIR", help="Where `npm install onnxruntime-web` put it, for that backend.")
@PERMISSION
@click.option("--out", type=FOLDER, default=Path("site/_build"), show_default=True)
@common(seed=False, device=False)
def site(
    samples: Path | None, scores: Path | None, model: str | None, backend: str, node_modules: Path | None, permission: bool, out: Path
) -> None:
    """Export a static site that works from any host and from file://: a gallery of samples, a generator in the browser, or both.

    Example: thiscxr site --samples samples --scores scores.json --model nih-64 --out gallery
    """
    from thiscxr.gallery.site import build_site

    if samples is None and model is None:
        raise click.UsageError("nothing to show: give --samples, --model, or both")
    path = runtime = None
    if model is not None:
        from thiscxr.train.runs import find_network

        path = find_network(model)
    if backend == "onnxruntime-web":
        if path is None or node_modules is None:
            raise click.UsageError("--backend onnxruntime-web needs --model and --node-modules")
        from thiscxr.gallery.browser_model import read_runtime
        from thiscxr.sample.onnx_export import onnx_bytes
        from thiscxr.sample.sampling import load

        files = read_runtime(node_modules)  # before the minute that the export takes
        network = load(str(path))
        runtime = {**files, "synthesis.onnx": onnx_bytes(network.generator, network.info, network.sha256, synthesis=True)[0]}
    click.echo(build_site(samples, out, scores, model=path, runtime=runtime, permission=permission).index)


@group.command()
@MODEL
@click.option("--onnx", type=FOLDER, required=True, metavar="FILE", help="Write the generator there as ONNX.")
@PERMISSION
@common(seed=False, device=False)
def export(model: str, onnx: Path, permission: bool) -> None:
    """Write a generator as ONNX once onnxruntime draws the same with it as torch: inputs z, c, psi and noise, free batch size.

    Example: thiscxr export --model nih-64 --onnx nih-64.onnx
    """
    from thiscxr.data.terms import require_permission
    from thiscxr.sample.onnx_export import export_onnx
    from thiscxr.sample.sampling import load

    network = load(model)
    restriction = require_permission(network.info.sources, permission, f"an export of {model}")
    difference = export_onnx(onnx, network.generator, network.info, network.sha256, restriction)
    logging.getLogger("thiscxr").info("onnxruntime and torch differ by at most %.1e, for films of [-1, 1]", difference)
    click.echo(onnx)


@group.command()
@click.argument("folder", type=FOLDER)
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True)
@common(seed=False, device=False)
def serve(folder: Path, port: int) -> None:
    """Look at a gallery on localhost; nobody else can.

    Example: thiscxr serve gallery
    """
    from thiscxr.gallery.serve import serve as serve_folder

    serve_folder(folder, port)


@group.command()
@common(seed=False, device=False)
def doctor() -> None:
    """Print versions, devices, threads, caches and the hashes of the bundled weights: what a bug report needs.

    Example: thiscxr doctor
    """
    from importlib.metadata import version

    from thiscxr.score.weights import list_public
    from thiscxr.train.runs import bundled_weights, environment, find_weights

    facts = environment()
    names = ("torchvision", "numpy", "scipy", "pydicom", "pillow", "pyarrow", "safetensors", "click")
    facts["packages"] = {name: version(name) for name in names}
    facts["cache"] = str(cache_folder())
    facts["weights"] = {}
    for kind in ("generator", "reader", "segmenter"):
        for name in bundled_weights(kind):
            try:
                facts["weights"][name] = f"whole: {find_weights(name, kind)}"
            except ValueError as error:
                facts["weights"][name] = str(error)
    facts["extractors"] = {entry["name"]: entry["weights"] or "not here" for entry in list_public()}
    click.echo(json.dumps(facts, indent=2))


@group.command()
@click.argument("files", type=FOLDER, nargs=-1, required=True)
@click.option("--json", "as_json", is_flag=True, help="The same as JSON.")
@common(seed=False, device=False)
def readers(files: tuple[Path, ...], as_json: bool) -> None:
    """Tell what readers answered on the site's study pages: accuracy with intervals, agreement, visual PPV of the labels.

    Example: thiscxr readers answers-*.csv
    """
    from thiscxr.gallery.readers import read_answers, report, report_text

    facts = report(read_answers(files))
    click.echo(json.dumps(facts, indent=2) if as_json else report_text(facts))
