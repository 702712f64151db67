"""Commands of films in: phantom, prepare, verify, describe."""

import json
from pathlib import Path
from typing import Any

import click

from thiscxr.cli.options import FOLDER, NEW_FILE, NEW_FOLDER, common, group, several
from thiscxr.terms import collections


@group.command()
@click.argument("out", type=NEW_FOLDER)
@click.option("-n", "count", type=click.IntRange(1), default=2000, show_default=True, help="Films.")
@click.option("--res", type=int, default=256, show_default=True, help="Resolution in pixels.")
@click.option(
    "--layout",
    default="pool",
    show_default=True,
    help="pool, or as a collection releases its films: nih, chexpert, mimic-cxr-jpg, "
    "mimic-cxr, padchest, openi, kermany, folder.",
)
@click.option(
    "--defects",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    help="Share of files missing or broken on purpose.",
)
@click.option("--archived", is_flag=True, help="Zips and tars, where the collection is distributed so.")
@click.option(
    "--key-file", type=FOLDER, help="Key of the ids in a pool; default: a public one, since there is nobody to protect."
)
@click.option(
    "--workers", type=click.IntRange(1), help="Processes; default: one a core. The films are the same for any number."
)
@common(device=False)
def phantom(out: Path, count: int, res: int, layout: str, seed: int, **options: Any) -> None:
    """Write procedural chest films with known anatomy and findings.

    Example: thiscxr phantom pool -n 2000 --res 64
    """
    from thiscxr.phantom.releases import write_layout

    write_layout(out, layout, count, res, seed, **options)
    click.echo(out)


SOURCE_FLAGS = several(
    *(
        click.option(f"--{key}", type=FOLDER, multiple=True, metavar="DIR", help=f"Root of {each['name']}; repeatable.")
        for key, each in collections().items()
    )
)
_SEVERAL = ", ".join(f"--{key} DIR" for key in collections())


def take_sources(options: dict[str, Any]) -> list[tuple[str, Path]]:
    """Return (collection, root) for each source flag given, and take the flags out of the options."""
    return [(key, root) for key in collections() for root in options.pop(key.replace("-", "_"))]


VIEWS = click.option(
    "--views",
    callback=lambda context, parameter, text: tuple(view.strip() for view in text.split(",")) if text else None,
    help="Comma-separated; default PA,AP,AP_supine (and unknown for folder, openi and rsna).",
)


ALLOW_SYNTHETIC = click.option(
    "--allow-synthetic", is_flag=True, help="Take films that are marked as synthetic; by default they are refused."
)


LABELS = click.option(
    "--labels",
    type=click.Choice(["released", "reports"]),
    default="released",
    show_default=True,
    help="Where findings come from: the label tables, or the reports of Open-I and MIMIC-CXR.",
)


@group.command()
@click.argument("pool", type=NEW_FOLDER)
@SOURCE_FLAGS
@click.option("--res", type=int, required=True, help="Resolution in pixels, a power of two from 32 to 1024.")
@click.option(
    "--smallest",
    type=int,
    metavar="RES",
    help="Keep films below --res at the power of two that they fill, down to RES.",
)
@VIEWS
@click.option(
    "--aspect",
    type=click.Choice(["released", "restore"]),
    default="released",
    show_default=True,
    help="NIH films are squashed.",
)
@LABELS
@click.option("--derive", is_flag=True, help="Derive findings that a collection implies but does not annotate.")
@ALLOW_SYNTHETIC
@click.option(
    "--max-rejected",
    type=click.FloatRange(0, 1),
    default=0.1,
    show_default=True,
    help="Fail above this share of refused films.",
)
@click.option("--key-file", type=FOLDER, help="Key of the ids; default: one made once in your configuration folder.")
@click.option(
    "--workers", type=click.IntRange(1), help="Processes; default: one a core. The pool is the same for any number."
)
@click.option(
    "--dask", "scheduler", default="", metavar="ADDRESS", help="Decode on the Dask cluster of this scheduler."
)
@common(seed=False, device=False)
def prepare(pool: Path, **options: Any) -> None:
    """Read collections as released and write one pool. The same command resumes an interrupted call.

    Example: thiscxr prepare pool --nih ChestXray-NIHCC --res 64
    """
    from thiscxr.pool.prepare import prepare as prepare_pool

    sources = take_sources(options)
    if not sources:
        raise click.UsageError(f"no collection given; use one or more of {_SEVERAL}")
    click.echo(prepare_pool(pool, sources, **options))


@group.command()
@click.argument("pool", type=FOLDER)
@common(seed=False, device=False)
def verify(pool: Path) -> None:
    """Check every hash and invariant of a pool.

    Example: thiscxr verify pool
    """
    from thiscxr.pool import Pool, verify_pool

    problems = verify_pool(pool)
    if problems:
        raise ValueError(f"{pool}: {len(problems)} problem{'s' * (len(problems) > 1)}: {'; '.join(problems[:5])}")
    resolutions = Pool.open(pool).resolutions
    several = ", ".join(f"{count} films of {res} px" for res, count in resolutions.items())
    click.echo(f"{pool}: whole" + (f" ({several})" if len(resolutions) > 1 else ""))


@group.command()
@click.argument("pool", type=FOLDER, required=False)
@SOURCE_FLAGS
@click.option("--labels-only", is_flag=True, help="Read only the label files, not the films.")
@VIEWS
@LABELS
@ALLOW_SYNTHETIC
@click.option("--json", "as_json", is_flag=True, help="The same as JSON.")
@click.option("--html", type=NEW_FILE, metavar="FILE", help="The same as one page with plots.")
@common(seed=False, device=False)
def describe(pool: Path | None, as_json: bool, html: Path | None, **options: Any) -> None:
    """Show what is inside a pool, or a release before preparing it.

    Example: thiscxr describe --nih ChestXray-NIHCC --labels-only --json
    """
    from thiscxr.report import pool as describing
    from thiscxr.report.pool.page import write_page

    sources = take_sources(options)
    if (pool is None) == (not sources):
        raise click.UsageError(f"give either a pool or collections ({_SEVERAL})")
    facts = describing.describe_pool(pool) if pool else describing.describe_sources(sources, **options)
    if html is not None:
        write_page(html, facts)
    click.echo(json.dumps(facts, indent=2) if as_json else describing.describe_text(facts))


@group.command()
@click.argument("table", type=FOLDER, metavar="IN.csv")
@click.option(
    "--out",
    type=NEW_FILE,
    required=True,
    metavar="OUT.csv",
    help="Labels; the words that decided go to OUT.spans.jsonl.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@common(seed=False, device=False)
def label(table: Path, out: Path, as_json: bool) -> None:
    """Label free-text reports in English: IN.csv has the columns id and report, OUT.csv id and 1, 0, -1 or -2 for each
    finding.

    Example: thiscxr label reports.csv --out labels.csv
    """
    from dataclasses import asdict

    from thiscxr.collections.report_table import label_table, summary_text

    summary = label_table(table, out)
    click.echo(json.dumps(asdict(summary), indent=2) if as_json else summary_text(summary))
