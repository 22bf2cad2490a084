# SPDX-License-Identifier: GPL-2.0-only
"""Signals at random moments, to every command that needs no build; then what must hold, is asked.

A command that gets a signal ends with the exit code of that signal and without a traceback, leaves
no process, no private key, no damaged file and no damaged cache, and the next command works.
SIGKILL leaves what nobody can tidy up at once; the next run does.
"""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from benchmarks.commands_here import TRACES
from harness.deadline import Deadline, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from benchmarks.commands_here import Ended, Place, Running

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL)
_END_S = 90.0
_CLEAN_S = 600.0
_EARLY_S = 0.3
# After so many signals the same command is run to its end.
_WHOLE_EVERY = 5


@dataclass(frozen=True, kw_only=True)
class Victim:
    """A command that gets signals. ``guests``: it starts some, and so leaves what is swept."""

    words: tuple[str, ...]
    guests: bool = False
    stdin: str = ""
    report: bool = True

    def on(self, kernel: tuple[str, ...]) -> tuple[str, ...]:
        """Return the words of the command on a kernel, for one that starts guests."""
        return (*self.words, *(kernel if self.guests else ()))


QUICK = (
    Victim(words=("kernel", "list")),
    Victim(words=("doctor",)),
    Victim(words=("behaviours", "TR")),
    Victim(words=("mutants", "list")),
)
BOOT = Victim(words=("boot",), guests=True, stdin="uname -r\n", report=False)
SLOW = (
    BOOT,
    Victim(words=("run", "klp_test_cmdline_a", "--hold", "0"), guests=True),
    Victim(words=("verify", "klp_test_cmdline_a", "--scene", "idle"), guests=True),
    Victim(words=("race", "run", "fork-missing-flag", "--trials", "2"), guests=True),
    Victim(words=("race", "run", "storm-fork", "--trials", "2", "--workers", "1"), guests=True),
    Victim(words=("test", "-k", "TR-01"), guests=True),
)


@dataclass(frozen=True, kw_only=True)
class Shot:
    """One signal to one command, and what did not hold then."""

    line: str
    signal: signal.Signals
    after_s: float
    code: int
    took_s: float
    problems: tuple[str, ...]

    def describe(self) -> str:
        """Return one line, and one for each problem."""
        name = self.signal.name
        head = f"{self.line}: {name} after {self.after_s:.2f} s, exit code {self.code}"
        return "\n".join((head, *(f"  {problem}" for problem in self.problems)))


@dataclass
class Shooting:
    """A campaign of signals; it learns what each command does without one."""

    place: Place
    seed: int
    list_each_time: bool = True
    """Ask the cache for its kernels after each signal; otherwise the next guest shows it sound."""
    shots: list[Shot] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    _clean: dict[Victim, Ended] = field(default_factory=dict)
    number: int = 0
    """How many signals there were, earlier campaigns of the same seed included."""
    _left: list[str] = field(default_factory=list)

    def shoot(self, victims: Sequence[Victim], count: int, say: Callable[[str], None]) -> None:
        """Send so many signals, each with its own moment, and check after each."""
        for _ in range(count):
            self.number += 1
            chance = random.Random(f"{self.seed}-{self.number}")  # noqa: S311
            victim = chance.choice(victims)
            clean = self._without(victim)
            if clean is None:
                continue
            shot = self._one(victim, clean, chance)
            self.shots.append(shot)
            problems = list(shot.problems)
            if self.number % _WHOLE_EVERY == 0 or shot.problems:
                problems += self.aftermath(victim)
            self.problems += [shot.describe(), *problems[len(shot.problems) :]] if problems else []
            if problems:
                say(shot.describe())
                for problem in problems[len(shot.problems) :]:
                    say(f"  {problem}")
            self.place.forget()

    def aftermath(self, victim: Victim = BOOT) -> list[str]:
        """Run a guest, and the command itself, to their ends; return what is wrong then."""
        problems = []
        for whole in dict.fromkeys((BOOT, victim)):
            clean = self._without(whole)
            if clean is None:
                continue
            again = self._run(whole)
            if again.code != clean.code:
                problems.append(
                    f"`{again.line}` after signals: exit code {again.code} instead of {clean.code}"
                    f"\n{again.tail()}"
                )
        problems += [f"still there after the next run: {name}" for name in self._newly_left()]
        return problems

    def _newly_left(self, known: Collection[str] = ()) -> list[str]:
        """Return what dead runs left, but for what is known, each file once in a campaign."""
        without = {*self._left, *known}
        left = [name for name in self.place.left_of_dead_runs() if name not in without]
        self._left += left
        return left

    def table(self) -> list[str]:
        """Return how many signals each command got, one line a command."""
        counts = Counter((shot.line, shot.signal) for shot in self.shots)
        longest = max((len(shot.line) for shot in self.shots), default=0)
        lines = [" " * longest + "".join(f"{one.name:>9}" for one in SIGNALS)]
        for line in sorted({shot.line for shot in self.shots}):
            row = "".join(f"{counts[line, one]:>9}" for one in SIGNALS)
            lines.append(f"{line:<{longest}}{row}")
        return lines

    def _without(self, victim: Victim) -> Ended | None:
        """Return how a command ends without a signal; None, and a problem, when it cannot run."""
        if victim not in self._clean:
            clean = self._run(victim)
            if clean.code not in (0, 3) or any(text in clean.output for text in TRACES):
                problem = f"`{clean.line}` without a signal: exit code {clean.code}\n{clean.tail()}"
                self.problems.append(problem)
                return None
            self._clean[victim] = clean
        return self._clean[victim]

    def _run(self, victim: Victim) -> Ended:
        return self.place.run(
            victim.on(self.place.kernel), seconds=_CLEAN_S, stdin=victim.stdin, report=victim.report
        )

    def _one(self, victim: Victim, clean: Ended, chance: random.Random) -> Shot:
        number = chance.choice(SIGNALS)
        # A quarter of them while the command still starts: that is a short part of most.
        span = _EARLY_S if chance.random() < 0.25 else clean.seconds
        after = chance.uniform(0, span)
        bugs = len(self.place.bug_logs())
        # Of a run that SIGKILL ended: whoever is interrupted early has not tidied up after it.
        before = set(self.place.left_of_dead_runs())
        problems = []
        start = time.monotonic()
        words = victim.on(self.place.kernel)
        with self.place.start(words, stdin=victim.stdin, report=victim.report) as running:
            process = running.process
            wait_until(lambda: process.poll() is not None, Deadline.after(after), interval_s=0.002)
            in_time = process.poll() is None
            done = not in_time or _is_done(running, clean)
            process.send_signal(number)
            sent = time.monotonic()
            if not wait_until(lambda: process.poll() is not None, Deadline.after(_END_S)):
                problems.append(f"it did not end within {_END_S:.0f} s")
            took = time.monotonic() - sent
            orphans = self.place.orphans()
            if orphans:
                problems.append(f"processes are left: {orphans}")
        try:
            ended = self.place.ended(words, running, start)
        except ValueError as error:
            problems.append(f"a half-written result file: {error}")
            code, output, report = process.returncode, running.output.read_text("utf-8"), None
        else:
            code, output, report = ended.code, ended.output, ended.report
        problems += _exit_problems(code, number, clean.code, in_time=in_time)
        if any(text in output for text in TRACES):
            problems.append(f"it printed a traceback:\n{output[-2000:]}")
        if code == clean.code and not done:
            problems.append("it went on as if there had been no signal")
        if code == clean.code and victim.report and report is None:
            problems.append("it ended as without a signal, and wrote no results")
        if len(self.place.bug_logs()) > bugs:
            problems.append(f"a bug was reported: {self.place.bug_logs()[-1]}")
        if number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            problems += [f"left behind: {name}" for name in self._newly_left(before)]
        if self.list_each_time:
            problems += self._listing_problems()
        return Shot(
            line=clean.line,
            signal=number,
            after_s=after,
            code=code,
            took_s=took,
            problems=tuple(problems),
        )

    def _listing_problems(self) -> list[str]:
        listing = self.place.run(("kernel", "list"), seconds=_CLEAN_S)
        if listing.code != 0 or not listing.report or not listing.report["results"]:
            return [f"the cache is damaged: exit code {listing.code}\n{listing.tail()}"]
        return []


def _is_done(running: Running, clean: Ended) -> bool:
    """Whether a command has its results already, and is only on its way out."""
    if running.report is not None:
        return running.report.exists()
    printed = running.output.read_text(errors="replace")
    return printed.count("\n") >= clean.output.count("\n")


def _exit_problems(code: int, number: signal.Signals, clean: int, *, in_time: bool) -> list[str]:
    """Return what is wrong with an exit code: that of the signal, or of a command that was done.

    A process that a signal killed (a negative code) has 128 and the signal's number in a shell.
    """
    right = {-number} if number is signal.SIGKILL else {128 + number, -number}
    if code in right or code == clean:
        return []
    moment = "" if in_time else " (it had ended before the signal)"
    return [f"exit code {code} instead of {128 + number}{moment}"]
