# SPDX-License-Identifier: GPL-2.0-only
"""Pages made of templates, each of which is one file that needs nothing else."""

from __future__ import annotations

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup


def render(template: str, package: str, **values: Any) -> Markup:
    """Return a template of a package (``__package__`` of who has it beside its code), filled in.

    What it is given is escaped, so the result is safe within another page.
    """
    environment = Environment(
        loader=PackageLoader(package, "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return Markup(environment.get_template(template).render(**values))  # noqa: S704
