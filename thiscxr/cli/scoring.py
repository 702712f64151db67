"""Commands of scoring: extractors, score, measure, card, readers."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import click

from thiscxr.cli.options import FOLDER, MODEL, NEW_FILE, NEW_FOLDER, common, group, resolve_device

SEGMENTER = "lungs128"


@group.group(invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="The same as JSON.")
@common(seed=False, device=False)
@click.pass_context
def extractors(context: click.Context, as_json: bool) -> None:
    """List the feature extractors: features, resolution, licence, and where their weights are.

    Example: thiscxr extractors --json
    """
    from thiscxr.reader.extractors import list_extractors

    if context.invoked_subcommand is not None:
        return
    table = list_extractors()
    if as_json:
        click.echo(json.dumps(table, indent=2))
        return
    click.echo(f"{'name':<24} {'dim':>5} {'res':>5}  {'sha256':<16}  {'licence':<10}  weights")
    for entry in table:
        where = entry["weights"] or f"not here: {entry['url']}"
        click.echo(
            f"{entry['name']:<24} {entry['dim']:>5} {entry['res']:>5}  {(entry['sha256'] or 'not published')[:16]:<16}"
            f"  {entry['licence'].split(' (')[0].split(',')[0]:<10}  {where}"
        )


@extractors.command("import")
@click.argument("file", type=FOLDER, required=False)
@click.option("--name", help="Network of the weights; default: recognised from the file.")
@click.option("--allow-download", is_flag=True, help="Download the file of --name from where it was published.")
@common(seed=False, device=False)
def extractors_import(file: Path | None, name: str | None, allow_download: bool) -> None:
    """Check a published weight file and keep it as safetensors in the cache. Nothing in it is run.

    Example: thiscxr extractors import pt_inception-2015-12-05-6726825d.pth
    """
    from thiscxr.reader.weights import download_weights, import_weights

    if file is not None:
        click.echo(import_weights(file, name))
    elif name and allow_download:
        click.echo(download_weights(name))
    else:
        raise click.UsageError("give the weight FILE, or --name NAME with --allow-download")


@group.command()
@click.option("--real", type=FOLDER, required=True, metavar="POOL")
@click.option(
    "--fake", required=True, metavar="DIR|MODEL", help="A folder of films, or FILE, NAME or RUN to sample from."
)
@click.option(
    "--extractor",
    "names",
    multiple=True,
    help="See `thiscxr extractors`, or a file.  [default: thiscxr64; from 128 px on thiscxr128]",
)
@click.option(
    "-n",
    "count",
    type=click.IntRange(2),
    default=2048,
    show_default=True,
    help="Samples at most, when --fake is a model.",
)
@click.option(
    "--truncation", type=click.FloatRange(0, 2), default=1.0, show_default=True, help="When --fake is a model."
)
@click.option(
    "--split",
    type=click.Choice(["all", "holdout", "train"]),
    default="all",
    show_default=True,
    help="Of the real films.",
)
@click.option("--allow-small", is_flag=True, help="Fewer films than feature dimensions: the key then has `small`.")
@click.option(
    "--utility", is_flag=True, help="Do the films improve a classifier on held-out patients? 10 to 15 minutes."
)
@click.option("--poses", is_flag=True, help="Which predictions flip as films are moved? Some minutes.")
@click.option("--label-noise", is_flag=True, help="What flipped labels do, on phantoms. Some minutes.")
@click.option("--allow-download", is_flag=True, help="Fetch the weights of a public extractor that are not here.")
@click.option("--out", type=NEW_FILE, metavar="FILE", help="Write scores.json there.")
@click.option(
    "--html",
    type=NEW_FILE,
    metavar="FILE",
    help="The same as one page with plots. It shows films of the pool: keep it private.",
)
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
    """Score synthetic films against a pool: distances, diversity, memorisation, confounders, requested against
    predicted conditions.

    Example: thiscxr score --real pool --fake samples --out scores.json --html scores.html
    """
    from thiscxr.phantom.labelled import draw_labelled_films, draw_posed_films
    from thiscxr.pool import Pool
    from thiscxr.reader.extractors import default_extractor, load_extractor
    from thiscxr.report.terminal import score_table
    from thiscxr.score import panel
    from thiscxr.score.fairness import enough_films
    from thiscxr.score.fakes import open_fakes
    from thiscxr.score.records import scores_json, write_scores

    device = resolve_device(device)
    pool = Pool.open(real)
    names = names or (default_extractor(pool.resolution),)
    download = options.pop("allow_download")
    extractors = [load_extractor(name, device, download) for name in dict.fromkeys(names)]
    enough = partial(enough_films, pool, extractors, split=options["split"], allow_small=options["allow_small"])
    with open_fakes(fake, pool.resolution, count, options.pop("truncation"), device, enough, pool) as fakes:
        if options.pop("poses"):
            options["posed"] = draw_posed_films(pool.resolution)
        if options.pop("label_noise"):
            options["labelled"] = draw_labelled_films(seed=options["seed"])
        found = panel.score(pool, fakes, extractors, device=device, **options)
        if html is not None:
            from thiscxr.report.scores import write_report

            write_report(html, pool, fakes, found)
    if out is not None:
        write_scores(out, found.records)
    click.echo(scores_json(found.records) if as_json else score_table(found))


@group.command()
@click.argument("films", type=FOLDER)
@click.option("--out", type=NEW_FILE, required=True, metavar="FILE", help="The table, CSV, a row a film.")
@click.option("--pictures", type=NEW_FOLDER, metavar="DIR", help="A PNG of each film with outlines of lungs and heart.")
@click.option(
    "--against",
    type=FOLDER,
    metavar="FILE|FILMS",
    help="A table of this kind, or films: adds percentiles among them. Real films make the best scale.",
)
@click.option("--segmenter", "name", default=SEGMENTER, show_default=True, help="Of the bundled ones.")
@common(seed=False)
def measure(films: Path, out: Path, pictures: Path | None, against: Path | None, name: str, device: str) -> None:
    """Measure frontal films: cardiothoracic ratio, lungs, the lean of the heart, opacity of each lung and its zones.

    FILMS: a pool, a folder of films or of samples, or one film. Not for diagnosis.

    Example: thiscxr measure samples --out measures.csv --against pool
    """
    from thiscxr.reader.measuring import measure as measure_films
    from thiscxr.reader.segmenter import find_segmenter

    segmenter, _ = find_segmenter(name, resolve_device(device))
    click.echo(measure_films(films, out, segmenter, pictures, against))


@group.command()
@MODEL
@click.option("--scores", type=FOLDER, required=True, metavar="FILE", help="What `score --out` wrote of this network.")
@click.option(
    "--notes", type=FOLDER, metavar="FILE", help="Markdown that is put in as it is: what neither file contains."
)
@click.option(
    "--out",
    type=NEW_FILE,
    required=True,
    metavar="FILE",
    help="CARD.md; the films of seeds 0 to 63 go beside it as PNG.",
)
@common(seed=False, device=False)
def card(model: str, scores: Path, notes: Path | None, out: Path) -> None:
    """Write the model card of a network from its file and its scores.

    Example: thiscxr card --model nih-64 --scores scores.json --out nih-64.md
    """
    from thiscxr.report.card import write_card

    write_card(model, scores, out, notes)
    click.echo(out)


@group.command()
@click.argument("files", type=FOLDER, nargs=-1, required=True)
@click.option("--json", "as_json", is_flag=True, help="The same as JSON.")
@common(seed=False, device=False)
def readers(files: tuple[Path, ...], as_json: bool) -> None:
    """Report the answers of a reader study on the site: accuracy with intervals, agreement, visual PPV of the labels.

    Example: thiscxr readers answers-*.csv
    """
    from thiscxr.gallery.readers import read_answers, report, report_text

    facts = report(read_answers(files))
    click.echo(json.dumps(facts, indent=2) if as_json else report_text(facts))
