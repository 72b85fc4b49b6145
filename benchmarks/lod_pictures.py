"""What the viewer shows after 5, 15, 40 and 100 % of a file's bytes: the pictures of the README.

python benchmarks/lod_pictures.py

The photograph of the demonstration at 1.3 bits per pixel in four levels, in headless Chromium, from a server that stops
after each share. Writes docs/images/progressive-sequence.jpg.
"""

from __future__ import annotations

import contextlib
import io
import shutil
import tempfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from common import ROOT, THREADS
from imagegs.apps.lod import export, page_files
from PIL import Image
from playwright.sync_api import sync_playwright
from skimage import data

SHARES, BPP, EFFORT = (0.05, 0.15, 0.4, 1.0), 1.3, 5
SLACK = 0.005
"""Of the bytes: ends of levels are met about so well."""
OUTPUT = ROOT / "docs" / "images" / "progressive-sequence.jpg"
SIZE = {"width": 640, "height": 500}


class Stopping(ThreadingHTTPServer):
    """Serves the page, and of ``picture.gsimg?SHARE`` so much of its bytes."""

    daemon_threads = True

    def __init__(self, picture: bytes) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files = page_files() | {"picture.gsimg": picture}
        self.end = threading.Event()


class _Handler(BaseHTTPRequestHandler):
    server: Stopping

    def do_GET(self) -> None:
        path, _, query = self.path.lstrip("/").partition("?")
        found = self.server.files.get(path)
        if found is None:
            self.send_error(404)
            return
        kinds = {"html": "text/html", "js": "text/javascript"}
        self.send_response(200)
        self.send_header("Content-Type", kinds.get(path.rpartition(".")[2], "image/vnd.imagegs"))
        self.send_header("Content-Length", str(len(found)))
        self.end_headers()
        share = float(query) if path.endswith(".gsimg") else 1.0
        self.wfile.write(found[: round(share * len(found))])
        self.wfile.flush()
        if share < 1:
            self.server.end.wait(60)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextlib.contextmanager
def serving(picture: bytes) -> Iterator[str]:
    with Stopping(picture) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.end.set()
        server.shutdown()


def shots(picture: bytes) -> list[Image.Image]:
    """The page after each share."""
    found = []
    with serving(picture) as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for share in SHARES:
            page = browser.new_page(viewport=SIZE)
            sent = share if share == 1 else share + SLACK
            page.goto(f"{url}/index.html?src=picture.gsimg%3F{sent}")
            page.wait_for_function(f"document.querySelector('imagegs-image').received >= {int(sent * len(picture))}")
            page.wait_for_function("document.getElementById('which').textContent !== ''")
            page.wait_for_timeout(500)
            found.append(Image.open(io.BytesIO(page.screenshot())).convert("RGB"))
            page.close()
        browser.close()
    return found


def main() -> None:
    """Encode, look and write."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "coffee.png"
        Image.fromarray(data.coffee()).save(source)
        encoded = export(source, bpp=BPP, effort=EFFORT, threads=THREADS)
    sheet = Image.new("RGB", (2 * SIZE["width"] + 8, 2 * SIZE["height"] + 8), "white")
    for k, shot in enumerate(shots(encoded.data)):
        sheet.paste(shot, ((k % 2) * (SIZE["width"] + 8), (k // 2) * (SIZE["height"] + 8)))
    sheet.save(OUTPUT, quality=88)
    print(f"{OUTPUT.relative_to(ROOT)} written")


if __name__ == "__main__":
    main()
