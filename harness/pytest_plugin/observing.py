# SPDX-License-Identifier: GPL-2.0-only
"""Observed guests of a test run: QEMU gets the plugin that sees what the kernel executes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.errors import KernelVerdict, KlpError, UsageError
from harness.pytest_plugin.options import choose, plan
from harness.report.text import printable
from harness.vm.guest import runs
from harness.vm.guest.plugin import no_plugin

if TYPE_CHECKING:
    from harness.observer.oracle import Oracle
    from harness.observer.watch import Watch
    from harness.vm.guest.machine import Machine
    from harness.vm.guest.plugin import PluginMaker
    from harness.vm.kernel.kernel import Kernel

ORACLE: pytest.StashKey[Oracle] = pytest.StashKey()
ORACLE_FIXTURE = "oracle"


def plugins_of(config: pytest.Config) -> PluginMaker:
    """Return what chooses the plugin of QEMU for this run's guests; none unless asked for.

    Raises UsageError where guests run under KVM.
    """
    return no_plugin if config.getoption("observe") is None else _watch(config)


def _watch(config: pytest.Config) -> Watch:
    # Imported when it is used: other runs do not pay for it.
    from harness.observer.watch import Watch, require_translation

    require_translation(choose(config), "--observe")
    files = config.getoption("cover")
    return Watch(
        folder=config.getoption("observe").resolve(),
        store=runs.store(),
        files=tuple(name for name in files.split(",") if name),
        oracle=config.getoption("oracle"),
    )


def plugins_for(item: pytest.Item) -> PluginMaker | None:
    """Return what chooses the plugin for a test that asks for ``oracle``, unless the run has one.

    Raises UsageError where guests run under KVM.
    """
    if not _asks(item) or item.config.getoption("observe") is not None:
        return None
    return _own_watch(item.config)


def _asks(item: pytest.Item) -> bool:
    return ORACLE_FIXTURE in getattr(item, "fixturenames", ())


def _own_watch(config: pytest.Config) -> Watch:
    from harness.observer.watch import Watch, require_translation

    require_translation(choose(config), "the fixture oracle")
    folder = plan(config).folder / "observed"
    return Watch(folder=folder, store=runs.store(), files=(), oracle=True)


def observe(machine: Machine, item: pytest.Item, kernel: Kernel) -> None:
    """Record which test an observed guest is of, and follow its modules for the oracle."""
    observed = machine.hypervisor.observed
    if observed is None:
        return
    from harness.observer.oracle import Oracle
    from harness.observer.watch import name_test

    name_test(observed, item.nodeid)
    is_run = item.config.getoption("observe") is not None
    watch = _watch(item.config) if is_run else _own_watch(item.config)
    if _asks(item) and not watch.oracle:
        raise UsageError(
            "the fixture oracle cannot be had in a run with --observe alone", hint="add --oracle"
        )
    if watch.oracle and item.get_closest_marker("inconsistent") is None:
        item.stash[ORACLE] = Oracle(machine, watch.points(kernel))


def judge(item: pytest.Item, ending: BaseException | None) -> None:
    """Let the oracle judge the guest of a test that has ended; ``ending`` is what it raised.

    Raises ConsistencyViolated and EventsLost after a test that has passed, and the first after one
    that has skipped itself. To what another one raised, it is added.
    """
    oracle = item.stash.get(ORACLE, None)
    if oracle is None or isinstance(ending, KeyboardInterrupt):
        return
    is_skip = isinstance(ending, pytest.skip.Exception)
    try:
        verdict = oracle.check()
        if verdict.unknown_versions:
            text = (
                f"{item.name}: the oracle has not judged a livepatch: what it replaces cannot be "
                "read, or its load was refused"
            )
            item.warn(pytest.PytestWarning(text))
    except KlpError as error:
        if ending is None or (is_skip and isinstance(error, KernelVerdict)):
            raise
        ending.add_note(printable(f"the oracle: {error}"))
