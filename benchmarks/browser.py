"""The viewer in Chromium: how long files take to decode and how soon they are seen, and how large its scripts are.

python benchmarks/browser.py [--quick]

Headless Chromium that draws in software, driven by Playwright; one Kodak picture of 768 x 512 pixels with 10,000
Gaussians in one level, and one at 1.3 bits per pixel in four levels. Times are medians over fresh pages, in ms:

- decode_first: the whole file in a Worker that has decoded nothing yet; decode_again: the tenth time in that Worker.
- first_level, whole, by back end: from the last byte that was needed until pixels of the picture can be read.
"""

from __future__ import annotations

import argparse
import gzip
import shutil
import statistics
import tempfile
import threading
from pathlib import Path
from typing import Any

from common import THREADS, kodak, write
from imagegs.apps.lod import export, make_app, page_files
from imagegs.apps.lod.server import listen, make_server
from playwright.sync_api import Browser, sync_playwright

from imagegs import encode
from imagegs.arranging import prefixes

NAME, GAUSSIANS, BPP = "browser", 10_000, 1.3
WATCH = """addEventListener('firstpicture', ({ target }) => {
  const { gl } = target.back;
  if (gl) gl.readPixels(0, 0, 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, new Uint8Array(4)); // waits until it is drawn
  window.first = performance.timeOrigin + performance.now() - target.lastByte;
}, true);"""
DECODE = """async (file) => {
  const script = `import { Decoder } from '${new URL('decode.js', location)}';
    onmessage = ({ data }) => {
      const times = [];
      for (let k = 0; k < 10; k++) {
        const decoder = new Decoder(), start = performance.now();
        decoder.push(data);
        times.push(performance.now() - start);
      }
      postMessage(times);
    };`;
  const worker = new Worker(URL.createObjectURL(new Blob([script], { type: 'text/javascript' })), { type: 'module' });
  const data = new Uint8Array(await (await fetch(file)).arrayBuffer());
  await new Promise((resolve) => setTimeout(resolve, 300));
  const times = new Promise((resolve) => (worker.onmessage = (event) => resolve(event.data)));
  worker.postMessage(data);
  return times;
}"""


def files(folder: Path, effort: int) -> None:
    """The files that are shown, in a folder."""
    picture = kodak()[2]
    (folder / "plain.gsimg").write_bytes(encode(picture, gaussians=GAUSSIANS, effort=effort, threads=THREADS).data)
    levels = export(picture, bpp=BPP, effort=effort, threads=THREADS).data
    (folder / "levels.gsimg").write_bytes(levels)
    (folder / "first.gsimg").write_bytes(levels[: prefixes(levels)[0]["bytes"]])


def first_picture(browser: Browser, page_url: str, name: str, backend: str) -> float:
    page = browser.new_page(viewport={"width": 800, "height": 600})
    page.add_init_script(WATCH)
    page.goto(f"{page_url}?src=../{name}.gsimg&backend={backend}")
    page.wait_for_function("window.first !== undefined")
    found: float = page.evaluate("window.first")
    page.close()
    return found


def decode(browser: Browser, page_url: str, name: str) -> tuple[float, float]:
    page = browser.new_page()
    page.goto(page_url)
    times = page.evaluate(DECODE, f"../{name}.gsimg")
    page.close()
    return times[0], times[-1]


def measure(browser: Browser, page_url: str, repeats: int) -> dict[str, Any]:
    def spread(times: list[float]) -> dict[str, float]:
        return {"median": statistics.median(times), "least": min(times), "most": max(times)}

    found: dict[str, Any] = {}
    decoded = [decode(browser, page_url, "plain") for _ in range(repeats)]
    found["decode_first"], found["decode_again"] = (spread(list(times)) for times in zip(*decoded, strict=True))
    for backend in ("webgl", "cpu"):
        for what, name in (("first_level", "first"), ("whole", "plain")):
            times = [first_picture(browser, page_url, name, backend) for _ in range(repeats)]
            found[f"{what}_{backend}"] = spread(times)
    return found


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="three pages of each kind, effort 1")
    quick = parser.parse_args().quick
    scripts = {name: data for name, data in page_files().items() if name.endswith(".js")}
    results: dict[str, Any] = {
        "script_bytes": sum(map(len, scripts.values())),
        "script_bytes_gzip": sum(len(gzip.compress(data)) for data in scripts.values()),
    }
    with tempfile.TemporaryDirectory() as folder, listen("127.0.0.1", 0) as listener:
        files(Path(folder), 1 if quick else 3)
        server = make_server(make_app(folder, viewer=page_files()))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-background-networking"]
            )
            url = f"http://127.0.0.1:{listener.getsockname()[1]}/_viewer/index.html"
            results |= {"chromium": browser.version, **measure(browser, url, 3 if quick else 11)}
            browser.close()
        server.should_exit = True
        thread.join()
    for name, value in results.items():
        print(name, value if not isinstance(value, dict) else {key: round(ms, 1) for key, ms in value.items()})
    if not quick:
        write(NAME, f"python benchmarks/{NAME}.py", results)


if __name__ == "__main__":
    main()
