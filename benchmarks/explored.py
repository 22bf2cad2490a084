# SPDX-License-Identifier: GPL-2.0-only
"""How long a trial of `race explore` takes, with all that is prepared for it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from benchmarks.figures import Bound, Budget, Figure, ratio, side
from benchmarks.reference import boots
from harness.deadline import Deadline
from harness.errors import HarnessError
from harness.vm.host.accel import Accel
from harness.vm.host.process import run

if TYPE_CHECKING:
    from benchmarks.place import Bench
    from harness.vm.kernel.progress import Progress

# 90 trials a minute are 0.4 of a boot of 1.66 s; 0.16 was measured.
TRIAL_RATIO = 0.25
_PAIRS = ("fork-load", "load-fork", "load-target", "target-load")
_DEADLINE_S = 1800.0


def explore_trials(bench: Bench, spec: str, *, runs: int, progress: Progress) -> list[Figure]:
    """Measure a trial of some pairs against a boot. Raises HarnessError when trials show anything.

    A trial's time is that of the whole command, with several guests at a time, by their number. The
    boots are under TCG, as trials always are.
    """
    booted = boots(bench.under(Accel.TCG), runs=runs)
    progress.stage("trials of race explore")
    with TemporaryDirectory(prefix="klp-bench-") as folder:
        file = Path(folder) / "explored.json"
        words = ["race", "explore", *_PAIRS, f"--kernel={spec}", f"--json={file}"]
        done = run(
            [sys.executable, "-m", "harness.cli", *words],
            deadline=Deadline.after(_DEADLINE_S),
            check=False,
        )
        if done.returncode != 0:
            raise HarnessError(
                f"race explore ended with exit code {done.returncode}, so its time means nothing",
                hint=f"`klp-harness {' '.join(words[:-1])}` shows why",
                details=tuple(done.stderr.splitlines()[-10:]),
            )
        tried = tried_in(file.read_text(encoding="utf-8"))
    return [
        ratio(
            "explore-trial",
            "a trial of race explore against a boot",
            side("trial", "s", [done.seconds / tried]),
            booted,
            Budget(bound=Bound.AT_MOST, value=TRIAL_RATIO),
        )
    ]


def tried_in(text: str) -> int:
    """Return how many trials a results file has. Raises HarnessError when it has none."""
    tried = sum(int(result["tried"]) for result in json.loads(text)["results"])
    if not tried:
        raise HarnessError("no trial was made, so there is nothing to measure")
    return tried
