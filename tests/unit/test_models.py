# SPDX-License-Identifier: GPL-2.0-only
"""The catalogue of consistency models, and what `classify --model` says of them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.behaviours.table import load_table
from harness.cli.child_commands import Done
from harness.cli.invocation import error_facts, host_facts
from harness.cli.options import KernelOptions
from harness.errors import (
    BootFailed,
    GuestPanic,
    HarnessError,
    KernelDoesNotBoot,
    KernelDoesNotBuild,
    KernelUnfit,
    KlpError,
    PatchDoesNotApply,
    UsageError,
)
from harness.report.base import CheckOutcome, Outcome
from harness.report.terminal import Terminal
from harness.tools.models.catalogue import (
    LINUX,
    NO_RELIABLE_STACK,
    choose_models,
    load_models,
    read_model,
)
from harness.tools.models.classify_command import results_of
from harness.tools.models.results import ClassifyReport, ClassifyResult, Leave, Switch
from harness.tools.models.terminal import place, print_all

if TYPE_CHECKING:
    from harness.tools.models.catalogue import Model

MODELS = load_models()
HEADER = """\
Model: waits for nobody
Systems: mine
Mail: me, today: models-2014
Place: LEAVE_FUNCTION, SWITCH_FUNCTION
Cannot: wait
Kernels: 6.1
"""
DIFF = """\
--- a/kernel/livepatch/core.c
+++ b/kernel/livepatch/core.c
@@ -1 +1 @@
-a
+b
"""


def written(folder: Path, header: str = HEADER, name: str = "mine.patch") -> Path:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(header + "\n" + DIFF)
    return path


def test_each_system_of_the_mails_has_a_model() -> None:
    """Those that the four mails name, by their usual names."""
    systems = " ".join(model.systems for model in MODELS)
    for name in ("kGraft", "kpatch", "Ksplice", "reference counting", "simple method", "CRIU"):
        assert name in systems, name
    for name in ("kexec", "null model", "half idea", "immediate", "unloaded modules", "hybrid"):
        assert name in systems, name


def test_each_place_that_can_be_has_a_model() -> None:
    """All of Pavlik's examples are there; the places that cannot be are empty."""
    places = {(model.cell.leave, model.cell.switch) for model in MODELS}
    assert places == {
        (Leave.FUNCTION, Switch.FUNCTION),
        (Leave.PATCHED_SET, Switch.THREAD),
        (Leave.PATCHED_SET, Switch.KERNEL),
        (Leave.KERNEL, Switch.THREAD),
        (Leave.KERNEL, Switch.KERNEL),
    }


def test_each_mail_is_a_source_of_the_rules() -> None:
    """What a header calls its mail is named in tests/behaviours/rules.toml."""
    sources = load_table().sources
    for model in MODELS:
        names = [part.rpartition(":")[2].strip() for part in model.mail.split(";")]
        assert [name for name in names if name not in sources] == [], model.name


def test_a_patch_changes_the_core_alone() -> None:
    """A model is no change of anything but live patching and the way to user mode."""
    # rethook.c has the return hooks, of refcounting.
    allowed = (
        "kernel/livepatch/",
        "kernel/entry/common.c",
        "include/linux/livepatch.h",
        "kernel/trace/rethook.c",
    )
    for model in MODELS:
        for form in (model, *model.ports):
            if form.path is not None:
                named = [
                    line[6:] for line in form.path.read_text().splitlines() if line[:6] == "+++ b/"
                ]
                assert named, form.path
                assert [name for name in named if not name.startswith(allowed)] == []


@pytest.mark.parametrize("field", ["Model", "Systems", "Mail", "Place", "Cannot", "Kernels"])
def test_a_header_that_lacks_a_field(tmp_path: Path, field: str) -> None:
    """It is named, so that its writer can add it."""
    header = "".join(line for line in HEADER.splitlines(True) if not line.startswith(field))
    with pytest.raises(UsageError, match=f"its header lacks {field}"):
        read_model(written(tmp_path, header))


@pytest.mark.parametrize("wrong", ["LEAVE_KERNEL", "LEAVE_KERNEL, SWITCH_CPU", "here, there"])
def test_a_place_that_is_none(tmp_path: Path, wrong: str) -> None:
    """It is refused with the words that it can have."""
    header = HEADER.replace("LEAVE_FUNCTION, SWITCH_FUNCTION", wrong)
    with pytest.raises(UsageError, match="no place in the table") as refused:
        read_model(written(tmp_path, header))
    assert "SWITCH_THREAD" in str(refused.value)


def test_a_port_is_taken_for_its_series(tmp_path: Path) -> None:
    """The form that is written for the kernel's series; a series without one is refused."""
    first = written(tmp_path)
    port = written(tmp_path / "7.2", HEADER.replace("6.1", "6.12 7.2"))
    (model,) = choose_models(["mine"], load_models(tmp_path))
    kernel = KernelOptions(patches=(Path("own.patch"),))
    assert model.options(kernel, "6.1").patches == (first, Path("own.patch"))
    assert model.options(kernel, "7.2").patches == (port, Path("own.patch"))
    with pytest.raises(KernelUnfit, match=r"mine is not written for 5\.10") as refused:
        model.options(kernel, "5.10")
    assert "6.1, 6.12, 7.2" in str(refused.value)


def test_a_port_of_nothing(tmp_path: Path) -> None:
    """A patch for a later series alone is a mistake in its name."""
    written(tmp_path)
    written(tmp_path / "7.2", name="other.patch")
    with pytest.raises(UsageError, match=r"7\.2/other\.patch is a port of no model"):
        load_models(tmp_path)


def test_linux_own_models_take_any_kernel() -> None:
    """One is the kernel as it is, the other lacks its unwinder."""
    kernel = KernelOptions()
    assert LINUX.options(kernel, "9.9") == kernel
    assert NO_RELIABLE_STACK.options(kernel, "9.9").fragments == ("no-reliable-stack",)


def test_models_are_chosen_by_name(tmp_path: Path) -> None:
    """``all`` is each of them once, a file is one of the user's own."""
    assert choose_models(["all", "kpatch"], MODELS) == MODELS
    own = written(tmp_path)
    assert [model.name for model in choose_models(["kgraft", str(own)], MODELS)] == [
        "kgraft",
        "mine",
    ]
    with pytest.raises(UsageError, match="there is no model kgrft") as refused:
        choose_models(["kgrft"], MODELS)
    assert "did you mean kgraft?" in str(refused.value)
    with pytest.raises(UsageError, match=r"nosuch\.patch"):
        choose_models([str(tmp_path / "nosuch.patch")], MODELS)


def done(folder: Path, error: KlpError | None = None) -> Done:
    log = folder / "log"
    log.write_text("first\nlast\n")
    report = ClassifyReport(
        outcome=Outcome.ERROR,
        harness="1",
        host=host_facts(),
        seconds=1,
        error=error_facts(error) if error is not None else None,
    )
    return Done(code=3, report=report if error is not None else None, seconds=1.0, log=log)


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (PatchDoesNotApply("it does not fit"), CheckOutcome.DOES_NOT_APPLY),
        (KernelDoesNotBuild("make failed"), CheckOutcome.DOES_NOT_BUILD),
        (KernelDoesNotBoot("it panics"), CheckOutcome.DOES_NOT_BOOT),
        (GuestPanic("it panicked in an experiment"), CheckOutcome.FAILED),
        (BootFailed("an experiment's guest did not come up"), CheckOutcome.FAILED),
        (HarnessError("no memory"), CheckOutcome.ERROR),
        (KernelUnfit("not written for 5.10"), CheckOutcome.NOT_APPLICABLE),
        (UsageError("no such file"), CheckOutcome.ERROR),
    ],
)
def test_a_model_without_a_place(tmp_path: Path, error: KlpError, outcome: CheckOutcome) -> None:
    """By whose fault there is none: the patch's, the kernel's, or the harness's."""
    (result,) = results_of(MODELS[2], done(tmp_path, error))
    assert (result.outcome, result.detail) == (outcome, error.message)
    assert result.leave is None


def test_a_command_that_left_no_report(tmp_path: Path) -> None:
    """Its last lines are the reason, and nothing was judged."""
    (result,) = results_of(MODELS[2], done(tmp_path))
    assert result.outcome is CheckOutcome.ERROR
    assert result.detail == "first\nlast"


def classified(model: Model, *, forced: bool = False) -> ClassifyResult:
    return ClassifyResult(
        id=f"{model.name}{forced}",
        outcome=CheckOutcome.PASSED,
        seconds=1,
        leave=Leave.FUNCTION if forced else model.cell.leave,
        switch=Switch.FUNCTION if forced else model.cell.switch,
        model=model.name,
        forced=forced,
    )


def test_the_table_has_each_model_in_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model stands in the row and column of its place, and one without a place in none."""
    out = io.StringIO()
    monkeypatch.setattr("sys.stdout", out)
    results = [classified(model, forced=forced) for model in MODELS for forced in (False, True)]
    missing = ClassifyResult(
        id="x", outcome=CheckOutcome.DOES_NOT_BOOT, seconds=1, model="x", detail="it panics"
    )
    print_all(Terminal(), MODELS, [*results, missing])
    text = out.getvalue()
    rows = {line.split("│")[1].strip(): line for line in text.splitlines() if "│ LEAVE_" in line}
    assert rows["LEAVE_FUNCTION"].split("│")[2].strip() == "null"
    assert rows["LEAVE_PATCHED_SET"].split("│")[4].strip() == "kpatch"
    assert rows["LEAVE_KERNEL"].split("│")[3].strip() == "no-reliable-stack"
    assert rows["LEAVE_KERNEL"].split("│")[4].strip() == "simple"
    assert "x: does-not-boot" in text
    assert "it panics" in text
    assert place(missing) == "does-not-boot"
