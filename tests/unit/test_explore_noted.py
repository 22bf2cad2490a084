# SPDX-License-Identifier: GPL-2.0-only
"""A run in which QEMU notes accesses is made again when QEMU fails, and then without notes."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest

from harness.errors import HarnessError, QemuFailed
from harness.tools.race.explore.pairs import find_pairs
from harness.tools.race.explore.trial import noted

if TYPE_CHECKING:
    from harness.vm.guest.snapshot import Template

NOTING = cast("Template", object())
ABORTED = QemuFailed("QEMU was killed by SIGABRT")


@pytest.mark.parametrize(
    ("failures", "with_notes", "said"),
    [(0, [True], 0), (2, [True] * 3, 2), (3, [True] * 3 + [False], 3)],
)
def test_runs(
    failures: int, with_notes: list[bool], said: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Only the last run is without notes, and that more points are tried is said then alone."""
    (pair,) = find_pairs(["load-call"])
    runs: list[bool] = []

    def run(template: Template | None) -> int:
        runs.append(template is NOTING)
        if len(runs) <= failures:
            raise ABORTED
        return len(runs)

    assert noted(pair, NOTING, run) == len(with_notes)
    assert runs == with_notes
    texts = [record.getMessage() for record in caplog.records]
    assert len(texts) == said
    assert all("load-call is run again" in text for text in texts)
    assert ["more of its points are tried" in text for text in texts] == [
        index == 2 for index in range(said)
    ]


def test_a_run_without_notes_is_not_made_again() -> None:
    """What fails there is the trial's."""
    (pair,) = find_pairs(["load-call"])
    runs: list[None] = []

    def run(template: Template | None) -> None:
        assert template is None
        runs.append(None)
        raise ABORTED

    with pytest.raises(HarnessError):
        noted(pair, None, run)
    assert len(runs) == 1
