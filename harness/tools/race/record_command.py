# SPDX-License-Identifier: GPL-2.0-only
"""klp-harness race record and race replay: a trial that anyone can run again and debug."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.exits import guarded
from harness.cli.invocation import Invocation, check_writable, write_file
from harness.cli.options import AccelAsked, KernelOptions, ResultFiles
from harness.cli.prepare import prepare_accel, prepare_kernel, prepare_modules, with_mutants
from harness.deadline import Deadline
from harness.errors import KernelVerdict, RaceShown, UsageError
from harness.report.base import CheckOutcome
from harness.report.text import printable
from harness.tools.race.campaign import Extent, ReproducerTrials, Trial
from harness.tools.race.catalogue import find_races
from harness.tools.race.command import KernelMutants, app
from harness.tools.race.recording import (
    REPLAYED,
    gdb_command,
    guest_files,
    record,
    replay,
    require_one_cpu,
    require_same_qemu,
)
from harness.tools.race.recording_file import read_note, unpacked
from harness.tools.race.trial_results import judge, result_of
from harness.vm.guest import runs
from harness.vm.guest.session import Fresh
from harness.vm.host.temporary import temporary_folder

if TYPE_CHECKING:
    from harness.report.terminal import Terminal
    from harness.tools.race.recording_file import RecordingNote
    from harness.tools.race.reproducer import Reproducer
    from harness.tools.race.results import StoryLine

# QEMU counts instructions, which makes a guest slower than translation alone does: its deadlines
# are those of a machine with so many guests.
_AS_SLOW_AS = 16
_REPLAY_FACTOR = 20.0
_REPLAY_LEAST_S = 300.0
_GDB_S = 7 * 86400.0
_MIB = 1 << 20


@app.command("record")
@guarded
def record_race(
    name: Annotated[str, typer.Argument(metavar="NAME", help="One reproducer.")],
    out: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Default: NAME.recording."),
    ] = None,
    *,
    kernel: KernelOptions,
    mutant: KernelMutants = (),
    files: ResultFiles,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Seed of the trial.")] = 0,
) -> int:
    """Record one trial on one CPU, for `race replay`. Exit 1: the race was shown."""
    with Invocation("race record", files) as invocation:
        terminal = invocation.terminal
        (race, *more) = find_races([name])
        if more:
            raise UsageError(f"{name} names {1 + len(more)} reproducers; give the name of one")
        require_one_cpu(race)
        file = out if out is not None else Path(f"{race.name}.recording")
        check_writable(file)
        choice = prepare_accel(invocation, AccelAsked.TCG)
        made = prepare_kernel(invocation, with_mutants(terminal, kernel, mutant))
        race.check_kernel(made)
        modules = prepare_modules(terminal, made)
        terminal.print(f"kernel  {made.describe()}", f"seed    {seed}")
        with ExitStack() as stack:
            aside = stack.enter_context(temporary_folder("record"))
            session = stack.enter_context(
                runs.open_session(
                    choice,
                    cpus=1,
                    fresh=Fresh.BOOT,
                    name="record",
                    guests=_AS_SLOW_AS,
                    extra_files=guest_files(modules, aside),
                )
            )
            with terminal.progress() as progress:
                progress.stage(f"recording {race.name} on one CPU")
                note = record(race, session, made, file, modules=modules, seed=seed)
        trials = ReproducerTrials(race, [_trial(race, note, file)])
        result = judge(trials, made.version, Extent(seed=seed))
        invocation.results.append(result.model_copy(update={"detail": note.message}))
        _print(terminal, note)
        terminal.print(
            f"recorded in {note.seconds:.0f} s: {file}, {file.stat().st_size / _MIB:.0f} MiB",
            f"again: klp-harness race replay {file}",
        )
    return invocation.exit_code


@app.command("replay")
@guarded
def replay_race(
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="A file that `race record` wrote.", show_default=False),
    ],
    gdb: Annotated[
        bool, typer.Option("--gdb", help="Wait for gdb, and print the command that starts it.")
    ] = False,
    times: Annotated[int, typer.Option(min=1, metavar="N", help="Replay it N times in turn.")] = 1,
    console: Annotated[
        Path | None,
        typer.Option("--console", metavar="FILE", help="Write the console to this file."),
    ] = None,
    story: Annotated[
        bool,
        typer.Option(
            "--story",
            help="Replay it under a plugin of QEMU, and print who switched when, and who ran which "
            "version of a patched function.",
        ),
    ] = False,
    html_file: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE", help="With --story: write it as an HTML page."),
    ] = None,
    *,
    files: ResultFiles,
) -> int:
    """Replay a recording, and compare its console with the recorded one, byte by byte.

    Exit 0: both are the same, whatever the recording shows.
    """
    with Invocation("race replay", files) as invocation:
        terminal = invocation.terminal
        _check_story(story, gdb=gdb, times=times, html_file=html_file)
        note = read_note(file)
        (race,) = find_races([note.reproducer])
        require_same_qemu(file, note)
        terminal.print(f"kernel  {note.kernel}", f"seed    {note.seed}")
        limit_s = _GDB_S if gdb else max(_REPLAY_LEAST_S, note.seconds * _REPLAY_FACTOR)
        start_s = time.monotonic()
        lines: tuple[StoryLine, ...] = ()
        with unpacked(file, note) as folder:
            if story:
                lines = _tell(terminal, folder, note, html_file, Deadline.after(limit_s))
            for number in range(1, times + 1) if not story else ():
                began_s = time.monotonic()
                size = replay(
                    folder,
                    note,
                    deadline=Deadline.after(limit_s),
                    debug=(lambda _: _print_gdb(terminal, gdb_command(folder))) if gdb else None,
                )
                terminal.print(
                    f"replay {number} of {times}: {time.monotonic() - began_s:.0f} s, "
                    f"{size} bytes on the console, as recorded"
                )
            if console is not None:
                _copy_console(folder, console)
        result = result_of(race, CheckOutcome.PASSED, detail=note.message)
        invocation.results.append(
            result.model_copy(
                update={
                    "seconds": time.monotonic() - start_s,
                    "seed": note.seed,
                    "trials": times,
                    "story": lines,
                }
            )
        )
        _print(terminal, note)
    return invocation.exit_code


def _check_story(story: bool, *, gdb: bool, times: int, html_file: Path | None) -> None:
    """Raise UsageError for options that do not go with --story, or need it."""
    if html_file is not None and not story:
        raise UsageError("--html is the page of a story", hint="add --story")
    if story and (gdb or times > 1):
        raise UsageError(
            "--story replays a recording by itself: it goes with neither --gdb nor --times"
        )
    check_writable(html_file)


def _tell(
    terminal: Terminal, folder: Path, note: RecordingNote, html_file: Path | None, limit: Deadline
) -> tuple[StoryLine, ...]:
    """Replay a recording with its story, print that, and write its page."""
    # Imported when it is used: other replays do not pay for it.
    from harness.tools.race.story.page import story_page
    from harness.tools.race.story.terminal import print_story
    from harness.tools.race.story.watch import kernel_of, tell_story

    kernel = kernel_of(note)
    with terminal.progress() as progress:
        story = tell_story(folder, note, kernel, deadline=limit, progress=progress)
    print_story(terminal, story.lines)
    terminal.print("", f"both replays: {story.console_bytes} bytes on the console, as recorded")
    if html_file is not None:
        write_file(html_file, story_page(note, story.lines))
    return story.lines


def _copy_console(folder: Path, target: Path) -> None:
    try:
        target.write_bytes((folder / REPLAYED).read_bytes())
    except OSError as error:
        raise UsageError(f"cannot write {target}: {error.strerror}") from error


def _trial(race: Reproducer, note: RecordingNote, file: Path) -> Trial:
    """Return the trial that was recorded, with the recording as its log."""
    ended_by = None
    if note.message is not None:
        kind = RaceShown if note.shown else KernelVerdict
        ended_by = kind(note.message, details=note.details, artefacts=file)
    return Trial(race=race, seed=note.seed, seconds=note.seconds, ended_by=ended_by)


def _print_gdb(terminal: Terminal, line: str) -> None:
    terminal.note("the guest waits for gdb; run this in another terminal:")
    terminal.note(line)


def _print(terminal: Terminal, note: RecordingNote) -> None:
    """Print the outcome of the recorded trial."""
    outcome = note.message if note.message is not None else "the race was not shown"
    terminal.prose(f"{note.reproducer}: {printable(outcome)}", indent="  ")
