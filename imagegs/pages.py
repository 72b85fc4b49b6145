"""HTML pages of one look: templates of this package and of applications, filled in."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import jinja2

BASE = "page.html.j2"


def fill_page(package: str, template: str, **values: Any) -> str:
    """A page from a template in a package, which extends ``page.html.j2``: its style, its sliders and its foot.

    Args:
        package: where the template lies.
        template: its file's name.
        **values: what the template names, ``title`` among them.
    """
    from . import __version__

    def read(name: str) -> str:
        home = "imagegs" if name == BASE else package
        return files(home).joinpath(name).read_text(encoding="utf-8")

    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(read), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    return environment.get_template(template).render(version=__version__, **values)
