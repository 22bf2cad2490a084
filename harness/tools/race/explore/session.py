# SPDX-License-Identifier: GPL-2.0-only
"""What trials need on the machine that makes them: a run, and the plugin that judges them."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from harness.errors import HarnessError
from harness.observer.watch import Watch
from harness.tools.race.explore.scene import Scenes, guest_modules
from harness.vm.guest import run_folder, runs
from harness.vm.guest.plugin import no_plugin

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from harness.vm.host.accel import AccelChoice
    from harness.vm.kernel.kernel import Kernel


@contextlib.contextmanager
def open_scenes(
    choice: AccelChoice,
    kernel: Kernel,
    modules: Mapping[str, Path],
    *,
    guests: int,
    cpus: int,
    oracle: bool,
) -> Iterator[Scenes]:
    """Open a run for so many guests at a time; raises what that, or the oracle, raises.

    ``modules`` are the sample modules, by name.
    """
    with contextlib.ExitStack() as stack:
        watch = stack.enter_context(_watch_of(kernel)) if oracle else None
        session = stack.enter_context(
            runs.open_session(
                choice,
                name="explore",
                guests=guests,
                cpus=cpus,
                extra_files=guest_modules(modules),
                plugins=watch or no_plugin,
            )
        )
        yield stack.enter_context(Scenes(session, kernel, watch=watch, modules=modules))


@contextlib.contextmanager
def _watch_of(kernel: Kernel) -> Iterator[Watch]:
    """Prepare to observe the kernel's guests, in a folder that is removed at the end."""
    folder = runs.folder_for("observed")
    claimed = run_folder.claim(folder)
    watch = Watch(folder=folder, store=runs.store(), files=(), oracle=True, clock=False)
    try:
        try:
            watch(kernel)
        except HarnessError as error:
            error.hint = error.hint or "--no-oracle explores without judging consistency"
            raise
        yield watch
    finally:
        watch.remove()
        claimed.release()
