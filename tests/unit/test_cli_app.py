# SPDX-License-Identifier: GPL-2.0-only
"""The application: each command is there, and costs no more than its own imports."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

import harness.tools
from harness.cli.app import app
from harness.cli.exits import Terminated

_TELL_IMPORTS = """\
import sys
from harness.cli.app import app
from harness.cli.exits import Terminated
try:
    app(["doctor", "-h"])
except SystemExit:
    print("imported", *sorted(sys.modules))
"""
COMMANDS = tuple(typer.main.get_group(app).commands)
GROUPS = {"kernel": 3, "race": 5, "mutants": 3, "models": 2, "coverage": 4, "guests": 2}


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_its_help(name: str) -> None:
    """No command fails to import, and -h works for each."""
    ran = CliRunner().invoke(app, [name, "-h"], prog_name="klp-harness")
    assert ran.exit_code == 0, ran.output
    assert f"Usage: klp-harness {name}" in ran.output


@pytest.mark.parametrize("name", GROUPS)
def test_groups_are_whole(name: str) -> None:
    """Also with the commands that come from a file of their own."""
    group: Any = typer.main.get_group(app).commands[name]
    assert len(group.commands) == GROUPS[name]


def test_no_command_is_forgotten() -> None:
    """Whatever is made a command, by @guarded, is reached from the application."""
    folder = Path(harness.tools.__file__).parent
    defined = sum(path.read_text().count("\n@guarded\n") for path in folder.rglob("*.py"))
    assert defined == len(COMMANDS) - len(GROUPS) + sum(GROUPS.values())


def test_a_command_imports_no_other() -> None:
    """A command starts in the time of its own imports: doctor needs neither SSH nor pytest."""
    said = subprocess.run(
        [
            sys.executable,
            "-c",
            _TELL_IMPORTS,
        ],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    imported = said.rpartition("imported ")[2].split()
    assert "harness.tools.doctor.command" in imported
    assert not {"paramiko", "pytest", "jinja2", "harness.tools.verify.command"} & set(imported)


@pytest.mark.parametrize(("signal", "code"), [(KeyboardInterrupt, 130), (Terminated, 143)])
def test_interrupted_while_it_is_imported(
    signal: type[KeyboardInterrupt], code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C and SIGTERM during the imports end a command in a line, without a traceback."""

    def interrupt(_name: str) -> None:
        raise signal

    monkeypatch.setattr("harness.cli.exits.signal.signal", lambda *_: None)
    monkeypatch.setattr("harness.cli.registry.importlib.import_module", interrupt)
    ran = CliRunner().invoke(app, ["doctor"], prog_name="klp-harness")
    assert ran.exit_code == code
    assert ran.stderr.strip() in {"klp-harness: interrupted", "klp-harness: terminated"}


@pytest.mark.parametrize(
    ("words", "now"), [(["bench", "--quick"], "make bench"), (["mutants", "modules"], "make grade")]
)
def test_what_has_moved_says_where_it_is(words: list[str], now: str) -> None:
    """A command of an earlier release is no unknown word."""
    ran = CliRunner().invoke(app, words, prog_name="klp-harness")
    assert ran.exit_code == 2
    assert now in ran.stderr


def test_no_command_imports_ssh_before_it_is_used() -> None:
    """Guests are reached by their agent; paramiko is a seventh of what `test` would import."""
    code = "import sys, harness.tools.suite.command; print('paramiko' in sys.modules)"
    said = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout
    assert said == "False\n"


def test_no_look_for_garbage_while_a_command_is_imported() -> None:
    """It would find none, and take a tenth of the time; a command that runs makes some."""
    code = """
import gc, sys
from harness.cli import run_application
from harness.cli.exits import guarded

def load():
    print("loading", gc.isenabled())
    import typer
    app = typer.Typer()

    @app.command()
    @guarded
    def work() -> int:
        print("working", gc.isenabled(), gc.get_freeze_count() > 10_000)
        return 0

    return app

sys.argv = ["work"]
run_application(load, "work")
"""
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert said.stdout == "loading False\nworking True True\n"
