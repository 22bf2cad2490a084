# SPDX-License-Identifier: GPL-2.0-only
"""Where guests are measured: on which kernel, with which settings, in which folder."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from harness.vm.guest.plugin import no_plugin
from harness.vm.guest.session import GuestSettings, Session
from harness.vm.host.cache import Store
from harness.vm.host.capacity import measure_host, time_scale

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from harness.vm.guest.plugin import PluginMaker
    from harness.vm.host.accel import Accel
    from harness.vm.kernel.kernel import Kernel


@dataclass(frozen=True, kw_only=True)
class Bench:
    """The kernel to measure on, its sample modules, and the folder of the run."""

    kernel: Kernel
    modules: Mapping[str, Path]
    settings: GuestSettings
    folder: Path
    cache: Path

    def under(self, accel: Accel) -> Bench:
        """Return the same with guests under an accelerator, one at a time."""
        scale = time_scale(accel, guests=1, cores=measure_host().cores)
        return replace(self, settings=replace(self.settings, accel=accel, time_scale=scale))

    @contextlib.contextmanager
    def session(self, plugins: PluginMaker = no_plugin) -> Iterator[Session]:
        """Open the session; all processes that do, with the same plugin, share one template."""
        with Session(self.folder, self.settings, Store(self.cache), plugins=plugins) as session:
            yield session
