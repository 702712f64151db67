"""The local server: right types, nothing outside the folder, nobody but this machine, no noise."""

import urllib.error
import urllib.request
from pathlib import Path

import pytest

from thiscxr.gallery.serve import make_server


def fetch(address: str, **headers: str) -> tuple[int, str, bytes]:
    try:
        with urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=10) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read()
    except urllib.error.HTTPError as error:
        return error.code, "", b""


def test_server_types_and_refusals(address: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for name, kind in {
        "": "text/html",
        "gallery.js": "text/javascript",
        "style.css": "text/css",
        "favicon.svg": "image/svg+xml",
    }.items():
        assert fetch(address + name)[1].startswith(kind)
    assert fetch(address + "films/seed-00000001.png")[1] == "image/png"
    assert fetch(address + "films/")[0] == 404
    assert fetch(address + "../samples/samples.csv")[0] == 404
    assert fetch(address + "%2e%2e/samples/samples.csv")[0] == 404
    assert fetch(address, Host="evil.example")[0] == 403
    assert fetch(address, Host="localhost")[0] == 200
    port = int(address.split(":")[2].strip("/"))
    with pytest.raises(ValueError, match=f"port {port} on 127.0.0.1 cannot be had .*choose another with --port"):
        make_server(tmp_path / "out", port)
    with pytest.raises(ValueError, match=r"holds no index\.html"):
        make_server(tmp_path / "samples", 0)
    assert capfd.readouterr() == ("", "")
