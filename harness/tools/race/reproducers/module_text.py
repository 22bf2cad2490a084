# SPDX-License-Identifier: GPL-2.0-only
"""The text of a module in the guest: an address that an oops names is found in it afterwards."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from harness.errors import RaceShown
from harness.livepatch.waiting import QUICK_S, scaled
from harness.vm.elf.symbols import function_at, text_sections

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from harness.livepatch.guest import Guest
    from harness.tools.race.trial_context import TrialContext

# Bare addresses: what the kernel can no longer name. In front of each is the instruction pointer,
# or a place on the stack (arch/x86/kernel/dumpstack.c).
_BARE = re.compile(r"(?:RIP: 0010:|^\s*\??\s*)0x([0-9a-f]{16})\b", re.M)
_FAULT = re.compile(r"page fault for address: ([0-9a-f]{16})\b")


@dataclass(frozen=True, kw_only=True)
class ModuleText:
    """Where a module lay: ``sections`` are the addresses of those that have code.

    ``size`` in bytes is that of all of the module.
    """

    name: str
    file: Path
    sections: Mapping[str, int]
    size: int

    @classmethod
    def of(cls, guest: Guest, name: str, file: Path) -> ModuleText:
        """Return where a loaded module lies; raises FileNotFoundError when it is not loaded."""
        size = int(guest.read(f"/sys/module/{name}/coresize"))
        sections = {}
        for section in text_sections(file):
            # One that is empty has no place.
            with contextlib.suppress(FileNotFoundError):
                sections[section] = _address(guest, name, section)
        if not sections:
            raise FileNotFoundError(f"/sys/module/{name}/sections names no code of {file}")
        return cls(name=name, file=file, sections=sections, size=size)

    def names(self, splat: str) -> tuple[str, ...]:
        """Return in words, each once, the addresses of a splat that lay in the module."""
        found = dict.fromkeys(self._addresses(splat))
        return tuple(self._name(address) for address in found)

    def _addresses(self, splat: str) -> Iterator[int]:
        for pattern in (_FAULT, _BARE):
            for match in pattern.finditer(splat):
                address = int(match[1], 16)
                if self._start <= address < self._start + self.size:
                    yield address

    @property
    def _start(self) -> int:
        return min(self.sections.values())

    def _name(self, address: int) -> str:
        found = (
            function_at(self.file, address - start, section)
            for section, start in self.sections.items()
        )
        function = next((each for each in found if each is not None), None)
        return f"{address:#x} was {function or 'no function'} [{self.name}]"


def _address(guest: Guest, module: str, section: str) -> int:
    return int(guest.read(f"/sys/module/{module}/sections/{section}").strip(), 16)


def show_unloaded_under(
    context: TrialContext,
    text: ModuleText,
    task: str,
    wake: Callable[[], None],
    *,
    does: str = "slept in",
) -> NoReturn:
    """Wake a task that sleeps in the text of a module that was unloaded; raises RaceShown.

    ``task`` names it, ``does`` says what it does with the text. An address of the splat that lay in
    the text has its function's name.
    """
    splat = context.verdict_after(wake, scaled(context.guest, QUICK_S))
    what = f"{text.name} was unloaded while {task} {does} its text"
    if splat is None:
        raise RaceShown(f"{what}; the kernel has not failed of it yet")
    lines = (*text.names("\n".join(splat.details)), *splat.details)
    raise RaceShown(f"{what}: {splat.message}", details=lines, artefacts=splat.artefacts)
