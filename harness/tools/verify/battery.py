# SPDX-License-Identifier: GPL-2.0-only
"""The battery: scenes side by side, each in a fresh guest, and what they came to."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.errors import HarnessError, KernelVerdict, LostConnection, LostGuest, UsageError
from harness.log import LOGGER
from harness.threads import run_jobs
from harness.tools.verify.scene import Notes, Scene, SceneEnded, code_of
from harness.tools.verify.verdict import Check, CheckResult, Code

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from harness.tools.verify.case import Case
    from harness.vm.guest.machine import Machine
    from harness.vm.guest.session import Session
    from harness.vm.kernel.kernel import Kernel

_TRIES = 2


@dataclass(frozen=True, kw_only=True)
class Plot:
    """A scene that can be played: its name, what it does, and the checks that it makes.

    ``first``: when it fails, the others that have not ended are of no use. ``always``: it is played
    to its end all the same.
    """

    name: str
    body: Callable[[Scene], None]
    checks: tuple[str, ...]
    cpus: int = 2
    first: bool = False
    always: bool = False


@dataclass(frozen=True, kw_only=True)
class Played:
    """What became of one scene. ``error`` is a failure of harness, host or usage."""

    plot: Plot
    notes: Notes
    error: HarnessError | UsageError | None = None


class Battery:
    """Plays scenes in threads: a guest dies with the thread that started it."""

    def __init__(
        self, case: Case, session: Session, kernel: Kernel, plots: Sequence[Plot], *, guests: int
    ) -> None:
        self._case = case
        self._session = session
        self._kernel = kernel
        self._plots = plots
        self._workers = min(guests, len(plots))
        self._stop = threading.Event()
        self._never = threading.Event()

    def play(self) -> Iterator[Played]:
        """Yield each scene when it has ended; raises what is no failure of anybody foreseen."""
        try:
            yield from run_jobs(self._plots, self._play, at_a_time=self._workers, name="scenes")
        except BaseException:
            self._stop.set()
            self._never.set()
            raise

    def _play(self, plot: Plot) -> Played:
        error: HarnessError | UsageError | None = None
        notes = Notes()
        for attempt in range(_TRIES):
            notes, error = self._try(plot)
            # A guest that was lost says nothing about the patch: once more.
            if not isinstance(error, LostGuest | LostConnection):
                break
            LOGGER.info("%s: %s (attempt %d)", plot.name, error.message, attempt + 1)
        failed = any(check.outcome is CheckResult.FAILED for check in notes.checks)
        if (plot.first and failed) or isinstance(error, UsageError):
            self._stop.set()
        if isinstance(error, UsageError):
            self._never.set()
        return Played(plot=plot, notes=notes, error=error)

    def _try(self, plot: Plot) -> tuple[Notes, HarnessError | UsageError | None]:
        notes = Notes()
        stop = self._never if plot.always or plot.first else self._stop
        if stop.is_set():
            return notes, None
        start_s = time.monotonic()
        try:
            with self._guest(plot.name, plot) as machine:
                try:
                    plot.body(
                        Scene(
                            plot.name,
                            machine,
                            self._case,
                            notes,
                            stop=stop,
                            another_guest=lambda: self._guest(f"{plot.name}-other", plot),
                        )
                    )
                except SceneEnded:
                    pass
                except KernelVerdict as error:
                    notes.checks.append(_outside(plot, error, time.monotonic() - start_s))
        except (HarnessError, UsageError) as error:
            return notes, error
        except OSError as error:
            # TimeoutError too: a step makes a verdict of these, and between steps they are ours.
            return notes, HarnessError(f"{plot.name} did not get as far as it should: {error}")
        except KernelVerdict as error:
            # It did not come up: the template's boot failed, which no patch can have caused.
            return notes, LostGuest(
                f"no guest for {plot.name}: {error.message}", details=error.details
            )
        return notes, None

    def _guest(self, name: str, plot: Plot) -> AbstractContextManager[Machine]:
        return self._session.guest(self._kernel, name=f"{self._case.name}-{name}", cpus=plot.cpus)


def _outside(plot: Plot, error: KernelVerdict, seconds: float) -> Check:
    """Return the check of a guest that ended between two steps."""
    return Check(
        id=plot.name,
        outcome=CheckResult.FAILED,
        code=code_of(error),
        detail=error.message,
        lines=error.details,
        seconds=seconds,
        evidence=(error.artefacts,) if error.artefacts is not None else (),
    )


def not_reached(played: Played) -> tuple[Check, ...]:
    """Return the checks of a scene that it did not come to, with the reason."""
    done = {check.id for check in played.notes.checks}
    failed = next(
        (check for check in played.notes.checks if check.outcome is CheckResult.FAILED), None
    )
    if played.error is not None:
        why = f"the harness failed: {played.error.message}"
    elif failed is not None:
        why = f"{failed.id} failed"
    elif played.notes.checks and played.notes.checks[-1].outcome is CheckResult.NOT_RUN:
        why = played.notes.checks[-1].detail
    else:
        why = "the patch does not come and go as it should in an idle guest"
    return tuple(
        Check(id=name, outcome=CheckResult.NOT_RUN, code=Code.NOT_RUN, detail=why)
        for name in played.plot.checks
        if name not in done
    )
