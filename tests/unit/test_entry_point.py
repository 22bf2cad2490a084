# SPDX-License-Identifier: GPL-2.0-only
"""The process itself: its standard streams in all states, and signals from its first moment on."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from benchmarks.commands_here import DEFAULT_SIGNALS
from harness.cli.registry import COMMANDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = Path(sys.executable).with_name("klp-harness")
PROGRAM = (sys.executable, "-m", "harness.cli")
# Each subset of standard input, output and error.
CLOSED = [each for count in range(4) for each in itertools.combinations(range(3), count)]
# What only closes some of these, by what is said of each command.
MOST = [(1,), (2,), (0, 1, 2)]
GROUPS = {"kernel": ["build", "list", "prune"], "mutants": ["list", "run"]}
GROUPS["race"] = ["list", "run", "record", "replay"]
EACH = [[name] for name in COMMANDS if name not in GROUPS]
EACH += [[name, each] for name, commands in GROUPS.items() for each in commands]
SIGNALS, STARTED_S, MOMENTS_S = 60, 0.05, 0.3


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a command keeps does not depend on this user, nor changes what they have."""
    for name in ("CACHE", "RUNS", "RESULTS"):
        monkeypatch.setenv(f"KLP_HARNESS_{name}", str(tmp_path / name.lower()))


def code_of(words: Sequence[str], closed: Iterable[int] = (), full: Iterable[int] = ()) -> int:
    """Return the exit code of a command with these descriptors closed, or open on /dev/full."""
    redirections = [f"{n}>&-" for n in closed] + [f"{n}>/dev/full" for n in full]
    argv = ["sh", "-c", f'exec "$@" {" ".join(redirections)}', "sh", *PROGRAM, *words]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    assert "this is a bug" not in done.stderr
    return done.returncode


def codes(many: Iterable[tuple[Sequence[str], Iterable[int], Iterable[int]]]) -> dict[str, int]:
    """Return the exit codes of many commands, by what they were."""
    listed = list(many)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = pool.map(lambda each: code_of(*each), listed)
        return {str(each): code for each, code in zip(listed, found, strict=True)}


def test_a_usage_error_is_2_whatever_is_closed() -> None:
    """Of each command; 1 would be a verdict to `git bisect`, and to whoever reads the code."""
    wrong = [[*words, "--smp", "--no-such-option=x"] for words in EACH]
    found = codes((words, (0, 1, 2), ()) for words in wrong)
    found |= codes((["kernel", "no-such"], closed, ()) for closed in CLOSED)
    found |= codes((["behaviours", "no-such"], closed, ()) for closed in MOST)
    found |= codes((wrong[0], (), full) for full in [(1,), (2,), (1, 2)])
    assert {key: code for key, code in found.items() if code != 2} == {}


@pytest.mark.parametrize("words", [["kernel", "list"], ["behaviours"], ["race", "list"], ["-h"]])
def test_a_command_needs_no_stream(words: list[str]) -> None:
    """What it finds does not depend on who reads it; what is lost on a full device is 3."""
    found = codes((words, closed, ()) for closed in (CLOSED if words == ["-h"] else MOST))
    assert set(found.values()) == {0}
    assert code_of(words, full=[1]) == 3
    assert code_of(words, full=[2]) == 0
    assert code_of(words, [0, 2], full=[1]) == 3


def test_doctor_needs_no_stream() -> None:
    """Its code says what the machine lacks, with and without streams."""
    tried = codes((["doctor"], each, ()) for each in [(), (1,), (2,), (0, 1, 2)])
    open_, *closed = tried.values()
    assert closed == [open_] * 3
    assert open_ in (0, 3)
    assert code_of(["doctor"], full=[1, 2]) == 3


def test_results_for_a_stream_that_is_closed() -> None:
    """--json - without standard output has nowhere to go: that is refused, and not 0."""
    assert code_of(["behaviours", "--json", "-"], [1]) == 2
    assert code_of(["behaviours", "--json", "-"], full=[1]) == 3


def test_a_file_gets_no_standard_descriptor(tmp_path: Path) -> None:
    """With all of them closed, a result file has what it always has, and no messages."""
    path = tmp_path / "out.json"
    assert code_of(["behaviours", "--json", str(path)], [0, 1, 2]) == 0
    assert json.loads(path.read_text())["command"] == "behaviours"


def test_bisect_gives_up() -> None:
    """Wrong words and a full device are no verdict on a revision: from 128 on git stops."""
    assert code_of(["test", "--bisect", "--smp", "x"]) == 255
    assert code_of(["test", "--bisect", "-h"], full=[1]) == 255


def interrupted(argv: Sequence[str], number: int, after_s: float) -> tuple[int, str]:
    """Send a command a signal after so many seconds; return its exit code and standard error."""
    started = time.monotonic()
    with subprocess.Popen(
        [*DEFAULT_SIGNALS, *argv],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        # Not a condition that is waited for: any moment is as good as another.
        time.sleep(max(0.0, after_s - (time.monotonic() - started)))
        child.send_signal(number)
        _, said = child.communicate(timeout=60)
    return child.returncode, said


@pytest.mark.parametrize(
    "argv",
    [
        (*PROGRAM, "behaviours"),
        (str(SCRIPT), "doctor"),
        (sys.executable, "-m", "benchmarks", "bench", "-h"),
    ],
    ids=["module", "script", "benchmarks"],
)
def test_a_signal_in_the_first_moments(argv: Sequence[str]) -> None:
    """It ends the command in a line; of `klp-harness` at any moment, also while Python starts."""
    if not Path(argv[0]).exists():
        pytest.skip("the package is not installed as a script here")
    chance = random.Random(17)
    for _ in range(SIGNALS // 3):
        number = chance.choice([signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
        # Half of them while Python starts.
        after_s = chance.uniform(0, chance.choice([STARTED_S, MOMENTS_S]))
        code, said = interrupted(argv, number, after_s)
        when = f"signal {number} after {after_s:.3f} s: exit code {code}, {said}"
        # What Python itself says of Ctrl-C while it starts (Modules/main.c, pymain_run_module()).
        early = "Fatal Python error: init_" in said or said.startswith("Could not import runpy")
        if early or "<frozen runpy>" in said.partition("harness/")[0]:
            assert argv[0] != str(SCRIPT), when
            continue
        # A command may have ended by itself.
        assert code in {-number, 128 + number, 0, 3}, when
        if code != -number or "run_application" in said:
            assert "Traceback" not in said, when
        if code == 128 + number:
            assert said.count("klp-harness: ") == 1, when


def test_what_runs_before_the_signals_are_taken() -> None:
    """Only modules that Python itself has loaded, or that take no time."""
    script = "import sys; known = set(sys.modules); import harness.cli; "
    script += "print(*sorted(set(sys.modules) - known))"
    done = subprocess.run(
        [sys.executable, "-S", "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    heavy = {"typing", "typer", "click", "pydantic", "rich", "re", "contextlib", "subprocess"}
    assert "harness.cli.signals" in done.stdout.split()
    assert not heavy & set(done.stdout.split())


def test_a_signal_that_is_ignored_stays_so() -> None:
    """`nohup` and a job in the background are not ended by what they ignore."""
    argv = ["sh", "-c", 'trap "" HUP INT; exec "$@"', "sh", *PROGRAM, "behaviours"]
    for number in (signal.SIGHUP, signal.SIGINT):
        code, said = interrupted(argv, number, 0.2)
        assert (code, said) == (0, "")
