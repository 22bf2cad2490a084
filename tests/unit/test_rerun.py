# SPDX-License-Identifier: GPL-2.0-only
"""A result says how it was made, and rerun does it again."""

from __future__ import annotations

import json
import os
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from harness.cli import pins, prepare
from harness.cli.app import app
from harness.cli.child_commands import ChildCommands, Command, Lane
from harness.cli.invocation import Invocation
from harness.cli.options import CleanKernel
from harness.errors import UsageError
from harness.report.base import KernelFacts
from harness.vm.kernel.build import KernelRequest, obtain_kernel
from harness.vm.kernel.patch_file import read_patch
from harness.vm.kernel.patched import patched_key

if TYPE_CHECKING:
    from pathlib import Path

    from harness.deadline import Deadline
    from harness.vm.host.cache import Store
    from harness.vm.kernel.progress import Progress

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


def test_commands_that_it_starts_use_that_kernel(
    store: Store,
    fake_tree: Path,
    guest_fragment: Path,
    soon: Deadline,
    recorder: Progress,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The clean one, and a mutant of it, though the tree was edited since; without the pin, none.

    The child's own fragments do not fit this tree: it cannot build the kernel, only find it.
    """
    monkeypatch.setenv("KLP_HARNESS_CACHE", str(store.root))
    source = fake_tree / "kernel/core.c"
    source.parent.mkdir(exist_ok=True)
    source.write_text("int one;\n")
    monkeypatch.chdir(tmp_path)
    request = KernelRequest(spec=f"./{fake_tree.name}", fragments=(str(guest_fragment),))
    kernel = obtain_kernel(request, store=store, deadline=soon, progress=recorder)
    mutant = tmp_path / "mutant.patch"
    mutant.write_text(
        "--- a/kernel/core.c\n+++ b/kernel/core.c\n@@ -1 +1 @@\n-int one;\n+int two;\n"
    )
    source.write_text("int edited;\n")
    words = ("kernel", "build", f"--kernel={fake_tree}")

    def digest_of(name: str, *more: str) -> str | None:
        with ChildCommands(tmp_path, runs=1, deadline=soon) as commands:
            done = commands.run(Command(lane=Lane.BUILD, name=name, arguments=(*words, *more)))
        report = done.report
        return report.kernel.digest if report is not None and report.kernel else None

    with Invocation("kernel build") as invocation:
        invocation.kernels.append(kernel)
        kernels = invocation.report().kernels
    with pins.pinned(kernels):
        assert digest_of("clean") == kernel.digest
        key = patched_key(kernel.digest, [read_patch(mutant)])
        assert digest_of("mutant", f"--patch={mutant}") == key
    assert digest_of("any") is None


def test_the_pin_is_for_that_command_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it starts by other means is not pinned; a text that is none is wrong usage."""
    with pins.pinned([FACTS]):
        variables = pins.environment()
    assert pins.environment() == {}
    (name,) = variables
    monkeypatch.setenv(name, variables[name])
    with pins.pinned([]):
        assert pins.environment() == variables
        assert name not in os.environ
        monkeypatch.setenv(name, "6.1")
        with pytest.raises(UsageError, match="does not say which kernels"):
            pins.environment()
