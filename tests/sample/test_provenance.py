"""Every file states what it is; a network trained on restricted films marks its files and is not shared without
permission."""

import json
import re
from dataclasses import asdict, replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from thiscxr.collections import COLLECTIONS
from thiscxr.gallery.site import build_site
from thiscxr.model.conditions import Condition
from thiscxr.pixels import load_film, read_png_text
from thiscxr.sample import writing
from thiscxr.sample.dicom import DicomOptions, dicom_dataset
from thiscxr.sample.formats import FORMATS
from thiscxr.sample.provenance import Film, film_text, origin_of
from thiscxr.sample.sampling import Network
from thiscxr.sample.truncation import Truncation
from thiscxr.terms import attribution, collections, require_permission, restricted_sources, restriction
from thiscxr.train.start import with_inherited

IPTC = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType"


def sources_of(*keys: str) -> dict[str, dict[str, str]]:
    return {key: {"title": COLLECTIONS[key].terms.title, "url": COLLECTIONS[key].terms.url} for key in keys}


def test_the_xmp_packet_names_the_iptc_source_type(network: Network, tmp_path: Path) -> None:
    writing.write_samples(network, [0], [Condition()], 1.0, tmp_path / "out")
    for name in ("seed-00000000.png", "grid.png"):
        data = (tmp_path / "out" / name).read_bytes()
        assert b"iTXtXML:com.adobe.xmp\0\0\0\0\0<?xpacket" in data, "uncompressed, as XMP part 3 wants it"
        packet = read_png_text(tmp_path / "out" / name)["XML:com.adobe.xmp"]
        tree = ElementTree.fromstring(re.sub(r"<\?xpacket.*?\?>", "", packet))
        assert [node.text for node in tree.iter(IPTC)] == [
            "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
        ]
        assert "not a patient" in "".join(tree.itertext())


def test_each_collection_says_whether_films_of_its_networks_may_be_shared() -> None:
    """A new collection needs the decision of somebody who has read its terms."""
    decided = {key: known["sharing"] for key, known in collections().items()}
    assert decided.keys() == COLLECTIONS.keys()
    free = {"nih", "rsna", "kermany", "folder"}
    assert {key for key, sharing in decided.items() if sharing != "restricted"} == free
    assert {key for key, sharing in decided.items() if sharing == "showable"} == {"nih", "kermany"}
    assert {key for key in COLLECTIONS if not restricted_sources(sources_of(key))} == {
        "nih",
        "rsna",
        "kermany",
        "folder",
    }


def test_restricted_collections_are_known_by_any_name() -> None:
    assert restricted_sources(sources_of("nih", "rsna", "folder")) == ()
    keys = ("chexpert", "mimic-cxr", "padchest", "openi", "vindr")
    names = ("CheXpert", "MIMIC-CXR", "PadChest", "Open-I", "VinDr-CXR")
    for key, name in zip(keys, names, strict=True):
        assert restricted_sources(sources_of("nih", key)) == (name,)
        assert restricted_sources({"renamed": sources_of(key)[key]}) == (name,), "a new key does not free a collection"
        assert restricted_sources({key: {}}) == (name,)
    assert restricted_sources(sources_of(*keys)) == names
    inherited = with_inherited({"mimic-cxr": {"title": "other"}}, sources_of("mimic-cxr", "openi"))
    assert restricted_sources({name: value for name, value in inherited.items() if "(before)" in name}) == (
        "MIMIC-CXR",
    )


def test_release_needs_permission_and_then_states_it() -> None:
    tainted = sources_of("nih", "mimic-cxr", "openi")
    with pytest.raises(
        ValueError, match=r"^--release is refused: .* MIMIC-CXR, Open-I, .*--i-have-permission"
    ) as error:
        require_permission(tainted, False, "--release")
    assert "\n" not in str(error.value)
    assert "states to have permission" in require_permission(tainted, True, "--release")
    assert require_permission(sources_of("nih"), False, "--release") == ""
    assert "local use only" in restriction(tainted)


@pytest.mark.parametrize(("permission", "words"), [(False, "for local use only"), (True, "states to have permission")])
def test_a_restricted_network_marks_every_file(
    restricted: Network, tmp_path: Path, permission: bool, words: str
) -> None:
    for name in ("png", "npz", "wds"):
        writing.write_samples(restricted, [0], [Condition()], 1.0, tmp_path / name, FORMATS[name], permission)
    for path in (tmp_path / "png").glob("*.png"):
        text = read_png_text(path)
        assert "MIMIC-CXR" in text["Restriction"]
        assert words in text["Restriction"]
        assert words in text["XML:com.adobe.xmp"]
        assert text["Source"] == "Discs; MIMIC-CXR"
    assert words in json.loads((tmp_path / "png" / "network.json").read_text())["restriction"]
    assert words.encode() in (tmp_path / "wds" / "films-00000.tar").read_bytes()
    with np.load(tmp_path / "npz" / "films-00000.npz") as arrays:
        assert words in str(arrays["notice"])
    film = Film(0, Condition(), Truncation(), origin_of(restricted, permission))
    assert words in dicom_dataset(np.zeros((32, 32), np.uint16), film, DicomOptions()).ImageComments


def test_an_unrestricted_network_says_nothing_of_restrictions(network: Network) -> None:
    text = film_text(Film(0, Condition(), Truncation(), origin_of(network)))
    assert "Restriction" not in text
    assert "Attribution" not in text
    assert "rights" not in text["XML:com.adobe.xmp"]


def test_a_network_that_learnt_from_films_under_cc_by_names_them_in_every_file(
    network: Network, tmp_path: Path
) -> None:
    sources = {"discs": network.info.sources["discs"], "kermany": asdict(COLLECTIONS["kermany"].terms)}
    network = replace(network, info=replace(network.info, sources=sources))
    for name in ("png", "npz", "wds"):
        writing.write_samples(network, [0], [Condition()], 1.0, tmp_path / name, FORMATS[name])
    build_site(tmp_path / "png", tmp_path / "site")
    pictures = [
        *(tmp_path / "png").glob("*.png"),
        *(tmp_path / "site").glob("*.png"),
        *(tmp_path / "site" / "films").iterdir(),
    ]
    texts = [read_png_text(path) for path in pictures if not path.name.startswith("icon")]
    film = Film(0, Condition(), Truncation(), origin_of(network))
    dicom = dicom_dataset(np.zeros((32, 32), np.uint16), film, DicomOptions()).ImageComments
    with np.load(tmp_path / "npz" / "films-00000.npz") as arrays:
        said = [
            *(text["Attribution"] for text in texts),
            *(text["XML:com.adobe.xmp"] for text in texts),
            str(arrays["notice"]),
            dicom,
        ]
    said += [
        (tmp_path / "wds" / "films-00000.tar").read_bytes().decode("latin-1"),
        (tmp_path / "site" / "about.html").read_text(),
    ]
    assert len(texts) == 5
    for text in said:
        assert all(words in text for words in ("Kermany", "10.17632/rscbjbr9sj", "CC BY 4.0")), text
    assert not any("Restriction" in text for text in texts), "everybody may pass them on"
    assert attribution(sources_of("nih")) == ""


def test_a_gallery_of_restricted_films_needs_permission(restricted: Network, network: Network, tmp_path: Path) -> None:
    samples, out = tmp_path / "samples", tmp_path / "site"
    writing.write_samples(restricted, [0, 1], [Condition()] * 2, 1.0, samples)
    with pytest.raises(ValueError, match=r"a gallery of .* is refused: the network was trained on MIMIC-CXR"):
        build_site(samples, out)
    assert not out.exists()
    build_site(samples, out, permission=True)
    for path in (out / "films").iterdir():
        np.testing.assert_array_equal(load_film(path).pixels, load_film(samples / path.name).pixels)
    for path in (*(out / "films").iterdir(), out / "share.png", out / "contact-sheet.png"):
        assert "states to have permission" in read_png_text(path)["Permission"]
    for name in ("index.html", "gallery.html", "about.html"):
        assert "states to have permission" in (out / name).read_text()
    assert "states to have permission" in json.loads((out / "manifest.json").read_text())["restriction"]
    writing.write_samples(network, [0, 1], [Condition()] * 2, 1.0, samples)
    build_site(samples, out)
    assert "permission" not in (out / "index.html").read_text()
    assert (out / "films" / "seed-00000000.png").read_bytes() == (samples / "seed-00000000.png").read_bytes()
