# SPDX-License-Identifier: GPL-2.0-only
"""Replays a recording twice: stopped where things get their names, then under the plugin of QEMU.

The second replay is not stopped, so its instructions are counted as they were executed. Its k-th
coming by a place is the k-th stop there, and both have to print what was recorded.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.deadline import Deadline
from harness.errors import EventsLost, HarnessError, UsageError
from harness.observer.consistency_points import obtain_points
from harness.observer.image import image_of
from harness.observer.plugin_build import obtain_plugin
from harness.observer.shared_file import Flag, Kind, Point, SharedFile, make_head
from harness.tools.race.recording import replay
from harness.tools.race.recording_file import VMLINUX
from harness.tools.race.story.collect import collect, read_layout, stop_addresses
from harness.tools.race.story.facts import PatchEnabled
from harness.tools.race.story.teller import Teller
from harness.vm.guest import runs
from harness.vm.kernel.resolved import ResolvedKernel, open_kernel

if TYPE_CHECKING:
    from pathlib import Path

    from harness.observer.consistency_points import ConsistencyPoints
    from harness.tools.race.recording_file import RecordingNote
    from harness.tools.race.results import StoryLine
    from harness.tools.race.story.facts import StopAt, Told
    from harness.vm.kernel.kernel import Kernel
    from harness.vm.kernel.progress import Progress

_EVENTS = 1 << 22
_PREPARE_S = 600.0
_SHARED = "observed"
_ATTEMPT = "klp_try_complete_transition"
_SPLATS = {
    "__warn": "the kernel warns",
    "oops_begin": "the kernel oopses",
    "panic": "the kernel panics",
}


@dataclass(frozen=True, kw_only=True)
class Story:
    """A story, and the size in bytes of the console of each replay, which is as recorded."""

    lines: tuple[StoryLine, ...]
    console_bytes: int


def kernel_of(note: RecordingNote) -> Kernel:
    """Return the kernel of a recording from the cache; raises UsageError when it is not there."""
    try:
        return open_kernel(ResolvedKernel(spec=note.kernel, digest=note.digest), runs.store())
    except HarnessError as error:
        raise UsageError(
            f"the story needs the build of {note.kernel}, which is not in the cache",
            hint="`klp-harness kernel build` with the options of the recording makes it",
        ) from error


def tell_story(
    folder: Path, note: RecordingNote, kernel: Kernel, *, deadline: Deadline, progress: Progress
) -> Story:
    """Replay an unpacked recording twice, and return its story.

    Raises UsageError for a kernel without symbols, HarnessError when a replay is not as recorded,
    and EventsLost when it has more events than there is room for.
    """
    if VMLINUX not in note.files:
        raise UsageError(f"the recording has no vmlinux: {note.kernel} comes without symbols")
    stops = stop_addresses(kernel)
    prepare = Deadline.after(_PREPARE_S)
    library = obtain_plugin(runs.store(), deadline=prepare).library
    layout = read_layout(kernel, prepare)
    progress.stage("replay 1 of 2: what tasks, modules and livepatches are called")
    told: list[Told] = []
    replay(
        folder,
        note,
        deadline=deadline,
        debug=lambda socket: told.extend(collect(socket, layout, stops, deadline)),
    )
    replaced = sorted(
        {
            each.name
            for one in told
            if isinstance(one.fact, PatchEnabled)
            for each in one.fact.functions
            if each.object == "vmlinux"
        }
    )
    points = obtain_points(kernel, replaced, store=runs.store(), deadline=prepare)
    progress.stage("replay 2 of 2: each switch and each call")
    shared = _make_shared(folder, kernel, points, stops)
    size = replay(folder, note, deadline=deadline, plugin=(str(library), str(shared)))
    observed = SharedFile(shared)
    if observed.lost:
        raise EventsLost(
            f"{observed.lost} events of the replay are lost: its story would have gaps",
            hint="a recording that calls functions of modules in a loop has too many",
        )
    teller = Teller(
        points,
        told,
        splats=_named(kernel, _SPLATS),
        attempts=frozenset(_named(kernel, {_ATTEMPT: ""})),
    )
    return Story(lines=tuple(teller.tell(observed.events())), console_bytes=size)


def _named(kernel: Kernel, names: dict[str, str]) -> dict[int, str]:
    symbols = image_of(kernel).symbols
    return {
        symbols.named(name)[0].address: text for name, text in names.items() if symbols.named(name)
    }


def _make_shared(
    folder: Path, kernel: Kernel, points: ConsistencyPoints, stops: dict[int, StopAt]
) -> Path:
    more = {*stops, *_named(kernel, {**_SPLATS, _ATTEMPT: ""})}
    head, size = make_head(
        # A place that is asked for twice would be reported twice.
        points=sorted({*points.points(), *(Point(address, Kind.POINT) for address in more)}),
        flags=Flag.CLOCK | Flag.MODULE_CALLS,
        events=_EVENTS,
        return_thunk=points.return_thunk,
        hooks=points.hooks,
    )
    path = folder / _SHARED
    with path.open("wb") as file:
        file.write(head)
        os.truncate(file.fileno(), size)
    return path
