"""What a file says of itself: synthetic, no patient, which network, which seed, what was asked, whose data and on which terms.

The words are the same in every format; how a format holds them is its own affair.
"""

import json
from dataclasses import dataclass
from xml.sax.saxutils import escape

import thiscxr
from thiscxr.data.terms import restriction
from thiscxr.model.conditions import Condition
from thiscxr.sample.sampling import Network
from thiscxr.sample.truncation import Truncation

NOTICE = "Synthetic chest x-ray made by a neural network: not a patient, not for diagnosis."
SOFTWARE = f"thiscxr {thiscxr.__version__}"
# IPTC NewsCodes, Digital Source Type: media made by a model that was trained on captured content.
DIGITAL_SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
XMP_KEY = "XML:com.adobe.xmp"  # XMP specification part 3, section 1.1.5: the keyword of the iTXt chunk


@dataclass(frozen=True)
class Origin:
    """The network behind a film."""

    name: str
    sha256: str
    sources: tuple[str, ...]  # titles
    restriction: str  # a sentence, or ""


@dataclass(frozen=True)
class Film:
    """One film that is asked for: everything that decides it."""

    seed: int
    condition: Condition
    truncation: Truncation
    origin: Origin

    @property
    def asked(self) -> dict[str, str]:
        """What was asked, without what was not, as samples.csv spells it."""
        condition = self.condition
        values = {
            "view": condition.view or "",
            "sex": condition.sex or "",
            "age_years": "" if condition.age_years is None else f"{condition.age_years:g}",
            "source": condition.source or "",
            "findings": "|".join(condition.present),
            "no_findings": "|".join(condition.absent),
        }
        return {key: value for key, value in values.items() if value}

    @property
    def asked_words(self) -> str:
        """The same as a sentence for people: nothing that a reader could take for a diagnosis."""
        words = "; ".join(f"{key.replace('_', ' ')} {value.replace('|', ', ')}" for key, value in self.asked.items())
        return f"The network was asked for: {words or 'nothing in particular'}. Nobody has said that it is there."


def origin_of(network: Network, permission: bool = False) -> Origin:
    """Return what the files of a network say of it. permission: whoever runs this states to have the permission of the sources' owners."""
    sources = network.info.sources
    titles = tuple(str(source.get("title") or key) for key, source in sources.items())
    return Origin(network.info.name, network.sha256, titles, restriction(sources, permission))


def film_text(film: Film) -> dict[str, str]:
    """Return the PNG text chunks of a film."""
    text = {
        "Title": "Synthetic chest x-ray",
        "Disclaimer": NOTICE,
        "Software": SOFTWARE,
        "Seed": str(film.seed),
        "Truncation": str(film.truncation),
        "Network": film.origin.sha256,
        "Asked": json.dumps(film.asked, sort_keys=True),
    }
    return {**text, **_origin_text(film.origin), XMP_KEY: xmp(film.origin)}


def grid_text(origin: Origin) -> dict[str, str]:
    """Return the PNG text chunks of a sheet of films."""
    return {"Disclaimer": NOTICE, "Software": SOFTWARE, "Network": origin.sha256, **_origin_text(origin), XMP_KEY: xmp(origin)}


def _origin_text(origin: Origin) -> dict[str, str]:
    text = {"Source": "; ".join(origin.sources)} if origin.sources else {}
    return {**text, "Restriction": origin.restriction} if origin.restriction else text


def xmp(origin: Origin) -> str:
    """Return an XMP packet: IPTC digital source type, tool, description and terms. Source: XMP part 1 (ISO 16684-1), section 7."""
    rights = f'<dc:rights><rdf:Alt><rdf:li xml:lang="x-default">{escape(origin.restriction)}</rdf:li></rdf:Alt></dc:rights>'
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" '
        'xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:xmp="http://ns.adobe.com/xap/1.0/">'
        f"<Iptc4xmpExt:DigitalSourceType>{DIGITAL_SOURCE_TYPE}</Iptc4xmpExt:DigitalSourceType>"
        f"<xmp:CreatorTool>{escape(SOFTWARE)}</xmp:CreatorTool>"
        f'<dc:description><rdf:Alt><rdf:li xml:lang="x-default">{escape(NOTICE)}</rdf:li></rdf:Alt></dc:description>'
        f"{rights if origin.restriction else ''}"
        '</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="r"?>'
    )
