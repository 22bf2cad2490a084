# SPDX-License-Identifier: GPL-2.0-only
"""A livepatch that lacks something is refused before anything is patched."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from harness.errors import ModuleRefused
from harness.livepatch.patch import Livepatch

if TYPE_CHECKING:
    from tests.behaviours.conftest import Guestview

PATCH, OTHER = "klp_test_incomplete", "klp_test_cmdline_a"
TARGET = "klp_target_mod"
REFUSED = {
    "patch": errno.EINVAL,
    "mod": errno.EINVAL,
    "objs": errno.EINVAL,
    "funcs": errno.EINVAL,
    "old_name": errno.EINVAL,
    "new_func": errno.EINVAL,
    "all": errno.EINVAL,
    "text": errno.ENOENT,
    "short_name": errno.EINVAL,
    "short_object": errno.EINVAL,
}


@pytest.mark.behaviour("LD-10")
def test_what_a_livepatch_must_have(livepatch: Livepatch, view: Guestview) -> None:
    """Without it the load fails, nothing is left or patched, and a complete one loads."""
    for lacks, number in REFUSED.items():
        assert (lacks, errno_of(livepatch, lacks)) == (lacks, number)
        assert livepatch.patches() == []
        assert PATCH not in view.modules()
        assert view.cmdline() == "original"
    livepatch.load(PATCH, wait=True)
    assert view.cmdline() == PATCH


@pytest.mark.slow(8)
@pytest.mark.behaviour("LD-10")
def test_a_livepatch_without_objects(livepatch: Livepatch, view: Guestview) -> None:
    """It patches nothing, and is enabled, disabled, replaced, and replaces others as any other."""
    patch = livepatch.load(PATCH, wait=True, lacks="objects")
    patch.disable()
    patch.unload()
    livepatch.load(PATCH, wait=True, lacks="objects")
    other = livepatch.load(OTHER, wait=True, replace=True)
    patch.unload()
    assert view.cmdline() == OTHER
    livepatch.load(PATCH, wait=True, lacks="objects", replace=True)
    other.unload()
    assert view.cmdline() == "original"
    patch.disable()
    patch.unload()
    assert livepatch.patches() == []


@pytest.mark.behaviour("LD-12")
def test_internal_members_that_are_not_zero(livepatch: Livepatch, view: Guestview) -> None:
    """The kernel sets them: the patch is enabled, waits for its target, is disabled and gone."""
    patch = livepatch.load(PATCH, wait=True, lacks="zeroes")
    assert view.cmdline() == PATCH
    assert view.shows_patched(patch.object(TARGET), patched=False)
    patch.disable()
    patch.unload()
    assert view.cmdline() == "original"
    assert PATCH not in view.modules()


def errno_of(livepatch: Livepatch, lacks: str) -> int | None:
    """Return what a livepatch that lacks something is refused with; None when it is not."""
    try:
        livepatch.load(PATCH, lacks=lacks)
    except ModuleRefused as refused:
        return refused.errno
    return None
