# SPDX-License-Identifier: GPL-2.0-only
"""A process that runs tests for a sweep, mutant after mutant, in one run of pytest.

The kernel, its modules and the template of its guests are made once. Each test still has a guest of
its own, restored, in which the switch is set before it begins.
"""

from __future__ import annotations

import os
import re
import resource
import shutil
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import pytest
from _pytest.runner import runtestprotocol

from harness.pytest_plugin.mutant_switch import GivenSwitch, MutantSwitch
from harness.pytest_plugin.options import PLAN, RunPlan
from harness.pytest_plugin.reporting import forget
from harness.report.base import CheckOutcome
from harness.report.reason import reason_of
from harness.tools.mutants.sweep.messages import Done, Job, Ran, Ready
from harness.tools.mutants.which_tests import name_of
from harness.tools.suite.pytest_results import Collector
from harness.vm.guest.run_folder import GUESTS

if TYPE_CHECKING:
    from pydantic import BaseModel

# As the plugin's reports begin: the name of a class of harness.errors.
_ENDED_BY = re.compile(r"([A-Z]\w+): ")
_MOST_REASON = 500


class _Unrelated:
    """An item that shares the session with all others and nothing more: fixtures of that stay."""

    def __init__(self, session: pytest.Session) -> None:
        self._session = session

    def listchain(self) -> list[pytest.Session]:
        """Return what pytest does not tear down before this item."""
        return [self._session]


class Worker:
    """A plugin in the place of pytest's own loop: it takes jobs, and answers with results."""

    def __init__(
        self, jobs: IO[str], answers: IO[str], switch: MutantSwitch, *, folder: Path, guests: int
    ) -> None:
        self._jobs = jobs
        self._answers = answers
        self._switch = switch
        self._plan = RunPlan(folder=folder, kernels=folder / "kernels", guests=guests)
        self._items: dict[str, pytest.Item] = {}
        self._failed: list[str] = []

    @pytest.hookimpl(tryfirst=True)
    def pytest_configure(self, config: pytest.Config) -> None:
        """Use the folder that all workers of the sweep share."""
        config.stash[PLAN] = self._plan

    @pytest.hookimpl(tryfirst=True)
    def pytest_unconfigure(self, config: pytest.Config) -> None:
        """Leave that folder to whoever made it."""
        del config.stash[PLAN]

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Take a test file that cannot be read."""
        if report.failed:
            self._failed.append(f"{report.nodeid}: {report.longreprtext.splitlines()[-1]}")

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Do jobs until there are no more."""
        self._items = {name_of(item.nodeid): item for item in session.items}
        failed = "; ".join(self._failed) or None
        self._say(Ready(tests=tuple(self._items), failed=failed))
        for line in self._jobs:
            job = Job.model_validate_json(line)
            self._switch.number, self._switch.at_boot = job.number, job.at_boot
            for test in job.tests:
                ran = self._run(test)
                self._say(ran)
                if not job.go_on and ran.outcome in (CheckOutcome.FAILED, CheckOutcome.ERROR):
                    break
            self._say(Done())
        return True

    def _run(self, test: str) -> Ran:
        item = self._items.get(test)
        if item is None:
            return Ran(
                test=test, outcome=CheckOutcome.ERROR, seconds=0.0, reason="there is no such test"
            )
        forget(item)
        self._switch.seen.clear()
        self._switch.took_s = 0.0
        collector = Collector()
        before_s = _guests_cpu_s()
        following: Any = _Unrelated(item.session)
        for report in runtestprotocol(item, log=False, nextitem=following):
            collector.pytest_runtest_logreport(report)
        _remove_logs(self._plan.folder)
        found = collector.results()
        if not found:
            return Ran(test=test, outcome=CheckOutcome.ERROR, seconds=0.0, reason="no result")
        result, detail = found[0], found[0].detail or ""
        ended_by = _ENDED_BY.match(detail)
        return Ran(
            test=test,
            outcome=result.outcome,
            seconds=result.seconds,
            rules=result.rules,
            reason=reason_of(detail)[:_MOST_REASON] if detail else "",
            ended_by=ended_by[1] if ended_by else None,
            switch_s=self._switch.took_s,
            cpu_s=_guests_cpu_s() - before_s,
            seen=tuple(self._switch.seen),
        )

    def _say(self, message: BaseModel) -> None:
        self._answers.write(message.model_dump_json() + "\n")
        self._answers.flush()


def _guests_cpu_s() -> float:
    """Return the CPU time of all guests of this process that have ended, in seconds."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _remove_logs(folder: Path) -> None:
    """Remove what guests of this process have left: those of a sweep would fill the disk."""
    for path in (folder / GUESTS).glob(f"*-{os.getpid()}-*"):
        if not path.name.startswith("clone-"):
            shutil.rmtree(path, ignore_errors=True)


def main(words: list[str]) -> int:
    """Run: two descriptors, a folder, the number of guests at a time, and pytest's words."""
    jobs, answers, folder, guests, *rest = words
    switch = MutantSwitch()
    with (
        os.fdopen(int(jobs), encoding="utf-8") as taken,
        os.fdopen(int(answers), "w", encoding="utf-8") as given,
    ):
        worker = Worker(taken, given, switch, folder=Path(folder), guests=int(guests))
        return int(pytest.main(rest, plugins=[GivenSwitch(switch), worker]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
