"""Commands of showing: site, serve, and doctor for a bug report."""

import json
from pathlib import Path
from typing import Any

import click

from thiscxr.cli.options import FOLDER, NEW_FOLDER, PERMISSION, common, group
from thiscxr.files import cache_folder


@group.command()
@click.option("--samples", type=FOLDER, metavar="DIR", help="A folder that `thiscxr sample` wrote.")
@click.option("--scores", type=FOLDER, metavar="FILE", help="scores.json of these samples.")
@click.option(
    "--model",
    metavar="MODEL",
    help="FILE, NAME or RUN: adds make.html, which generates films in the visitor's browser.",
)
@click.option("--index/--no-index", default=False, show_default=True, help="Whether search engines may list the site.")
@click.option(
    "--url",
    default="",
    metavar="URL",
    help="Where the site will be: pictures of shared links need it. All else is relative.",
)
@click.option(
    "--real",
    type=FOLDER,
    metavar="POOL",
    help="Held-out real films for the reader study; only of collections that allow it.",
)
@click.option(
    "--card",
    type=FOLDER,
    metavar="FILE",
    help="Model card (Markdown) for the evidence page; else one beside the network.",
)
@PERMISSION
@click.option("--out", type=NEW_FOLDER, default=Path("site/_build"), show_default=True)
@common(seed=False, device=False)
def site(samples: Path | None, scores: Path | None, model: str | None, out: Path, **options: Any) -> None:
    """Export a static site that works from any host and from file://: a gallery of samples, a generator in the browser,
    or both.

    Example: thiscxr site --samples samples --scores scores.json --model nih-64 --out gallery
    """
    from thiscxr.gallery.site import build_site

    if samples is None and model is None:
        raise click.UsageError("nothing to show: give --samples, --model, or both")
    path = None
    if model is not None:
        from thiscxr.model.network_file import find_network

        path = find_network(model)
    click.echo(build_site(samples, out, scores, model=path, **options))


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

    from thiscxr.model.network_file import bundled_weights, find_weights
    from thiscxr.reader.weights import list_public
    from thiscxr.train.runs import environment

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
