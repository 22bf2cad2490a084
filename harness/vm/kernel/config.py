# SPDX-License-Identifier: GPL-2.0-only
"""Kernel configuration: fragments in, a .config out, and every request compared with it.

Kconfig drops silently what it cannot give, and a missing option shows hours later as a test that
cannot run. So the .config is read back and compared.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.errors import KernelUnfit, UsageError
from harness.inputs import Kind, kind_of, read_text_file, shown, user_path
from harness.resources import Resource, resource_dir

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

_FRAGMENT = "the kernel configuration fragment"
_SET = re.compile(r"(CONFIG_\w+)=(.*)\Z")
_UNSET = re.compile(r"#\s*(CONFIG_\w+) is not set\Z")
_OPTIONAL = re.compile(r"#\s*optional:\s*(.+)\Z")
_UNLESS = re.compile(r"#\s*unless\s+(?:CONFIG_)?(\w+):\s*(.+)\Z")
_SYMBOL_BLOCK = re.compile(r"^[ \t]*(?:menu)?config[ \t]+(\w+)[ \t]*$(.*?)(?=^\S|\Z)", re.M | re.S)
_DEPENDS = re.compile(r"^[ \t]+depends on (.+)$", re.M)


class KernelConfig:
    """A .config. Names work with and without the CONFIG_ prefix."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = dict(values)

    @classmethod
    def read(cls, path: Path) -> KernelConfig:
        """Read a .config. Raises OSError."""
        values = {}
        for line in path.read_text(errors="replace").splitlines():
            if match := _SET.match(line):
                values[match[1]] = match[2].strip('"')
        return cls(values)

    def get(self, name: str) -> str | None:
        """Return ``y``, ``m``, a value without quotes, or None when it is off or unknown."""
        return self._values.get(name if name.startswith("CONFIG_") else f"CONFIG_{name}")

    def enabled(self, name: str) -> bool:
        """Return whether an option is built in or a module."""
        return self.get(name) in ("y", "m")

    def differing(self, other: KernelConfig) -> frozenset[str]:
        """Return the symbols, with CONFIG_, that have another value there."""
        names = self._values.keys() | other._values.keys()
        return frozenset(n for n in names if self._values.get(n) != other._values.get(n))

    def digest(self) -> str:
        """Return the SHA-256 of what is set, whatever the order and the comments."""
        lines = "\n".join(f"{name}={value}" for name, value in sorted(self._values.items()))
        return hashlib.sha256(lines.encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Request:
    """One line of a fragment. ``value`` is ``n`` for "is not set"; strings keep their quotes.

    ``optional`` says why a kernel may lack the symbol; None when it may not. ``unless`` names a
    symbol; a kernel that has it enabled may ignore the request.
    """

    symbol: str
    value: str
    fragment: str
    line: int
    optional: str | None = None
    unless: str | None = None

    @property
    def text(self) -> str:
        """The line as Kconfig wants it."""
        return f"# {self.symbol} is not set" if self.value == "n" else f"{self.symbol}={self.value}"


Fragment = tuple[Request, ...]
"""The requests of one file, in its order."""


def load_fragments(names: Iterable[str]) -> tuple[Fragment, ...]:
    """Read fragments: names from kernel-configs/, or paths of a user's own files.

    Raises UsageError for one that does not exist or contradicts itself.
    """
    return tuple(_load(name) for name in names)


def fragment_names() -> tuple[str, ...]:
    """Return the names of the fragments that come with the harness."""
    folder = resource_dir(Resource.KERNEL_CONFIGS)
    return tuple(sorted(path.stem for path in folder.glob("*.config")))


def parse_fragment(text: str, name: str) -> Fragment:
    """Parse a fragment. Raises UsageError when it sets one symbol to two values."""
    requests: dict[str, Request] = {}
    optional: str | None = None
    unless: str | None = None
    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw.strip()
        if match := _OPTIONAL.match(line):
            optional = match[1]
            continue
        if match := _UNLESS.match(line):
            unless, optional = match[1], match[2]
            continue
        wanted = _parse_line(line, name, number)
        if wanted is not None:
            symbol, value = wanted
            request = Request(
                symbol=symbol,
                value=value,
                fragment=name,
                line=number,
                optional=optional,
                unless=unless,
            )
            earlier = requests.get(symbol)
            if earlier is not None and earlier.value != value:
                raise UsageError(
                    f"the fragment {name} contradicts itself: {earlier.text} in line "
                    f"{earlier.line}, {request.text} in line {number}"
                )
            requests[symbol] = request
        optional = unless = None
    return tuple(requests.values())


def merge(fragments: Sequence[Fragment]) -> tuple[Request, ...]:
    """Return one request a symbol: where fragments differ, the later one wins."""
    merged = {request.symbol: request for fragment in fragments for request in fragment}
    return tuple(merged.values())


def allconfig_text(requests: Sequence[Request]) -> str:
    """Return the file that KCONFIG_ALLCONFIG names, in a stable order."""
    return "".join(f"{request.text}\n" for request in sorted(requests, key=lambda r: r.symbol))


def verify(requests: Sequence[Request], final: Path, tree: Path) -> tuple[str, ...]:
    """Compare every request with the final .config.

    Returns one line for each optional symbol that this kernel lacks. Raises KernelUnfit, which
    names fragment, line, symbol, the value wanted and the value got, and whether the symbol is
    unknown or its dependencies are not met.
    """
    got = KernelConfig.read(final)

    def is_met(request: Request) -> bool:
        # A value that Kconfig hides is not there at all, as what is off.
        value = got.get(request.symbol)
        return ("n" if value is None else value) == request.value.strip('"')

    wrong = [request for request in requests if not is_met(request)]
    if not wrong:
        return ()
    blocks = _symbol_blocks(tree, {request.symbol.removeprefix("CONFIG_") for request in wrong})
    missing, mismatches = [], []
    for request in wrong:
        block = blocks.get(request.symbol.removeprefix("CONFIG_"))
        excluded = request.unless is not None and got.enabled(request.unless)
        if excluded or (block is None and request.optional is not None):
            missing.append(f"{request.symbol} ({request.optional})")
        else:
            mismatches.append(_explain(request, got, block))
    if mismatches:
        names = ", ".join(line.partition(": ")[2].split()[0] for line in mismatches[:3])
        more = f" and {len(mismatches) - 3} more" if len(mismatches) > 3 else ""
        raise KernelUnfit(
            f"the kernel's configuration does not have {names}{more} as a fragment asks for",
            hint="change the fragment; `# optional: reason` above a line allows a kernel that "
            "does not have the symbol",
            details=tuple(mismatches),
        )
    return tuple(missing)


def depends_on(symbol: str, tree: Path) -> str:
    """Return what a tree's Kconfig makes a symbol depend on; nothing when that is nothing."""
    name = symbol.removeprefix("CONFIG_")
    block = _symbol_blocks(tree, {name}).get(name, "")
    return " && ".join(" ".join(line.split()) for line in _DEPENDS.findall(block))


def _load(name: str) -> Fragment:
    if name in fragment_names():
        resource = resource_dir(Resource.KERNEL_CONFIGS) / f"{name}.config"
        return parse_fragment(resource.read_text(), name)
    from_user = user_path(name, _FRAGMENT)
    if kind_of(from_user, _FRAGMENT) is not Kind.FILE:
        raise UsageError(
            f"there is no kernel configuration fragment {shown(name)}",
            hint=f"known are {', '.join(fragment_names())}, and paths of files",
        )
    return parse_fragment(read_text_file(from_user, _FRAGMENT), shown(from_user))


def _parse_line(line: str, name: str, number: int) -> tuple[str, str] | None:
    if match := _SET.match(line):
        return match[1], match[2].strip()
    if match := _UNSET.match(line):
        return match[1], "n"
    if line and not line.startswith("#"):
        raise UsageError(
            f"{name}, line {number}: '{shown(line)}' is no kernel option",
            hint="a line is CONFIG_NAME=value or # CONFIG_NAME is not set",
        )
    return None


def _explain(request: Request, got: KernelConfig, block: str | None) -> str:
    head = (
        f"{request.fragment}, line {request.line}: {request.symbol} "
        f"wanted {request.value}, got {got.get(request.symbol) or 'n'}"
    )
    if block is None:
        return f"{head}: this kernel knows no such symbol"
    depends = [" ".join(line.split()) for line in _DEPENDS.findall(block)]
    if depends:
        return f"{head}: its dependencies are not met (depends on {' && '.join(depends)})"
    return f"{head}: another option forces or hides it"


def _symbol_blocks(tree: Path, names: set[str]) -> dict[str, str]:
    blocks: dict[str, str] = {}
    for path in tree.rglob("Kconfig*"):
        if not path.is_file():
            continue
        text = path.read_text(errors="replace").replace("\\\n", " ")
        for match in _SYMBOL_BLOCK.finditer(text):
            if match[1] in names:
                blocks[match[1]] = blocks.get(match[1], "") + match[2]
    return blocks
