# SPDX-License-Identifier: GPL-2.0-only
"""The suite on the kernel of mutants with none on: what each test reaches, and how long it takes.

It is kept in the cache by test file. A test that fails here cannot notice a mutant.
"""

from __future__ import annotations

import hashlib
import json
from functools import partial
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from harness import __version__
from harness.behaviours.rule_tests import on_other_kernels
from harness.behaviours.table import load_table
from harness.errors import HarnessError
from harness.report.base import CheckOutcome
from harness.resources import Resource, resource_dir
from harness.threads import run_jobs
from harness.tools.mutants.sweep.messages import Job
from harness.tools.mutants.sweep.pool import OutOfTime, WorkerLost
from harness.tools.mutants.sweep.schema import RECORD, read_seen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from harness.deadline import Deadline
    from harness.tools.mutants.sweep.messages import Ran
    from harness.tools.mutants.sweep.pool import RunsTests
    from harness.vm.host.cache import Store
    from harness.vm.kernel.kernel import Kernel

KIND = "mutant-baseline"
_FILE = "baseline.json"
_FORMAT = 3
_TEST_S = 600.0
_TRIES = 2
# When more than this share fails, it is the kernel or the host, and not a few tests.
_MOST_FAILING = 0.1
_NAMED_FAILING = 5
_GOOD = (CheckOutcome.PASSED, CheckOutcome.EXPECTED_FAILURE, CheckOutcome.SKIPPED)
_DATA = (Resource.BEHAVIOUR_TESTS, Resource.LIVEPATCH_MODULES, Resource.GUEST_PROGRAMS)


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TestFacts(_Model):
    """A test without any mutant: how it ends, and which mutants' code it reaches.

    ``differs`` are those whose mutated code would have had another value or effect. ``cpu_s`` is
    the CPU time of its guests on the host.
    """

    __test__ = False

    outcome: CheckOutcome
    seconds: float
    cpu_s: float = 0.0
    rules: tuple[str, ...] = ()
    reason: str = ""
    reached: frozenset[int] = frozenset()
    differs: frozenset[int] = frozenset()

    @property
    def can_notice(self) -> bool:
        """Whether it ends well without a mutant, so that its failure means something."""
        return self.outcome in _GOOD and self.outcome is not CheckOutcome.SKIPPED


class _Kept(_Model):
    """What the cache has of the tests of one file."""

    tests: dict[str, TestFacts]


class Baseline(_Model):
    """All tests of the suite by name, as they end on a kernel of mutants with none on.

    ``keys`` are digests of the kernel and the tests, by file.
    """

    tests: dict[str, TestFacts]
    keys: dict[str, str] = Field(default_factory=dict)

    def key(self, noticed_by: str | None) -> str:
        """Return a digest of what a result depends on: all tests, or the one that noticed."""
        if noticed_by is not None:
            return self.keys.get(noticed_by.partition("::")[0], "")
        return _digest(sorted(self.keys.values()))

    def reaching(self, number: int) -> tuple[str, ...]:
        """Return the tests that reach a mutant's code."""
        return tuple(name for name, test in self.tests.items() if number in test.reached)

    def differing(self, number: int) -> tuple[str, ...]:
        """Return the tests in which a mutant makes a difference, and that could notice it."""
        return tuple(
            name for name, test in self.tests.items() if number in test.differs and test.can_notice
        )

    @property
    def failing(self) -> tuple[str, ...]:
        """The tests that fail without a mutant."""
        return tuple(name for name, test in self.tests.items() if test.outcome not in _GOOD)


def chosen_tests(names: Iterable[str], suite: Path) -> tuple[str, ...]:
    """Return the tests that run on the kernel as it is, and not on one of another configuration."""
    others = on_other_kernels(suite)
    return tuple(name for name in names if name.partition("[")[0] not in others)


def obtain_baseline(
    kernel: Kernel,
    workers: RunsTests,
    *,
    guests: int,
    store: Store,
    deadline: Deadline,
    progress: Callable[[int, int], None],
) -> Baseline:
    """Return the suite's baseline on a kernel of mutants, run now or taken from the cache.

    Only the tests of files that have changed since run now, and those of files of which a test has
    failed. ``progress`` is called with how many tests of how many have run. Raises HarnessError.
    """
    suite = resource_dir(Resource.BEHAVIOUR_TESTS)
    files: dict[str, list[str]] = {}
    for name in chosen_tests(workers.tests(), suite):
        files.setdefault(name.partition("::")[0], []).append(name)
    keys = _keys(kernel, suite, files)
    known: dict[str, TestFacts] = {}
    missing: list[str] = []
    for file, names in files.items():
        entry = store.find(KIND, keys[file])
        found = _Kept.model_validate_json((entry / _FILE).read_bytes()).tests if entry else {}
        if found.keys() == set(names):
            known |= found
        else:
            missing += names
    made = run_baseline(missing, workers, guests=guests, progress=progress)
    whole = Baseline(tests=dict(sorted((known | made).items())), keys=keys)
    for file, names in files.items():
        if names[0] in made and not set(names) & set(whole.failing):
            text = _Kept(tests={name: made[name] for name in names}).model_dump_json()
            store.obtain(KIND, keys[file], partial(_write, text), deadline=deadline)
    _check(whole)
    return whole


def _write(text: str, folder: Path) -> None:
    (folder / _FILE).write_text(text)


def _check(baseline: Baseline) -> None:
    """Raise HarnessError when so much fails without a mutant that nothing can be judged."""
    failing, count = baseline.failing, len(baseline.tests)
    if count and len(failing) <= _MOST_FAILING * count:
        return
    raise HarnessError(
        f"{len(failing)} of {count} tests fail on the kernel of mutants, though no mutant is on",
        hint="see whether the suite passes on the kernel itself: klp-harness test",
        details=tuple(
            f"{name}: {baseline.tests[name].reason}" for name in failing[:_NAMED_FAILING]
        ),
    )


def run_baseline(
    names: Sequence[str],
    workers: RunsTests,
    *,
    guests: int,
    progress: Callable[[int, int], None],
) -> dict[str, TestFacts]:
    """Run each test with the record on; one that does not end well is tried a second time."""

    def do(name: str) -> tuple[str, TestFacts]:
        facts = TestFacts(outcome=CheckOutcome.ERROR, seconds=0.0)
        for _ in range(_TRIES):
            try:
                (ran,) = workers.run(Job(number=RECORD, tests=(name,)), limit_s=lambda _: _TEST_S)
            except (OutOfTime, WorkerLost) as error:
                reason = str(error) or "it did not end in time"
                facts = TestFacts(outcome=CheckOutcome.ERROR, seconds=0.0, reason=reason)
                continue
            facts = facts_of(ran)
            if facts.outcome in _GOOD:
                break
        return name, facts

    found: dict[str, TestFacts] = {}
    for name, facts in run_jobs(names, do, at_a_time=guests, name="baseline"):
        found[name] = facts
        progress(len(found), len(names))
    return found


def facts_of(ran: Ran) -> TestFacts:
    """Return what a test that ran with the record on says about mutants."""
    seen: dict[int, bool] = {}
    for text in ran.seen:
        for number, differs in read_seen(text).items():
            seen[number] = differs or seen.get(number, False)
    return TestFacts(
        outcome=ran.outcome,
        seconds=ran.seconds,
        cpu_s=ran.cpu_s,
        rules=ran.rules,
        reason=ran.reason,
        reached=frozenset(seen),
        differs=frozenset(number for number, differs in seen.items() if differs),
    )


def _keys(kernel: Kernel, suite: Path, files: Iterable[str]) -> dict[str, str]:
    """Return for each test file a digest of all that its tests' baseline depends on."""
    shared = {
        f"{folder.name}/{path.relative_to(folder)}": hashlib.sha256(path.read_bytes()).hexdigest()
        for folder in (resource_dir(each) for each in _DATA)
        for path in sorted(folder.rglob("*"))
        if path.suffix in {".c", ".h", ".py"} and not path.name.startswith("test_")
    }
    rules = load_table().rule
    found = {}
    for file in files:
        text = (suite / file).read_text(encoding="utf-8")
        expected = [repr(rule) for rule in rules if rule.id in text]
        found[file] = _digest([_FORMAT, __version__, kernel.digest, shared, text, expected])
    return found


def _digest(parts: Sequence[object]) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:24]
