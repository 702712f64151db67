"""The scores as lines of text."""

from thiscxr.report.verdict import verdict
from thiscxr.report.words import reading
from thiscxr.score.panel import Panel


def score_table(panel: Panel) -> str:
    """Return the scores as text: one aligned line each, the summary, and what was not measured."""
    wide = max((len(each.key) for each in panel.records), default=5)
    lines = [f"{'score':<{wide}} {'value':>9}  {'95 % interval':>19}  {'floor':>8}  {'films':>12}"]
    for each in panel.records:
        value, floor = (f"{number:.3f}" if number is not None else "–" for number in (each.value, each.floor))
        interval = "{:.3f} to {:.3f}".format(*each.ci95) if each.ci95 else "–"
        counts = f"{each.num_real:>5} {each.num_fake:>6}"
        lines.append(
            (f"{each.key:<{wide}} {value:>9}  {interval:>19}  {floor:>8}  {counts:>12}  {reading(each)}").rstrip()
        )
    lines.append("floor: the same number between real patients and other real patients; films: real and synthetic")
    unmeasured = [str(each) for each in panel.fidelity if each.reason]
    slow = [str(part) for part in (panel.utility, panel.poses, panel.label_noise) if part is not None]
    return "\n".join(
        [*lines, *verdict(panel.records), *unmeasured, *slow, *(f"not measured: {note}" for note in panel.notes)]
    )
