# SPDX-License-Identifier: GPL-2.0-only
"""How soon a kept guest is reached, and how long a dump of its memory takes; as a user types it."""

from __future__ import annotations

import re
import sys
import time
from typing import TYPE_CHECKING

from benchmarks.figures import Bound, Budget, ratio, side
from benchmarks.reference import boots
from harness.deadline import Deadline
from harness.errors import HarnessError
from harness.vm.host.process import run
from harness.vm.host.temporary import temporary_folder

if TYPE_CHECKING:
    from benchmarks.figures import Figure, Side
    from benchmarks.place import Bench
    from harness.vm.host.process import Finished
    from harness.vm.kernel.progress import Progress

REACHED_BOOTS = 1.2
DUMP_BOOTS = 6.0
_COMMAND_S = 600.0
_NAMED = re.compile(r"^kept: guest (\S+) ", re.MULTILINE)


def kept_guest(
    bench: Bench, spec: str, accel: str, *, times: int, progress: Progress
) -> list[Figure]:
    """Measure a command in a kept guest over SSH, and dumps of its 256 MiB, so many times each.

    The times are those of `klp-harness ssh` and `klp-harness dump`, with their own start, against a
    boot. Raises HarnessError when a command fails, since its time means nothing then.
    """
    booted = boots(bench, runs=times)
    progress.stage("a guest that is kept")
    kept = _klp("boot", f"--kernel={spec}", f"--accel={accel}", "--keep-guest", stdin="exit 1\n")
    named = _NAMED.search(kept.stderr)
    if named is None:
        raise _failed("boot --keep-guest", kept)
    name = named[1]
    reached: list[float] = []
    dumped: list[float] = []
    try:
        with temporary_folder("kept") as folder:
            for number in range(times):
                reached.append(_timed("ssh", name, "true"))
                dump = folder / f"{number}.vmcore"
                dumped.append(_timed("dump", name, "--out", str(dump)))
                dump.unlink()
    finally:
        _klp("guests", "stop", name)
    return [
        _figure("kept-ssh", "a command in a kept guest", reached, booted, REACHED_BOOTS),
        _figure("kept-dump", "a dump of a kept guest's 256 MiB", dumped, booted, DUMP_BOOTS),
    ]


def _figure(name: str, what: str, seconds: list[float], booted: Side, most: float) -> Figure:
    budget = Budget(bound=Bound.AT_MOST, value=most)
    return ratio(name, f"{what} against a boot", side("it takes", "s", seconds), booted, budget)


def _timed(*words: str) -> float:
    start_s = time.monotonic()
    done = _klp(*words)
    if done.returncode != 0:
        raise _failed(words[0], done)
    return time.monotonic() - start_s


def _klp(*words: str, stdin: str | None = None) -> Finished:
    argv = [sys.executable, "-m", "harness.cli", *words]
    return run(argv, deadline=Deadline.after(_COMMAND_S), stdin=stdin, check=False)


def _failed(command: str, done: Finished) -> HarnessError:
    return HarnessError(
        f"klp-harness {command} failed with exit code {done.returncode}, so its time means nothing",
        details=tuple(done.stderr.splitlines()[-10:]),
    )
