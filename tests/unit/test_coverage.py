# SPDX-License-Identifier: GPL-2.0-only
"""Coverage: made of counters, merged, compared, and shown."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from harness.cli.coverage import print_coverage
from harness.errors import UsageError
from harness.observer.code_map import Branch, Code, CodeMap, Place, SourceFile
from harness.observer.coverage import (
    BOOT,
    BranchCoverage,
    Coverage,
    LineCoverage,
    make_coverage,
    read_coverage,
    sides_of,
)
from harness.observer.coverage_page import coverage_page
from harness.observer.coverage_sums import by_luck, difference, joined, merge
from harness.observer.coverage_text import difference_text, luck_text, never_run, one_way, table
from harness.observer.lcov import to_lcov
from harness.observer.unreached import (
    OneWay,
    Unreached,
    Why,
    compare,
    compare_branches,
    read_unreached,
)
from harness.report.terminal import Terminal

ROOT = Path(__file__).resolve().parents[2]
FILE = "kernel/livepatch/core.c"
TEXT = (
    "int g(int x)",
    "{",
    "\treturn x < 2;",
    "}",
    "int f(int x)",
    "\tif (WARN_ON(g(x)))",
    "\t\treturn 1;",
    "\treturn 0;",
    "}",
)


def at(*lines: tuple[int, str]) -> tuple[Place, ...]:
    return tuple(Place(file=FILE, line=line, function=name) for line, name in lines)


def code_map(text: tuple[str, ...] = TEXT, digest: str = "d") -> CodeMap:
    """Return f(), with g() inlined: 5 instructions, a branch into a trap and one of its own."""
    return CodeMap(
        digest=digest,
        ranges=((0x10, 0x20),),
        codes=(
            Code(address=0x10, places=at((5, "f"))),
            Code(address=0x12, places=at((3, "g"), (6, "f"))),
            Code(address=0x14, places=at((6, "f"))),
            Code(address=0x16, places=at((7, "f"))),
            Code(address=0x18, places=at((8, "f"))),
            Code(address=0x1A, places=at((6, "f")), warns=True),
        ),
        branches=(
            Branch(address=0x12, next=0x14, target=0x1A, alone_next=True, alone_target=True),
            Branch(address=0x14, next=0x16, target=0x18, alone_next=True, alone_target=False),
        ),
        files=(SourceFile(name=FILE, text=text),),
    )


def coverage(**tests: dict[int, int]) -> Coverage:
    return make_coverage(code_map(), tests, kernel="6.1.192 (here)")


ONE = {0x10: 3, 0x12: 3, 0x14: 3, 0x18: 3}
OTHER = {0x10: 1, 0x12: 1, 0x14: 1, 0x16: 1, 0x18: 1}


def test_counts_of_lines_functions_and_branches() -> None:
    """A line counts with its most frequent instruction; an inlined function is one too."""
    made = coverage(one=ONE)
    (file,) = made.files
    assert {line.line: line.count for line in file.lines} == {3: 3, 5: 3, 6: 3, 7: 0, 8: 3}
    assert {each.name: (each.line, each.count) for each in file.functions} == {
        "g": (3, 3),
        "f": (5, 3),
    }
    warn, branch = file.branches
    assert (warn.passes, warn.jumps, warn.warns) == (3, 0, True)
    assert (branch.passes, branch.jumps, branch.never) == (0, 3, "goes on")
    assert (made.instructions_run, made.instructions) == (4, 6)


def test_a_trap_that_did_not_run_leaves_its_line_whole() -> None:
    """The line of a WARN ran when its condition did; with the trap missing it is not partly run."""
    line = next(line for line in coverage(one=ONE).files[0].lines if line.line == 6)
    assert not line.partly
    line = next(line for line in coverage(one={0x12: 1}).files[0].lines if line.line == 6)
    assert line.partly


def test_each_test_has_its_lines() -> None:
    """Which test ran which line."""
    first, second = coverage(one=ONE, other=OTHER).tests
    assert first.lines == {FILE: (3, 5, 6, 8)}
    assert second.lines == {FILE: (3, 5, 6, 7, 8)}


def test_a_branch_whose_sides_the_counters_do_not_show() -> None:
    """It counts for neither side, and is not reported as going one way."""
    unknown = BranchCoverage(line=1, function="f", passes=None, jumps=None)
    assert unknown.never is None
    assert sides_of([unknown]) == (0, 0)
    assert sides_of([BranchCoverage(line=1, function="f", passes=0, jumps=4)]) == (1, 2)


def test_merged_runs_have_the_sum() -> None:
    """Counts are added, and the lines of tests are joined."""
    merged = merge([coverage(one=ONE), coverage(one=OTHER)])
    assert {line.line: line.count for line in merged.files[0].lines} == {
        3: 4,
        5: 4,
        6: 4,
        7: 1,
        8: 4,
    }
    assert merged.files[0].branches[1].never is None
    assert merged.tests[0].lines == {FILE: (3, 5, 6, 7, 8)}


def test_difference_and_luck() -> None:
    """A line of one run alone is a difference, and one of some runs is luck."""
    one, other = coverage(one=ONE), coverage(one=OTHER)
    assert difference(one, other) == ((), ((FILE, 7),))
    assert by_luck([one, other, one]) == {(FILE, 7): 1}
    assert by_luck([one, one]) == {}
    text = "\n".join(difference_text(difference(one, other), one, ("a", "b")))
    assert "no line ran in a alone" in text
    assert "     7          return 1;" in text
    assert f"{FILE}:7  in 1  return 1;" in "\n".join(luck_text(by_luck([one, other]), [one, other]))


def test_other_code_is_not_compared() -> None:
    """Lines of two sources mean different things, and so do branches of two builds."""
    other = make_coverage(code_map(text=("x",)), {}, kernel="6.12")
    with pytest.raises(UsageError, match="different code"):
        difference(coverage(), other)
    built = make_coverage(code_map(digest="e"), {}, kernel="6.1.192 (there)")
    with pytest.raises(UsageError, match="two builds"):
        merge([coverage(), built])


def test_a_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    """What --coverage-file writes, and what is no such file."""
    path = tmp_path / "c.json"
    path.write_text(coverage(one=ONE).model_dump_json())
    assert read_coverage(path) == coverage(one=ONE)
    path.write_text(path.read_text()[:-20])
    with pytest.raises(UsageError, match="no coverage"):
        read_coverage(path)
    with pytest.raises(UsageError, match="there"):
        read_coverage(tmp_path / "there")


def test_lcov_has_what_geninfo_writes() -> None:
    """The records of a file: functions, sides of branches, lines, and their sums."""
    lines = to_lcov(coverage(one=ONE)).splitlines()
    assert lines[:2] == ["TN:6_1_192_here", f"SF:{FILE}"]
    assert {"FN:5,f", "FNDA:3,f", "FNF:2", "FNH:2"} <= set(lines)
    assert {"BRDA:3,0,0,3", "BRDA:3,0,1,0", "BRDA:6,1,0,0", "BRF:4", "BRH:2"} <= set(lines)
    assert {"DA:7,0", "DA:8,3", "LF:5", "LH:4"} <= set(lines)
    assert lines[-1] == "end_of_record"


def test_lcov_marks_a_branch_that_did_not_run() -> None:
    """A dash, as lcov does: it is no branch that went one way."""
    assert "BRDA:3,0,0,-" in to_lcov(coverage()).splitlines()


def test_table_and_lists_for_a_terminal() -> None:
    """The figures, the lines that did not run, and the branch that went one way."""
    made = make_coverage(code_map(), {"one": ONE, BOOT: {}}, kernel="k", notes=["a guest is lost"])
    text = table(made)
    assert "4 of    5  80.0 %" in text[1]
    assert text[-2:] == [
        "4 of 6 instructions ran, in 1 test and the boot of their guests",
        "note: a guest is lost",
    ]
    assert list(never_run(made)) == [
        f"lines of {FILE} that did not run:",
        "     7          return 1;",
    ]
    (head, way) = one_way(made)
    assert head == f"branches of {FILE} that only went one way:"
    assert way.startswith("     6  if (WARN_ON(g(x)))")
    assert way.endswith("never goes on, 3 times")


def test_page_has_the_source_and_the_tests() -> None:
    """Lines by their state; the tests of a line; text of the kernel is escaped."""
    page = coverage_page(coverage(one=ONE, other=OTHER), title="Coverage of a <b>")
    assert "Coverage of a &lt;b&gt;" in page
    assert 'title="one, other">8</td>' in page
    assert "return x &lt; 2;" in page
    page = coverage_page(coverage(one=ONE), title="t")
    assert '<tr class="missed"><td class="number" title="no test">7</td>' in page


LISTED = Unreached(
    file=FILE,
    function="f",
    after="if (WARN_ON(g(x)))",
    text="return 1;",
    kind=Why.NO_TEST,
    why="x",
)


def test_lines_that_did_not_run_are_listed_or_named() -> None:
    """One that is not listed is unexplained; one that is listed and ran, or is gone, is named."""
    line = (FILE, 7)
    assert compare(coverage(one=ONE), []) == ((line,), (), ())
    assert compare(coverage(one=ONE), [LISTED]) == ((), (), ())
    assert compare(coverage(one=OTHER), [LISTED]) == ((), (line,), ())
    other = LISTED.model_copy(update={"function": "g"})
    assert compare(coverage(one=ONE), [other]) == ((line,), (), (other,))
    gone = LISTED.model_copy(update={"after": "else"})
    assert compare(coverage(one=ONE), [gone]) == ((line,), (), (gone,))


def test_the_list_of_the_suite_can_be_read(tmp_path: Path) -> None:
    """Each line has its reason, and none is there twice."""
    listed = read_unreached(ROOT / "tests/behaviours/unreached.toml")
    lines, branches = listed.line, listed.branch
    assert lines
    assert branches
    assert all(each.why for each in lines)
    assert all(each.why for each in branches)
    names = {(each.file, each.function, each.after, each.text) for each in lines}
    assert len(names) == len(lines)
    assert len({(each.file, each.function, each.text) for each in branches}) == len(branches)
    (tmp_path / "x.toml").write_text("[[line]]\nfile = 'x'\n")
    with pytest.raises(UsageError, match="no list of lines"):
        read_unreached(tmp_path / "x.toml")


def test_branches_that_went_one_way_are_listed_or_named() -> None:
    """A side that is not listed is unexplained; one into a WARN needs no reason."""
    found = compare_branches(coverage(one=ONE), [])
    assert found.warns > 0
    assert found.taken + found.warns + len(found.unexplained) <= found.known
    assert found.unexplained
    place = found.unexplained[0]
    (branch,) = (
        each
        for each in coverage(one=ONE).files[0].branches
        if each.line == place[1] and not each.warns
    )
    listed = OneWay(
        file=FILE,
        function=branch.function,
        text=TEXT[branch.line - 1].strip(),
        kind=Why.CANNOT,
        why="x",
    )
    known = compare_branches(coverage(one=ONE), [listed])
    assert place not in known.unexplained
    assert known.cannot == 1
    assert (known.reached, known.unknown) == ((), ())
    gone = listed.model_copy(update={"text": "else"})
    assert compare_branches(coverage(one=ONE), [gone]).unknown == (gone,)
    both = {address: ONE.get(address, 0) + OTHER.get(address, 0) for address in {*ONE, *OTHER}}
    assert compare_branches(coverage(one=both), [listed]).reached == (listed,)


def test_what_did_not_run_of_the_livepatch_is_printed() -> None:
    """Its lines are printed however much of the kernel's code did not run, and come first."""
    kernel = coverage(a={0x10: 1})
    (file,) = kernel.files
    lines = tuple(LineCoverage(line=number, count=0) for number in range(1, 101))
    much = kernel.model_copy(
        update={"files": (file.model_copy(update={"text": ("",) * 100, "lines": lines}),)}
    )
    (own,) = coverage(b={0x10: 1}).files
    livepatch = coverage(b={0x10: 1}).model_copy(
        update={"files": (own.model_copy(update={"name": "fix.c"}),)}
    )
    whole = joined(much, livepatch)
    assert [each.name for each in whole.files] == ["fix.c", FILE]
    assert [test.name for test in whole.tests] == ["a", "b"]
    out = io.StringIO()
    print_coverage(Terminal(stdout=out, stderr=io.StringIO()), whole)
    said = out.getvalue()
    assert "lines of fix.c that did not run" in said
    assert "return 0;" in said
    assert f"lines of {FILE} that did not run" not in said
