# SPDX-License-Identifier: GPL-2.0-only
"""The rules of docs/architecture.md that a machine can check: who imports whom, and the like.

Each check is a function over given files, so that a test can show that it finds what it looks for.
"""

from __future__ import annotations

import ast
import graphlib
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.deadline import Deadline
from harness.vm.host.process import run

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "harness"

BASE = frozenset({"errors", "inputs", "log", "deadline", "resources", "agent_protocol", "threads"})
_HOST = BASE | {"vm.host"}
_KERNEL = _HOST | {"vm.elf", "vm.kernel"}
_GUEST = _KERNEL | {"klog", "vm.guest"}
_WINGS = _GUEST | {"livepatch", "report", "behaviours", "vm.cluster", "observe", "observer"}
# Who may import whom below harness/, from the ground floor up. Each may import itself as well, and
# the package's version. The parts of vm/ count by themselves.
ALLOWED: Mapping[str, frozenset[str]] = {
    "errors": frozenset(),
    "log": frozenset(),
    "deadline": frozenset(),
    "threads": frozenset(),
    "inputs": frozenset({"errors"}),
    "resources": frozenset({"errors", "inputs"}),
    "agent_protocol": frozenset({"errors"}),
    "vm": frozenset(),
    "vm.host": BASE,
    "vm.elf": frozenset({"errors", "inputs"}),
    "vm.kernel": _HOST | {"vm.elf"},
    "klog": frozenset({"errors", "agent_protocol"}),
    "vm.guest": _KERNEL | {"klog"},
    "vm.cluster": _HOST,
    "livepatch": frozenset({"errors", "log", "deadline", "agent_protocol", "klog"}),
    "report": frozenset({"errors", "log"}),
    "behaviours": frozenset({"errors", "log", "resources", "report", "vm.kernel"}),
    "observe": _GUEST | {"livepatch", "report"},
    "observer": _GUEST | {"livepatch", "report"},
    "pytest_plugin": _WINGS,
    "cli": _WINGS,
    "tools": _WINGS | {"cli", "pytest_plugin"},
}
# A tool knows no other tool, but for these.
BETWEEN_TOOLS: Mapping[tuple[str, str], str] = {
    ("mutants", "selftests"): "mutants run --selftests compares the tests with the kernel's own",
    ("mutants", "verify"): "mutants sweep --module asks verify about each mutant of a livepatch",
    ("mutants", "suite"): "the workers of mutants sweep read pytest's reports as test does",
}
# What has one home, so that its traps are dealt with once.
ONE_HOME = {
    "subprocess": "harness/vm/host/process.py",
    "paramiko": "harness/vm/guest/ssh.py",
    "pexpect": "harness/vm/guest/console.py",
}
# Who opens the cache: everything else asks harness.vm.guest.runs for it.
OPENS_THE_CACHE = {
    "harness/vm/guest/runs.py",
    # Those have a cache that is not the user's: of a worker, and of a cold build.
    "harness/vm/cluster/worker.py",
    "benchmarks/builds.py",
    "benchmarks/place.py",
    "benchmarks/upstream.py",
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


def part_of(module: str) -> str:
    """Return the part of harness/ that a module is in: ``livepatch``, ``vm.guest``, ``tools``."""
    names = module.split(".")[1:]
    return ".".join(names[:2]) if names[:1] == ["vm"] else names[0] if names else ""


def tool_of(module: str) -> str | None:
    """Return the tool whose folder a module is in."""
    names = module.split(".")
    return names[2] if names[:2] == ["harness", "tools"] and names[2:] else None


def module_of(path: str) -> str:
    """Return the module that a file is."""
    return path.removesuffix(".py").replace("/", ".").removesuffix(".__init__")


def wrong_directions(path: str, text: str) -> list[str]:
    """Return what a file of harness/ imports against the one direction."""
    module = module_of(path)
    own, tool = part_of(module), tool_of(module)
    wrong = set()
    for name in imported(ast.parse(text)):
        if not name.startswith("harness.") or name == "harness.__version__":
            continue
        part = part_of(name)
        if not own:
            wrong.add(name)
        elif part in ALLOWED and part not in ALLOWED[own] | {own, "vm"}:
            wrong.add(part)
        other = tool_of(name)
        if tool and other and other != tool and (tool, other) not in BETWEEN_TOOLS:
            wrong.add(f"tools.{other}")
    return sorted(wrong)


def circles(files: Mapping[str, str]) -> list[set[str]]:
    """Return the sets of modules that import each other, at whatever place; files by path."""
    modules = {module_of(path): text for path, text in files.items()}
    graph = {
        module: {
            # "from harness.vm.host import cache" imports that module, not the package alone.
            name if name in modules else name.rpartition(".")[0]
            for name in imported(ast.parse(text))
        }
        & modules.keys() - {module}
        for module, text in modules.items()
    }
    try:
        tuple(graphlib.TopologicalSorter(graph).static_order())
    except graphlib.CycleError as error:
        return [set(error.args[1])]
    return []


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


def opens_cache(text: str) -> list[int]:
    """Return the lines that open a cache by themselves."""
    return [
        node.lineno
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == "Store"
    ]


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
BENCHMARKS = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "benchmarks").rglob("*.py"))
TRACKED = tracked()


def test_there_are_files_to_check() -> None:
    """The checks below have found the sources that they are about."""
    assert "harness/vm/host/process.py" in SOURCES
    assert "benchmarks/__main__.py" in BENCHMARKS
    assert "Makefile" in TRACKED


@pytest.mark.parametrize("name", SOURCES)
def test_imports_go_one_way(name: str) -> None:
    """A file imports only what its part of harness/ may import."""
    assert wrong_directions(name, text_of(name)) == []


def test_every_package_has_its_place_in_the_layers() -> None:
    """A folder that nobody has thought of is no layer."""
    parts = {part_of(module_of(name)) for name in SOURCES} - {""}
    assert parts == set(ALLOWED)


def test_the_layers_have_no_circle() -> None:
    """Each part is allowed what lies below it."""
    graph = {part: others - {part} for part, others in ALLOWED.items()}
    assert set(graphlib.TopologicalSorter(graph).static_order()) == set(ALLOWED)


def test_no_two_files_import_each_other() -> None:
    """Not for types either: who reads one of them would have to read both."""
    everything = {name: text_of(name) for name in (*SOURCES, *BENCHMARKS)}
    assert circles(everything) == []


def test_the_wheel_does_not_need_what_grades_it() -> None:
    """benchmarks/ uses harness/, and never the other way round; the wheel has the suite too."""
    suite = [path for path in TRACKED if re.match(r"tests/behaviours/.*\.py\Z", path)]
    assert len(suite) > 20
    assert [
        name
        for name in (*SOURCES, *suite)
        if any(each.split(".")[0] == "benchmarks" for each in imported(ast.parse(text_of(name))))
    ] == []


@pytest.mark.parametrize("name", SOURCES)
def test_some_modules_have_one_home(name: str) -> None:
    """subprocess, paramiko and pexpect are each imported by one file."""
    assert away_from_home(name, text_of(name)) == []


@pytest.mark.parametrize("name", [*SOURCES, *BENCHMARKS])
def test_a_run_has_one_home(name: str) -> None:
    """Which cache a run uses is decided in one place; the list of exceptions has no dead entry."""
    assert bool(opens_cache(text_of(name))) == (name in OPENS_THE_CACHE)


@pytest.mark.parametrize("name", SOURCES)
def test_no_command_goes_through_a_shell(name: str) -> None:
    """No host command is a string that a shell would read."""
    assert shell_uses(text_of(name)) == []


@pytest.mark.parametrize("name", SOURCES)
def test_no_file_grows_too_long(name: str) -> None:
    """A file that can be read in one sitting has at most 400 lines."""
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
    """No file names a path that exists on one machine only."""
    found = [name for name in TRACKED if MACHINE_PATH.search(text_of(name))]
    assert [name for name in found if name != "tests/unit/test_architecture.py"] == []


@pytest.mark.parametrize(
    ("path", "text", "wrong"),
    [
        ("harness/errors.py", "import harness.log", ["log"]),
        ("harness/vm/kernel/x.py", "from harness.vm.guest.ssh import Ssh", ["vm.guest"]),
        ("harness/vm/kernel/x.py", "from harness import livepatch", ["livepatch"]),
        ("harness/livepatch/x.py", "def f():\n    from harness.vm.guest import ssh", ["vm.guest"]),
        ("harness/klog/x.py", "from harness.vm.host.process import run", ["vm.host"]),
        ("harness/report/x.py", "import harness.cli.app", ["cli"]),
        ("harness/cli/x.py", "import harness.tools.race.trial", ["tools"]),
        ("harness/pytest_plugin/x.py", "from harness.cli import app", ["cli"]),
        ("harness/tools/run/x.py", "from harness.tools.race import trial", ["tools.race"]),
        ("harness/__init__.py", "from harness.errors import KlpError", ["harness.errors"]),
        ("harness/tools/run/x.py", "from harness.tools.run.terminal import f", []),
        ("harness/vm/guest/x.py", "from harness.vm.kernel.kernel import Kernel", []),
        ("harness/vm/guest/x.py", "from harness.vm.guest.qmp import Qmp", []),
    ],
)
def test_a_wrong_import_is_found(path: str, text: str, wrong: list[str]) -> None:
    """The check of directions finds what it looks for, at any depth."""
    assert wrong_directions(path, text)[: len(wrong) or None] == wrong


@pytest.mark.parametrize(
    ("path", "text", "wrong"),
    [
        ("harness/vm/guest/x.py", "from paramiko.client import SSHClient", ["paramiko"]),
        ("harness/vm/guest/x.py", "import pexpect.fdpexpect", ["pexpect"]),
        ("harness/vm/host/x.py", "import subprocess", ["subprocess"]),
        ("harness/vm/host/process.py", "import subprocess", []),
    ],
)
def test_a_module_away_from_home_is_found(path: str, text: str, wrong: list[str]) -> None:
    """The check of homes finds every form of an import."""
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
    """The check for shells finds what may become one."""
    assert shell_uses(text) == lines


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("made = Store(cache_root())", [1]),
        ("\nf(store=cache.Store(root))", [2]),
        ("made = runs.store()", []),
        ("def f(store: Store) -> None: ...", []),
    ],
)
def test_a_cache_opened_elsewhere_is_found(text: str, lines: list[int]) -> None:
    """The check of caches finds a Store that is opened."""
    assert opens_cache(text) == lines


def test_a_missing_licence_is_found() -> None:
    """The check of licences reads the first two lines."""
    assert lacks_spdx("x = 1\ny = 2\n# SPDX-License-Identifier: GPL-2.0-only\n")
    assert not lacks_spdx("#!/bin/sh\n# SPDX-License-Identifier: GPL-2.0-only\n")


@pytest.mark.parametrize("folder", ["work", "farm"])
def test_a_path_of_one_machine_is_found(folder: str) -> None:
    """The check of paths finds each of the folders that it is about."""
    assert MACHINE_PATH.search(f"at /{folder}/x")
    assert MACHINE_PATH.search(f'"/{folder}/x"')
    assert MACHINE_PATH.search('"/root/.cache"')


@pytest.mark.parametrize("text", ["net/work/x", "a/root/b", "/proc/1", "$HOME/work/x"])
def test_other_paths_are_let_through(text: str) -> None:
    """The check of paths accepts paths of every machine, and of guests."""
    assert not MACHINE_PATH.search(text)
