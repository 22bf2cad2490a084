# SPDX-License-Identifier: GPL-2.0-only
"""The suite on the kernel of mutants with none on: what each test reaches, and how long it takes.

It is kept in the cache. A test that fails here cannot notice a mutant.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from harness import __version__
from harness.behaviours.rule_tests import on_other_kernels
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
    from harness.tools.mutants.sweep.pool import Workers
    from harness.vm.host.cache import Store
    from harness.vm.kernel.kernel import Kernel

KIND = "mutant-baseline"
_FILE = "baseline.json"
_FORMAT = 1
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

    ``differs`` are those whose mutated code would have had another value or effect.
    """

    __test__ = False

    outcome: CheckOutcome
    seconds: float
    rules: tuple[str, ...] = ()
    reason: str = ""
    reached: frozenset[int] = frozenset()
    differs: frozenset[int] = frozenset()

    @property
    def can_notice(self) -> bool:
        """Whether it ends well without a mutant, so that its failure means something."""
        return self.outcome in _GOOD and self.outcome is not CheckOutcome.SKIPPED


class Baseline(_Model):
    """All tests of the suite by name, as they end on a kernel of mutants with none on."""

    tests: dict[str, TestFacts]

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
    workers: Workers,
    *,
    guests: int,
    store: Store,
    deadline: Deadline,
    progress: Callable[[int, int], None],
) -> Baseline:
    """Return the suite's baseline on a kernel of mutants, run now or taken from the cache.

    ``progress`` is called with how many tests of how many have run. Raises HarnessError.
    """
    suite = resource_dir(Resource.BEHAVIOUR_TESTS)

    def fill(folder: Path) -> None:
        names = chosen_tests(workers.tests(), suite)
        made = run_baseline(names, workers, guests=guests, progress=progress)
        (folder / _FILE).write_text(made.model_dump_json())

    entry = store.obtain(KIND, baseline_key(kernel), fill, deadline=deadline)
    return Baseline.model_validate_json((entry / _FILE).read_bytes())


def run_baseline(
    names: Sequence[str],
    workers: Workers,
    *,
    guests: int,
    progress: Callable[[int, int], None],
) -> Baseline:
    """Run each test with the record on; one that does not end well is tried a second time.

    Raises HarnessError when none passes.
    """

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
    made = Baseline(tests=dict(sorted(found.items())))
    if not names or len(made.failing) > _MOST_FAILING * len(names):
        raise HarnessError(
            f"{len(made.failing)} of {len(names)} tests fail on the kernel of mutants, though no "
            "mutant is on",
            hint="see whether the suite passes on the kernel itself: klp-harness test",
            details=tuple(
                f"{name}: {made.tests[name].reason}" for name in made.failing[:_NAMED_FAILING]
            ),
        )
    return made


def facts_of(ran: Ran) -> TestFacts:
    """Return what a test that ran with the record on says about mutants."""
    seen: dict[int, bool] = {}
    for text in ran.seen:
        for number, differs in read_seen(text).items():
            seen[number] = differs or seen.get(number, False)
    return TestFacts(
        outcome=ran.outcome,
        seconds=ran.seconds,
        rules=ran.rules,
        reason=ran.reason,
        reached=frozenset(seen),
        differs=frozenset(number for number, differs in seen.items() if differs),
    )


def baseline_key(kernel: Kernel) -> str:
    """Return a digest of the kernel of mutants, the tests, and what runs in their guests."""
    files = {}
    for resource in _DATA:
        folder = resource_dir(resource)
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.suffix in {".py", ".toml", ".c", ".h", ".sh"}:
                name = f"{resource.value}/{path.relative_to(folder)}"
                files[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    parts = [_FORMAT, __version__, kernel.digest, files]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:24]
