# SPDX-License-Identifier: GPL-2.0-only
"""System.map and /proc/kallsyms: the symbols of a kernel of which there is no vmlinux."""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING

from harness.errors import HarnessError
from harness.inputs import MIB, read_file
from harness.vm.elf.vmlinux import KernelSymbol, Vmlinux

if TYPE_CHECKING:
    from pathlib import Path

# "ffffffff81000000 T _text", as nm(1) prints it.
_LINE = re.compile(rb"([0-9a-f]{8,16}) ([a-zA-Z?]) (\S+)\Z")
_FUNCTIONS = b"tTwW"
# One of a kernel with everything built in has 20 MiB.
_MOST_BYTES = 256 * MIB


def read_system_map(path: Path) -> Vmlinux:
    """Return the symbols that a System.map lists; what can be traced is not known from it.

    The order of names that occur more than once is that of the file, which is the order of
    kallsyms; addresses may all be 0, as /proc/kallsyms shows them to users other than root.
    Raises HarnessError when it cannot be read, or is none.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise HarnessError(f"{path} cannot be read: {error.strerror}") from error
    return _read(path, status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=4)
def _read(path: Path, _mtime_ns: int, _size: int) -> Vmlinux:
    found: dict[str, list[KernelSymbol]] = {}
    content = read_file(path, "the System.map", at_most=_MOST_BYTES)
    for number, line in enumerate(content.split(b"\n"), 1):
        if not line:
            continue
        match = _LINE.match(line)
        if match is None:
            raise HarnessError(
                f"{path} is no System.map: its line {number} is no symbol",
                hint="install the kernel's package again",
            )
        symbol = KernelSymbol(int(match[1], 16), 0, match[2] in _FUNCTIONS)
        found.setdefault(match[3].decode(errors="replace"), []).append(symbol)
    symbols = {
        # Stable: without addresses the order of the file stays.
        name: tuple(sorted(each, key=lambda symbol: symbol.address))
        for name, each in found.items()
    }
    return Vmlinux(symbols, None, None)
