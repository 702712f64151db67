"""The texts that mark every file as synthetic, shared by the writers of films and the page that generates them."""

from collections.abc import Sequence
from xml.sax.saxutils import escape

from thiscxr import __version__

NOTICE = "Synthetic chest x-ray made by a neural network: not a patient, not for diagnosis."
FILM_TITLE = "Synthetic chest x-ray"  # of every single film; grids and other pictures have another title, or none
SOFTWARE = f"thiscxr {__version__}"
# IPTC NewsCodes, Digital Source Type: media made by a model that was trained on captured content.
DIGITAL_SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
XMP_KEY = "XML:com.adobe.xmp"  # XMP specification part 3, section 1.1.5: the keyword of the iTXt chunk


def origin_text(sources: Sequence[str], restriction: str, attribution: str = "") -> dict[str, str]:
    """Return the PNG text chunks: the sources that a network was trained on, their terms, and an XMP packet that marks
    the film as generated."""
    texts = {"Source": "; ".join(sources), "Restriction": restriction, "Attribution": attribution}
    return {
        **{key: text for key, text in texts.items() if text},
        XMP_KEY: xmp(" ".join(filter(None, (restriction, attribution)))),
    }


def xmp(terms: str) -> str:
    """Return an XMP packet: IPTC digital source type, tool, description and terms. Source: XMP part 1 (ISO 16684-1),
    section 7."""
    rights = f'<dc:rights><rdf:Alt><rdf:li xml:lang="x-default">{escape(terms)}</rdf:li></rdf:Alt></dc:rights>'
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" '
        'xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:xmp="http://ns.adobe.com/xap/1.0/">'
        f"<Iptc4xmpExt:DigitalSourceType>{DIGITAL_SOURCE_TYPE}</Iptc4xmpExt:DigitalSourceType>"
        f"<xmp:CreatorTool>{escape(SOFTWARE)}</xmp:CreatorTool>"
        f'<dc:description><rdf:Alt><rdf:li xml:lang="x-default">{escape(NOTICE)}</rdf:li></rdf:Alt></dc:description>'
        f"{rights if terms else ''}"
        '</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="r"?>'
    )
