# SPDX-License-Identifier: GPL-2.0-only
"""From what a user names to module files, and to folders of tests."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from harness.cli import modules
from harness.cli.modules import ModuleFinder
from harness.errors import UsageError
from harness.report.terminal import Terminal
from harness.resources import Resource, resource_dir
from harness.tools.suite import command as test
from harness.vm.kernel.config import KernelConfig

if TYPE_CHECKING:
    from collections.abc import Mapping

SAMPLES = {name: Path(f"/cache/{name}.ko") for name in ("klp_test_gate", "klp_target_gate")}


def build(
    _: Terminal, __: Any, folder: Path, *, variables: tuple[str, ...] = ()
) -> Mapping[str, Path]:
    """Make up what a folder has, in a folder of its own with other variables."""
    if folder == resource_dir(Resource.LIVEPATCH_MODULES):
        return SAMPLES
    return {name: Path(folder, *variables, f"{name}.ko") for name in ("b", "a")}


@pytest.fixture
def finder(monkeypatch: pytest.MonkeyPatch) -> ModuleFinder:
    """A finder whose builds are made up: the samples, or what a folder is named after."""

    monkeypatch.setattr(modules, "prepare_modules", build)
    terminal = Terminal(stdout=io.StringIO(), stderr=io.StringIO())
    kernel = SimpleNamespace(config=KernelConfig({}))
    return ModuleFinder(terminal, cast("Any", kernel))


def test_sample_by_name(finder: ModuleFinder) -> None:
    """A sample is found by its name, with dashes or underscores."""
    for name in ("klp_test_gate", "klp-test-gate"):
        assert finder.find(name) == (SAMPLES["klp_test_gate"],)


def test_file_by_path(finder: ModuleFinder, tmp_path: Path) -> None:
    """A file is taken as it is."""
    path = tmp_path / "my-fix.ko"
    path.write_bytes(b"")
    assert finder.find(str(path)) == (path,)


def test_folder_is_built(finder: ModuleFinder, tmp_path: Path) -> None:
    """A folder of sources gives all its modules, sorted."""
    assert finder.find(str(tmp_path)) == (tmp_path / "a.ko", tmp_path / "b.ko")


def test_built_with_lines(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What is built with -g is another file, and where its sources are is known."""
    monkeypatch.setattr(modules, "prepare_modules", build)
    terminal = Terminal(stdout=io.StringIO(), stderr=io.StringIO())
    kernel = SimpleNamespace(config=KernelConfig({}))
    finder = ModuleFinder(terminal, cast("Any", kernel), lines=True)
    (found, other) = finder.find(str(tmp_path))
    assert "-g" in str(found.parent)
    assert finder.folders == {found: tmp_path, other: tmp_path}
    finder.find("klp_test_gate")
    assert finder.folders[SAMPLES["klp_test_gate"]] == resource_dir(Resource.LIVEPATCH_MODULES)


def test_only_some_samples_are_built(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The demo needs two of ninety; a folder of a user's own is built whole."""
    asked: list[tuple[Path, tuple[str, ...]]] = []

    def noted(
        terminal: Terminal, kernel: Any, folder: Path, *, variables: tuple[str, ...]
    ) -> Mapping[str, Path]:
        asked.append((folder, variables))
        return build(terminal, kernel, folder, variables=variables)

    monkeypatch.setattr(modules, "prepare_modules", noted)
    terminal = Terminal(stdout=io.StringIO(), stderr=io.StringIO())
    kernel: Any = SimpleNamespace(config=KernelConfig({}))
    finder = ModuleFinder(terminal, kernel, only=("klp_target_gate", "klp_test_gate"))
    finder.find("klp_test_gate")
    finder.find(str(tmp_path))
    samples = resource_dir(Resource.LIVEPATCH_MODULES)
    assert asked == [
        (samples, ("KLP_ONLY=klp_target_gate.o klp_test_gate.o",)),
        (tmp_path, ()),
    ]


def test_misspelt_sample_gets_a_suggestion(finder: ModuleFinder) -> None:
    """A typing error is answered with the nearest name."""
    with pytest.raises(UsageError) as caught:
        finder.find("klp_test_gat")
    assert "klp_test_gate" in (caught.value.hint or "")


def test_stranger_gets_the_list(finder: ModuleFinder) -> None:
    """A name like no other is answered with all patches, and not with targets."""
    with pytest.raises(UsageError) as caught:
        finder.find("ext4")
    assert caught.value.hint == "the samples are klp_test_gate"


@pytest.mark.parametrize("named", ["missing.ko", "some/folder", "./klp_test_gate"])
def test_missing_file_is_no_sample(finder: ModuleFinder, named: str) -> None:
    """What looks like a path is never looked up among the samples."""
    with pytest.raises(UsageError, match="there is no file"):
        finder.find(named)


def test_all_runs_what_starts_guests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """--all runs all of a checkout's tests that have guests, and is refused without one."""
    suite = tmp_path / "tests" / "behaviours"
    suite.mkdir(parents=True)
    monkeypatch.setattr(test, "resource_dir", lambda _: suite)
    with pytest.raises(UsageError, match="checkout"):
        test._folders_with_guests()
    (tmp_path / "pyproject.toml").write_text("")
    for name in ("behaviours/fork/test_fork.py", "guest/test_x.py", "unit/test_y.py", "empty/z"):
        (tmp_path / "tests" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tests" / name).touch()
    assert test._folders_with_guests() == [suite, tmp_path / "tests" / "guest"]
