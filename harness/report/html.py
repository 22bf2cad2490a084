# SPDX-License-Identifier: GPL-2.0-only
"""HTML pages and SVG drawings from templates. A page is one file, without scripts or links."""

from __future__ import annotations

from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup


def render(template: str, package: str, **values: Any) -> Markup:
    """Return a template of a package (``__package__`` of the caller) with these values.

    A page extends ``base.html.j2``, which is beside this file. All values are escaped, so the
    result is safe within another page.
    """
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package, "."), PackageLoader("harness.report", ".")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return Markup(environment.get_template(template).render(**values))  # noqa: S704
