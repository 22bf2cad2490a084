# SPDX-License-Identifier: GPL-2.0-only
"""What becomes of the guest of the first test that fails: --stop-at-failure, --dump-on-failure.

`klp-harness test` gives a run its own keeper, with which --keep-guest is possible too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.pytest_plugin.options import say
from harness.vm.guest.keeper import Keeper, KeepPlan

if TYPE_CHECKING:
    from harness.vm.guest.machine import Machine
    from harness.vm.guest.session import Session
    from harness.vm.kernel.kernel import Kernel

_KEEPER = pytest.StashKey[Keeper]()
FAILURE = pytest.StashKey[str]()
"""Of a test: how it failed, in a line."""


class GivenKeeper:
    """A plugin for a run in one process, whose keeper is its caller's."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper

    def pytest_configure(self, config: pytest.Config) -> None:
        """Record it before a test needs a guest."""
        config.stash[_KEEPER] = self._keeper


def keeper_of(config: pytest.Config) -> Keeper | None:
    """Return the keeper of this run, None where nothing is to be kept.

    Raises pytest.UsageError for a run with workers: a guest dies with its worker.
    """
    known = config.stash.get(_KEEPER, None)
    if known is not None:
        return known
    stop, dump = config.getoption("stop_at_failure"), config.getoption("dump_on_failure")
    if not stop and not dump:
        return None
    if stop and hasattr(config, "workerinput"):
        raise pytest.UsageError("--stop-at-failure needs one process: add -n 0")
    plan = KeepPlan(command="pytest", keep=stop, wait=stop, dump=dump)
    made = config.stash[_KEEPER] = Keeper(plan, lambda text: say(config, text))
    return made


def after_test(node: pytest.Item, session: Session, machine: Machine, kernel: Kernel) -> None:
    """Let the session keep the guest of a test that failed; returns when it is let go."""
    why = node.stash.get(FAILURE, None)
    if why is None or session.keeper is None:
        return
    if session.keeper.stops_all:
        node.session.shouldstop = "a test failed, and --stop-at-failure was given"
    session.failed(machine, kernel, f"{node.name}: {why}")
