# SPDX-License-Identifier: GPL-2.0-only
"""The guests of trials: fresh ones, and those whose trials have left nothing.

A fresh guest spends most of a trial's time on code that its QEMU has not translated yet. So one in
which all of a trial could be undone makes its scene again, as klp-duel has made it at first, for
another trial of the same state. A guest with anything wrong is never used again.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from typing import TYPE_CHECKING, cast

from harness.deadline import Deadline
from harness.errors import HarnessError, KernelVerdict
from harness.observer.accesses import AccessFile
from harness.observer.shared_file import count_events
from harness.tools.race.explore.control import HeldGuest
from harness.vm.guest.gdb_client import GdbClient
from harness.vm.guest.gdb_server import GdbServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.tools.race.explore.pairs import Pair
    from harness.tools.race.explore.scene import Scene, Scenes
    from harness.vm.guest.hypervisor import Hypervisor
    from harness.vm.guest.snapshot import Template

MOST_ROUNDS = 60
"""A guest makes so many trials at most."""

_GDB_S = 20.0
_SPLAT_S = 3.0


class TrialGuest:
    """A guest with A and B ready for a trial; ``earlier`` are the trials that it has made.

    ``start_s`` and ``cpu_s`` are the time, and the CPU time of QEMU, when this trial began.
    """

    def __init__(self, scenes: Scenes, scene: Scene, template: Template, name: str) -> None:
        """Start one that has made none; raises what that raises."""
        self.scene = scene
        self.earlier: list[str] = []
        self.verdict: KernelVerdict | None = None
        self._time_scale = scenes.time_scale
        self._take_start()
        with contextlib.ExitStack() as stack:
            self.clone = scenes.session.clone(scenes.kernel, template, name=name)
            stack.callback(self._remove)
            stack.enter_context(contextlib.closing(self.clone))
            self.server = GdbServer(self.hypervisor.monitor, self.clone.folder)
            stack.callback(self.server.disconnect)
            self.gdb = GdbClient(self.server.open(Deadline.after(_GDB_S)))
            self.held = self._hold()
            self._stack = stack.pop_all()
        self.cpu_s = 0.0

    def _take_start(self) -> None:
        self.start_s = time.monotonic()

    @property
    def hypervisor(self) -> Hypervisor:
        """Its QEMU."""
        return self.clone.hypervisor

    def _hold(self) -> HeldGuest:
        held = HeldGuest(
            self.scene, self.gdb, self.hypervisor, self.server, time_scale=self._time_scale
        )
        held.round = len(self.earlier) + 1
        return held

    def begin_again(self, earlier: str) -> None:
        """Have it make its scene again, after the trial ``earlier``.

        When the kernel is why it does not get there, the next trial has that ``verdict``. Else it
        raises HarnessError, and OSError when it has ended.
        """
        self.earlier.append(earlier)
        self._take_start()
        self.cpu_s = self.hypervisor.cpu_s()
        first = count_events(self.held.observed) if self.held.observed is not None else 0
        self.held = self._hold()
        self.held.first_event = first
        try:
            self.held.make_scene()
        except (HarnessError, EOFError, OSError):
            self.verdict = verdict_of(self.hypervisor, has_ended=True)
            if self.verdict is None:
                raise

    def close(self) -> None:
        """End it, and remove its files."""
        self._stack.close()

    def _remove(self) -> None:
        observed = self.hypervisor.observed
        shutil.rmtree(self.clone.folder, ignore_errors=True)
        if observed is not None:
            observed.unlink(missing_ok=True)


def verdict_of(hypervisor: Hypervisor, *, has_ended: bool) -> KernelVerdict | None:
    """Return the splat, or how the guest ended; raises the HarnessError that explains it.

    Why QEMU ``has_ended`` is known a moment later.
    """
    found: list[KernelVerdict] = []

    def is_known() -> bool:
        try:
            hypervisor.check()
        except KernelVerdict as error:
            found.append(error)
        return bool(found) or not (has_ended or hypervisor.unexpected_splats())

    hypervisor.events.wait(is_known, Deadline.after(_SPLAT_S))
    return found[0] if found else None


@contextlib.contextmanager
def fresh_guest(
    scenes: Scenes, pair: Pair, plan: str, noting: Template | None = None
) -> Iterator[TrialGuest]:
    """Yield a guest that has made no trial, and end it."""
    scene = scenes.get(pair.state)
    guest = TrialGuest(scenes, scene, noting or scene.saved, f"{pair}-{plan}")
    with contextlib.closing(guest):
        _expect_splats(guest, pair)
        if noting is not None and guest.held.observed is not None:
            guest.held.accesses = AccessFile(guest.held.observed)
        yield guest


@contextlib.contextmanager
def used_guest(scenes: Scenes, pair: Pair, plan: str) -> Iterator[TrialGuest]:
    """Yield a guest that may have made trials of the same state.

    It is kept when the caller says so by ``held.is_clean``, unless it has made as many as it may,
    or the kernel warns of what the pair does.
    """
    scene = scenes.get(pair.state)
    # It has none but those that are put there below.
    guest = cast("TrialGuest | None", scene.idle.take())
    if guest is None:
        guest = TrialGuest(scenes, scene, scene.saved, "trials")
    with contextlib.ExitStack() as stack:
        stack.callback(guest.close)
        _expect_splats(guest, pair)
        yield guest
        warns = pair.a.warns is not None or pair.b.warns is not None
        is_clean = guest.held.is_clean and not +guest.gdb.breakpoints
        if is_clean and not warns and len(guest.earlier) + 1 < MOST_ROUNDS:
            stack.pop_all()
            scene.idle.put(guest, f"{pair} at '{plan}'")


def _expect_splats(guest: TrialGuest, pair: Pair) -> None:
    for action in (pair.a, pair.b):
        if action.warns is not None:
            guest.hypervisor.expect_splat(action.warns, required=False)
