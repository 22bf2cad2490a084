# SPDX-License-Identifier: GPL-2.0-only
"""The rules of docs/architecture.md that a machine can check: who imports whom, and the like.

Each check is a function over given files, so that a test can show that it finds what it looks for.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.deadline import Deadline
from harness.host.process import run

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "harness"

BASE = frozenset({"errors", "log", "deadline", "resources", "wire", "crew"})
EVERYTHING = frozenset(
    {
        *BASE,
        "host",
        "kernel",
        "klog",
        "guest",
        "livepatch",
        "report",
        "behaviours",
        "cluster",
        "observe",
        "conformance",
        "races",
        "mutation",
        "module_mutation",
        "selftests",
        "compare",
        "check_plugin",
        "verify",
        "bench",
        "pytest_plugin",
        "cli",
    }
)
# What the things that people run, each a package of its own, may all use.
BELOW_PURPOSES = EVERYTHING - {
    *("observe", "conformance", "selftests", "compare", "races", "mutation", "verify", "bench"),
    *("module_mutation", "pytest_plugin", "cli", "check_plugin"),
}
# Who may import whom, below harness/. Each may also import itself and the package's version.
ALLOWED: Mapping[str, frozenset[str]] = {
    "errors": frozenset(),
    "log": frozenset(),
    "deadline": frozenset(),
    "resources": frozenset({"errors"}),
    "wire": frozenset({"errors"}),
    "crew": frozenset(),
    "host": BASE,
    "kernel": BASE | {"host"},
    "klog": frozenset({"errors", "wire"}),
    "guest": BASE | {"host", "kernel", "klog"},
    "livepatch": frozenset({"errors", "log", "deadline", "wire", "klog"}),
    "report": frozenset({"errors", "log"}),
    "behaviours": frozenset({"errors", "log", "resources", "report"}),
    "cluster": BASE | {"host"},
    "observe": BELOW_PURPOSES,
    "conformance": BELOW_PURPOSES | {"observe"},
    "selftests": BELOW_PURPOSES,
    "compare": frozenset({"errors", "behaviours", "report"}),
    "races": BELOW_PURPOSES | {"observe"},
    "mutation": BELOW_PURPOSES,
    "check_plugin": frozenset({"errors", "guest", "livepatch"}),
    "verify": BELOW_PURPOSES | {"observe", "check_plugin"},
    "module_mutation": BELOW_PURPOSES | {"verify"},
    "bench": EVERYTHING - {"cli", "pytest_plugin"},
    "pytest_plugin": EVERYTHING - {"cli"},
    "cli": EVERYTHING,
}
# What has one home, so that its traps are dealt with once.
ONE_HOME = {
    "subprocess": "harness/host/process.py",
    "paramiko": "harness/guest/ssh.py",
    "pexpect": "harness/guest/console.py",
}
MAX_LINES = 400
NO_SPDX = {".gitkeep", "LICENSE", "py.typed"}
NO_COMMENTS = {".json"}
RECORDED = "tests/unit/data/"
MACHINE_PATH = re.compile(r"(?:^|[^\w.$}-])/(?:(?:work|farm|opt/wheels|opt/pypi)/|root/\.\w)")


def imported(tree: ast.Module) -> Iterator[str]:
    """Yield the full name of every module that a file imports, at any depth."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            assert node.module is not None
            yield node.module
            # "from harness import log" imports harness.log.
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def wrong_directions(path: str, text: str) -> list[str]:
    """Return what a file of harness/ imports against the one direction."""
    owner = path.removeprefix("harness/").split("/")[0].removesuffix(".py")
    if owner == "__init__":
        return [name for name in imported(ast.parse(text)) if name.startswith("harness")]
    targets = {
        name.split(".")[1]
        for name in imported(ast.parse(text))
        if name.startswith("harness.") and name.split(".")[1] in EVERYTHING
    }
    return sorted(targets - ALLOWED[owner] - {owner})


def away_from_home(path: str, text: str) -> list[str]:
    """Return the modules with one home that a file imports without being it."""
    tops = {name.split(".")[0] for name in imported(ast.parse(text))}
    return sorted(top for top in tops if path != ONE_HOME.get(top, path))


def shell_uses(text: str) -> list[int]:
    """Return the lines where a command goes through a shell."""
    lines = []
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        through_shell = called in {"os.system", "os.popen", "subprocess.getoutput"} or any(
            keyword.arg == "shell" and ast.unparse(keyword.value) != "False"
            for keyword in node.keywords
        )
        if through_shell:
            lines.append(node.lineno)
    return lines


def lacks_spdx(text: str) -> bool:
    """Return whether neither of the first two lines names the licence (the first may be #!)."""
    return "SPDX-License-Identifier: GPL-2.0-only" not in "\n".join(text.splitlines()[:2])


def tracked() -> list[str]:
    """Return the files that git tracks and that are there."""
    listed = run(["git", "ls-files", "-z"], cwd=ROOT, deadline=Deadline.after(60)).stdout
    return [name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8", errors="replace")


SOURCES = sorted(str(path.relative_to(ROOT)) for path in PACKAGE.rglob("*.py"))
TRACKED = tracked()


def test_there_are_files_to_check() -> None:
    assert "harness/host/process.py" in SOURCES
    assert "Makefile" in TRACKED


@pytest.mark.parametrize("name", SOURCES)
def test_imports_go_one_way(name: str) -> None:
    assert wrong_directions(name, text_of(name)) == []


def test_every_package_has_its_place_in_the_layers() -> None:
    owners = {name.removeprefix("harness/").split("/")[0].removesuffix(".py") for name in SOURCES}
    assert owners - {"__init__"} <= set(ALLOWED)


def test_the_layers_have_no_cycle() -> None:
    reached: set[str] = set()
    while len(reached) < len(ALLOWED):
        ready = {
            owner for owner, others in ALLOWED.items() if others - {owner} <= reached
        } - reached
        assert ready, f"a cycle among {set(ALLOWED) - reached}"
        reached |= ready


@pytest.mark.parametrize("name", SOURCES)
def test_some_modules_have_one_home(name: str) -> None:
    assert away_from_home(name, text_of(name)) == []


@pytest.mark.parametrize("name", SOURCES)
def test_no_command_goes_through_a_shell(name: str) -> None:
    assert shell_uses(text_of(name)) == []


@pytest.mark.parametrize("name", SOURCES)
def test_no_file_grows_too_long(name: str) -> None:
    assert len(text_of(name).splitlines()) <= MAX_LINES


def test_every_source_file_names_its_licence() -> None:
    """A recorded log or a schema has no room for a comment; everything else has."""
    names = [
        name
        for name in TRACKED
        if Path(name).name not in NO_SPDX
        and Path(name).suffix not in NO_COMMENTS
        and not name.startswith(RECORDED)
    ]
    assert [name for name in names if lacks_spdx(text_of(name))] == []


def test_no_path_of_one_machine() -> None:
    found = [name for name in TRACKED if MACHINE_PATH.search(text_of(name))]
    assert [name for name in found if name != "tests/unit/test_architecture.py"] == []


@pytest.mark.parametrize(
    ("path", "text", "wrong"),
    [
        ("harness/errors.py", "import harness.log", ["log"]),
        ("harness/kernel/x.py", "from harness.guest.ssh import Ssh", ["guest"]),
        ("harness/kernel/x.py", "from harness import livepatch", ["livepatch"]),
        ("harness/livepatch/x.py", "def f():\n    from harness.guest import ssh", ["guest"]),
        ("harness/klog/x.py", "from harness.host.process import run", ["host"]),
        ("harness/report/x.py", "import harness.cli.app", ["cli"]),
        ("harness/pytest_plugin/x.py", "from harness.cli import app", ["cli"]),
        ("harness/__init__.py", "from harness.errors import KlpError", ["harness.errors"]),
        ("harness/guest/x.py", "from harness.kernel.kernel import Kernel", []),
        ("harness/guest/x.py", "from harness.guest.qmp import Qmp", []),
    ],
)
def test_a_wrong_import_is_found(path: str, text: str, wrong: list[str]) -> None:
    assert wrong_directions(path, text)[: len(wrong) or None] == wrong


@pytest.mark.parametrize(
    ("path", "text", "wrong"),
    [
        ("harness/guest/x.py", "from paramiko.client import SSHClient", ["paramiko"]),
        ("harness/guest/x.py", "import pexpect.fdpexpect", ["pexpect"]),
        ("harness/host/x.py", "import subprocess", ["subprocess"]),
        ("harness/host/process.py", "import subprocess", []),
    ],
)
def test_a_module_away_from_home_is_found(path: str, text: str, wrong: list[str]) -> None:
    assert away_from_home(path, text) == wrong


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("run('a', shell=True)", [1]),
        ("x = 1\nos.system('a')", [2]),
        ("run('a', shell=wanted)", [1]),
        ("run('a', shell=False)", []),
    ],
)
def test_a_shell_is_found(text: str, lines: list[int]) -> None:
    assert shell_uses(text) == lines


def test_a_missing_licence_is_found() -> None:
    assert lacks_spdx("x = 1\ny = 2\n# SPDX-License-Identifier: GPL-2.0-only\n")
    assert not lacks_spdx("#!/bin/sh\n# SPDX-License-Identifier: GPL-2.0-only\n")


@pytest.mark.parametrize("folder", ["work", "farm"])
def test_a_path_of_one_machine_is_found(folder: str) -> None:
    assert MACHINE_PATH.search(f"at /{folder}/x")
    assert MACHINE_PATH.search(f'"/{folder}/x"')
    assert MACHINE_PATH.search('"/root/.cache"')


@pytest.mark.parametrize("text", ["net/work/x", "a/root/b", "/proc/1", "$HOME/work/x"])
def test_other_paths_are_let_through(text: str) -> None:
    assert not MACHINE_PATH.search(text)
