# SPDX-License-Identifier: GPL-2.0-only
"""Any text in any result: it is written by each writer, and read again; nothing is raised."""

from __future__ import annotations

import enum
import io
import json
import re
import types
import typing
from pathlib import Path
from typing import Any, Literal, get_args, get_origin
from xml.etree import ElementTree as ET

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel
from rich.table import Table
from rich.text import Text

from benchmarks.module_mutation.results import ModuleMutantReport
from harness.cli.registry import COMMANDS, read_report, report_class
from harness.errors import HarnessError
from harness.observer.cost_results import CostResult
from harness.report.base import BaseReport, to_json
from harness.report.junit import to_junit
from harness.report.ktap import to_ktap
from harness.report.run_results import RunResult
from harness.report.terminal import LineProgress, Terminal
from harness.report.text import printable, writable
from harness.report.timeline_page import timeline_page
from harness.tools.costs.page import costs_page
from harness.tools.models.catalogue import LINUX
from harness.tools.models.compare_page import compare_page
from harness.tools.models.results import ComparedResult
from harness.tools.mutants.page import matrix_page
from harness.tools.mutants.results import MutantResult
from harness.tools.race.results import StoryLine
from harness.tools.race.story.page import story_page
from harness.tools.verify.page import verify_page
from harness.tools.verify.results import VerifyReport
from tests.unit.test_story import NOTE

# Surrogates too: os.fsdecode() makes them of a name that is not UTF-8.
TEXT = st.text(st.characters(exclude_categories=()), max_size=12) | st.sampled_from(
    [b"klp_\xff\xfe.ko".decode(errors="surrogateescape"), "\ud83d", "\x1b[31mred\x1b[0m", "\x00\r"]
)
FEW = settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
EVIL = "\x1b[31m\x1b]0;title\x07\x9b2Jfake\r\u202egnp"


def values(kind: Any) -> st.SearchStrategy[Any]:
    """Return any values of a type that results have."""
    origin, args = get_origin(kind), get_args(kind)
    if origin is typing.Annotated:
        return values(args[0])
    if origin in (typing.Union, types.UnionType):
        return st.one_of(*map(values, args))
    if origin is Literal:
        return st.sampled_from(args)
    if origin is tuple:
        return st.lists(values(args[0]), max_size=2).map(tuple)
    if origin is dict:
        return st.dictionaries(values(args[0]), values(args[1]), max_size=2)
    if kind is type(None):
        return st.none()
    if issubclass(kind, enum.Enum):
        return st.sampled_from(kind)
    if issubclass(kind, BaseModel):
        return models(kind)
    plain = {
        str: TEXT,
        bool: st.booleans(),
        int: st.integers(0, 1 << 40),
        float: st.floats(0, 1e6),
    }
    return plain[kind]


def models(kind: type[BaseModel]) -> st.SearchStrategy[Any]:
    """Return any instances of a model, made as commands make them."""
    fields = {
        field.alias or name: values(field.annotation) for name, field in kind.model_fields.items()
    }
    return st.fixed_dictionaries(fields).map(kind.model_validate)


_NAMES = ["test", "doctor", "run", "verify", "compare", "matrix", "classify", "selftests"]
_NAMES += ["kernel list", "race run", "mutants run", "models list", "models compare"]
_NAMES += ["bugs", "verify matrix", "history", "costs", "mutants sweep", "race explore"]
REPORTS = {report_class(name) for name in _NAMES}
REPORTS.add(ModuleMutantReport)


@pytest.mark.parametrize("kind", sorted(REPORTS, key=str))
@given(data=st.data())
@FEW
def test_any_report_is_written_by_all_writers(kind: type[BaseReport], data: st.DataObject) -> None:
    """No name of a module or a task loses the results; what can be read again is the same."""
    report = data.draw(models(kind))
    text = to_json(report)
    json.loads(text.encode())
    if kind is not ModuleMutantReport:
        assert to_json(read_report(text)) == text
    ET.fromstring(to_junit(report).encode())
    ktap = to_ktap(report).encode().decode()
    plan = [line for line in ktap.split("\n") if line.startswith("1..")]
    count = sum(line.startswith(("ok ", "not ok ")) for line in ktap.split("\n"))
    assert plan == [f"1..{count}"]
    assert "\x1b" not in text + ktap


@given(data=st.data())
@FEW
def test_any_result_is_shown_on_pages(data: st.DataObject) -> None:
    """Pages are valid UTF-8 without control characters, so that an SVG in them is valid XML."""
    runs = data.draw(st.lists(models(RunResult), max_size=2))
    mutants = data.draw(st.lists(models(MutantResult), max_size=2))
    report = data.draw(models(VerifyReport))
    known = [each for each in mutants if each.outcome in CAUGHT]
    drawn = data.draw(st.lists(models(ComparedResult), max_size=1))
    row = {"row": "both", "model": LINUX.name, "values": (), "median": None}
    compared = [each.model_copy(update=row) for each in drawn]
    costs = data.draw(st.lists(models(CostResult), max_size=3))
    story = data.draw(st.lists(models(StoryLine), max_size=4))
    note = {"reproducer": data.draw(TEXT), "message": data.draw(TEXT), "kernel": data.draw(TEXT)}
    for page in (
        timeline_page(data.draw(TEXT), {"kernel": data.draw(TEXT)}, runs),
        matrix_page(known, data.draw(TEXT)),
        verify_page(report.verdicts, report.results, report.runs, kernel="k", accelerator="a"),
        compare_page((LINUX,), compared, {"kernel": data.draw(TEXT)}),
        costs_page([each.kernel for each in costs], costs, {"kernel": data.draw(TEXT)}),
        story_page(NOTE.model_copy(update=note), story),
    ):
        page.encode()
        assert printable(page) == page


CAUGHT = ("caught", "survived", "error", "does-not-apply", "does-not-build", "does-not-boot")


def test_every_command_has_its_report_here() -> None:
    """A command that is added has its report tested too."""
    named = {name.partition(" ")[0] for kind in REPORTS for name in names_of(kind)}
    without = {"boot", "rerun", "coverage", "guests", "ssh", "gdb", "dump"}
    assert set(COMMANDS) - without <= named


def names_of(kind: type[BaseReport]) -> tuple[str, ...]:
    return get_args(kind.model_fields["command"].annotation)


@given(TEXT)
def test_writable_text_is_what_it_was(text: str) -> None:
    """Only what cannot be encoded is changed, and it is shown."""
    shown = writable(text)
    assert shown.encode().decode() == shown
    if shown != text:
        assert "\\" in shown
    assert writable(b"a\xff".decode(errors="surrogateescape")) == r"a\xff"


@pytest.mark.parametrize("is_terminal", [False, True])
def test_no_print_path_reaches_the_terminal(
    is_terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Texts, styled texts, tables, prose, notes, errors, progress, the log: none has an ESC of it.

    On a terminal rich itself sends colours and moves the cursor; the guest's own are not among
    them.
    """
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    out, err = Stream(is_terminal=is_terminal), Stream(is_terminal=is_terminal)
    terminal = Terminal(stdout=out, stderr=err)
    table = Table(EVIL, title=EVIL)
    table.add_column(Text(EVIL, style="bold"))
    table.add_row(EVIL, Text(EVIL))
    terminal.print(EVIL, Text(EVIL), Text.assemble((EVIL, "bold red")), table)
    terminal.prose(EVIL)
    terminal.note(EVIL)
    terminal.error(HarnessError(EVIL, hint=EVIL, details=(EVIL,), artefacts=None))
    with terminal.progress() as progress:
        progress.stage(EVIL)
        progress.count(1, 2, EVIL)
    LineProgress(terminal.note).stage(EVIL)
    written = out.getvalue() + err.getvalue()
    assert "fake" in written
    assert "\x1b]" not in written
    assert "\x1b[31m\x1b" not in written
    assert not set("\x07\x9b\u202e\x00") & set(written)
    if not is_terminal:
        assert "\x1b" not in written
        assert "\r" not in written


class Stream(io.StringIO):
    """A stream that may say that it is a terminal."""

    def __init__(self, *, is_terminal: bool) -> None:
        super().__init__()
        self._is_terminal = is_terminal

    def isatty(self) -> bool:
        return self._is_terminal


def test_only_one_place_prints() -> None:
    """What writes to the streams by itself is listed here, each with what it writes."""
    root = Path(__file__).resolve().parents[2]
    allowed = {
        "harness/report/terminal.py",  # the place
        "harness/cli/__init__.py",  # our own sentences
        "harness/cli/app.py",  # the version
        "harness/cli/exits.py",  # our own sentences
        "harness/cli/streams.py",  # our own sentences
        "harness/pytest_plugin/options.py",  # made printable there
        "harness/tools/boot/command.py",  # the guest's own bytes, by design
        "harness/vm/host/bootstrap.py",  # runs before anything is installed
    }
    direct = re.compile(r"sys\.(?:stdout|stderr)\.(?:write|buffer)|(?<![\w.])print\(|typer\.echo")
    writers = {
        str(path.relative_to(root))
        for path in (root / "harness").rglob("*.py")
        if direct.search(path.read_text())
    }
    assert writers <= allowed
