# SPDX-License-Identifier: GPL-2.0-only
"""Observed guests of a test run: QEMU gets the plugin that counts what the kernel executes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.pytest_plugin.options import choose
from harness.vm.guest import runs
from harness.vm.guest.plugin import no_plugin

if TYPE_CHECKING:
    import pytest

    from harness.vm.guest.machine import Machine
    from harness.vm.guest.plugin import PluginMaker


def plugins_of(config: pytest.Config) -> PluginMaker:
    """Return what chooses the plugin of QEMU for this run's guests; none unless asked for.

    Raises UsageError where guests run under KVM.
    """
    folder = config.getoption("observe")
    if folder is None:
        return no_plugin
    # Imported when it is used: other runs do not pay for it.
    from harness.observer.watch import Watch, require_translation

    require_translation(choose(config), "--observe")
    files = config.getoption("cover")
    watch = Watch(folder=folder.resolve(), store=runs.store())
    if files:
        watch = Watch(folder=watch.folder, store=watch.store, files=tuple(files.split(",")))
    return watch


def note_test(machine: Machine, item: pytest.Item) -> None:
    """Record which test an observed guest is of."""
    if machine.hypervisor.observed is not None:
        from harness.observer.watch import name_test

        name_test(machine.hypervisor.observed, item.nodeid)
