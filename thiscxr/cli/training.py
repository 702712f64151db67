"""Commands of training: train, and classify with its subcommands."""

import functools
import json
import logging
import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import thiscxr
from thiscxr.cli.options import DEVICES, FOLDER, NEW_FILE, SEED, common, group, resolve_device, several
from thiscxr.files import cache_folder, check_place, folder_lock

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from thiscxr.config import Config
    from thiscxr.pool import Pool
    from thiscxr.reader.evaluation import Evaluation
    from thiscxr.reader.extractors import Extractor
    from thiscxr.reader.network import Reader, TwoViewReader


@group.command()
@click.option("--data", type=str, metavar="POOL", help="Default: a phantom pool, made once in the cache.")
@click.option("--res", type=int, help="Resolution in pixels; default: the pool's, or 64.")
@click.option("--config", "file", type=click.Path(path_type=Path), help="TOML file or the name of a preset.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Any option of the config; repeatable.")
@click.option(
    "--init",
    metavar="FILE|NAME|RUN",
    help="Start from that network, of another resolution, source or conditions; with its discriminator if it has one.",
)
@click.option("--out", help="Folder of the run folders.  [default: runs]")
@click.option("--kimg", type=float, help="Thousand films in total.")
@click.option("--minutes", type=float, help="Stop this call cleanly after that time.")
@click.option("--save-kimg", type=float, help="Thousand films between saved states; default: about every five minutes.")
@click.option("--new", is_flag=True, help="Start another run instead of resuming.")
@click.option("--dry-run", is_flag=True, help="Print the resolved config and what it takes, and stop.")
@click.option("--seed", type=SEED, help="Of everything random.")
@click.option("--device", type=click.Choice(DEVICES))
@click.option("--debug", is_flag=True, expose_value=False, help="Show the traceback of a failure.")
def train(file: Path | None, settings: tuple[str, ...], new: bool, dry_run: bool, **flags: Any) -> None:
    """Train a generator, or resume where the same command stopped.

    Example: python train_gan.py --data pool --res 64 --minutes 60
    """
    from thiscxr.config import load_config
    from thiscxr.pool import Pool
    from thiscxr.train.loop import train as run_training
    from thiscxr.train.probe import probe
    from thiscxr.train.runs import find_run
    from thiscxr.train.start import resolve_init
    from thiscxr.train.team import fair_threads

    open_pool = functools.cache(lambda data: Pool.open(Path(data)))
    given = load_config(file, settings, resolution_of=lambda data: open_pool(data).resolution, **flags)
    pool = open_pool(given.data) if given.data else None
    config = given.resolve(resolve_device(given.device), fair_threads())
    if pool is not None:
        config = replace(config, pool_fingerprint=pool.fingerprint)
    config = resolve_init(config, new, fit=given.channel_base == "auto")
    if not dry_run:
        check_place(Path(config.out) / "run", folder=True)  # before the phantom pool is made
    if pool is None and (path := phantom_pool(config, make=not dry_run)):
        pool = Pool.open(path)
        config = replace(config, pool_fingerprint=pool.fingerprint)
    leads = os.environ.get("RANK", "0") == "0"  # of the processes of torchrun one prints
    if leads:
        click.echo(config.to_toml(), err=not dry_run, nl=False)
    if dry_run or pool is None:
        begins = new or find_run(Path(config.out), config) is None
        click.echo("".join(f"# {line}\n" for line in probe(config, pool, begins)) if leads else "", nl=False)
        return
    name = Path(config.data).resolve().name if config.data else "phantom"
    run = run_training(config, pool, name, new)
    if leads:
        click.echo(run)


def phantom_pool(config: "Config", make: bool) -> Path | None:
    """Return the phantom pool of a config, in the cache; None where it is not there yet and `make` is false."""
    from thiscxr.phantom.releases import write_layout

    films, cache = int(config.phantom_films), cache_folder()
    path = cache / f"phantom-{config.res}-{films}-{config.phantom_seed}-{thiscxr.__version__}"
    if not (path / "pool.json").is_file():
        if not make:
            return None
        cache.mkdir(parents=True, exist_ok=True)
        # the processes of torchrun arrive together: one makes it, and the next one does if that one dies
        with folder_lock(cache):
            if not (path / "pool.json").is_file():
                logging.getLogger("thiscxr").info("making %d phantom films of %d px in %s", films, config.res, path)
                write_layout(path, "pool", films, config.res, config.phantom_seed)
    return path


@group.group()
def classify() -> None:
    """Train and evaluate the multi-label classifier, which is also the feature extractor."""


RECIPE = several(
    click.option("--epochs", type=click.IntRange(1), default=60, show_default=True),
    click.option("--backbone", type=click.Choice(["small", "densenet121"]), default="small", show_default=True),
    click.option(
        "--res",
        type=click.IntRange(32),
        help="Resolution at which films are read.  [default: 64; densenet121: 224]",
    ),
    click.option(
        "--uncertain",
        type=click.Choice(["ignore", "zeros", "ones"]),
        default="ignore",
        show_default=True,
        help="How an uncertain label (-1) is trained on.",
    ),
    click.option(
        "--max-weight",
        type=click.FloatRange(1),
        help="Largest weight of a rare finding that is present.  [default: 1; from 96 px on 5]",
    ),
    click.option(
        "--batch", type=click.IntRange(1), help="Films a step.  [default: 64; from 96 px on 32; densenet121: 16]"
    ),
    click.option(
        "--bf16",
        is_flag=True,
        help="Compute in bfloat16: several times as fast on processors with AMX units.",
    ),
    click.option(
        "--pretrained",
        type=FOLDER,
        metavar="FILE",
        help="torchvision's ImageNet weights of densenet121 (.safetensors, .pth).",
    ),
)


@classify.command("train")
@click.option("--data", type=FOLDER, required=True, metavar="POOL")
@RECIPE
@click.option(
    "--cross-fit",
    is_flag=True,
    help="Two more networks on halves of all patients, so that each film has one not trained on its patient.",
)
@click.option(
    "--views",
    type=click.Choice(["one", "both"]),
    default="one",
    show_default=True,
    help="Read each film by itself, or the frontal and the lateral film of a study together; either may be missing.",
)
@click.option("--out", type=NEW_FILE, required=True, metavar="FILE", help="A .safetensors file.")
@common()
def classify_train(
    data: Path, epochs: int, cross_fit: bool, views: str, out: Path, seed: int, device: str, **options: Any
) -> None:
    """Train a classifier on a pool's training patients and print its results on the held-out ones; with --cross-fit on
    all, each by the half that has not seen the patient.

    Example: thiscxr classify train --data pool --cross-fit --out reader.safetensors
    """
    from thiscxr.pool import Pool
    from thiscxr.reader.evaluation import evaluate, read_films
    from thiscxr.reader.training import Fold, Recipe, save_reader, train_folds, train_reader, unseen
    from thiscxr.reader.views import find_studies, read_studies, train_studies

    if cross_fit and views == "both":
        raise click.UsageError("--cross-fit is for classifiers of single films; leave it or --views both out")
    recipe, device = Recipe(**options), resolve_device(device)
    pool = Pool.open(data).at_resolution(recipe.resolution)
    if not len(held := pool.indices("holdout")):
        raise ValueError(f"{data} holds out no patient, so that the classifier could not be evaluated; add films")
    reader: Reader | TwoViewReader
    folds: tuple[Fold, ...] = ()
    if views == "both":
        held_studies = find_studies(pool, held)  # before the training, should they not be readable
        reader = train_studies(find_studies(pool, pool.indices("train")), recipe, epochs, seed, device)
        reading = read_studies(reader, held_studies)
    else:
        reader = train_reader(pool, epochs, seed, device, recipe)
        reading = read_films(reader, pool, held)
    summary = evaluate([reading], seed).brief()
    if cross_fit:  # held out, films of a rare finding are too few for a narrow interval
        folds = train_folds(pool, epochs, seed, device, recipe)
        halves = [read_films(fold.reader, pool, unseen(pool, fold)) for fold in folds]
        summary = evaluate(halves, seed).brief() | {"held_out": summary}
    save_reader(out, reader, pool, summary, folds)
    click.echo(json.dumps(summary, indent=2))


@classify.command("eval")
@click.option("--data", type=FOLDER, required=True, metavar="POOL")
@click.option(
    "--model",
    help="A bundled classifier or a .safetensors file.  [default: thiscxr64; of a pool from 128 px on thiscxr128]",
)
@click.option("--split", type=click.Choice(["holdout", "train", "all"]), default="holdout", show_default=True)
@click.option("--cross-fit", is_flag=True, help="Also all films, each by the fold that has not seen the patient.")
@click.option("--reliability", is_flag=True, help="Also the reliability tables of the findings.")
@click.option(
    "--gradcam",
    type=NEW_FILE,
    metavar="FILE",
    help="Picture of where findings are detected. It shows films of the pool: keep it private.",
)
@click.option("--filters", type=NEW_FILE, metavar="FILE", help="Picture of the filters of the first layer.")
@click.option(
    "--keep",
    is_flag=True,
    help="Keep the results in a card beside the classifier's file, for direction and sample --where.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
@common()
def classify_eval(
    data: Path,
    model: str | None,
    split: str,
    cross_fit: bool,
    reliability: bool,
    gradcam: Path | None,
    filters: Path | None,
    keep: bool,
    as_json: bool,
    seed: int,
    device: str,
) -> None:
    """Evaluate a classifier on a pool: AUC per finding, view and sex with intervals, calibration, age error, all per
    source. A classifier of two views is evaluated on studies: with both views, the frontal alone, the lateral alone.

    Example: thiscxr classify eval --data pool
    """
    from thiscxr.pixels import save_png
    from thiscxr.pool import Pool
    from thiscxr.reader.evaluation import evaluate, evaluate_sources, read_films
    from thiscxr.reader.extractors import default_extractor, load_extractor
    from thiscxr.reader.network import TwoViewReader
    from thiscxr.reader.saliency import saliency_sheet
    from thiscxr.reader.trust import card_path, write_card
    from thiscxr.reader.views import evaluate_studies, find_studies
    from thiscxr.score.fairness import fair_groups
    from thiscxr.train.board import filter_grid

    pool = Pool.open(data)
    model = model or default_extractor(pool.resolution)
    extractor = load_extractor(model, resolve_device(device), studies=True)
    if isinstance(extractor.network, TwoViewReader):
        options = {"cross-fit": cross_fit, "gradcam": gradcam, "filters": filters, "keep": keep}
        if given := next((name for name, value in options.items() if value), ""):
            raise click.UsageError(f"--{given} is for classifiers of single films, and {model} reads studies")
        pool = pool.at_resolution(extractor.network.config.res)
        studies = find_studies(pool, pool.indices(split))
        found = evaluate_studies(extractor.network, studies, split, seed)
        warn_of_training_patients(pool, extractor, pool.indices(split))
        print_evaluations(found, extractor, as_json, reliability, of="studies")
        return
    pool = pool.at_resolution(extractor.reader.config.res)
    if cross_fit and not extractor.folds:
        raise ValueError(f"{model} has no folds; train one that has: thiscxr classify train --cross-fit")
    rows = pool.indices(split)
    seen = warn_of_training_patients(pool, extractor, rows)
    if keep:
        if seen and not cross_fit:
            raise ValueError(
                "--keep needs patients whom the classifier was not trained on; leave --split out, or take another pool"
            )
        check_place(card_path(model))
    reading = read_films(extractor.reader, pool, rows)
    found = evaluate_sources(reading, split, seed)
    if cross_fit:
        fair = fair_groups(pool, pool.indices("all"), extractor)
        found["cross-fitted"] = evaluate([read_films(each.reader, pool, some) for each, some in fair], seed)
    if keep:
        kept = write_card(model, found["cross-fitted" if cross_fit else split], pool.fingerprint)
        click.echo(f"{kept} keeps the results of {model}", err=True)
    if filters is not None:
        save_png(filters, filter_grid(extractor.reader.first_filters))
    if gradcam is not None:
        sheet, shown = saliency_sheet(extractor.reader, pool, rows, reading, found[split])
        save_png(gradcam, sheet, {"Description": f"from above: {', '.join(shown)}"})
        click.echo(f"{gradcam}: from above {', '.join(shown)}", err=True)
    print_evaluations(found, extractor, as_json, reliability)


def warn_of_training_patients(pool: "Pool", extractor: "Extractor", rows: "NDArray[np.int64]") -> int:
    """Return, and warn, how many of these films are of patients in the classifier's training set."""
    from thiscxr.score.fairness import seen_films

    seen = int(seen_films(pool, extractor)[rows].sum())
    if seen:
        click.echo(f"{seen} of these {len(rows)} films are of patients in the classifier's training set", err=True)
    return seen


def print_evaluations(
    found: "dict[str, Evaluation]", extractor: "Extractor", as_json: bool, reliability: bool, of: str = "films"
) -> None:
    """Print the results of a classifier, as JSON or tables."""
    from thiscxr.reader.evaluation import evaluation_table

    if as_json:
        evaluations = {name: asdict(each) for name, each in found.items()}
        click.echo(json.dumps({"reader_sha256": extractor.sha256, **evaluations}, indent=2))
    else:
        click.echo("\n\n".join(evaluation_table(name, each, reliability, of) for name, each in found.items()))


@classify.command("matrix")
@click.option("--data", type=FOLDER, required=True, metavar="POOL")
@RECIPE
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@common()
def classify_matrix(data: Path, epochs: int, as_json: bool, seed: int, device: str, **options: Any) -> None:
    """Train one classifier a source and test each on the held-out patients of every source: do they generalise?

    Example: thiscxr classify matrix --data pool --epochs 30
    """
    import numpy as np

    from thiscxr.pool import Pool
    from thiscxr.reader.evaluation import generalisation, generalisation_table
    from thiscxr.reader.training import Recipe, train_reader

    recipe, device = Recipe(**options), resolve_device(device)
    pool = Pool.open(data).at_resolution(recipe.resolution)
    rows = pool.indices("train")
    of = {source: rows[pool.column("source")[rows] == source] for source in np.unique(pool.column("source")).tolist()}
    if len(of) < 2:
        raise ValueError(f"{data} has films of {next(iter(of), 'no source')} alone; a matrix needs two sources or more")
    if few := [source for source, films in of.items() if len(films) < recipe.step]:
        raise ValueError(
            f"{data} has fewer than {recipe.step} training films of {few[0]}; leave it "
            "out of the pool, or take a smaller --batch"
        )
    readers = {
        source: train_reader(pool, epochs, seed, device, recipe, films, f"classifier of {source}")
        for source, films in of.items()
    }
    found = generalisation(pool, readers, seed)
    click.echo(json.dumps([vars(each) for each in found], indent=2) if as_json else generalisation_table(found))
