"""The procedural phantom: chest films of random patients with known view, site, anatomy and findings.

One body gives all views of a study. No film of a real person is used, and nothing is fitted to data. Idea: the
analytical FORBILD thorax phantom. Called, `thiscxr.phantom("pool", n=2000)` is `thiscxr.api.phantom`.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from thiscxr import CallableRoom
from thiscxr.config import check_res
from thiscxr.files import nearest_name
from thiscxr.phantom.anatomy import LUNG, TISSUE, build_body
from thiscxr.phantom.body import PHANTOM_FINDINGS, Patient, draw_patient, stream
from thiscxr.phantom.findings import add_findings
from thiscxr.phantom.frame import add_airways, add_bones, add_vessels, lay_bones
from thiscxr.phantom.project import aim, cast
from thiscxr.phantom.rays import Array
from thiscxr.phantom.sites import PROFILES, burn_in, expose

__all__ = [
    "PHANTOM_FINDINGS",
    "PHANTOM_VIEWS",
    "SITES",
    "Patient",
    "PhantomFilm",
    "draw_film",
    "draw_patient",
    "render",
]

sys.modules[__name__].__class__ = CallableRoom

SITES = tuple(PROFILES)
PHANTOM_VIEWS = ("PA", "AP", "AP_supine", "lateral")
FINEST_GRID = 128  # coarser films are averaged from this one


@dataclass(frozen=True)
class PhantomFilm:
    """A film and its ground truth."""

    pixels: Array
    """uint8 [res, res], air dark; frontal: the patient's right on the viewer's left; lateral: facing left."""
    view: str
    site: str
    patient: Patient
    labels: Mapping[str, int]
    """1 or 0 for each of PHANTOM_FINDINGS and "No Finding"."""
    severities: Mapping[str, float]
    """0..1 for each of PHANTOM_FINDINGS."""
    lungs: Array
    """bool [res, res]: lung fields, beside the heart and over the diaphragm."""
    heart: Array
    """bool [res, res]: silhouette of the heart."""


def render(patient: Patient, view: str, res: int, *, site: str, noise_seed: int | None = None) -> PhantomFilm:
    """Film a patient. `noise_seed` (default: the patient's own) draws quantum noise, centring, turning and the place of
    the marker.

    Raises ValueError for an unknown view, site or resolution.
    """
    if view not in PHANTOM_VIEWS:
        raise ValueError(
            f"view '{view}' is not one of the phantom's{nearest_name(view, PHANTOM_VIEWS)}; "
            f"expected one of {', '.join(PHANTOM_VIEWS)}"
        )
    if site not in PROFILES:
        raise ValueError(
            f"site '{site}' is not one of the phantom's{nearest_name(site, SITES)}; expected one of {', '.join(SITES)}"
        )
    check_res(res, "resolution")
    profile = PROFILES[site]
    seed = patient.seed if noise_seed is None else noise_seed
    placing, noise = (stream(seed, name, PHANTOM_VIEWS.index(view)) for name in ("film", "noise"))
    body = build_body(patient, view)
    add_bones(body, view)
    add_airways(body)
    add_findings(body)
    add_vessels(body)
    lay_bones(body, view)
    fine = max(res, FINEST_GRID)
    shift = (float(placing.normal(0, 0.7)), float(placing.normal(0, 0.7)))
    field = profile.field * (1.06 if view.startswith("AP") else 1.0) * float(placing.uniform(0.97, 1.06))
    turn_deg = float(np.clip(placing.normal(0, 2.2 if view.startswith("AP") else 1.5), -5, 5))
    rays = aim(body, view, fine, field, shift, turn_deg)
    shadow = cast(body, rays)
    lung_level, body_level = _exposure(patient, view) + placing.normal(0, 0.05, 2)
    grey = expose(shadow.attenuation, rays, profile, lung_level, body_level, view.startswith("AP"), noise)
    grey = burn_in(grey, rays, profile, view, placing)
    factor = fine // res
    grey = grey.reshape(res, factor, res, factor).mean((1, 3))
    lungs, heart = (mask.reshape(res, factor, res, factor).mean((1, 3)) >= 0.5 for mask in (shadow.lungs, shadow.heart))
    severities = {name: patient.severity(name) for name in PHANTOM_FINDINGS}
    labels = {"No Finding": int(not any(severities.values())), **{name: int(s > 0) for name, s in severities.items()}}
    return PhantomFilm(
        np.round(np.clip(grey, 0, 1) * 255).astype(np.uint8), view, site, patient, labels, severities, lungs, heart
    )


def _exposure(patient: Patient, view: str) -> Array:
    """Line integrals of a healthy lung and of the abdomen of such a patient, for which the exposure is set, whatever
    the findings."""
    if view == "lateral":
        thickness, air = 1.72 * (patient.half_width + patient.wall), 1.15 * patient.half_width
    else:
        thickness, air = 2 * (patient.half_depth + patient.wall), 1.85 * patient.half_depth
    return np.array([TISSUE * thickness - (TISSUE - LUNG) * air, 1.02 * TISSUE * thickness])


def draw_film(seed: int, res: int, *, view: str | None = None, site: str | None = None) -> PhantomFilm:
    """Draw a patient and film it; view (PA 55 %, AP_supine 25 %, lateral 20 %) and site come from the seed unless
    given."""
    r = stream(seed, "study")  # not the stream that centres the film, so that view and site are independent of it
    drawn_view = str(r.choice(["PA", "AP_supine", "lateral"], p=[0.55, 0.25, 0.20]))
    drawn_site = str(r.choice(SITES))
    return render(draw_patient(seed), view or drawn_view, res, site=site or drawn_site)
