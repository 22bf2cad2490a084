# SPDX-License-Identifier: GPL-2.0-only
"""Many patches of one function, on top of each other."""

from __future__ import annotations

import string
from typing import TYPE_CHECKING

import pytest

from harness.livepatch.patch import Livepatch
from harness.vm.kernel.signing import without_signature

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.behaviours.conftest import Guestview

BUILT = "klp_test_cmdline_a"
NAMES = [f"klp_test_cmdline_{letter}" for letter in string.ascii_lowercase[:15]]


@pytest.mark.slow(20)
@pytest.mark.behaviour("TR-24")
def test_fifteen_patches_of_one_function(
    livepatch: Livepatch, sample_modules: Mapping[str, Path], tmp_path: Path, view: Guestview
) -> None:
    """Of fifteen patches of one function the body of the newest runs, after each load."""
    for name in NAMES:
        livepatch.load(_named(sample_modules[BUILT], name, tmp_path), wait=True)
        assert view.cmdline() == name
    assert [patch.name for patch in livepatch.patches() if patch.enabled] == NAMES
    top = livepatch.patch(NAMES[-1])
    top.disable()
    top.unload()
    assert view.cmdline() == NAMES[-2]


def _named(module: Path, name: str, folder: Path) -> Path:
    """Return the module with another name of the same length, also in what its body prints."""
    assert len(name) == len(BUILT)
    renamed = folder / f"{name}.ko"
    content = without_signature(module.read_bytes())
    renamed.write_bytes(content.replace(BUILT.encode(), name.encode()))
    return renamed
