"""The command that finds a direction: an axis of w for a finding, its severity, view, sex or age."""

import json
from pathlib import Path

import click

from thiscxr.cli.options import MODEL, NEW_FOLDER, READER, common, group, resolve_device


@group.command()
@MODEL
@click.option("--finding", help="From none to severe.")
@click.option("--severity", help="Of a finding: from mild to severe, with the finding requested for all films.")
@click.option("--view", help="Towards this view, such as PA.")
@click.option("--sex", is_flag=True, help="From M to F.")
@click.option("--age", is_flag=True, help="From young to old.")
@click.option(
    "--asked-view",
    help="Request this view for all films; the heart needs PA.  [default: as in the training films]",
)
@click.option("--entirely", is_flag=True, help="Hold everything else still, however little the target then moves.")
@READER
@click.option(
    "-n", "count", type=click.IntRange(1), default=2000, show_default=True, help="Films that the axis is fitted to."
)
@click.option("--steps", type=click.IntRange(2, 25), default=7, show_default=True, help="From one end to the other.")
@click.option("--seeds", "seed_list", default="0-5", show_default=True, help="Of the films on the grid.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@click.option(
    "--out",
    type=NEW_FOLDER,
    default=Path("direction"),
    show_default=True,
    help="Folder of the axis, its facts and a grid.",
)
@common(seed=False)
def direction(
    model: str,
    finding: str | None,
    severity: str | None,
    view: str | None,
    sex: bool,
    age: bool,
    asked_view: str | None,
    entirely: bool,
    reader: str | None,
    count: int,
    steps: int,
    seed_list: str,
    as_json: bool,
    out: Path,
    device: str,
) -> None:
    """Find the axis along which one prediction of a classifier changes and all others stay the same.

    Only for what the classifier predicts well on patients not seen in training.

    Example: thiscxr direction --view PA --out towards-pa
    """
    from thiscxr.files import nearest_name
    from thiscxr.labels import FINDINGS, VIEWS, spelled
    from thiscxr.latent.slider import check_direction_folder, direction_table, find_direction, write_direction
    from thiscxr.reader.trust import reader_of
    from thiscxr.sample.sampling import load
    from thiscxr.sample.writing import parse_seeds

    finding, severity = (name and spelled(name, FINDINGS) for name in (finding, severity))
    view, asked_view = (name and spelled(name, VIEWS) for name in (view, asked_view))
    requests = [finding, severity, view and f"view {view}", sex and "sex", age and "age"]
    questions = [question for question in requests if question]
    if len(questions) != 1:
        raise click.UsageError(
            "a direction is of one thing; give one of --finding, --severity, --view, --sex and --age"
        )
    if (name := finding or severity) and name not in FINDINGS:
        raise ValueError(f"no finding is called '{name}'{nearest_name(name, FINDINGS)}")
    if view and asked_view:
        raise click.UsageError(
            "--view is the direction and --asked-view the view requested for all films; drop one of the two"
        )
    device = resolve_device(device)
    network, seeds = load(model, device), parse_seeds(seed_list)
    classifier = reader_of(network, reader, device)
    check_direction_folder(out)
    found = find_direction(network, classifier, questions[0], count, steps, severity is not None, asked_view, entirely)
    write_direction(out, found, network, classifier, seeds)
    click.echo(json.dumps(found.to_json(), indent=2) if as_json else direction_table(found))
