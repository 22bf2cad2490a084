# SPDX-License-Identifier: GPL-2.0-only
"""A trial that is recorded, and replayed: with one CPU, without a network."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from harness.deadline import Deadline
from harness.livepatch.patch import Livepatch
from harness.tools.race.recording import guest_files, record, replay
from harness.tools.race.recording_file import CONSOLE, read_note, unpacked
from harness.tools.race.reproducer import reproducer
from harness.vm.guest.session import Session
from harness.vm.host.accel import Accel

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from harness.vm.guest.session import Session
    from harness.vm.kernel.kernel import Kernel

PATCH = "klp_test_cmdline_a"
_REPLAY_S = 300.0
_SLOWER = 8


@reproducer("load-unload", rule="LD-01")
def load_unload(livepatch: Livepatch) -> None:
    """A livepatch comes and goes, which shows no race."""
    patch = livepatch.load(PATCH, wait=True)
    assert "live patched" in livepatch.guest.read("/proc/cmdline")
    patch.disable()
    patch.unload()


@pytest.mark.slow(9)
def test_a_replay_prints_what_was_recorded(
    kernel: Kernel, klp_session: Session, sample_modules: Mapping[str, Path], tmp_path: Path
) -> None:
    """All bytes of the console are the same, and the livepatch's life is among them."""
    settings = klp_session.settings
    settings = replace(settings, accel=Accel.TCG, time_scale=settings.time_scale * _SLOWER)
    file = tmp_path / "load-unload.recording"
    more = guest_files({PATCH: sample_modules[PATCH]}, tmp_path)
    with Session(tmp_path / "run", settings, klp_session.store, extra_files=more) as session:
        made = record(load_unload, session, kernel, file, modules=sample_modules, seed=0)
    assert made.message is None
    note = read_note(file)
    with unpacked(file, note) as folder:
        console = (folder / CONSOLE).read_bytes()
        assert f"livepatch: '{PATCH}': unpatching complete".encode() in console
        assert replay(folder, note, deadline=Deadline.after(_REPLAY_S)) == len(console)
