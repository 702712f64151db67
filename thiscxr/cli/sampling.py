"""Commands for sampling: models, sample, export."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from thiscxr.cli.options import (
    FOLDER,
    MODEL,
    NEW_FILE,
    NEW_FOLDER,
    PERMISSION,
    REQUEST,
    common,
    group,
    resolve_device,
)

if TYPE_CHECKING:
    from thiscxr.latent.selection import Selection
    from thiscxr.model.conditions import Condition
    from thiscxr.sample.dicom import DicomOptions
    from thiscxr.sample.sampling import Network
    from thiscxr.sample.truncation import Truncation


@group.command()
@click.option("--json", "as_json", is_flag=True, help="The same as JSON.")
@common(seed=False, device=False)
def models(as_json: bool) -> None:
    """List the bundled networks with their cards in short.

    Example: thiscxr models
    """
    from thiscxr.model.network_file import bundled_weights

    table = bundled_weights("generator") | bundled_weights("reader") | bundled_weights("segmenter")
    if as_json:
        click.echo(json.dumps(table, indent=2))
        return
    for name, entry in table.items():
        click.echo(f"{name:<12} {entry['kind']:<10} {entry['summary']}")


@group.command()
@MODEL
@click.option("-n", "count", type=click.IntRange(1), help="Films.  [default: one per seed, or 64]")
@click.option("--seeds", "seed_list", help="Such as 0-63,100; ranges are inclusive.  [default: 0 to n-1]")
@REQUEST
@click.option("--report", metavar="TEXT", help="Request what a report in English describes; prints what it understood.")
@click.option("--pairs", is_flag=True, help="A frontal and a lateral film of each seed.")
@click.option(
    "--where",
    multiple=True,
    metavar="TEXT",
    help='Only films that a classifier predicts to be so: "cardiomegaly>0.8 and sex=F"; repeatable.',
)
@click.option(
    "--reader",
    metavar="NAME|FILE",
    help="Of --where: a bundled classifier or a file of `thiscxr classify train`.  "
    "[default: thiscxr64; from 128 px on thiscxr128]",
)
@click.option("--plan", type=FOLDER, metavar="FILE", help="CSV of conditions and n: a labelled set, with labels.csv.")
@click.option(
    "--format", "form", type=click.Choice(["png", "png16", "dicom", "npz", "wds"]), default="png", show_default=True
)
@click.option(
    "--dicom-class",
    "sop_class",
    type=click.Choice(["sc", "dx"]),
    help="Secondary Capture, or DX for presentation.  [default: sc]",
)
@click.option("--bits", type=click.IntRange(8, 16), help="Of a DICOM file.  [default: 12]")
@click.option(
    "--photometric", type=click.Choice(["MONOCHROME2", "MONOCHROME1"]), help="Of a DICOM file.  [default: MONOCHROME2]"
)
@click.option(
    "--compress", type=click.Choice(["none", "rle", "j2k"]), help="A DICOM file, without loss.  [default: none]"
)
@click.option(
    "--no-mark", "mark", flag_value=False, default=None, type=bool, help="Do not burn SYNTHETIC into a DICOM file."
)
@click.option(
    "--malformed", is_flag=True, help="DICOM files that are broken on purpose, with malformed.csv, instead of films."
)
@click.option("--release", is_flag=True, help="Leave out films that are too close to a real one; needs --against.")
@click.option(
    "--against", type=FOLDER, metavar="POOL", help="With --release: the pool that the network was trained on."
)
@click.option(
    "--superset",
    is_flag=True,
    help="With --against: you assert that this pool holds all training films, though it is another one.",
)
@PERMISSION
@click.option("--out", type=NEW_FOLDER, default=Path("samples"), show_default=True)
@common(seed=False)
def sample(
    model: str,
    count: int | None,
    seed_list: str | None,
    report: str | None,
    truncation: str,
    pairs: bool,
    where: tuple[str, ...],
    reader: str | None,
    plan: Path | None,
    form: str,
    malformed: bool,
    permission: bool,
    release: bool,
    against: Path | None,
    superset: bool,
    out: Path,
    device: str,
    **rest: Any,
) -> None:
    """Write synthetic films, a grid, and samples.csv. The same command resumes an interrupted one.

    Example: thiscxr sample -n 64 --view PA
    """
    from thiscxr.latent.series import in_pairs
    from thiscxr.model.conditions import Condition
    from thiscxr.sample.dicom import dicom_format
    from thiscxr.sample.formats import FORMATS
    from thiscxr.sample.malformed import write_malformed
    from thiscxr.sample.plan import plan_seeds, read_plan
    from thiscxr.sample.sampling import load, request
    from thiscxr.sample.truncation import parse_truncation
    from thiscxr.sample.writing import MAX_FILMS, check_ours, parse_seeds, write_samples

    dicom, psi = _dicom_options(form, malformed, rest), parse_truncation(truncation)
    condition = request(**rest)
    if report is not None and (plan is not None or condition != Condition()):
        raise click.UsageError(
            "--report says what is requested; leave --plan and the conditions out, and put them into the report"
        )
    if plan is not None and (malformed or pairs or count is not None or condition != Condition()):
        raise click.UsageError(
            "--plan says what is requested and how often; leave -n, --pairs, --malformed and the conditions out"
        )
    if malformed and release:
        raise click.UsageError(
            "--malformed files are broken and cannot be compared with real films; leave --release out"
        )
    if release != (against is not None) or (superset and not release):
        raise click.UsageError("--release compares films with real ones: give both --release and --against POOL")
    if pairs and (malformed or release or form not in ("png", "png16", "dicom")):
        raise click.UsageError("--pairs are single films, png, png16 or dicom; leave --malformed and --release out")
    if count is not None and count > MAX_FILMS:
        raise click.UsageError(
            f"-n {count:,}: one call generates at most {MAX_FILMS:,} films; split them into several calls"
        )
    seeds = parse_seeds(seed_list) if seed_list is not None else list(range(count or (1 if malformed else 64)))
    if where and (plan is not None or pairs or malformed):
        raise click.UsageError(
            "--where leaves films out, and --plan, --pairs and --malformed say how many there are; drop one of the two"
        )
    if reader is not None and not where:
        raise click.UsageError("--reader names the classifier of --where; give both")
    if count is not None and count != len(seeds) and not where:
        raise click.UsageError(
            f"-n {count} does not agree with --seeds {seed_list}, which are {len(seeds)}; drop one of the two"
        )
    network = load(model, resolve_device(device))
    if report is not None:
        from thiscxr.sample.report import read_request

        understood = read_request(report, network.info.vocabulary)
        condition = understood.condition
        click.echo(understood)
    check_ours(out)
    pool = None
    if against is not None:
        from thiscxr.latent.release import check_release
        from thiscxr.pool import Pool

        pool = Pool.open(against)
        check_release(pool, network, permission, superset)
    if plan is not None:
        conditions = read_plan(plan, network.info.vocabulary)
        seeds = plan_seeds(seeds if seed_list else None, len(conditions))
    elif pairs:
        seeds, conditions = in_pairs(network, seeds, condition)
    elif where:
        wanted = count if seed_list else len(seeds)  # with --seeds, all that pass are kept
        selection = _select(network, where, reader, condition, psi, out, seeds if seed_list else None, wanted)
        seeds, conditions = selection.seeds, selection.conditions
    else:
        conditions = network.conditions(seeds, condition)
    columns: dict[str, list[str]] = {}
    if pool is not None:
        from thiscxr.latent.release import release as through_the_gate

        gate = through_the_gate(pool, network, seeds, conditions, psi)
        message = "%d of %d films are left out: too close to a real film"
        logging.getLogger("thiscxr").info(message, gate.num_left_out, len(seeds))
        seeds, conditions, columns = gate.seeds, gate.conditions, gate.columns
    if where:
        columns |= selection.columns_of(seeds)
    if malformed:
        write_malformed(network, seeds, conditions, psi, out, dicom, permission)
    else:
        chosen = dicom_format(dicom) if form == "dicom" else FORMATS[form]
        write_samples(network, seeds, conditions, psi, out, chosen, permission, plan is not None, columns)
    if where:
        from thiscxr.latent.selection import notes_path

        notes_path(out).unlink(missing_ok=True)
    click.echo(out)


def _dicom_options(form: str, malformed: bool, given: dict[str, Any]) -> DicomOptions:
    """Return the options of DICOM files, which are taken out of `given`."""
    from thiscxr.sample.dicom import DicomOptions

    names = ("sop_class", "bits", "photometric", "compress", "mark")
    options = {name: value for name in names if (value := given.pop(name)) is not None}
    if form != "dicom" and (options or malformed):
        raise click.UsageError(
            "--dicom-class, --bits, --photometric, --compress, --no-mark and --malformed need --format dicom"
        )
    return DicomOptions(**options)


def _select(
    network: Network,
    where: tuple[str, ...],
    reader: str | None,
    condition: Condition,
    psi: Truncation,
    out: Path,
    seeds: list[int] | None,
    wanted: int | None,
) -> Selection:
    """Return the films that the classifier predicts to be as --where says: of these seeds, or the first `wanted`."""
    from thiscxr.latent.selection import select
    from thiscxr.latent.where import parse_where
    from thiscxr.reader.trust import reader_of

    classifier = reader_of(network, reader, str(network.generator.w_mean.device))
    return select(network, classifier, parse_where(where, classifier), condition, psi, out, seeds, wanted)


@group.command()
@MODEL
@click.option("--onnx", type=NEW_FILE, required=True, metavar="FILE", help="Write the generator there as ONNX.")
@PERMISSION
@common(seed=False, device=False)
def export(model: str, onnx: Path, permission: bool) -> None:
    """Write a generator as ONNX, if onnxruntime generates the same films as torch: inputs z, c, psi and noise, free
    batch size.

    Example: thiscxr export --model nih-64 --onnx nih-64.onnx
    """
    from thiscxr.sample.onnx_export import export_onnx
    from thiscxr.sample.sampling import load
    from thiscxr.terms import require_permission

    network = load(model)
    restriction = require_permission(network.info.sources, permission, f"an export of {model}")
    difference = export_onnx(onnx, network.generator, network.info, network.sha256, restriction)
    logging.getLogger("thiscxr").info("onnxruntime and torch differ by at most %.1e, for films of [-1, 1]", difference)
    click.echo(onnx)
