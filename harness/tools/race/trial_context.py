# SPDX-License-Identifier: GPL-2.0-only
"""What the steps of a reproducer can take, by the names of their parameters."""

from __future__ import annotations

import random
from functools import cached_property
from typing import TYPE_CHECKING

from harness.errors import KernelVerdict
from harness.livepatch.forker import Forker
from harness.livepatch.gates import Gates
from harness.livepatch.kernel_log import KernelLog
from harness.livepatch.patch import Livepatch
from harness.livepatch.tasks import Tasks

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from harness.deadline import Deadline
    from harness.vm.guest.machine import Machine

_GATE_MODULE = "klp_target_gate"


class TrialContext:
    """One fresh guest for one trial. ``seed`` decides all that the steps leave to chance.

    ``modules`` are the sample modules, built for the guest's kernel.
    """

    def __init__(self, guest: Machine, *, modules: Mapping[str, Path], seed: int) -> None:
        self.context = self
        self.guest = guest
        self.modules = modules
        self.livepatch = Livepatch(guest, modules=modules)
        self.tasks = Tasks(guest)
        self.seed = seed

    @cached_property
    def gates(self) -> Gates:
        """Gates that hold a task inside a function; the module that has them is loaded now."""
        self.livepatch.load_target(_GATE_MODULE)
        return Gates(self.guest)

    @cached_property
    def forker(self) -> Forker:
        """Starts forks that gates hold at chosen points."""
        assert self.gates is not None
        return Forker(self.guest)

    @cached_property
    def kernel_log(self) -> KernelLog:
        """The guest's kernel log from now on."""
        return KernelLog(self.guest)

    @cached_property
    def chance(self) -> random.Random:
        """Numbers that are the same for the same seed."""
        return chance_of(self.seed)

    def verdict_after(self, action: Callable[[], None], deadline: Deadline) -> KernelVerdict | None:
        """Do something, and return the splat or death of the guest that follows it, if any.

        The guest may die so soon that the action itself fails.
        """
        try:
            action()
            self.guest.wait(lambda: False, deadline)
        except KernelVerdict as error:
            return error
        return None


def chance_of(seed: int) -> random.Random:
    """Return numbers that are the same for the same seed."""
    return random.Random(seed)  # noqa: S311 - chance, no secret


def context_names() -> frozenset[str]:
    """Return the names that the parameters of steps can have."""
    made = {
        name for name, value in vars(TrialContext).items() if isinstance(value, cached_property)
    }
    return frozenset(made | {"context", "guest", "modules", "livepatch", "tasks", "seed"})
