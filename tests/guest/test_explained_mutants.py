# SPDX-License-Identifier: GPL-2.0-only
"""What is known of mutants that no test notices, held against the kernel that is tested."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.behaviours.mutants import series_of
from harness.resources import Resource, resource_dir
from harness.tools.mutants.sweep.explained import NAME, match, read_explained
from harness.tools.mutants.sweep.hooks import FILES as HOOK_FILES
from harness.tools.mutants.sweep.hooks import of_hooks
from harness.tools.mutants.sweep.kernel_of_mutants import CORE, sources_of
from harness.tools.mutants.sweep.parse import candidates
from harness.tools.mutants.sweep.schema import HOME

if TYPE_CHECKING:
    from harness.vm.kernel.kernel import Kernel


def test_each_entry_is_about_the_code_of_one_place(
    kernel: Kernel, caplog: pytest.LogCaptureFixture
) -> None:
    """None fits another line than it was written for; what names this kernel's series fits."""
    if kernel.digest != kernel.module_digest or not (kernel.build_dir.parent / HOME).is_file():
        pytest.skip("this kernel comes without its sources")
    core = sources_of(kernel, CORE)
    root = kernel.build_dir.parent
    hooks = {name: (root / name).read_bytes() for name in HOOK_FILES if (root / name).is_file()}
    found = (*candidates(core), *of_hooks(candidates(hooks), hooks))
    listed = read_explained(resource_dir(Resource.KERNEL_MUTANTS) / NAME)
    series = series_of(kernel.version)
    used = match(found, core | hooks, listed, series=series)
    assert [record.getMessage() for record in caplog.records] == []
    unused = [each for each in listed if series in each.series and each not in used.values()]
    assert unused == []
