# SPDX-License-Identifier: GPL-2.0-only
"""A result says how it was made, and rerun does it again."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from harness.cli import pins, prepare
from harness.cli.app import app
from harness.cli.invocation import Invocation
from harness.cli.options import CleanKernel
from harness.errors import UsageError
from harness.report.base import KernelFacts

if TYPE_CHECKING:
    from pathlib import Path

FACTS = KernelFacts(
    spec="6.1", version="6.1.1", digest="d1", config_digest="c", compiler="gcc", source="s"
)


def ran(*words: str) -> Any:
    return CliRunner().invoke(app, list(words), prog_name="klp-harness")


def made_by(tmp_path: Path, *words: str) -> Any:
    """Return what is in the JSON file of a command."""
    path = tmp_path / "out.json"
    ran(*words, "--json", str(path), "--ktap", str(tmp_path / "out.ktap"))
    return json.loads(path.read_text())


def test_the_words_are_resolved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Defaults and files of results are left out; a path is absolute, and a version is none."""
    (tmp_path / "fix.patch").touch()
    (tmp_path / "6.1").mkdir()
    monkeypatch.chdir(tmp_path)
    assert made_by(tmp_path, "behaviours", "TR-01")["argv"] == ["behaviours", "TR-01"]
    assert made_by(tmp_path, "race", "list")["argv"] == ["race", "list"]

    def obtain(*_: object, **__: object) -> None:
        raise UsageError("not here")

    monkeypatch.setattr("harness.cli.prepare._obtain", obtain)
    monkeypatch.setattr("harness.vm.guest.runs.accelerator", lambda _: None)
    words = ("compare", "6.1", "--series", "fix.patch", "-k", "TR", "--accel", "tcg")
    made = made_by(tmp_path, *words)
    assert set(made["argv"][1:-1]) == {f"--series={tmp_path}/fix.patch", "-k", "TR", "--accel=tcg"}
    assert made["argv"][-1] == "6.1"
    assert (made["partial"], made["outcome"]) == (True, "error")
    assert "not ok 1 command" in (tmp_path / "out.ktap").read_text()


def test_it_runs_again(tmp_path: Path) -> None:
    """Its exit code and its results are those of the command; --show runs nothing."""
    path, again = tmp_path / "a.json", tmp_path / "b.json"
    assert ran("race", "list", "--json", str(path)).exit_code == 0
    done = ran("rerun", str(path), "--json", str(again))
    assert done.exit_code == 0, done.output
    assert json.loads(again.read_text())["results"] == json.loads(path.read_text())["results"]
    shown = ran("rerun", str(path), "--show")
    assert shown.stdout == "again: klp-harness race list\n"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"argv": []}, "does not say how it was made"),
        ({"argv": ["race", "list", "/no/such/file"]}, "not there any more: /no/such/file"),
        ({"argv": ["rerun", "x"]}, "is not run again"),
        ({"command": "nothing"}, "is no result"),
        ({"schema": 9}, "is no result"),
    ],
)
def test_what_cannot_be_run_again(tmp_path: Path, change: dict[str, Any], why: str) -> None:
    """It is wrong usage, with the reason."""
    path = tmp_path / "a.json"
    ran("race", "list", "--json", str(path))
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    done = ran("rerun", str(path))
    assert (done.exit_code, why in done.stderr) == (2, True), done.output


def test_what_differs_is_said(tmp_path: Path) -> None:
    """Another version, a run that was cut short, a kernel that is gone."""
    path = tmp_path / "a.json"
    ran("race", "list", "--json", str(path))
    facts = FACTS.model_dump()
    change = {"harness": "0.0.1", "partial": True, "qemu": "0.1", "kernels": [facts]}
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    said = ran("rerun", str(path), "--show").stderr
    for part in ("did not finish", "klp-harness 0.0.1", "QEMU 0.1", "not in the cache"):
        assert part in said


def test_the_kernel_is_that_of_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is opened by its digest; where that is gone and another one is made, that is refused."""
    kernel: Any = SimpleNamespace(digest="d1", spec="6.1", version="6.1.1", source="s")
    options = CleanKernel(spec="6.1")
    with Invocation("demo") as invocation:
        monkeypatch.setattr(pins, "open_kernel", lambda *_: kernel)
        with pins.pinned([FACTS]):
            found: Any = prepare.prepare_kernel(invocation, options)
            assert found is kernel
        monkeypatch.setattr(pins, "find", lambda *_: None)
        other = SimpleNamespace(digest="d2", spec="6.1", version="6.1.2", source="s")
        monkeypatch.setattr(prepare, "obtain_kernel", lambda *_, **__: other)
        with pins.pinned([FACTS]), pytest.raises(UsageError, match=r"6\.1 is now another kernel"):
            prepare.prepare_kernel(invocation, options)
        found = prepare.prepare_kernel(invocation, options)
        assert found is other
