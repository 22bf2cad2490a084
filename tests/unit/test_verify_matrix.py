# SPDX-License-Identifier: GPL-2.0-only
"""Patches x kernels: manifests, the cells that they make, what is kept of a job, and its table."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from harness.cli.app import app
from harness.cli.options import KernelOptions
from harness.errors import (
    DownloadFailed,
    ExitCode,
    KernelBuildFailed,
    KlpError,
    UsageError,
)
from harness.report.base import CheckOutcome, KernelFacts
from harness.tools.verify.matrix import run as matrix_run
from harness.tools.verify.matrix.cells import judge_cell, left_out, not_judged
from harness.tools.verify.matrix.command import exit_code
from harness.tools.verify.matrix.from_words import plan_of_words
from harness.tools.verify.matrix.kept import KeptCells
from harness.tools.verify.matrix.pages import table_page
from harness.tools.verify.matrix.plan import Cell, Column, MatrixPlan
from harness.tools.verify.matrix.run import Limits, MatrixRun
from harness.tools.verify.results import CellResult

FACTS = KernelFacts(
    spec="6.1", version="6.1.192", digest="d1", config_digest="c", compiler="gcc", source="s"
)


def small_plan() -> MatrixPlan:
    columns = tuple(Column(name=name, options=KernelOptions(spec=name)) for name in ("6.1", "6.12"))
    cells = tuple(
        Cell(row=row, column=column.name, module=row)
        for column in columns
        for row in ("klp_a", "klp_b")
    )
    return MatrixPlan(rows=("klp_a", "klp_b"), columns=columns, cells=cells)


def result(cell: Cell, outcome: CheckOutcome = CheckOutcome.PASSED, **more: Any) -> CellResult:
    return CellResult(
        id=cell.id,
        outcome=outcome,
        seconds=1,
        row=cell.row,
        column=cell.column,
        at="2026-11-28T02:00:00+00:00",
        kernel=FACTS,
        **more,
    )


# -- rows and columns ----------------------------------------------------------------------------


def test_only_some_of_a_manifest(tmp_path: Path) -> None:
    """MODULE and --kernel choose rows and columns by their names."""
    made = small_plan()
    assert [cell.id for cell in made.only(("klp_b",), ("6.12",)).cells] == ["klp_b@6.12"]
    with pytest.raises(UsageError, match="the manifest has no patch klp_c"):
        made.only(("klp_c",), ())
    with pytest.raises(UsageError, match=r"the manifest has no kernel 5\.4"):
        made.only((), ("5.4",))


def words(**more: Any) -> MatrixPlan:
    given: dict[str, Any] = {
        "modules": ("klp_a",),
        "sources": (),
        "targets": (),
        "replaces": (),
        "check": None,
        "settings": {},
        "kernels": (KernelOptions(spec="6.1"), KernelOptions(spec="6.12")),
        "thorough": False,
    }
    return plan_of_words(**(given | more))


def test_cells_of_a_command_line(tmp_path: Path) -> None:
    """Each module on each kernel; --thorough adds a debug kernel, which no .ko file is for."""
    file = tmp_path / "klp_file.ko"
    file.write_bytes(b"")
    made = words(modules=("klp_a", str(file)), thorough=True)
    assert [column.name for column in made.columns] == [
        "6.1",
        "6.1 debug",
        "6.12",
        "6.12 debug",
    ]
    assert [cell.id for cell in made.cells if cell.not_run] == [
        "klp_file@6.1 debug",
        "klp_file@6.12 debug",
    ]
    with pytest.raises(UsageError, match=r"two kernels are named 6\.1"):
        words(kernels=(KernelOptions(spec="6.1"),) * 2)


# -- cells ----------------------------------------------------------------------------------------


def test_no_cell_ends_the_others() -> None:
    """What a cell runs into, a bug of the harness too, is that cell's result."""

    def broken(*_: Any) -> Any:
        raise RuntimeError("a bug")

    finder: Any = SimpleNamespace(find=broken, samples={})
    kernel: Any = SimpleNamespace(version="6.1", **FACTS.model_dump(exclude={"version"}))
    cell = Cell(row="klp_a", column="6.1", module="klp_test_gate")
    found = judge_cell(cell, kernel, SimpleNamespace(), finder, terminal=None, guests=1)  # type: ignore[arg-type]
    assert (found.outcome, found.error and found.error.fault) == (CheckOutcome.ERROR, "harness")
    assert found.detail == "a bug"


@pytest.mark.parametrize(
    ("errors", "outcomes", "code"),
    [
        ([], [CheckOutcome.PASSED, CheckOutcome.WARNED], ExitCode.HELD),
        ([DownloadFailed("no network")], [CheckOutcome.PASSED], ExitCode.HARNESS),
        ([DownloadFailed("x"), UsageError("other kernel")], [], ExitCode.USAGE),
        ([UsageError("x")], [CheckOutcome.FAILED], ExitCode.VERDICT),
        ([KernelBuildFailed("does not build")], [], ExitCode.VERDICT),
    ],
)
def test_the_exit_code(
    errors: list[KlpError], outcomes: list[CheckOutcome], code: ExitCode
) -> None:
    """A verdict counts before what cannot be judged, and that before what the host failed at."""
    cell = small_plan().cells[0]
    results = [not_judged(cell, error) for error in errors]
    assert exit_code([*results, *(result(cell, each) for each in outcomes)]) is code


# -- what is kept ---------------------------------------------------------------------------------


def opened(folder: Path, made: MatrixPlan, **more: Any) -> KeptCells:
    kept = KeptCells(folder, made)
    kept.open(started="now", **{"rerun_failed": False, "anew": False, **more})
    return kept


def ended(folder: Path, *outcomes: CheckOutcome, finished: bool) -> MatrixPlan:
    """Leave the results of the first cells in a folder."""
    made = small_plan()
    kept = opened(folder, made)
    for cell, outcome in zip(made.cells, outcomes, strict=False):
        kept.keep(result(cell, outcome))
    kept.close(finished=finished)
    return made


def test_an_interrupted_job_is_taken_up(tmp_path: Path) -> None:
    """Verdicts are kept, also failures; what the harness failed at is tried again."""
    made = ended(
        tmp_path,
        CheckOutcome.PASSED,
        CheckOutcome.FAILED,
        CheckOutcome.ERROR,
        finished=False,
    )
    kept = opened(tmp_path, made)
    assert sorted(kept.kept) == ["klp_a@6.1", "klp_b@6.1"]
    kept.close(finished=True)
    # The next job begins anew, and leaves nothing of this one.
    assert not opened(tmp_path, made).kept
    assert not list((tmp_path / "cells").iterdir())


def test_only_what_failed_is_run_again(tmp_path: Path) -> None:
    """--rerun-failed keeps what passed or warned, of a job that has ended too."""
    outcomes = (CheckOutcome.WARNED, CheckOutcome.FAILED, CheckOutcome.PASSED, CheckOutcome.ERROR)
    made = ended(tmp_path, *outcomes, finished=True)
    kept = opened(tmp_path, made, rerun_failed=True)
    assert sorted(kept.kept) == ["klp_a@6.1", "klp_a@6.12"]


def test_another_cell_is_not_kept(tmp_path: Path) -> None:
    """A result is not used for a check, a module or settings that have changed since."""
    check = tmp_path / "check.sh"
    check.write_text("true")
    plain = small_plan()
    made = replace(plain, cells=tuple(replace(c, check=str(check)) for c in plain.cells))
    kept = opened(tmp_path / "r", made)
    kept.keep(result(made.cells[0]))
    kept.close(finished=False)
    assert opened_and_closed(tmp_path / "r", made) == ["klp_a@6.1"]
    other = replace(made, cells=tuple(replace(c, settings={"cycles": 3}) for c in made.cells))
    kept = KeptCells(tmp_path / "r", other)
    assert not dict(kept._read())
    check.write_text("false")
    assert opened_and_closed(tmp_path / "r", made) == []


def opened_and_closed(folder: Path, made: MatrixPlan) -> list[str]:
    kept = opened(folder, made)
    kept.close(finished=False)
    return sorted(kept.kept)


def test_damaged_cells_are_run_again(tmp_path: Path) -> None:
    """A cell's file that is cut off, or of another program, counts as none."""
    made = ended(tmp_path, CheckOutcome.PASSED, CheckOutcome.PASSED, finished=False)
    file = tmp_path / "cells" / "klp_a_on_6.1.json"
    file.write_text(file.read_text()[:-20])
    assert opened_and_closed(tmp_path, made) == ["klp_b@6.1"]


def test_folders_that_cannot_be_used(tmp_path: Path) -> None:
    """A folder of something else, of a running job, or without results is refused."""
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(UsageError, match="is not empty, and holds no results"):
        opened(tmp_path, small_plan())
    with pytest.raises(UsageError, match="nothing there has failed"):
        opened(tmp_path / "none", small_plan(), rerun_failed=True)
    kept = opened(tmp_path / "used", small_plan())
    with pytest.raises(UsageError, match="another verify is using"):
        opened(tmp_path / "used", small_plan())
    kept.close(finished=False)
    (tmp_path / "used" / "matrix.json").write_text("{")
    with pytest.raises(UsageError, match="cannot be read"):
        opened(tmp_path / "used", small_plan())


def test_a_kept_file_is_whole(tmp_path: Path) -> None:
    """A cell's file is JSON of the documented result, beside the key that names its inputs."""
    ended(tmp_path, CheckOutcome.PASSED, finished=False)
    text = json.loads((tmp_path / "cells" / "klp_a_on_6.1.json").read_text())
    assert text["format"] == 1
    assert CellResult.model_validate(text["result"]).outcome is CheckOutcome.PASSED


# -- running --------------------------------------------------------------------------------------


class Run:
    """A matrix of which nothing is real but the order."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made = small_plan()
        self.kept = opened(tmp_path / "r", self.made)
        self.obtained: list[str] = []
        self.judged: list[str] = []
        self.fails: dict[str, KlpError] = {}
        monkeypatch.setattr("harness.vm.guest.runs.open_session", lambda *_, **__: _Session())
        monkeypatch.setattr(matrix_run, "judge_cell", self._judge)

    def _judge(self, cell: Cell, *_: Any, **__: Any) -> CellResult:
        self.judged.append(cell.id)
        return result(cell)

    def _obtain(self, column: Column) -> Any:
        self.obtained.append(column.name)
        if column.name in self.fails:
            raise self.fails[column.name]
        return SimpleNamespace(version=column.name, digest="d1")

    def results(self) -> dict[str, CheckOutcome]:
        choice: Any = SimpleNamespace(accel=SimpleNamespace(value="tcg"))
        work = MatrixRun(
            self.made,
            self.kept,
            choice=choice,
            limits=Limits(jobs=2, guests=2),
            obtain=self._obtain,
            terminal=SimpleNamespace(note=print),  # type: ignore[arg-type]
        )
        return {each.id: each.outcome for each in work.results()}


class _Session:
    def __enter__(self) -> Any:
        return SimpleNamespace()

    def __exit__(self, *_: object) -> None:
        pass


def test_a_kernel_that_cannot_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the result of its own cells, and the others are verified."""
    run = Run(tmp_path, monkeypatch)
    run.fails["6.1"] = DownloadFailed("no network")
    assert run.results() == {
        "klp_a@6.1": CheckOutcome.ERROR,
        "klp_b@6.1": CheckOutcome.ERROR,
        "klp_a@6.12": CheckOutcome.PASSED,
        "klp_b@6.12": CheckOutcome.PASSED,
    }


def test_kept_cells_are_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are not verified again, unless their kernel is another one now."""
    run = Run(tmp_path, monkeypatch)
    same, other = run.made.cells[:2]
    run.kept.kept = {
        same.id: result(same),
        other.id: result(other).model_copy(
            update={"kernel": FACTS.model_copy(update={"digest": "d0"})}
        ),
    }
    run.results()
    assert sorted(run.judged) == ["klp_a@6.12", "klp_b@6.1", "klp_b@6.12"]


def test_a_bug_in_the_loop_is_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is no failure of a cell, such as an interrupt, ends the job."""
    run = Run(tmp_path, monkeypatch)

    def interrupted(*_: Any, **__: Any) -> CellResult:
        raise KeyboardInterrupt

    monkeypatch.setattr(matrix_run, "judge_cell", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run.results()


# -- the page -------------------------------------------------------------------------------------


def test_the_page_of_the_table() -> None:
    """Each cell leads to its page; what has no result, and what is for no kernel, is marked."""
    made = small_plan()
    made = replace(made, cells=made.cells[:-1])
    results = {
        (cell.row, cell.column): result(cell, outcome, detail="<why>")
        for cell, outcome in zip(
            made.cells, (CheckOutcome.PASSED, CheckOutcome.FAILED), strict=False
        )
    }
    page = table_page(made, results, cells="cells", accelerator="kvm", partial=True)
    assert 'href="cells/klp_a_on_6.1.html">passed</a>' in page
    assert 'class="failed" title="&lt;why&gt;"' in page
    assert page.count('<td class="none">?</td>') == 1
    assert page.count('<td class="none">-</td>') == 1
    assert "Partial" in page


def test_file_names_of_cells() -> None:
    """Any name of a patch or kernel makes a file name, and no two cells make the same."""
    cells = [
        Cell(row=row, column=column)
        for row in ("a/b", "a-b", "a" * 300, "a" * 301, "..")
        for column in ("./linux", "6.1")
    ]
    names = [cell.file for cell in cells]
    assert len(set(names)) == len(names)
    assert all(len(name) < 100 and "/" not in name and name[0] != "." for name in names)


def test_what_was_left_out() -> None:
    """A patch without a file for a kernel is not run, with the reason."""
    found = left_out(Cell(row="a", column="b", not_run="no file"))
    assert (found.outcome, found.detail) == (CheckOutcome.NOT_RUN, "no file")


# -- on a cluster ---------------------------------------------------------------------------------


def test_a_cell_travels_with_its_files(tmp_path: Path) -> None:
    """A worker finds the files of a cell in a folder of its own; a sample keeps its name."""
    on_cluster = pytest.importorskip("harness.tools.verify.matrix.on_cluster")
    for name in ("here/klp_fix/Kbuild", "here/klp_fix/sub/a.c", "here/check.sh", "here/t.ko"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    cell = Cell(
        row="klp_fix",
        column="6.1",
        module=str(tmp_path / "here/klp_fix"),
        targets=("klp_target_gate", str(tmp_path / "here/t.ko")),
        check=str(tmp_path / "here/check.sh"),
    )
    column = Column(name="6.1", options=KernelOptions(spec="6.1"))
    order = on_cluster._order(cell, column, "d1", "auto", 2)
    (tmp_path / "here").rename(tmp_path / "elsewhere")
    found = on_cluster._unpacked(order, tmp_path / "there")
    assert Path(found.module, "sub/a.c").read_text() == "here/klp_fix/sub/a.c"
    assert Path(found.check).read_text() == "here/check.sh"
    assert found.targets[0] == "klp_target_gate"
    assert Path(found.targets[1]).name == "t.ko"


@pytest.mark.parametrize("option", ["--keep-guest", "--memory=300", "--smp=3", "--append=quiet"])
def test_a_table_refuses_what_one_patch_on_one_kernel_can_have(option: str) -> None:
    """It would be left out in silence otherwise; said before a kernel is built."""
    words = ["verify", "klp_test_gate", "--kernel", "6.1", "--kernel", "6.12", option]
    result = CliRunner().invoke(app, words, prog_name="klp-harness")
    assert result.exit_code == ExitCode.USAGE
    assert "a table of patches and kernels keeps no guest" in result.output
