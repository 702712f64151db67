"""How the pages describe what was requested, what a classifier predicts, and how near a real film is: a film is "asked
for" a finding, it never "has" one."""

from thiscxr.gallery.samples import Film

SEX_WORDS = {"F": "female", "M": "male", "unknown": "sex unknown"}


def words(name: str) -> str:
    """Return the name of a finding as it stands in a sentence: Pleural_Thickening -> pleural thickening."""
    return name.replace("_", " ").lower()


def requested(film: Film) -> str:
    """Return the requested conditions as text: "PA view, female, 70 years, effusion; without mass". Empty when nothing
    was requested."""
    parts = []
    if film.view:
        parts.append("view unknown" if film.view == "unknown" else f"{film.view.replace('_', ' ')} view")
    if film.sex:
        parts.append(SEX_WORDS.get(film.sex, film.sex))
    if film.age_years is not None:
        parts.append(f"{film.age_years:.3g} years")
    parts += [words(finding) for finding in film.findings]
    if film.source:
        parts.append(f"in the manner of {film.source}")
    text = ", ".join(parts)
    # "without no finding" says nothing
    absent = [words(finding) for finding in film.no_findings if finding != "No Finding"]
    if absent:
        listed = ", ".join(absent) if len(absent) <= 4 else f"{len(absent)} other findings"
        text += ("; " if text else "") + f"without {listed}"
    return text


def predicted(film: Film) -> str:
    """Return which of the requested findings a classifier predicts; samples.csv lists only those that it predicts
    well."""
    return ", ".join(words(finding) for finding in film.findings if finding in film.seen)


def near(film: Film) -> str:
    """Return the share of real films that have a film of another patient as near as this film's nearest training film:
    "62 %", "" when unknown."""
    if film.stranger_rank is None:
        return ""
    return f"{film.stranger_rank * 100:.0f}\u00a0%" if film.stranger_rank >= 0.01 else "fewer than 1\u00a0%"


def number(value: float) -> str:
    """Return a number in three significant digits, without an exponent for everyday sizes."""
    return (f"{value:,.0f}" if 1000 <= abs(value) < 1e9 else f"{value:.3g}").replace("-", "−")
