# SPDX-License-Identifier: GPL-2.0-only
"""What is known of mutants that no test notices."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.errors import UsageError
from harness.report.base import CheckOutcome
from harness.resources import Resource, resource_dir
from harness.tools.mutants.sweep.candidates import Operator
from harness.tools.mutants.sweep.choose import choose
from harness.tools.mutants.sweep.explained import NAME, Explained, match, read_explained
from harness.tools.mutants.sweep.parse import candidates
from tests.unit.sweep_maker import CALL, FILE, QUICK, SLOW, SOURCE, dispatch, explained, play, ran

if TYPE_CHECKING:
    pass


def test_survivor_that_is_explained_is_no_gap() -> None:
    """What is known to need more than guests have may survive, and fails no command.

    It runs only when it is named.
    """
    known = explained(CALL, kind="needs")
    (unrun,) = play(dispatch(CALL, known=known), {})
    assert (unrun.outcome, unrun.detail) == (CheckOutcome.SURVIVED, "not run: since")
    assert unrun.is_excused
    assert not unrun.is_gap
    named = (CALL.name,)
    (found,) = play(
        dispatch(CALL, known=known, named=named), {QUICK: [ran(QUICK)], SLOW: [ran(SLOW)]}
    )
    assert (found.outcome, found.detail) == (CheckOutcome.SURVIVED, "since")
    assert found.is_excused
    assert not found.is_gap
    (noticed,) = play(
        dispatch(CALL, known=known, named=named),
        {QUICK: [ran(QUICK, CheckOutcome.FAILED)], SLOW: []},
    )
    assert (noticed.outcome, noticed.explained) == (CheckOutcome.CAUGHT, False)


def test_explained_mutants_are_found_by_their_code() -> None:
    """Lines move between kernels; file, function, operator and the code stay."""
    moved = SOURCE.replace(b"int first", b"\n\n\nint first")
    (call, *_) = choose(candidates({FILE: moved}), operators=[CALL.operator])
    (known,) = explained(CALL).values()
    assert match([call], {FILE: moved}, [known]) == {call.name: known}
    after = known.model_copy(update={"after": "if (a)"})
    assert match([call], {FILE: moved}, [after]) == {call.name: after}
    assert call.name != CALL.name
    for other in (
        {"function": "second"},
        {"code": "call(b);"},
        {"new": "call(b);"},
        {"after": "if (b)"},
    ):
        assert match([call], {FILE: moved}, [known.model_copy(update=other)]) == {}


def test_an_entry_that_fits_more_lines_than_it_says_is_used_for_none(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A proof of one line is none of another line with the same code; the warning names both."""
    source = SOURCE.replace(b"\tcall(a);", b"\tcall(a);\n\tcall(b);\n\tcall(a);")
    found = candidates({FILE: source})
    (known,) = explained(CALL).values()
    assert match(found, {FILE: source}, [known]) == {}
    (text,) = [record.getMessage() for record in caplog.records]
    assert "first()" in text
    assert f"`{known.code}` on the lines {CALL.line}, {CALL.line + 2}" in text
    (one,) = match(found, {FILE: source}, [known.model_copy(update={"after": "call(b);"})])
    assert one.split("-")[1] == str(CALL.line + 2)
    both = match(found, {FILE: source}, [known.model_copy(update={"lines": 2})])
    assert len(both) == 2


def test_one_of_several_alike_on_a_line() -> None:
    """``nth`` selects it; one that is not there is none."""
    source = SOURCE.replace(b"\tcall(a);", b"\tcall(0, 0);", 1)
    both = [each for each in candidates({FILE: source}) if each.operator is Operator.OFF_BY_ONE]
    assert [each.new for each in both] == ["(0 + 1)"] * 2
    known = Explained(
        file=FILE,
        function="first",
        operator="off-by-one",
        code="call(0, 0);",
        kind="equivalent",
        why="since",
    )
    for nth, names in (
        (None, [each.name for each in both]),
        (2, [both[1].name]),
        (3, []),
    ):
        known = known.model_copy(update={"nth": nth})
        assert list(match(both, {FILE: source}, [known])) == names


def test_list_of_explained_mutants_can_be_read(tmp_path: Path) -> None:
    """The project's own list has no entry twice; a damaged one is refused in a sentence."""
    listed = read_explained(resource_dir(Resource.KERNEL_MUTANTS) / NAME)
    places = [each.model_dump_json(exclude={"why", "kind"}) for each in listed]
    assert len(places) == len(set(places)) > 0
    (tmp_path / NAME).write_text("[[mutant]]\nfile = 1\n")
    with pytest.raises(UsageError, match="no list of explained mutants"):
        read_explained(tmp_path / NAME)


def test_explained_of_a_series() -> None:
    """What is said of some kernels is not said of others."""
    (known,) = explained(CALL).values()
    only = known.model_copy(update={"series": ("6.1",)})
    sources = {FILE: SOURCE}
    assert match([CALL], sources, [only], series="6.1") == {CALL.name: only}
    assert match([CALL], sources, [only], series="6.12") == {}
    assert match([CALL], sources, [known], series="6.12") == {CALL.name: known}
