# SPDX-License-Identifier: GPL-2.0-only
"""What a project that people can join rests on: CI definitions, versions, changelog, image.

Schemas and linters look at the form of these files (`make check`); here is what they do not know.
"""

from __future__ import annotations

import ast
import fnmatch
import re
import tomllib
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from harness import __version__
from harness.deadline import Deadline
from harness.vm.host.process import run
from harness.vm.host.tools import TOOLS, Family, packages_for

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = [
    *sorted((ROOT / ".github/workflows").glob("*.yml")),
    ROOT / "docs/ci-examples/github.yml",
]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
_PINNED = re.compile(r"uses: [\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+(?:\.\d+)*")
_RELEASE = re.compile(r"^## (\d+\.\d+\.\d+) - (\S+)$", re.M)
# In every Debian, or a program of the build stage alone.
_ESSENTIAL = {"apt", "bash", "binutils", "dpkg", "tar"}


def loose_actions(text: str) -> list[str]:
    """Return the lines of a workflow that use an action without commit and version."""
    lines = [line.strip().removeprefix("- ") for line in text.splitlines()]
    return [line for line in lines if line.startswith("uses:") and not _PINNED.fullmatch(line)]


def too_much_allowed(workflow: dict[str, Any]) -> list[str]:
    """Return what a workflow's token may do beyond reading the repository."""
    granted = {"": workflow.get("permissions", "all that the repository's settings give")}
    granted |= {
        name: job["permissions"] for name, job in workflow["jobs"].items() if "permissions" in job
    }
    return [f"{name}: {may}" for name, may in granted.items() if may != {"contents": "read"}]


def repeated_lines(text: str) -> list[str]:
    """Return the items of a list that stand in a text more than once, whatever their case."""
    items = re.findall(r"^- (.+(?:\n  .+)*)$", text, re.M)
    plain = [re.sub(r"\W+", " ", item).strip().lower() for item in items]
    return sorted({item for item in plain if plain.count(item) > 1})


def unpinned(requirements: list[str], constraints: str) -> list[str]:
    """Return the requirements for which the constraints name no exact version, or a wrong one."""
    lines = [line for line in constraints.splitlines() if re.match(r"\w", line)]
    pins: dict[str, list[Requirement]] = {}
    for pin in map(Requirement, lines):
        pins.setdefault(canonicalize_name(pin.name), []).append(pin)

    def fits(pin: Requirement, wanted: Requirement) -> bool:
        exact = re.fullmatch(r"==([^*,]+)", str(pin.specifier))
        return exact is not None and Version(exact[1]) in wanted.specifier

    return [
        text
        for text in requirements
        if not (mine := pins.get(canonicalize_name(Requirement(text).name)))
        or not all(fits(pin, Requirement(text)) for pin in mine)
    ]


def ignored(name: str, patterns: list[str]) -> bool:
    """Return whether an image's build leaves a file out, by the rules for such patterns.

    A pattern names a file or a folder from the top; with ``**/`` in front, at any depth.
    """
    parts = Path(name).parts
    for pattern in patterns:
        if pattern.startswith("**/"):
            if any(fnmatch.fnmatch(part, pattern.removeprefix("**/")) for part in parts):
                return True
            continue
        # A star stands for a part of one name.
        wanted = pattern.split("/")
        if len(wanted) <= len(parts) and all(map(fnmatch.fnmatch, parts[: len(wanted)], wanted)):
            return True
    return False


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_named_by_commit(workflow: Path) -> None:
    """A tag can be moved to other code, a commit cannot. The version is there for people."""
    text = workflow.read_text()
    assert "uses: " in text
    assert loose_actions(text) == []


def test_one_action_has_one_commit() -> None:
    """A renewed action is renewed everywhere, the examples among it."""
    uses = re.findall(
        r"uses: ([\w-]+/[\w-]+)[\w/-]*(@\S+ # \S+)", "".join(path.read_text() for path in WORKFLOWS)
    )
    assert len({name for name, _ in uses}) == len(set(uses))


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_may_only_read(workflow: Path) -> None:
    """The token of a workflow has no right but to read the repository."""
    assert too_much_allowed(yaml.safe_load(workflow.read_text())) == []


def ci() -> Any:
    return yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]


def test_ci_runs_the_projects_own_script_with_kvm_and_without() -> None:
    """With KVM asked for, its absence fails the job; by itself the harness would take TCG."""
    guests = ci()["guests"]
    assert ".ci/run" in [step.get("run") for step in guests["steps"]]
    assert guests["env"]["ARGS"] == "--accel ${{ matrix.accel }}"
    legs = guests["strategy"]["matrix"]["include"]
    assert {leg["accel"]: bool(leg["device"]) for leg in legs} == {"kvm": True, "tcg": False}


def test_ci_runs_each_supported_python() -> None:
    """CI runs each Python version that pyproject.toml supports."""
    versions = ci()["python"]["strategy"]["matrix"]["python"]
    assert versions[0] == PROJECT["requires-python"].removeprefix(">=")
    assert versions == [f"3.{minor}" for minor in range(11, 11 + len(versions))]


def test_cached_kernels_depend_on_files_that_exist() -> None:
    """A pattern that matches nothing would leave the key the same whatever changes."""
    (keys,) = [
        step["with"]["key"] for step in ci()["guests"]["steps"] if step.get("id") == "kernels"
    ]
    patterns = re.findall(r"'([^']+)'", keys)
    assert len(patterns) >= 3
    assert [pattern for pattern in patterns if not any(ROOT.glob(pattern))] == []


def test_every_package_is_pinned_once_for_all() -> None:
    """What pyproject.toml asks for has one version in constraints.txt, and one that it allows."""
    extras = PROJECT["optional-dependencies"]
    wanted = [*PROJECT["dependencies"], *(each for extra in extras.values() for each in extra)]
    assert unpinned(wanted, (ROOT / "constraints.txt").read_text()) == []


def test_the_hooks_run_the_pinned_tools() -> None:
    """Hooks from elsewhere would bring other versions; these run what `make check` runs."""
    repositories = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [repository["repo"] for repository in repositories] == ["local"]
    hooks = [hook for repository in repositories for hook in repository["hooks"]]
    assert {hook["language"] for hook in hooks} == {"system"}
    assert {hook["entry"].split()[0].partition("/")[0] for hook in hooks} == {".venv", "make"}


def test_the_changelog_has_this_version_with_its_day() -> None:
    """The version of the package has a dated section in the changelog."""
    releases = _RELEASE.findall((ROOT / "CHANGELOG.md").read_text())
    assert releases[0][0] == __version__
    days = [date.fromisoformat(day) for _, day in releases]
    assert days == sorted(days, reverse=True)
    numbers = [Version(number) for number, _ in releases]
    assert numbers == sorted(set(numbers), reverse=True)


def test_nothing_stands_twice_in_the_changelog() -> None:
    """No two items of the changelog say the same."""
    assert repeated_lines((ROOT / "CHANGELOG.md").read_text()) == []


def test_the_examples_name_this_version() -> None:
    """The CI examples install the version that they come with."""
    for example in (ROOT / "docs/ci-examples").iterdir():
        versions = set(re.findall(r"\bv(\d+\.\d+\.\d+)$", example.read_text(), re.M))
        actions = set(re.findall(r"# v(\d+\.\d+\.\d+)$", example.read_text(), re.M))
        assert versions - actions == {__version__}, example.name


def test_nobody_is_told_to_take_it_from_an_index() -> None:
    """It is in none; who would put it there is not known, and pip would run their code."""
    install = re.compile(r"pip3? install (?:-\S+ )*['\"]?klp[-_]harness\b")
    names = run(["git", "ls-files", "-z", "docs", "*.md", ".github"], cwd=ROOT, deadline=_soon())
    found = [
        name
        for name in names.stdout.split("\0")
        if name and (ROOT / name).is_file() and install.search((ROOT / name).read_text())
    ]
    assert found == []


def test_maintainers_name_files_that_exist() -> None:
    """Each pattern in MAINTAINERS matches a file."""
    named = re.findall(r"^[FX]:\t(\S+)$", (ROOT / "MAINTAINERS").read_text(), re.M)
    assert named
    assert [pattern for pattern in named if not any(ROOT.glob(pattern))] == []


def test_the_image_has_every_tool_that_the_harness_asks_for() -> None:
    """The image installs every package that doctor looks for."""
    text = (ROOT / "Containerfile").read_text().replace("\\\n", " ")
    installed = set(re.findall(r"apt-get install ([^&]+)", text)[-1].split())
    required = tuple(tool for tool in TOOLS if not tool.optional)
    assert set(packages_for(required, Family.DEBIAN)) - installed - _ESSENTIAL == set()


def test_the_image_has_a_user_of_its_own() -> None:
    """The image does not run as root."""
    words = [line.split() for line in (ROOT / "Containerfile").read_text().splitlines()]
    users = [line[1] for line in words if line[:1] == ["USER"]]
    assert users[-1:] not in ([], ["root"], ["0"])


@pytest.mark.parametrize(
    "name",
    [
        ".git/config",
        ".venv/bin/python",
        ".mypy_cache/3.11/x.json",
        ".ruff_cache/x",
        ".pytest_cache/x",
        "harness/__pycache__/log.cpython-311.pyc",
        "livepatch-modules/klp_test_busy.ko",
    ],
)
def test_what_a_checkout_collects_is_not_in_the_image(name: str) -> None:
    """Caches, environments and the history stay out of the image."""
    assert ignored(name, ignore_patterns(".containerignore"))


def test_all_that_the_package_needs_is_in_the_image() -> None:
    """The ignore file leaves in all that the package is made of."""
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    data = build["targets"]["wheel"]["force-include"]
    needed = ["pyproject.toml", "constraints.txt", PROJECT["readme"], *PROJECT["license-files"]]
    listed = run(["git", "ls-files", "-z", "harness", *data], cwd=ROOT, deadline=_soon()).stdout
    patterns = ignore_patterns(".containerignore")
    names = [*needed, *filter(None, listed.split("\0"))]
    assert [name for name in names if ignored(name, patterns)] == []


def test_docker_leaves_out_the_same() -> None:
    """docker and podman read the same list of ignored files."""
    assert ignore_patterns(".dockerignore") == ignore_patterns(".containerignore")


def ignore_patterns(name: str) -> list[str]:
    lines: Iterator[str] = map(str.strip, (ROOT / name).read_text().splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def _soon() -> Deadline:
    return Deadline.after(60)


# -- each check finds what it looks for


@pytest.mark.parametrize(
    "line",
    [
        "uses: actions/checkout@v4",
        "- uses: actions/checkout@main # v4.0.0",
        "uses: actions/checkout@3d3c42e5aac5ba805825da76410c181273ba90b1",
        "uses: ./.github/actions/own",
    ],
)
def test_a_loose_action_is_found(line: str) -> None:
    """The check of actions finds one that is not pinned by a digest."""
    assert loose_actions(f"steps:\n  {line}\n") == [line.removeprefix("- ")]


@pytest.mark.parametrize(
    "workflow",
    [
        {"jobs": {"a": {}}},
        {"permissions": "write-all", "jobs": {}},
        {
            "permissions": {"contents": "read"},
            "jobs": {"a": {"permissions": {"packages": "write"}}},
        },
    ],
)
def test_a_token_that_may_write_is_found(workflow: dict[str, Any]) -> None:
    """The check of permissions finds a right to write."""
    assert len(too_much_allowed(workflow)) == 1


@pytest.mark.parametrize("pins", ["b==1\n", "a>=1\n", "a==1.*\n", "a==0.9\n", "a==1\na==0.9 ; x\n"])
def test_a_missing_pin_is_found(pins: str) -> None:
    """The check of constraints finds a package without a version."""
    assert unpinned(["A>=1.0"], pins.replace("; x", "; python_version < '3.12'")) == ["A>=1.0"]


def test_a_repeated_item_is_found() -> None:
    """The check of the changelog finds an item that stands twice."""
    text = "- One `thing`,\n  in two lines.\n- Another.\n\n## x\n\n- one thing, in two lines\n"
    assert repeated_lines(text) == ["one thing in two lines"]


@pytest.mark.parametrize("name", ["harness/log.py", "x/.git-notes", "tests/corpus/docs/x.c"])
def test_other_files_are_let_into_the_image(name: str) -> None:
    """The ignore file is not so broad that it hides sources."""
    assert not ignored(name, [".git", "docs", "**/*.ko"])


def test_each_unit_test_says_what_it_guards() -> None:
    """A test that cannot say it in a sentence guards an implementation, or nothing."""
    silent = [
        f"{path.name}::{node.name}"
        for path in sorted((ROOT / "tests" / "unit").glob("test_*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef)
        and node.name.startswith("test_")
        and ast.get_docstring(node) is None
    ]
    assert silent == []
