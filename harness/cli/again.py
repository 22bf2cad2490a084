# SPDX-License-Identifier: GPL-2.0-only
"""The words that run a command again: those that were given, with what they stood for."""

from __future__ import annotations

import importlib
import re
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# Where results went: those of another run are not to be overwritten.
_OUTPUT = frozenset(
    {
        *("json", "junit", "ktap", "html", "html_file", "svg_file", "out", "console"),
        *("results", "history", "rerun_failed", "anew"),
    }
)
# What was to be left behind at a failure: so is what another run would leave.
_KEEPING = frozenset({"keep_guest", "stop_at_failure", "dump_on_failure", "keep_for"})
_VERSION = re.compile(r"[\d.]+")
_context: list[Any] = []


def remember() -> None:
    """Remember the context of the command that begins, which typer has made of its words."""
    # typer may have a copy of click of its own.
    package = typer.Context.__mro__[1].__module__.rpartition(".")[0]
    module = importlib.import_module(f"{package}.globals")
    _context[:] = [module.get_current_context(silent=True)]


def forget() -> None:
    """Forget it: the command has ended."""
    _context.clear()


def words_again(chosen: Mapping[str, object]) -> tuple[str, ...]:
    """Return the words after the program's name, without files for results.

    Paths are absolute. ``chosen`` is what the command chose by chance, by the names of its
    parameters. Without a command, as in the Python API, there are none.
    """
    if not _context or _context[0] is None:
        return ()
    context = _context[0]
    command = context.command_path.split()[1:]
    options: list[str] = []
    arguments: list[str] = []
    for parameter in context.command.params:
        given = context.params.get(parameter.name)
        value = chosen.get(parameter.name, given)
        if parameter.name in _OUTPUT | _KEEPING or parameter.name == "help":
            continue
        if parameter.param_type_name == "argument":
            arguments += _texts(value)
        elif value is not None and value != parameter.default:
            options += _option(parameter, value)
    rest = [absolute(word) for word in context.args]
    return (*command, *options, *arguments, *rest)


def _option(parameter: Any, value: object) -> Iterator[str]:
    name = max(parameter.opts, key=len)
    if isinstance(value, bool):
        if value:
            yield name
        elif parameter.secondary_opts:
            yield max(parameter.secondary_opts, key=len)
        return
    for text in _texts(value):
        # A short option has its value in a word of its own: -k=x would be "=x".
        yield from (f"{name}={text}",) if name.startswith("--") else (name, text)


def _texts(value: object) -> list[str]:
    if value is None:
        return []
    if isinstance(value, list | tuple):
        return [text for each in value for text in _texts(each)]
    if isinstance(value, Enum):
        return [str(value.value)]
    return [str(value.absolute()) if isinstance(value, Path) else absolute(str(value))]


def absolute(word: str) -> str:
    """Return a word that names a file in a way that does not depend on the current folder."""
    path, separator, rest = word.partition("::")
    prefix, colon, inner = path.partition(":")
    if colon and "/" in inner and "/" not in prefix:
        return f"{prefix}:{absolute(inner)}{separator}{rest}"
    folder, hash_sign, revision = path.rpartition("#")
    if hash_sign and "/" in folder and _exists(Path(folder).expanduser()):
        return f"{absolute(folder)}#{revision}"  # of git:DIR#REV
    named = Path(path)
    # 6.1 is a kernel, also where there is a folder of that name.
    is_file = "/" in path or path in (".", "..") or (named.suffix and not _VERSION.fullmatch(path))
    if word.startswith("-") or not is_file or not _exists(named.expanduser()):
        return word
    return f"{named.expanduser().absolute()}{separator}{rest}"


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False
