# SPDX-License-Identifier: GPL-2.0-only
"""A reproducer: the steps to a race, and what shows that a kernel has it."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.errors import GuestPanic, KernelSplat, RaceShown, UsageError
from harness.kernel.vmlinux import read_vmlinux
from harness.races.stage import Stage, offered

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from harness.errors import KernelVerdict
    from harness.guest.machine import Machine
    from harness.kernel.kernel import Kernel


@dataclass(frozen=True, kw_only=True)
class Reproducer:
    """A race that can be shown.

    ``title`` is the first line of the steps' docstring, ``rule`` the id of the rule that a kernel
    with the race breaks, ``fixed_by`` the kernel commit that ended it, ``shows`` a regular
    expression for the splat that shows it, ``needs`` are options (CONFIG_...) and ``functions``
    are functions that the kernel has to have. ``chance``: it needs luck, so one trial tells little.
    """

    name: str
    title: str
    rule: str
    steps: Callable[..., None]
    asks: tuple[str, ...]
    fixed_by: str | None = None
    shows: str | None = None
    needs: tuple[str, ...] = ()
    functions: tuple[str, ...] = ()
    cpus: int = 2
    chance: bool = False

    def check_kernel(self, kernel: Kernel) -> None:
        """Raise UsageError when the kernel lacks an option or a function that the race needs."""
        for symbol in self.needs:
            if not kernel.config.enabled(symbol.removeprefix("CONFIG_")):
                raise UsageError(
                    f"{self.name} needs {symbol}, and kernel {kernel.version} is built without it",
                    hint="--kernel-config takes a fragment that turns it on",
                )
        known = read_vmlinux(kernel.vmlinux) if self.functions else None
        for name in self.functions:
            if known is not None and not known.named(name):
                raise UsageError(
                    f"{self.name} patches {name}(), and kernel {kernel.version} has none of it"
                )

    def recognises(self, error: KernelVerdict) -> bool:
        """Return whether a failure of the kernel is this race."""
        if isinstance(error, RaceShown):
            return True
        if self.shows is None or not isinstance(error, KernelSplat | GuestPanic):
            return False
        return re.search(self.shows, "\n".join((error.message, *error.details))) is not None


def reproducer(
    name: str,
    *,
    rule: str,
    fixed_by: str | None = None,
    shows: str | None = None,
    needs: tuple[str, ...] = (),
    functions: tuple[str, ...] = (),
    cpus: int = 2,
    chance: bool = False,
) -> Callable[[Callable[..., None]], Reproducer]:
    """Make a reproducer of a function whose parameters are named as what a Stage offers."""

    def declare(steps: Callable[..., None]) -> Reproducer:
        asks = tuple(inspect.signature(steps).parameters)
        unknown = sorted(set(asks) - offered())
        if unknown:
            raise TypeError(f"{name} asks for {', '.join(unknown)}, which no stage offers")
        if not steps.__doc__:
            raise TypeError(f"{name} does not say in a docstring what it shows")
        return Reproducer(
            name=name,
            title=steps.__doc__.strip().splitlines()[0],
            rule=rule,
            steps=steps,
            asks=asks,
            fixed_by=fixed_by,
            shows=shows,
            needs=needs,
            functions=functions,
            cpus=cpus,
            chance=chance,
        )

    return declare


def perform(
    race: Reproducer, machine: Machine, *, modules: Mapping[str, Path], seed: int = 0
) -> None:
    """Do the steps in a fresh guest and check its log; returns when the kernel holds.

    Raises RaceShown when the kernel has this race, and any other KernelVerdict as it is: that is
    another failure. The guest is not to be used any more.
    """
    stage = Stage(machine, modules=modules, seed=seed)
    offers: dict[str, Any] = {name: getattr(stage, name) for name in race.asks}
    try:
        race.steps(**offers)
        machine.check_splats()
    except RaceShown as error:
        machine.hypervisor.explain(error)
        raise
    except (KernelSplat, GuestPanic) as error:
        if not race.recognises(error):
            raise
        raise RaceShown(error.message, details=error.details, artefacts=error.artefacts) from error
