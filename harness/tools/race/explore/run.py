# SPDX-License-Identifier: GPL-2.0-only
"""A campaign with its progress: in guests of this process, or on a cluster."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from harness.tools.race.explore.campaign import Campaign, PairTrials
from harness.tools.race.explore.report import result_of
from harness.tools.race.explore.terminal import print_finding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from harness.report.terminal import Terminal
    from harness.tools.race.explore.pairs import Pair
    from harness.tools.race.explore.results import ExploreResult
    from harness.vm.kernel.build import KernelRequest


@dataclass(frozen=True, kw_only=True)
class PairConditions:
    """What all pairs of a campaign on a cluster have in common: plain data.

    ``digest`` is what the kernel of the request has to have. ``accel`` is the value of --accel.
    """

    request: KernelRequest
    digest: str
    accel: str
    cpus: int
    oracle: bool
    words: tuple[str, ...]
    excuse_expected: bool


class Run(Protocol):
    """A campaign that can be watched. ``results`` has those of all pairs, at any time."""

    def watch(self, terminal: Terminal) -> None:
        """Run it, and show its progress and what it finds."""

    def results(self) -> list[ExploreResult]:
        """Return the result of each pair so far."""


class HereRun:
    """A campaign in this process, so many guests at a time. Implements Run."""

    def __init__(
        self, campaign: Campaign, report: Callable[[PairTrials], ExploreResult], *, guests: int
    ) -> None:
        self._campaign = campaign
        self._report = report
        self._guests = guests

    def watch(self, terminal: Terminal) -> None:
        """Show each finding as soon as there is one."""
        campaign, found = self._campaign, 0
        with terminal.progress() as progress:
            progress.stage(f"{_count(campaign.pairs)} with {self._guests} guests at a time")
            for trials, new in campaign.run(guests=self._guests):
                if new is not None:
                    found += 1
                    result = self._report(trials)
                    finding = next(
                        each for each in result.findings if each.message == new.wrong.message
                    )
                    print_finding(terminal, result, finding)
                progress.count(campaign.done, campaign.known_total, f"trials, {found} found")

    def results(self) -> list[ExploreResult]:
        """Return them."""
        return [self._report(each) for each in self._campaign.pairs]


class ThereRun:
    """A campaign elsewhere, of which a pair is known when it has ended. Implements Run."""

    def __init__(self, pairs: Sequence[Pair], results: Iterator[ExploreResult]) -> None:
        self._pairs = pairs
        self._coming = results
        self._known: dict[str, ExploreResult] = {}

    def watch(self, terminal: Terminal) -> None:
        """Show what a pair has shown when it has ended."""
        found = 0
        with terminal.progress() as progress:
            progress.stage(f"{_count(self._pairs)} on the cluster")
            for result in self._coming:
                self._known[result.id] = result
                found += len(result.findings)
                for finding in result.findings:
                    print_finding(terminal, result, finding)
                progress.count(len(self._known), len(self._pairs), f"pairs, {found} found")

    def results(self) -> list[ExploreResult]:
        """Return them; those that were not begun are not-run."""
        return [
            self._known.get(str(pair)) or result_of(PairTrials(pair), (), words=())
            for pair in self._pairs
        ]


def _count(pairs: Sequence[object]) -> str:
    return "1 pair" if len(pairs) == 1 else f"{len(pairs)} pairs"
