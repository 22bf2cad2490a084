# SPDX-License-Identifier: GPL-2.0-only
"""The place of each patch in the stack, in sysfs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.livepatch.patch import Livepatch

if TYPE_CHECKING:
    from tests.behaviours.conftest import Guestview

ATTRIBUTE = "stack_order"
A, B, C = (f"klp_test_cmdline_{letter}" for letter in "abc")


@pytest.mark.behaviour("ST-04")
def test_stack_order(livepatch: Livepatch, view: Guestview) -> None:
    """``stack_order`` counts from 1, without a gap after the patch in the middle is disabled.

    A kernel without the function that shows it has the attribute on no patch.
    """
    patches = [livepatch.load(name, wait=True) for name in (A, B, C)]
    if not view.has_function(f"{ATTRIBUTE}_show"):
        assert not any(patch.has(ATTRIBUTE) for patch in patches)
        pytest.skip(f"patches of this kernel have no attribute `{ATTRIBUTE}`")
    assert [patch.stack_order for patch in patches] == [1, 2, 3]
    first, middle, last = patches
    middle.disable()
    middle.wait_gone()
    assert [patch.stack_order for patch in (first, last)] == [1, 2]
    middle.module.wait_unused()
    middle.unload()
    again = livepatch.load(B, wait=True)
    assert [patch.stack_order for patch in (first, last, again)] == [1, 2, 3]
