# SPDX-License-Identifier: GPL-2.0-only
"""The Makefile: what it tells, what it starts and how; the real make, with doubles for the rest."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from harness.deadline import Deadline, wait_until
from harness.vm.host.process import Finished, run

ROOT = Path(__file__).resolve().parents[2]
MAKEFILE = (ROOT / "Makefile").read_text()


def make(*arguments: str, cwd: Path = ROOT, **environment: str) -> Finished:
    # Run by `make check`, we must not hand its flags and jobs on.
    env = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    env.pop("MFLAGS", None)
    return run(
        ["make", *arguments],
        cwd=cwd,
        env={**env, **environment},
        deadline=Deadline.after(60),
        check=False,
    )


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The Makefile beside a klp-harness and a setup that only tell how they were called."""
    root = tmp_path / "path with spaces"
    (root / ".venv" / "bin").mkdir(parents=True)
    host = root / "harness" / "vm" / "host"
    host.mkdir(parents=True)
    shutil.copy(ROOT / "Makefile", root)
    (root / "harness" / "__init__.py").touch()
    (host / "__init__.py").touch()
    (host / "bootstrap.py").write_text("import sys\nprint(*['setup', *sys.argv[1:]])\n")
    command = root / ".venv" / "bin" / "klp-harness"
    command.write_text(
        '#!/bin/sh\necho "klp-harness $*" "$KLP_HARNESS_DIE_WITH_PARENT"\n'
        'echo "$$ $PPID" >pids\nif [ "$1" = test ] && [ "$3" = wait ]; then exec sleep 600; fi\n'
    )
    command.chmod(0o755)
    return root


def test_help_is_the_default_and_names_every_target_of_its_own() -> None:
    """`make` alone changes nothing, and lists what can be made."""
    plain = make()
    assert plain.returncode == 0
    assert plain.stdout == make("help").stdout
    for target in ("help", "demo", "test", "check", "bench", "grade", "format", "clean"):
        assert re.search(rf"^  make {target} +\w", plain.stdout, re.MULTILINE), target


def test_every_target_is_phony() -> None:
    """A file called "test" or "check" must not stop make from doing anything."""
    targets = set(re.findall(r"^([a-z]+):", MAKEFILE, re.MULTILINE))
    assert targets == set(re.findall(r"^\.PHONY: ([a-z]+)$", MAKEFILE, re.MULTILINE))


@pytest.mark.parametrize(
    ("target", "command"), [("demo", "demo"), ("test", "test --all"), ("mutants", "mutants run")]
)
def test_a_target_sets_up_and_runs_the_command_as_makes_own_child(
    target: str, command: str, checkout: Path
) -> None:
    """exec leaves no shell between, and the command is told to die with make."""
    done = make(target, "ARGS=--kernel 6.1 -k 'TR_01 or TR_02'", cwd=checkout)
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "setup --to-run" if target == "demo" else "setup",
        f"klp-harness {command} --kernel 6.1 -k TR_01 or TR_02 1",
    ]


def test_the_command_is_makes_direct_child(checkout: Path) -> None:
    """Or else kill -9 of make would kill a shell's parent, and the command would not notice."""
    maker = subprocess.Popen(["make", "test", "ARGS=wait"], cwd=checkout, stdout=subprocess.DEVNULL)
    pids = checkout / "pids"
    child = 0
    try:
        assert wait_until(
            lambda: pids.exists() and pids.read_text().endswith("\n"), Deadline.after(30)
        )
        child, parent = map(int, pids.read_text().split())
        assert parent == maker.pid
    finally:
        maker.kill()
        maker.wait()
        if child:
            os.kill(child, signal.SIGKILL)


def test_a_failed_command_fails_make(checkout: Path) -> None:
    """CI sees a failed test by make's exit code."""
    (checkout / ".venv" / "bin" / "klp-harness").write_text("#!/bin/sh\nexit 1\n")
    assert make("test", cwd=checkout).returncode == 2


def test_a_failed_setup_starts_no_command(checkout: Path) -> None:
    """What setup has printed is the last that a person reads."""
    (checkout / "harness" / "vm" / "host" / "bootstrap.py").write_text("raise SystemExit(2)\n")
    done = make("test", cwd=checkout)
    assert done.returncode == 2
    assert "klp-harness test" not in done.stdout


def test_parallel_make_sets_up_once(checkout: Path) -> None:
    """-j does not make the virtual environment twice."""
    done = make("-j4", "demo", "test", "matrix", cwd=checkout)
    assert done.returncode == 0
    assert done.stdout.splitlines().count("setup") == 1


def test_an_old_python_is_refused_in_a_sentence(checkout: Path) -> None:
    """No traceback of an interpreter that cannot read the code."""
    old = checkout / "old-python"
    old.write_text("#!/bin/sh\n[ \"$1\" = --version ] && echo 'Python 3.9.2'; exit 1\n")
    old.chmod(0o755)
    done = make("setup", cwd=checkout, PYTHON=str(old))
    assert done.returncode == 2
    assert "klp-harness: it needs Python 3.11 or later; found: Python 3.9.2\n" in done.stderr
    assert "setup" not in done.stdout


def test_ci_runs_all_checks_and_all_tests() -> None:
    """The script of CI stops at the first failure."""
    script = (ROOT / ".ci" / "run").read_text()
    assert "set -euo pipefail" in script
    assert re.search(r"^make check$", script, re.MULTILINE)
    assert re.search(r"^make test$", script, re.MULTILINE)
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
