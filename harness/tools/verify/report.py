# SPDX-License-Identifier: GPL-2.0-only
"""What `klp-harness verify` writes while it goes on: verdicts in the results, and the page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.cli.invocation import write_file
from harness.report.base import CheckOutcome
from harness.tools.verify.page import verify_page
from harness.tools.verify.results import VerdictFacts, VerifyResult, facts_of, results_of
from harness.tools.verify.terminal import print_verdict
from harness.tools.verify.verdict import Verdict, not_run

if TYPE_CHECKING:
    from pathlib import Path

    from harness.cli.invocation import Invocation
    from harness.report.run_results import RunResult
    from harness.vm.guest.keeper import Keeper


class Report:
    """What the command writes: results, verdicts, timelines; and the page, after each module."""

    def __init__(self, invocation: Invocation, page: Path | None, keeper: Keeper | None) -> None:
        self.keeper = keeper
        self.verdicts: list[VerdictFacts] = []
        self._runs: list[RunResult] = []
        self._invocation = invocation
        self._page = page
        invocation.more |= {"verdicts": self.verdicts, "runs": self._runs}
        invocation.at_end(lambda partial: self._write_page(partial=partial))

    @property
    def stops(self) -> bool:
        """Whether nothing is to begin after what has failed: --stop-at-failure."""
        return self.keeper is not None and self.keeper.stops_all and self.keeper.has_failed

    @property
    def keep_logs(self) -> bool:
        """Whether a verdict makes the guests' logs worth keeping."""
        return any(facts.outcome != CheckOutcome.PASSED for facts in self.verdicts)

    def add(self, verdict: Verdict, path: Path) -> None:
        """Report a verdict on the module in that file."""
        results, facts = results_of(verdict), facts_of(verdict, path)
        self.verdicts.append(facts)
        self._runs += verdict.runs
        self._invocation.results += results
        print_verdict(self._invocation.terminal, facts, results)
        self._write_page()

    def add_no_debug(self, built: Path) -> None:
        """Report that a module cannot be verified on the debug kernel, because of a built file."""
        why = (
            f"{built.name} is built for the other kernel: give the folder of its sources "
            "to have it verified with lockdep and KASAN too"
        )
        for facts in self.verdicts:
            checks = (not_run("debug-kernel", why),)
            self._invocation.results += results_of(Verdict(module=facts.module, checks=checks))
        self._invocation.terminal.note(why)
        self._write_page()

    def _write_page(self, *, partial: bool = True) -> None:
        if self._page is None:
            return
        results = [each for each in self._invocation.results if isinstance(each, VerifyResult)]
        facts = self._invocation.facts
        text = verify_page(
            self.verdicts,
            results,
            self._runs,
            kernel=facts["kernel"],
            accelerator=facts["accelerator"],
            partial=partial,
        )
        write_file(self._page, text)
