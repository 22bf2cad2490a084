# SPDX-License-Identifier: GPL-2.0-only
"""A whole .config, such as a distribution's, for a source tree: what is added, and what changes.

The file is read by ``make olddefconfig`` of the tree, so that options which it does not know yet
have their defaults. What it names on the disk of the machine that it is from is left out.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from harness.errors import KernelUnfit, UsageError
from harness.inputs import Kind, kind_of, read_text_file, shown, user_path
from harness.vm.kernel.build_needs import NOT_TO_BE_LOST
from harness.vm.kernel.config import KernelConfig, depends_on
from harness.vm.kernel.requirements import require_x86_64

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from harness.vm.kernel.config import Request

FRAGMENT = "guest"
CHANGES = "config-changes.json"
_WHAT = "the kernel configuration of --config"
_LINE = re.compile(r"(?:# )?(CONFIG_\w+)(?:=(.*)| is not set)\Z")
_FEWEST = 100
# Files of the machine where the kernel was packaged, and what stands for none.
_FILES = {
    "CONFIG_SYSTEM_TRUSTED_KEYS": '""',
    "CONFIG_SYSTEM_REVOCATION_KEYS": '""',
    "CONFIG_SYSTEM_BLACKLIST_HASH_LIST": '""',
    "CONFIG_EXTRA_FIRMWARE": '""',
    "CONFIG_INITRAMFS_SOURCE": '""',
    "CONFIG_MODULE_SIG_KEY": '"certs/signing_key.pem"',
}
_FORCED = {
    "CONFIG_CMDLINE_OVERRIDE": "the guest's command line has to count",
}
_UNKNOWN, _FOLLOWS = "the sources have no such option", "it follows from other options"
# What Kconfig finds out about the compiler, whatever a file says.
_ABOUT_TOOLS = re.compile(
    r"CONFIG_(?:CC_|GCC_|CLANG_|AS_|LD_|LLD_|RUSTC?_|PAHOLE_|BINDGEN_|TOOLS_|HAVE_|ARCH_)"
)


@dataclass(frozen=True, kw_only=True)
class Change:
    """An option of which the build has another value than the file, and why."""

    symbol: str
    wanted: str
    got: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class WholeConfig:
    """The content of a .config; ``values`` has ``n`` for what is switched off."""

    name: str
    text: str
    values: Mapping[str, str]

    @property
    def digest(self) -> str:
        """The SHA-256 of what it sets, whatever the order and the comments."""
        lines = "\n".join(f"{name}={value}" for name, value in sorted(self.values.items()))
        return hashlib.sha256(lines.encode()).hexdigest()

    def merged(self, requests: Sequence[Request], tree: Path) -> str:
        """Return the text for olddefconfig: the file, and what is asked for on top."""
        asked = "".join(f"{request.text}\n" for request in requests)
        left_out = "".join(f"{name}={value}\n" for name, value in self._left_out(tree).items())
        off = "".join(f"# {name} is not set\n" for name in self._forced_off())
        # Where lines differ, Kconfig takes the last.
        return f"{self.text}\n{left_out}{off}{asked}"

    def changes(self, requests: Sequence[Request], final: Path, tree: Path) -> tuple[Change, ...]:
        """Return what the build has otherwise than the file, what was asked for first.

        Raises KernelUnfit when an option was lost that decides what the kernel is.
        """
        built = _values(final.read_text(errors="replace"))
        asked = {request.symbol: request for request in requests}
        known = _known_symbols(tree)
        left_out = self._left_out(tree)
        found = []
        for symbol, wanted in self.values.items():
            got = built.get(symbol, "n")
            if got == wanted or _ABOUT_TOOLS.match(symbol):
                continue
            if symbol in asked and asked[symbol].value == got:
                reason = f"asked for by {asked[symbol].fragment}"
            elif symbol in left_out:
                reason = "it names a file that is not here"
            elif symbol in _FORCED:
                reason = _FORCED[symbol]
            elif symbol.removeprefix("CONFIG_") not in known:
                reason = _UNKNOWN
            else:
                reason = _FOLLOWS
            found.append(Change(symbol=symbol, wanted=wanted, got=got, reason=reason))
        for symbol, request in asked.items():
            got = built.get(symbol, "n")
            if symbol not in self.values and got != "n":
                reason = f"asked for by {request.fragment}"
                found.append(Change(symbol=symbol, wanted="n", got=got, reason=reason))
        self._require_kept(found, tree)
        order = {_FOLLOWS: 1, _UNKNOWN: 2}
        return tuple(sorted(found, key=lambda change: (order.get(change.reason, 0), change.symbol)))

    def _require_kept(self, changes: Sequence[Change], tree: Path) -> None:
        lost = [
            change
            for change in changes
            if change.symbol.removeprefix("CONFIG_") in NOT_TO_BE_LOST
            and change.wanted == "y"
            and change.got == "n"
            and change.reason in (_UNKNOWN, _FOLLOWS)
        ]
        if lost:
            first = lost[0]
            needs = depends_on(first.symbol, tree)
            why = "do not know it" if first.reason == _UNKNOWN else "turn it off"
            raise KernelUnfit(
                f"{self.name} has {first.symbol}=y, and the sources {why}"
                + (f" (it depends on {needs})" if needs else ""),
                hint="turn it off in a fragment (--kernel-config) to build without it",
                details=tuple(change.symbol for change in lost[1:]),
            )

    def _left_out(self, tree: Path) -> dict[str, str]:
        return {
            name: instead
            for name, instead in _FILES.items()
            if (value := self.values.get(name, '""').strip('"'))
            and value != instead.strip('"')
            and not (not value.startswith("/") and (tree / value).is_file())
        }

    def _forced_off(self) -> list[str]:
        return [name for name in _FORCED if self.values.get(name) == "y"]


def read_whole(named: Path) -> WholeConfig:
    """Return the content of a .config that a user names.

    Raises UsageError when it cannot be read or is no whole configuration, KernelUnfit when it is
    another machine's.
    """
    path = user_path(str(named), _WHAT)
    if kind_of(path, _WHAT) is not Kind.FILE:
        raise UsageError(f"there is no file {shown(named)}", hint="--config takes a .config")
    text = read_text_file(path, _WHAT)
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip() and not line.startswith("#") and not _LINE.match(line.strip()):
            raise UsageError(
                f"{shown(path)}, line {number}: '{shown(line)}' is no kernel option",
                hint="--config takes a .config as a build or a distribution has it",
            )
    values = _values(text)
    if len(values) < _FEWEST:
        raise UsageError(
            f"{shown(path)} has {len(values)} options, and is no whole configuration",
            hint="a fragment is given with --kernel-config",
        )
    require_x86_64(KernelConfig(values), shown(path))
    return WholeConfig(name=path.name, text=text, values=values)


def write_changes(changes: Sequence[Change], folder: Path) -> None:
    """Keep what was changed beside the kernel. Raises OSError."""
    (folder / CHANGES).write_text(json.dumps([asdict(change) for change in changes], indent=1))


def read_changes(folder: Path) -> tuple[Change, ...]:
    """Return what was changed for the kernel in a cache entry; nothing for one without --config."""
    try:
        return tuple(Change(**change) for change in json.loads((folder / CHANGES).read_text()))
    except (OSError, ValueError, TypeError):
        return ()


def _values(text: str) -> dict[str, str]:
    found = {}
    for line in text.splitlines():
        if match := _LINE.match(line.strip()):
            found[match[1]] = "n" if match[2] is None else match[2]
    return found


def _known_symbols(tree: Path) -> frozenset[str]:
    names: set[str] = set()
    for path in tree.rglob("Kconfig*"):
        if path.is_file():
            text = path.read_text(errors="replace")
            names.update(re.findall(r"^[ \t]*(?:menu)?config[ \t]+(\w+)", text, re.M))
    return frozenset(names)
