# SPDX-License-Identifier: GPL-2.0-only
"""A reproducer: the steps to a race, and what shows that a kernel has it."""

from __future__ import annotations

import inspect
import re
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.errors import GuestPanic, KernelSplat, KernelVerdict, RaceShown, UsageError
from harness.observe.observation import Observation
from harness.report.base import CheckOutcome, ErrorFacts
from harness.report.run_results import RunResult
from harness.tools.race.trial_context import TrialContext, context_names
from harness.vm.kernel.symbols import kernel_symbols

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from harness.vm.guest.machine import Machine
    from harness.vm.kernel.kernel import Kernel


@dataclass(frozen=True, kw_only=True)
class Reproducer:
    """A race that can be shown.

    ``title`` is the first line of the steps' docstring, ``parameters`` names what the steps take of
    a TrialContext, ``rule`` is the id of the rule that a kernel with the race breaks, ``fixed_by``
    the kernel commit that ended it, and ``shows`` a regular expression for the splat that shows it.
    A kernel needs the options ``needs`` (CONFIG_..., !CONFIG_... for one that it may not have) and
    the ``functions``; ``fragment`` is the
    config fragment that turns on what the default kernel lacks of them. ``chance``: the race needs
    luck, so one trial says little. ``on_recorded``: each trial is recorded, which costs some
    time, and this function is called with the recording.
    """

    name: str
    title: str
    rule: str
    steps: Callable[..., None]
    parameters: tuple[str, ...]
    fixed_by: str | None = None
    shows: str | None = None
    needs: tuple[str, ...] = ()
    fragment: str | None = None
    functions: tuple[str, ...] = ()
    cpus: int = 2
    chance: bool = False
    on_recorded: Callable[[RunResult], None] | None = None

    def check_kernel(self, kernel: Kernel) -> None:
        """Raise UsageError when the kernel lacks an option or a function that the race needs."""
        for symbol in self.needs:
            option = symbol.removeprefix("!")
            if kernel.config.enabled(option.removeprefix("CONFIG_")) is symbol.startswith("!"):
                if option != symbol:
                    raise UsageError(
                        f"{self.name} does not go with {option}, which kernel {kernel.version} has"
                    )
                raise UsageError(
                    f"{self.name} needs {symbol}, and kernel {kernel.version} is built without it",
                    hint=f"--kernel-config {self.fragment} turns it on"
                    if self.fragment
                    else "--kernel-config takes a fragment that turns it on",
                )
        # A packaged kernel may have no symbols here: the load of the patch fails there.
        known = kernel_symbols(kernel) if self.functions else None
        for name in self.functions:
            if known is not None and not known.named(name):
                raise UsageError(
                    f"{self.name} patches {name}(), which kernel {kernel.version} does not have"
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
    fragment: str | None = None,
    functions: tuple[str, ...] = (),
    cpus: int = 2,
    chance: bool = False,
) -> Callable[[Callable[..., None]], Reproducer]:
    """Make a reproducer of a function whose parameters are names of what a TrialContext has.

    Raises TypeError for any other parameter, and for a function without a docstring.
    """

    def declare(steps: Callable[..., None]) -> Reproducer:
        parameters = tuple(inspect.signature(steps).parameters)
        unknown = sorted(set(parameters) - context_names())
        if unknown:
            raise TypeError(f"{name} takes {', '.join(unknown)}, which no TrialContext has")
        if not steps.__doc__:
            raise TypeError(f"{name} has no docstring, which says what it shows")
        return Reproducer(
            name=name,
            title=steps.__doc__.strip().splitlines()[0],
            rule=rule,
            steps=steps,
            parameters=parameters,
            fixed_by=fixed_by,
            shows=shows,
            needs=needs,
            fragment=fragment,
            functions=functions,
            cpus=cpus,
            chance=chance,
        )

    return declare


def run_steps(
    race: Reproducer, machine: Machine, *, modules: Mapping[str, Path], seed: int = 0
) -> None:
    """Run the steps in a fresh guest and check its log; returns when the kernel holds.

    Raises RaceShown when the kernel has this race, and any other KernelVerdict as it is: that is
    another failure. The guest is not to be used any more.
    """
    context = TrialContext(machine, modules=modules, seed=seed)
    parameters: dict[str, Any] = {name: getattr(context, name) for name in race.parameters}
    with _recorded(race, machine, seed=seed):
        try:
            race.steps(**parameters)
            machine.check_splats()
        except RaceShown as error:
            machine.hypervisor.explain(error)
            raise
        except (KernelSplat, GuestPanic) as error:
            if not race.recognises(error):
                raise
            raise RaceShown(
                error.message, details=error.details, artefacts=error.artefacts
            ) from error


@contextmanager
def _recorded(race: Reproducer, machine: Machine, *, seed: int) -> Iterator[None]:
    """Record while the body runs, where that is wanted, and hand over the recording at its end."""
    if race.on_recorded is None:
        yield
        return
    start_s = time.monotonic()
    observation = Observation(machine, race.name)
    outcome, facts = CheckOutcome.NOT_SHOWN, None
    try:
        yield
    except KernelVerdict as error:
        outcome = CheckOutcome.SHOWN if isinstance(error, RaceShown) else CheckOutcome.FAILED
        facts = ErrorFacts(
            kind=type(error).__name__, fault="kernel", message=error.message, details=error.details
        )
        raise
    finally:
        result = RunResult(
            id=f"{race.name}, seed {seed}",
            outcome=outcome,
            seconds=time.monotonic() - start_s,
            module=race.name,
            error=facts,
        )
        race.on_recorded(result.model_copy(update=observation.result_fields()))
