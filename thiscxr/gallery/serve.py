"""Serves a finished gallery on this machine alone, for a look at it; publishing is the job of a real static host.

It binds the loopback address only, answers only to its local names (so that no web page can reach in by DNS rebinding),
lists no folders, and prints nothing of its own.
"""

import http.server
import logging
import os
import urllib.parse
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from pathlib import Path

HOST = "127.0.0.1"
LOCAL_NAMES = {HOST, "localhost"}
# Written out in full: the standard table is read from the system, where .js has been text/plain before now.
MIME_TYPES = {
    "": "application/octet-stream",
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".txt": "text/plain; charset=utf-8",
    ".webmanifest": "application/manifest+json",
}
log = logging.getLogger(__name__)


class GalleryHandler(http.server.SimpleHTTPRequestHandler):
    """GET and HEAD of the files of one folder."""

    extensions_map = MIME_TYPES

    def send_head(self):  # type: ignore[no-untyped-def]  # as in the standard library
        if urllib.parse.urlsplit("//" + self.headers.get("Host", "")).hostname not in LOCAL_NAMES:
            self.send_error(HTTPStatus.FORBIDDEN, "This gallery answers only to localhost")
            return None
        return super().send_head()

    def list_directory(self, path):  # type: ignore[no-untyped-def]
        self.send_error(HTTPStatus.NOT_FOUND)

    def end_headers(self) -> None:
        self.send_header("Cache-Control", "no-store")  # a rebuilt gallery shows at the next reload
        self.send_header("X-Content-Type-Options", "nosniff")
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None:
        log.debug(format, *args)


class GalleryServer(http.server.ThreadingHTTPServer):
    """One thread a connection; a browser that hangs up early is no error."""

    allow_reuse_address = os.name != "nt"  # on Windows it would let two servers share one port
    daemon_threads = True

    def handle_error(self, request, client_address) -> None:  # type: ignore[no-untyped-def]
        log.debug("request of %s failed", client_address, exc_info=True)


def make_server(folder: Path, port: int = 8000) -> GalleryServer:
    """Return a server of `folder` bound to 127.0.0.1:`port` (0: any free one); the caller runs and closes it.

    Raises ValueError when the folder holds no index.html or the port cannot be had.
    """
    folder = Path(folder).resolve()
    if not (folder / "index.html").is_file():
        raise ValueError(f"{folder} holds no index.html; expected a folder written by `thiscxr site`")

    try:
        return GalleryServer((HOST, port), partial(GalleryHandler, directory=str(folder)))
    except (OSError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ValueError(
            f"port {port} on {HOST} cannot be had ({reason}); choose another with --port, or 0 for any free one"
        ) from None


def serve(folder: Path, port: int = 8000, announce: Callable[[str], None] = log.info) -> None:
    """Serve `folder` until Ctrl-C; `announce` is called once with the address. Raises ValueError as `make_server`."""
    with make_server(folder, port) as server:
        announce(f"http://{HOST}:{server.server_port}/")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            log.debug("stopped by the keyboard")
