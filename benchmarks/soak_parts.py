# SPDX-License-Identifier: GPL-2.0-only
"""The parts of a soak. Each does something whole, and returns what was unexpected, and what it did.

A new part is a function at the end, and its line in PARTS.
"""

from __future__ import annotations

import shutil
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.commands_here import TRACES
from benchmarks.signals import QUICK, SLOW
from benchmarks.soak_samples import sample
from harness.behaviours.table import load_table
from harness.deadline import Deadline
from harness.errors import KlpError, UsageError
from harness.tools.race.catalogue import CATALOGUE
from harness.vm.guest.session import Fresh
from harness.vm.host.process import run

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence

    from benchmarks.commands_here import Ended, Place
    from benchmarks.signals import Shooting
    from harness.tools.race.reproducer import Reproducer
    from harness.vm.guest.session import Session
    from harness.vm.kernel.kernel import Kernel

    Part = Callable[["Soak", random.Random, int], tuple[list[str], str]]

_COMMAND_S = 1800.0
_RULES = 5
_RACES = 3
_GROUPS = ("storm", "crowd", "fuzz")
_RESTORES = 25
_SAMPLE_EVERY = 5
_SHOTS = 4
_FUZZ_S = 30
_TOGETHER = "TR-0"
FUZZ = Path(__file__).resolve().parents[1] / "tests" / "fuzz"


class Restores:
    """Restores guests in this process, always from the same template."""

    def __init__(self, session: Session, kernel: Kernel) -> None:
        self._session = session
        self._kernel = kernel
        self.count = 0

    def races(self) -> list[str]:
        """Return the names of the storms, crowds and fuzzers that this kernel can run."""
        groups = [(race, race.name.partition("-")[0]) for race in CATALOGUE]
        return [race.name for race, group in groups if group in _GROUPS and self._can(race)]

    def _can(self, race: Reproducer) -> bool:
        try:
            race.check_kernel(self._kernel)
        except UsageError:
            return False
        return True

    def restore(self) -> None:
        """Restore one guest and use it once; raises what a guest raises."""
        name = f"restore-{self.count}"
        with self._session.guest(self._kernel, name=name, fresh=Fresh.SNAPSHOT) as machine:
            release = machine.read("/proc/sys/kernel/osrelease")
            assert release.strip().startswith(self._kernel.version.split("-")[0])
            machine.check_splats()
        shutil.rmtree(machine.folder)
        self.count += 1


@dataclass(frozen=True, kw_only=True)
class Soak:
    """What parts share."""

    place: Place
    restores: Restores
    shooting: Shooting
    samples: list[dict[str, float]] = field(default_factory=list)
    """Those that a part took; the part's record gets them."""


def _unexpected(ended: Ended, code: int = 0) -> list[str]:
    if any(text in ended.output for text in TRACES):
        return [f"`{ended.line}` printed a traceback\n{ended.tail(30)}"]
    if ended.code != code:
        return [f"`{ended.line}`: exit code {ended.code} instead of {code}\n{ended.tail(20)}"]
    return []


def _command(soak: Soak, *words: str, code: int = 0) -> list[str]:
    ended = soak.place.run((*words, *soak.place.kernel), seconds=_COMMAND_S)
    return _unexpected(ended, code)


def _suite(soak: Soak, chance: random.Random, _turn: int) -> tuple[list[str], str]:
    rules = sorted(rule.id for rule in load_table().rule)
    chosen = chance.sample(rules, _RULES)
    # A slow test builds a kernel of its own.
    words = ("test", "-m", "not slow", "-k", " or ".join(chosen))
    return _command(soak, *words), f"tests of {', '.join(chosen)}"


def _races(soak: Soak, chance: random.Random, turn: int) -> tuple[list[str], str]:
    seed = str(chance.randrange(1 << 31))
    chosen = chance.sample(soak.restores.races(), _RACES)
    words = ("race", "run", *chosen, "--trials", "2", "--excuse-expected")
    # Every other time by workers, whose processes have to go as well.
    more = ("--workers", "1") if turn % 2 == 0 else ()
    did = " ".join((*chosen, *more, "seed", seed))
    return _command(soak, *words, "--seed", seed, *more), did


def _verify(soak: Soak, _chance: random.Random, _turn: int) -> tuple[list[str], str]:
    words = ("--scene", "idle", "--scene", "cycles", "--cycles", "5")
    return _command(soak, "verify", "klp_test_cmdline_a", *words), "klp_test_cmdline_a"


def _run(soak: Soak, _chance: random.Random, _turn: int) -> tuple[list[str], str]:
    return _command(soak, "run", "klp_test_cmdline_a"), "klp_test_cmdline_a"


def _restores(soak: Soak, _chance: random.Random, _turn: int) -> tuple[list[str], str]:
    problems = []
    for number in range(1, _RESTORES + 1):
        if number % _SAMPLE_EVERY == 0:
            soak.samples.append(sample(soak.place))
        try:
            soak.restores.restore()
        except (KlpError, AssertionError) as error:
            problems.append(f"restore {soak.restores.count}: {type(error).__name__}: {error}")
    return problems, f"{soak.restores.count} restores so far"


def _signals(soak: Soak, _chance: random.Random, _turn: int) -> tuple[list[str], str]:
    before = len(soak.shooting.problems)
    shots = len(soak.shooting.shots)
    soak.shooting.shoot((*QUICK, *SLOW), _SHOTS, lambda _: None)
    soak.shooting.problems += soak.shooting.aftermath()
    soak.place.remove_evidence()
    sent = soak.shooting.shots[shots:]
    did = "; ".join(f"{shot.signal.name} {shot.line}" for shot in sent)
    return list(soak.shooting.problems[before:]), did


def _together(soak: Soak, _chance: random.Random, _turn: int) -> tuple[list[str], str]:
    ended: list[Ended] = []

    def test() -> None:
        ended.append(
            soak.place.run(("test", "-k", _TOGETHER, *soak.place.kernel), seconds=_COMMAND_S)
        )

    threads = [threading.Thread(target=test) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    problems = [problem for one in ended for problem in _unexpected(one)]
    results = [_outcomes(one.report) for one in ended]
    if len(results) != 2 or results[0] != results[1] or not results[0]:
        problems.append(f"two runs at once have other results: {results}")
    return problems, f"two runs of {len(results[0])} tests at once"


def _outcomes(report: Any) -> dict[str, str]:
    return {result["id"]: result["outcome"] for result in report["results"]} if report else {}


def _fuzz(_soak: Soak, chance: random.Random, _turn: int) -> tuple[list[str], str]:
    if not (FUZZ / "__main__.py").is_file():
        return [], "there is no tests/fuzz"
    seed = str(chance.randrange(1 << 31))
    argv = [sys.executable, "-m", "tests.fuzz", "--seconds", str(_FUZZ_S), "--seed", seed]
    done = run(argv, deadline=Deadline.after(_COMMAND_S), check=False, cwd=FUZZ.parents[1])
    problems = [f"tests/fuzz, seed {seed}\n{done.stdout[-3000:]}"] if done.returncode else []
    return problems, (done.stdout.strip().splitlines() or ["nothing"])[-1]


def signal_words(records: Sequence[dict[str, Any]]) -> list[str]:
    """Return one line on the signals of a soak."""
    sent = [record["did"] for record in records if record["part"] == "signals"]
    count = sum(len(did.split("; ")) for did in sent)
    return [f"signals: {count} sent"] if sent else []


# The order is that of a turn.
PARTS: dict[str, Part] = {
    "run": _run,
    "suite": _suite,
    "restores": _restores,
    "signals": _signals,
    "races": _races,
    "verify": _verify,
    "together": _together,
    "fuzz": _fuzz,
}
