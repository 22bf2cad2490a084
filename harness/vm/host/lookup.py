# SPDX-License-Identifier: GPL-2.0-only
"""Probes for programs, headers and libraries. A probe returns where it found one, or None.

They run before any dependency is installed, so they use the standard library alone.
"""

from __future__ import annotations

import importlib.util
import re
import struct
from pathlib import Path
from typing import TYPE_CHECKING

from harness.deadline import Deadline
from harness.errors import CommandFailed, MissingTool
from harness.vm.host.process import find_program, run

if TYPE_CHECKING:
    from collections.abc import Callable

_DEADLINE_S = 30.0
_PT_INTERP = 3


def is_static(program: Path) -> bool:
    """Return whether a file is a 64-bit ELF program that needs no dynamic loader."""
    try:
        image = program.read_bytes()
    except OSError:
        return False
    if image[:5] != b"\x7fELF\x02" or len(image) < 64:
        return False
    table, entry_size, entries = (
        *struct.unpack_from("<Q", image, 0x20),
        *struct.unpack_from("<HH", image, 0x36),
    )
    offsets = range(table, table + entry_size * entries, entry_size or 1)
    if not offsets or offsets[-1] + 4 > len(image):
        return False
    return all(struct.unpack_from("<I", image, offset)[0] != _PT_INTERP for offset in offsets)


def program(name: str) -> Callable[[], str | None]:
    """Return a probe for a program: its full path."""

    def probe() -> str | None:
        try:
            return find_program(name)
        except MissingTool:
            return None

    return probe


def static_program(name: str) -> Callable[[], str | None]:
    """Return a probe for a program that runs without libraries, as in a guest: its full path."""

    def probe() -> str | None:
        found = program(name)()
        return found if found is not None and is_static(Path(found)) else None

    return probe


def _output(*argv: str) -> str | None:
    try:
        done = run(argv, deadline=Deadline.after(_DEADLINE_S))
    except (MissingTool, CommandFailed):
        return None
    return done.stdout.strip()


def header(name: str) -> Callable[[], str | None]:
    """Return a probe for a C header where the compiler looks: its full path."""

    def probe() -> str | None:
        # -M lists every file read; the header asked for is among them by its full path.
        listed = _output("gcc", "-M", "-include", name, "-x", "c", "/dev/null")
        if listed is None:
            return None
        return next((path for path in listed.split() if path.endswith("/" + name)), name)

    return probe


def static_library(name: str) -> Callable[[], str | None]:
    """Return a probe for a static library where the linker looks: its full path."""

    def probe() -> str | None:
        # gcc prints the bare name back when it does not find the file.
        path = _output("gcc", f"-print-file-name={name}")
        return path if path is not None and Path(path).is_file() and path != name else None

    return probe


def python_venv() -> str | None:
    """Look for what makes a virtual environment: the path of ensurepip.

    Debian has it in the package python3-venv; without it the module venv exists, and fails.
    """
    spec = importlib.util.find_spec("ensurepip")
    return spec.origin if spec is not None else None


def program_version(name: str) -> str | None:
    """Return the first dotted number that ``NAME --version`` prints; None without the program."""
    text = _output(name, "--version")
    match = re.search(r"\d+(?:\.\d+)+", text) if text is not None else None
    return match.group() if match else None
