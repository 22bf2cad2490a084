# SPDX-License-Identifier: GPL-2.0-only
"""How a module of the corpus is judged, and which modules an option selects."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

from harness.errors import UsageError
from harness.tools.verify import CheckOutcome, Code, verify_patch
from tests.corpus.cases import Entry, Judgement, Scope, read_corpus

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from harness.vm.guest.session import Session
    from harness.vm.kernel.kernel import Kernel

# The tests themselves overlap.
GUESTS = 2
# What a transition does not see. A warning of these is never a matter of the guest.
_UNSEEN = frozenset({Code.COLD_PART, Code.UNWATCHED_TASK, Code.FORCED_BELOW})


def ask_for(metafunc: pytest.Metafunc, *, debug: bool) -> None:
    """Make a test of each entry that the option selects."""
    scope = Scope(metafunc.config.getoption("--corpus", default=Scope.SAMPLE.value))
    metafunc.parametrize("scope", [scope], ids=[""])
    metafunc.parametrize(
        ("name", "entry"),
        [
            pytest.param(name, entry, id=name)
            for name, entry in read_corpus().items()
            if entry.debug is debug and (entry.sample or scope is not Scope.SAMPLE)
        ],
    )


def judge(
    name: str,
    entry: Entry,
    scope: Scope,
    *,
    kernel: Kernel,
    session: Session,
    modules: Mapping[str, Path],
    scratch: Path,
) -> None:
    """Verify a module, and compare the verdict with the entry of the corpus."""
    verify = partial(
        verify_patch,
        entry.request(name, modules, scope, scratch),
        kernel=kernel,
        session=session,
        samples=modules,
        guests=GUESTS,
    )
    if entry.verdict is Judgement.UNKNOWN:
        with pytest.raises(UsageError, match=f"nothing of {name} can be judged"):
            verify()
        return
    verdict = verify()
    failed = [f"{check.id} [{check.code}]: {check.detail}" for check in verdict.failed]
    warnings = {check.code for check in verdict.checks if check.outcome is CheckOutcome.WARNED}
    assert warnings & _UNSEEN == entry.codes & _UNSEEN
    if entry.verdict is not Judgement.BAD:
        assert verdict.outcome is not CheckOutcome.FAILED, failed
        return
    assert verdict.outcome is CheckOutcome.FAILED
    assert verdict.codes & entry.codes, failed
