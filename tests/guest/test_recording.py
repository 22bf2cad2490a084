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
from harness.tools.race.results import StoryKind
from harness.tools.race.story.teller import ORIGINAL
from harness.tools.race.story.watch import kernel_of, tell_story
from harness.vm.guest.session import Session
from harness.vm.host.accel import Accel
from harness.vm.kernel.progress import LineProgress

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


@reproducer("load-unload-call", rule="LD-01")
def load_unload_call(livepatch: Livepatch) -> None:
    """A function is called while a livepatch is loaded, and after it was unloaded."""
    patch = livepatch.load(PATCH, wait=True)
    livepatch.guest.read("/proc/cmdline")
    patch.disable()
    patch.unload()
    livepatch.guest.read("/proc/cmdline")


@pytest.mark.slow(40)
def test_the_story_of_a_recording(
    kernel: Kernel, klp_session: Session, sample_modules: Mapping[str, Path], tmp_path: Path
) -> None:
    """A recording that was made without the plugin shows each switch and each call under it.

    Both replays print what was recorded, or they fail.
    """
    settings = klp_session.settings
    settings = replace(settings, accel=Accel.TCG, time_scale=settings.time_scale * _SLOWER)
    file = tmp_path / "load-unload-call.recording"
    more = guest_files({PATCH: sample_modules[PATCH]}, tmp_path)
    with Session(tmp_path / "run", settings, klp_session.store, extra_files=more) as session:
        record(load_unload_call, session, kernel, file, modules=sample_modules, seed=0)
    note = read_note(file)
    deadline = Deadline.after(2 * _REPLAY_S)
    with unpacked(file, note) as folder:
        progress = LineProgress(print)
        story = tell_story(folder, note, kernel_of(note), deadline=deadline, progress=progress)
    calls = [line.version for line in story.lines if line.kind is StoryKind.CALL]
    assert calls == [PATCH, ORIGINAL]
    steps = [line.text for line in story.lines if line.kind is StoryKind.TRANSITION]
    assert steps == [
        f"starts the transition of {PATCH}: patching, state 0 to 1",
        f"completes the transition of {PATCH}",
        f"starts the transition of {PATCH}: unpatching, state 1 to 0",
        f"completes the transition of {PATCH}",
    ]
    # Everybody who gets a state at the start is switched, and nobody else.
    started = [line.switched for line in story.lines if line.text in steps and line.switched]
    switched = [line for line in story.lines if line.kind is StoryKind.SWITCH]
    for to, tasks in zip((1, 0), started, strict=True):
        assert {name for line in switched if line.to == to for name in line.switched} == set(tasks)
    assert not any(line.kind is StoryKind.VIOLATION for line in story.lines)
