# SPDX-License-Identifier: GPL-2.0-only
"""Where the harness's own data, its cache and its run directories are."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path

import platformdirs

from harness.errors import HarnessError

_PACKAGE = Path(__file__).resolve().parent


class Resource(StrEnum):
    """Data that is installed beside the Python code: top-level folders of a checkout."""

    KERNEL_CONFIGS = "kernel-configs"
    LIVEPATCH_MODULES = "livepatch-modules"
    GUEST_PROGRAMS = "guest-programs"
    KERNEL_MUTANTS = "kernel-mutants"
    BEHAVIOUR_TESTS = "tests/behaviours"


def resource_dir(resource: Resource) -> Path:
    """Return the folder of a resource, in a wheel or in a checkout.

    Raises HarnessError when neither has it: the installation is broken.
    """
    for root in (_PACKAGE / "_data", _PACKAGE.parent):
        folder = root / resource.value
        if folder.is_dir():
            return folder
    raise HarnessError(
        f"this installation of klp-harness lacks its folder {resource.value}",
        hint="install the wheel again, or work in a complete checkout",
    )


def cache_root() -> Path:
    """Return the folder of the content-addressed cache; KLP_HARNESS_CACHE overrides it."""
    override = os.environ.get("KLP_HARNESS_CACHE")
    return Path(override) if override else platformdirs.user_cache_path("klp-harness")


def runs_root() -> Path:
    """Return the folder that keeps logs and artefacts of runs; KLP_HARNESS_RUNS overrides it."""
    override = os.environ.get("KLP_HARNESS_RUNS")
    return Path(override) if override else platformdirs.user_state_path("klp-harness") / "runs"


def results_root() -> Path:
    """Return the folder with the latest results of each rule's tests, beside the runs."""
    return runs_root() / "behaviours"
