# SPDX-License-Identifier: GPL-2.0-only
"""The package: what the wheel carries, and that it works away from the checkout."""

from __future__ import annotations

import ast
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from harness import __version__
from harness.deadline import Deadline
from harness.resources import Resource
from harness.vm.host.process import run

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
# Runs with the wheel first in the path: with -P and -E no checkout gets in between.
AWAY = """
import sys
sys.path.insert(0, sys.argv[1])
import harness
from harness.resources import Resource, resource_dir
print(harness.__file__)
for resource in Resource:
    print(resource_dir(resource))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout, built by the backend that pip would use; needs no network."""
    folder = tmp_path_factory.mktemp("wheel")
    built = "import sys; from hatchling.build import build_wheel; print(build_wheel(sys.argv[1]))"
    done = run(
        [sys.executable, "-c", built, folder], cwd=ROOT, deadline=Deadline.after(60)
    ).stdout.split()
    return folder / done[-1]


def git_files(folder: str) -> set[str]:
    listed = run(["git", "ls-files", "-z", folder], cwd=ROOT, deadline=Deadline.after(60))
    return {name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()}


def names_in(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_wheel_carries_all_data_beside_the_code(wheel: Path) -> None:
    """Kernel configs, modules, guest programs, tests and mutants are in the wheel."""
    names = names_in(wheel)
    for resource in Resource:
        wanted = {f"harness/_data/{name}" for name in git_files(resource.value)}
        assert wanted - names == set(), resource


def test_wheel_carries_every_file_of_the_package(wheel: Path) -> None:
    """Data files of the package count too: templates, policies, py.typed."""
    assert git_files("harness") - names_in(wheel) == set()
    assert "harness/py.typed" in names_in(wheel)


def test_wheel_carries_nothing_that_a_build_left_behind(wheel: Path) -> None:
    """No object file of this machine is published."""
    left = {".o", ".ko", ".pyc", ".mod", ".cmd", ".symvers"}
    assert [name for name in names_in(wheel) if Path(name).suffix in left] == []


def test_wheel_has_the_commands_and_the_plugin(wheel: Path) -> None:
    """pip installs klp-harness as it is, and pytest finds the plugin by its entry point."""
    (entry,) = [name for name in names_in(wheel) if name.endswith("entry_points.txt")]
    (script,) = [name for name in names_in(wheel) if name.endswith("scripts/klp-harness")]
    with zipfile.ZipFile(wheel) as archive:
        text = archive.read(entry).decode()
        command = archive.read(script)
    assert command == (ROOT / "bin" / "klp-harness").read_bytes()
    assert "[pytest11]\nklp_harness = harness.pytest_plugin" in text


def test_wheel_finds_its_data_away_from_the_checkout(wheel: Path, tmp_path: Path) -> None:
    """An installed harness does not need the checkout."""
    place = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(place)
    done = run(
        [sys.executable, "-P", "-E", "-c", AWAY, place], cwd=tmp_path, deadline=Deadline.after(60)
    )
    paths = [Path(line) for line in done.stdout.splitlines()]
    assert len(paths) == 1 + len(Resource)
    assert all(path.is_relative_to(place) for path in paths)


def test_version_has_one_source(wheel: Path) -> None:
    """The wheel's version is that of harness.__version__."""
    assert "version" in PROJECT["project"]["dynamic"]
    assert wheel.name.startswith(f"klp_harness-{__version__}-")


def test_every_dependency_has_a_lower_bound() -> None:
    """An old installed release is upgraded, and does not fail at run time."""
    project = PROJECT["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    assert [name for group in groups for name in group if ">=" not in name] == []


def test_every_imported_package_is_a_dependency() -> None:
    """What a fresh environment has installed is what pyproject.toml names, and nothing else."""
    project = PROJECT["project"]
    extras = project["optional-dependencies"]
    wanted = [
        *project["dependencies"],
        *(name for extra in extras if extra != "dev" for name in extras[extra]),
    ]
    listed = {name.split(">=")[0].split("[")[0].lower() for name in wanted}
    provides = {
        "elftools": "pyelftools",
        "_pytest": "pytest",
        "xdist": "pytest-xdist",
        "tree_sitter": "tree-sitter",
        "tree_sitter_c": "tree-sitter-c",
    }
    names: set[str] = set()
    for path in (ROOT / "harness").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module is not None:
                names.add(node.module)
    tops = {"qemu.qmp" if name.startswith("qemu.qmp") else name.split(".")[0] for name in names}
    others = tops - set(sys.stdlib_module_names) - {"harness"}
    assert {provides.get(name, name) for name in others} - listed == set()
