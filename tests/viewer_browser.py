"""Chromium with the viewer in it, for tests: `Viewer` opens files and tells what is seen."""

from __future__ import annotations

import base64
import contextlib
import io
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from faulty_server import FaultyServer, Resource, faulty_server
from PIL import Image

from apps.lod.viewing import page_files

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
ARGUMENTS = ["--no-sandbox", "--disable-background-networking"]
PAGE = """<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,"><style>body { margin: 0 }</style>
<script type="module">
  import './imagegs-image.js';
  window.heard = [];
  window.show = (src, attributes, size) => {
    window.heard = [];
    document.querySelector('imagegs-image')?.remove();
    const image = document.createElement('imagegs-image');
    for (const name in attributes) image.setAttribute(name, attributes[name]);
    if (size) Object.assign(image.style, { maxWidth: 'none', width: `${size[0]}px`, height: `${size[1]}px` });
    for (const name of ['head', 'progress', 'level', 'firstpicture', 'load', 'error']) {
      image.addEventListener(name, (event) => window.heard.push({ name, ...event.detail }));
    }
    image.setAttribute('src', src);
    document.body.append(image);
    window.image = image;
  };
  window.picture = async () => {
    const bytes = new Uint8Array(await (await window.image.snapshot()).arrayBuffer());
    return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(''));
  };
  window.ready = true;
</script>"""


def find_browser() -> str | None:
    """The path of Chromium, or None where there is none."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Viewer:
    """A page with one element.

    Attributes:
        page: Playwright's.
        server: what it loads from.
        errors: of the page's scripts, so far.
    """

    def __init__(self, page: Page, server: FaultyServer) -> None:
        self.page = page
        self.server = server
        self.errors: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(str(error)))

    def put(self, path: str, data: bytes, **faults: Any) -> Resource:
        """Let the server have a file."""
        self.server.files[path] = Resource(data, **faults)
        return self.server.files[path]

    def start(self, script: str = "") -> None:
        """Load the page; with a script that runs before it."""
        if script:
            self.page.add_init_script(script)
        self.page.goto(f"{self.server.url}/page.html")
        self.page.wait_for_function("window.ready")

    def show(self, path: str, size: tuple[int, int] | None = None, **attributes: str) -> None:
        """Open a file; the element gets a size in pixels."""
        self.page.evaluate("([src, attributes, size]) => window.show(src, attributes, size)", [path, attributes, size])

    def wait(self, *names: str) -> dict[str, Any]:
        """The first event of these names."""
        found = f"window.heard.find((one) => {list(names)}.includes(one.name))"
        self.page.wait_for_function(found, timeout=30_000)
        event: dict[str, Any] = self.page.evaluate(found)
        return event

    def wait_for(self, expression: str) -> None:
        """Until this is true of the page."""
        self.page.wait_for_function(expression, timeout=30_000)

    def heard(self, name: str) -> list[dict[str, Any]]:
        """All events of a name so far."""
        events: list[dict[str, Any]] = self.page.evaluate(
            "(name) => window.heard.filter((one) => one.name === name)", name
        )
        return events

    def pixels(self) -> np.ndarray:
        """What is seen, uint8 [H, W, 4]."""
        data = base64.b64decode(self.page.evaluate("window.picture()"))
        with Image.open(io.BytesIO(data)) as picture:
            return np.asarray(picture.convert("RGBA"))

    def message(self) -> str:
        """The line that the element shows, or nothing."""
        text: str = self.page.evaluate("window.image.root.querySelector('p').textContent")
        return text


@contextlib.contextmanager
def browser() -> Iterator[Browser]:
    """Chromium, headless."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=find_browser(), args=ARGUMENTS)
        try:
            yield found
        finally:
            found.close()


@contextlib.contextmanager
def viewer(browser: Browser, **options: Any) -> Iterator[Viewer]:
    """A page of its own, with a server of its own."""
    with faulty_server() as server:
        server.files = {f"/{name}": Resource(data) for name, data in page_files().items()}
        server.files["/page.html"] = Resource(PAGE.encode())
        context = browser.new_context(viewport={"width": 800, "height": 600}, **options)
        try:
            yield Viewer(context.new_page(), server)
        finally:
            context.close()
