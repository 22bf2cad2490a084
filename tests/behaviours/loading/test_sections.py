# SPDX-License-Identifier: GPL-2.0-only
"""A livepatch asks for sections of its own file, as those that klp-build makes do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.livepatch.kernel_log import KernelLog
from harness.livepatch.patch import Livepatch

if TYPE_CHECKING:
    from tests.behaviours.conftest import Guestview

PATCH = "klp_test_section"


@pytest.mark.behaviour("LD-13")
@pytest.mark.parametrize(
    ("section", "answer"),
    [
        (".klp_test_word", r"\d+ bytes, as in the file"),
        (".text.klp_nobody", "none"),
    ],
    ids=["there", "not-there"],
)
def test_section_of_a_livepatch(
    livepatch: Livepatch, view: Guestview, kernel_log: KernelLog, section: str, answer: str
) -> None:
    """klp_find_section_by_name() (kernel/livepatch/core.c) finds it with its size, or none."""
    if not view.has_function("klp_find_section_by_name"):
        pytest.skip("the kernel has no klp_find_section_by_name()")
    livepatch.load(PATCH, wait=True, section=section)
    assert kernel_log.matching(rf": section {section}: {answer}$")
