# SPDX-License-Identifier: GPL-2.0-only
"""verify tells safe livepatches from others: the corpus, module by module."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.verify import CheckResult, verify_patch
from tests.corpus.cases import MODULES, Entry, Judgement, Scope, read_corpus

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from harness.pytest_plugin.fixtures import BuildModule, KernelTemplate

# The tests themselves overlap.
GUESTS = 2


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make a test of each entry that the option asks for."""
    scope = Scope(metafunc.config.getoption("--corpus", default=Scope.SAMPLE.value))
    metafunc.parametrize("scope", [scope], ids=[""])
    debug = metafunc.function is test_a_debug_kernel_tells
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
    template: KernelTemplate,
    modules: Mapping[str, Path],
    scratch: Path,
) -> None:
    """Verify a module, and compare the verdict with what the corpus says of it."""
    verdict = verify_patch(
        entry.request(name, modules, scope, scratch),
        kernel=template.kernel,
        session=template.session,
        samples=modules,
        guests=GUESTS,
    )
    said = [f"{check.id} [{check.code}]: {check.detail}" for check in verdict.failed]
    if entry.verdict is Judgement.GOOD:
        assert verdict.outcome is not CheckResult.FAILED, said
        return
    assert verdict.outcome is CheckResult.FAILED
    assert verdict.codes & entry.codes, said


def test_safe_patches_pass_and_others_fail(
    name: str,
    entry: Entry,
    scope: Scope,
    template: KernelTemplate,
    build_module: BuildModule,
    sample_modules: Mapping[str, Path],
    tmp_path: Path,
) -> None:
    """A safe livepatch has no failed check; any other has one, for the reason that is known."""
    modules = {**sample_modules, **build_module(MODULES)}
    judge(name, entry, scope, template=template, modules=modules, scratch=tmp_path)


@pytest.mark.kernel_config("debug")
def test_a_debug_kernel_tells(
    name: str,
    entry: Entry,
    scope: Scope,
    template: KernelTemplate,
    build_module: BuildModule,
    sample_modules: Mapping[str, Path],
    tmp_path: Path,
) -> None:
    """What only a kernel with lockdep and KASAN sees is seen there."""
    modules = {**sample_modules, **build_module(MODULES)}
    judge(name, entry, scope, template=template, modules=modules, scratch=tmp_path)
