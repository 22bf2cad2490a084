# SPDX-License-Identifier: GPL-2.0-only
"""A livepatch that is refused, and frees its memory."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from harness.errors import ModuleRefused
from harness.tools.race.reproducers.refused import PATCH

if TYPE_CHECKING:
    from harness.livepatch.patch import Livepatch
    from harness.vm.guest.machine import Machine


@pytest.mark.behaviour("LD-09")
def test_a_refused_patch_is_freed(guest: Machine, livepatch: Livepatch) -> None:
    """Its memory is free at once, also where the kernel delays the release of kobjects.

    The kernel chooses the delays. Each round waits for all of them, and few show nothing.
    """
    for _ in range(3):
        with pytest.raises(ModuleRefused) as refused:
            livepatch.load(PATCH)
        assert refused.value.errno == errno.EINVAL
        guest.check_splats()
    assert livepatch.patches() == []
