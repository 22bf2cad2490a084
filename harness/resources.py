# SPDX-License-Identifier: GPL-2.0-only
"""Where the harness's own data, its cache and its run directories are."""

from __future__ import annotations

import os
import re
from enum import StrEnum
from pathlib import Path

import platformdirs

from harness.errors import HarnessError, UsageError
from harness.inputs import Kind, kind_of, shown

_PACKAGE = Path(__file__).resolve().parent
_CACHE, _RUNS = "KLP_HARNESS_CACHE", "KLP_HARNESS_RUNS"
# Kernels are built below the cache: what make, the shell and gcc's -Wp, split at. Of a run's folder
# QEMU gets paths in its options, which it splits at commas.
_UNUSABLE = {
    _CACHE: re.compile(r"""[\s:"'$#%&;()<>|*?\[\]{}\\`!,=~]"""),
    _RUNS: re.compile(r"""[,"\n\r\t]"""),
}


class Resource(StrEnum):
    """Data that is installed beside the Python code: top-level folders of a checkout."""

    KERNEL_CONFIGS = "kernel-configs"
    LIVEPATCH_MODULES = "livepatch-modules"
    GUEST_PROGRAMS = "guest-programs"
    QEMU_PLUGIN = "qemu-plugin"
    BUG_REPORTS = "docs/bugs"
    KERNEL_FIXES = "kernel-fixes"
    KERNEL_MODELS = "kernel-models"
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
    """Return the folder of the content-addressed cache; KLP_HARNESS_CACHE overrides it.

    Raises UsageError for a name that make, the shell or apt read as something else, where kernels
    cannot be built ("source directory cannot contain spaces or colons", the kernel's top Makefile),
    and for what is no folder.
    """
    override = os.environ.get(_CACHE)
    folder = Path(override) if override else platformdirs.user_cache_path("klp-harness")
    return _usable(folder, _CACHE, "the cache")


def runs_root() -> Path:
    """Return the folder that keeps logs and artefacts of runs; KLP_HARNESS_RUNS overrides it.

    Raises UsageError for a name that QEMU reads as something else, and for what is no folder.
    """
    override = os.environ.get(_RUNS)
    folder = Path(override) if override else platformdirs.user_state_path("klp-harness") / "runs"
    return _usable(folder, _RUNS, "the runs folder")


def _usable(folder: Path, variable: str, what: str) -> Path:
    text = str(folder)
    wrong = _UNUSABLE[variable].search(text)
    if wrong is not None or not text.isprintable():
        sign = f"a '{shown(wrong[0])}'" if wrong is not None else "what is no text"
        raise UsageError(
            f"{what} cannot be in {shown(text)}: its name has {sign} in it",
            hint=f"{variable} names another folder for it",
        )
    if kind_of(folder, what) is Kind.FILE:
        raise UsageError(
            f"{what} cannot be in {shown(text)}: that is a file",
            hint=f"{variable} names another folder for it",
        )
    return folder


def results_root() -> Path:
    """Return the folder with the latest results of each rule's tests, beside the runs."""
    return runs_root() / "behaviours"
