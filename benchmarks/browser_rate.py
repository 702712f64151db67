"""How fast a visitor's browser makes a film: bytes over the wire, time to the first film, time a film after it.

    python benchmarks/browser_rate.py nih-64 128

Each network is a FILE, NAME or RUN, or a side in pixels: then a freshly initialised one of the default architecture,
whose arithmetic takes as long. The page is `make.html`, served from localhost to headless Chromium (`chromium`, and
PyPI's `playwright`); a time runs from the click to the mark on the canvas. A first film is taken in a fresh browser,
loading and compiling included; the others follow in the same page, other seeds, and the median is given with the range.
`largest_difference` is that from the films of `thiscxr sample`, in grey levels. One JSON line a network.
"""

import argparse
import json
import os
import shutil
import statistics
import tempfile
import threading
from pathlib import Path

import numpy as np
import torch
from playwright.sync_api import Browser, sync_playwright

from thiscxr.config import Config
from thiscxr.gallery.serve import make_server
from thiscxr.gallery.site import build_site
from thiscxr.model.conditions import Vocabulary
from thiscxr.model.generator import Generator, GeneratorConfig
from thiscxr.model.network_file import NetworkInfo, find_network, save_network
from thiscxr.sample.sampling import load

TIME_A_CLICK = """seed => new Promise(done => {
    const film = document.getElementById("film"), start = performance.now();
    document.getElementById("seed").value = seed;
    new MutationObserver((_, observer) => {
        if (film.dataset.seed !== String(seed)) return;
        observer.disconnect();
        done((performance.now() - start) / 1000);
    }).observe(film, { attributeFilter: ["data-seed"] });
    document.getElementById("generate").click();
})"""


READ_FILM = """() => {
    const film = document.getElementById("film");
    const colours = film.getContext("2d").getImageData(0, 0, film.width, film.height).data;
    return Array.from({ length: film.width * film.height }, (_, i) => colours[4 * i]);
}"""


def fresh_network(folder: Path, res: int) -> Path:
    """Write a network file of the architecture that training takes by default at that side."""
    torch.manual_seed(0)
    options = Config(res=res).resolve("cpu", 1)
    vocabulary = Vocabulary(("Effusion",), ("AP", "PA"), ("nih",))
    names = ("res", "z_dim", "w_dim", "mapping_layers", "channel_base", "channel_max", "patch")
    config = GeneratorConfig(
        c_dim=vocabulary.dim, haar=options.bands, **{name: getattr(options, name) for name in names}
    )
    generator = Generator(config)
    with torch.no_grad():
        for layer in generator.synthesis.to_grey:
            # films of medium contrast: in black and white no difference would show
            layer.get_parameter("conv.weight").mul_(0.15)
    path = folder / f"fresh-{res}.safetensors"
    save_network(path, generator, NetworkInfo(f"fresh-{res}", config, vocabulary, [], 0, "", {}))
    return path


def measure(browser: Browser, address: str, expected: np.ndarray) -> dict[str, object]:
    """Return bytes and times of one page in a context of its own, with nothing in its cache, and how far its films are
    from `expected`."""
    context = browser.new_context()
    page = context.new_page()
    sizes: dict[str, int] = {}
    page.on("requestfinished", lambda request: sizes.update({request.url: request.sizes()["responseBodySize"]}))
    page.goto(address)
    page.wait_for_load_state("networkidle")
    page_bytes = sum(sizes.values())
    times, worst = [], 0
    for seed, film in enumerate(expected):
        times.append(page.evaluate(TIME_A_CLICK, seed))
        worst = max(worst, int(np.abs(np.array(page.evaluate(READ_FILM)) - film.reshape(-1)).max()))
    first = times.pop(0)
    page.wait_for_timeout(500)
    own = [size for url, size in sizes.items() if not url.startswith("blob:")]
    context.close()
    return {
        "page_bytes": page_bytes,
        "bytes_over_the_wire": sum(own),
        "first_film_sec": round(first, 3),
        "film_sec": round(statistics.median(times), 3),
        "film_sec_range": [round(min(times), 3), round(max(times), 3)],
        "films": len(times),
        "largest_difference": worst,
    }


def main() -> None:
    """Print one JSON line a network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="+")
    parser.add_argument("--films", type=int, default=20)
    args = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    with tempfile.TemporaryDirectory() as temporary, sync_playwright() as driver:
        for name in args.networks:
            path = fresh_network(Path(temporary), int(name)) if name.isdigit() else find_network(name)
            network = load(path)
            expected = network.sample(range(args.films + 1)).astype(int)
            out = Path(temporary) / network.info.name
            build_site(None, out, model=path)
            server = make_server(out, 0)
            threading.Thread(target=server.serve_forever, daemon=True).start()
            browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
            line = measure(browser, f"http://127.0.0.1:{server.server_port}/make.html", expected)
            browser.close()
            server.shutdown()
            facts = {"network": network.info.name, "res": network.info.architecture.res}
            print(
                json.dumps({**facts, **line, "load": round(os.getloadavg()[0], 1), "cores": os.cpu_count()}), flush=True
            )


if __name__ == "__main__":
    main()
