# SPDX-License-Identifier: GPL-2.0-only
"""HTML pages and SVG drawings from templates. A page is one file, without scripts or links."""

from __future__ import annotations

from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from harness.report.text import printable


def render(template: str, package: str, **values: Any) -> Markup:
    """Return a template of a package (``__package__`` of the caller) with these values.

    A page extends ``base.html.j2``, which is beside this file. All values are escaped, so the
    result is safe within another page. ``partial``: the page says that results are missing.
    """
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package, "."), PackageLoader("harness.report", ".")]),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_plain,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    values.setdefault("partial", False)
    return Markup(environment.get_template(template).render(**values))  # noqa: S704


def _plain(value: Any) -> Any:
    """Return what a page shows; SVG is XML, which has no control characters."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value
