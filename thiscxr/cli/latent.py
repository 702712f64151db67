"""Commands of the latent space: walk, mix, project, series."""

import json
import logging
from pathlib import Path
from typing import Any

import click

from thiscxr.cli.options import (
    FOLDER,
    MODEL,
    NEW_FILE,
    NEW_FOLDER,
    PATIENT,
    PERMISSION,
    READER,
    REQUEST,
    common,
    group,
    resolve_device,
)


@group.command()
@MODEL
@click.option("--seeds", "seed_list", default="", help="The films to pass, in this order, such as 1,2,5.")
@click.option("--from", "start", type=FOLDER, metavar="FILE", help="Start at a film that `thiscxr project` found.")
@click.option("--frames", type=click.IntRange(2, 5000), default=60, show_default=True)
@click.option("--fps", type=click.IntRange(1, 60), default=15, show_default=True, help="Frames a second.")
@click.option("--loop", is_flag=True, help="Return to the first film.")
@click.option(
    "--format",
    "kind",
    type=click.Choice(["webp", "gif", "mp4", "frames"]),
    help="[default: what --out ends with, or webp]",
)
@REQUEST
@PERMISSION
@click.option("--out", type=FOLDER, metavar="FILE|DIR", help="[default: walk.webp and so on]")
@common(seed=False)
def walk(
    model: str,
    seed_list: str,
    start: Path | None,
    frames: int,
    fps: int,
    loop: bool,
    kind: str | None,
    truncation: str,
    permission: bool,
    out: Path | None,
    device: str,
    **requested: Any,
) -> None:
    """Go from film to film through the latent space w, as an animation or as frames.

    Example: thiscxr walk --seeds 1,2,5 --view PA --loop --out walk.webp
    """
    from thiscxr.files import check_place, free_folder
    from thiscxr.latent.walk import draw_walk, projected_stop, seed_stops, write_walk
    from thiscxr.pixels.animation import ANIMATIONS
    from thiscxr.sample.provenance import origin_of
    from thiscxr.sample.sampling import load, request
    from thiscxr.sample.truncation import parse_truncation
    from thiscxr.sample.writing import parse_seeds

    named = next((known for known in ANIMATIONS if out is not None and out.suffix == f".{known}"), None)
    if kind and named and kind != named:
        raise click.UsageError(f"--format {kind} does not agree with --out {out}; drop one of the two")
    if not kind and not named and out is not None:
        raise click.UsageError(
            f"--out {out} ends in none of {', '.join(f'.{known}' for known in ANIMATIONS)}; name one, or give --format"
        )
    kind = kind or named or "webp"
    out = out or Path("walk" if kind == "frames" else f"walk.{kind}")
    check_place(out, folder=kind == "frames")
    if kind == "frames":
        free_folder(out)
    condition, psi = request(**requested), parse_truncation(truncation)
    seeds = parse_seeds(seed_list) if seed_list else []
    network = load(model, resolve_device(device))
    stops = seed_stops(network, seeds, condition, psi)
    if start is not None:
        stops.insert(0, projected_stop(start, network))
    found = draw_walk(network, stops, frames, loop, seeds[0] if seeds else 0, str(psi), origin_of(network, permission))
    write_walk(found, out, kind, fps)
    click.echo(out)


@group.command()
@MODEL
@click.option("--rows", "row_list", required=True, help="Seeds that give the layers of --layers, such as 0-4.")
@click.option("--columns", "column_list", required=True, help="Seeds that give all other layers, such as 10-15.")
@click.option("--layers", "layer_list", default="0-3", show_default=True, help="Of the rows; early ones are coarse.")
@REQUEST
@PERMISSION
@click.option("--out", type=NEW_FILE, default=Path("mix.png"), show_default=True, metavar="FILE")
@common(seed=False)
def mix(
    model: str,
    row_list: str,
    column_list: str,
    layer_list: str,
    truncation: str,
    permission: bool,
    out: Path,
    device: str,
    **requested: Any,
) -> None:
    """Mix the styles of films in one grid: each row's coarse layers with each column's fine ones.

    Example: thiscxr mix --rows 0-4 --columns 10-15 --layers 0-3 --view PA --out mix.png
    """
    from thiscxr.latent.mixing import mix_films, mixing_grid, parse_layers
    from thiscxr.pixels import save_png
    from thiscxr.sample.provenance import grid_text, origin_of
    from thiscxr.sample.sampling import load, request
    from thiscxr.sample.truncation import parse_truncation
    from thiscxr.sample.writing import parse_seeds

    if out.suffix.lower() != ".png" or out.is_dir():
        raise click.UsageError(f"--out {out}: the grid is a PNG file; give a name that ends in .png")
    rows, columns = parse_seeds(row_list, "--rows"), parse_seeds(column_list, "--columns")
    condition, psi = request(**requested), parse_truncation(truncation)
    network = load(model, resolve_device(device))
    layers = parse_layers(layer_list, network.generator.config.num_ws)
    grid = mixing_grid(mix_films(network, rows, columns, layers, condition, psi), rows, columns, layers)
    text = grid_text(origin_of(network, permission))
    save_png(out, grid, text | {"Rows": row_list, "Columns": column_list, "Layers": layer_list, "Truncation": str(psi)})
    click.echo(out)


@group.command()
@MODEL
@click.option("--finding", required=True, help="The finding that grows.")
@click.option("--steps", type=click.IntRange(2), default=5, show_default=True, help="Visits per patient.")
@click.option("--seeds", "seed_list", default="0-7", show_default=True, help="Patients.")
@READER
@PATIENT
@click.option("--format", "kind", type=click.Choice(["png", "png16", "dicom"]), default="png", show_default=True)
@PERMISSION
@click.option("--out", type=NEW_FOLDER, default=Path("series"), show_default=True, metavar="DIR")
@common(seed=False)
def series(
    model: str,
    finding: str,
    steps: int,
    seed_list: str,
    reader: str | None,
    truncation: str,
    kind: str,
    permission: bool,
    out: Path,
    device: str,
    **requested: Any,
) -> None:
    """Generate follow-up films of invented patients in whom a finding grows, where a classifier can confirm it.

    Example: thiscxr series --model runs/00000-pool-64 --reader reader.safetensors --finding Effusion --steps 5 --out
    series
    """
    import numpy as np

    from thiscxr.latent.series import draw_series, growth_table, write_series
    from thiscxr.reader.trust import reader_of
    from thiscxr.sample.dicom import DicomOptions, dicom_format
    from thiscxr.sample.formats import FORMATS
    from thiscxr.sample.sampling import load, request
    from thiscxr.sample.truncation import parse_truncation
    from thiscxr.sample.writing import check_ours, parse_seeds

    seeds, condition, psi = parse_seeds(seed_list), request(**requested), parse_truncation(truncation)
    network = load(model, resolve_device(device))
    (finding,) = (grows := request(findings=[finding])).findings
    network.info.vocabulary.encode([grows])
    classifier = reader_of(network, reader, resolve_device(device))
    ceiling = classifier.check(finding)
    check_ours(out)
    found = draw_series(network, seeds, finding, steps, condition, psi, permission)
    predicted = 1 / (1 + np.exp(-classifier.read(found.pixels)[finding]))
    write_series(found, network, out, dicom_format(DicomOptions()) if kind == "dicom" else FORMATS[kind], predicted)
    logging.getLogger("thiscxr").info(
        "%s", growth_table(predicted.reshape(-1, steps), finding, f"{classifier.name}, {ceiling}")
    )
    click.echo(out)


@group.command()
@click.argument("films", type=FOLDER, nargs=-1, required=True)
@MODEL
@click.option("--steps", type=click.IntRange(1), default=300, show_default=True)
@click.option(
    "--space",
    type=click.Choice(["w", "w+"]),
    default="w",
    show_default=True,
    help="w: one latent, as a seed has; w+: one latent per layer.",
)
@click.option(
    "--candidates",
    type=click.IntRange(16),
    default=500,
    show_default=True,
    help="Films to start from and to compare with.",
)
@READER
@click.option("--real", type=FOLDER, metavar="POOL", help="Compare with its films of other patients.")
@click.option("--json", "as_json", is_flag=True, help="The report as JSON.")
@click.option("--out", type=NEW_FOLDER, default=Path("projections"), show_default=True, metavar="DIR")
@common(seed=False)
def project(
    films: tuple[Path, ...],
    model: str,
    steps: int,
    space: str,
    candidates: int,
    reader: str | None,
    real: Path | None,
    as_json: bool,
    out: Path,
    device: str,
) -> None:
    """Find the film of a network that is nearest to a given one, and report what it has lost. Keep the projections of
    real films local.

    Example: thiscxr project film.png --steps 300 --real pool --out projections
    """
    from thiscxr.files import free_folder
    from thiscxr.latent.projected import project_films, projection_table, write_projections
    from thiscxr.pool import Pool
    from thiscxr.reader.extractors import default_extractor, load_extractor
    from thiscxr.sample.sampling import load

    free_folder(out)  # checked before the work starts
    network = load(model, resolve_device(device))
    extractor = load_extractor(reader or default_extractor(network.generator.config.res), resolve_device(device))
    found = project_films(films, network, extractor, Pool.open(real) if real else None, steps, space, candidates)
    write_projections(out, found, network, extractor)
    click.echo(json.dumps([each.report() for each in found], indent=2) if as_json else projection_table(found))
