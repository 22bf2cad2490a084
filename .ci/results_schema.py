#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""Write the JSON Schema of what ``--json`` writes: ``.ci/results_schema.py FILE``."""

from __future__ import annotations

import json
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Union

from pydantic import Field, TypeAdapter

from benchmarks.module_mutation.results import ModuleMutantReport
from benchmarks.results import BenchReport
from harness.cli.registry import COMMANDS
from harness.report.base import BaseReport


def schema_text() -> str:
    """Return the JSON Schema (2020-12) of the reports of all commands and benchmarks."""
    reports: set[type[BaseReport]] = {BenchReport, ModuleMutantReport}
    for command in COMMANDS.values():
        if find_spec(f"harness.tools.{command.folder}.results") is not None:
            reports |= {
                value
                for value in vars(command.results()).values()
                if isinstance(value, type) and issubclass(value, BaseReport)
            }
    reports.discard(BaseReport)
    ordered = sorted(reports, key=lambda each: each.__name__)
    one_of: Any = Annotated[Union[tuple(ordered)], Field(discriminator="command")]  # noqa: UP007
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "What klp-harness commands write with --json",
        **TypeAdapter(one_of).json_schema(by_alias=True, mode="serialization"),
    }
    return json.dumps(schema, indent=2) + "\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(schema_text(), encoding="utf-8")
