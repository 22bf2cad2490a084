# SPDX-License-Identifier: GPL-2.0-only
"""The generator of mechanical mutants: each operator, compiled and run with its switch."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness.cli.app import app
from harness.deadline import Deadline
from harness.errors import MissingTool, PatchDoesNotApply
from harness.tools.mutants.sweep.candidates import MEANINGS, Candidate, Operator, Shape
from harness.tools.mutants.sweep.hooks import hook_lines, of_hooks
from harness.tools.mutants.sweep.masking import loops, masked
from harness.tools.mutants.sweep.parse import candidates, functions_of, parser, unread_lines
from harness.tools.mutants.sweep.schema import (
    HEADER,
    HOME,
    flat,
    read_seen,
    schema_files,
    schema_of,
    schema_patch,
    seen_size,
)
from harness.tools.mutants.sweep.series import after_series, touched, touched_lines
from harness.vm.host.process import run
from harness.vm.kernel.patch_file import changed_files, read_patch

DATA = Path(__file__).parent / "data" / "sweep"
FILE = "kernel/livepatch/statements.c"
SOURCE = (DATA / "statements.c").read_bytes()
HOME_SOURCE = b"// SPDX-License-Identifier: GPL-2.0-only\nint home;\n"
RECORD = 0xFFFF_FFFF


def compiled(folder: Path, text: str | bytes, *define: str) -> Path:
    """Return a program of main.c and a version of statements.c."""
    made = folder / "statements.c"
    made.write_bytes(text if isinstance(text, bytes) else text.encode())
    shutil.copy(DATA / "main.c", folder)
    program = folder / "program"
    run(
        [
            "gcc",
            "-O1",
            "-w",
            *define,
            "-iquote",
            folder,
            "-o",
            program,
            folder / "main.c",
        ],
        deadline=Deadline.after(60),
    )
    return program


def output(program: Path, *words: str) -> str:
    return run([program, *words], deadline=Deadline.after(20), check=False).stdout


@pytest.fixture(scope="module")
def mutants() -> tuple[Candidate, ...]:
    return candidates({FILE: SOURCE})


@pytest.fixture(scope="module")
def switched(mutants: tuple[Candidate, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program with all mutants behind their switch."""
    folder = tmp_path_factory.mktemp("switched")
    files = schema_files({FILE: SOURCE, HOME: HOME_SOURCE}, mutants)
    (folder / "mutants.h").write_text(files[HEADER])
    return compiled(folder, files[FILE])


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the original prints."""
    return output(compiled(tmp_path_factory.mktemp("original"), SOURCE, "-DORIGINAL"))


def test_with_no_mutant_on_it_is_the_original(switched: Path, original: str) -> None:
    """Switch at 0, and with the record on: the program prints what the original prints."""
    assert len(original) > 300
    assert output(switched, "0") == original
    assert output(switched, str(RECORD)) == original


def test_each_mutant_is_what_somebody_would_write(
    mutants: tuple[Candidate, ...], switched: Path, tmp_path: Path
) -> None:
    """With each switch on, the program prints what the source with that change alone prints."""
    wrong = [
        mutant.name
        for mutant in mutants
        if output(switched, str(mutant.number))
        != output(compiled(tmp_path, mutant.apply(SOURCE), "-DORIGINAL"))
    ]
    assert len(mutants) > 60
    assert wrong == []


@pytest.mark.parametrize(
    "operator", [each for each in Operator if each is not Operator.DELETE_ENTRY], ids=str
)
def test_operator_changes_what_the_program_does(
    operator: Operator, mutants: tuple[Candidate, ...], switched: Path, original: str
) -> None:
    """Each operator has a mutant here, and one of them at least prints something else."""
    found = [mutant for mutant in mutants if mutant.operator is operator]
    assert found
    assert any(output(switched, str(mutant.number)) != original for mutant in found)
    assert MEANINGS[operator]


def test_what_made_no_difference_is_not_noticed(
    mutants: tuple[Candidate, ...], switched: Path, original: str
) -> None:
    """A mutant that the record calls never different prints what the original prints."""
    done = run([switched, str(RECORD), "record"], deadline=Deadline.after(20))
    seen = {number: int(digit) for number, digit in enumerate(done.stderr)}
    harmless = [mutant for mutant in mutants if seen[mutant.number] in (0, 1)]
    assert any(seen[mutant.number] == 3 for mutant in mutants)
    assert harmless, "some mutant has to be of this kind, or nothing is tested"
    assert [
        mutant.name for mutant in harmless if output(switched, str(mutant.number)) != original
    ] == []


def test_lines_stay(mutants: tuple[Candidate, ...]) -> None:
    """Each line of the original stays in its place: what the kernel prints names it."""
    files = schema_files({FILE: SOURCE, HOME: HOME_SOURCE}, mutants)
    before, after = SOURCE.decode().splitlines(), files[FILE].splitlines()
    assert len(before) == len(after)
    for old, new in zip(before[1:], after[1:], strict=True):
        for word in re.findall(r"\w+", old.partition("/*")[0]):
            assert word in new


def names(text: str) -> list[str]:
    """Return ``operator:new`` of the mutants of a function body."""
    source = f"// licence\nint f(int a, int b)\n{{\n{text}\n}}\n".encode()
    return [f"{m.operator.value}:{m.new}" for m in candidates({FILE: source})]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("call(a);", ["delete-call:;"]),
        ("a = b;", ["delete-assignment:;"]),
        ("if (call(a)) call(b);", ["negate-condition:!(call(a))", "delete-call:;"]),
        ("if (!a) call(b);", ["drop-not:!!(a)", "delete-call:;"]),
        ("return a < b;", ["result-lost:0", "boundary:a <= b"]),
        ("return -EINVAL;", ["error-to-zero:0"]),
        ("return 0;", ["zero-to-error:-EINVAL"]),
        ("return true;", ["constant:false"]),
        ("while (call(a)) break;", ["negate-condition:!(call(a))", "jump:;", "jump:continue;"]),
        ("goto out;\nout:\n\tcall(a);", ["jump:;", "delete-call:;"]),
        ("a = KLP_PATCHED;", ["delete-assignment:;", "constant:KLP_UNPATCHED"]),
        ("list_add(&a, &b);", ["delete-call:;", "list-end:list_add_tail(&a, &b);"]),
        ("klp_for_each_object(a, b)\n\t\tcall(a);", ["delete-call:;"]),
        ("struct klp_func *p = list_first_entry(&a, struct klp_func, node);", [
            "list-end:list_last_entry(&a, struct klp_func, node)"
        ]),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else "",
)  # fmt: skip
def test_mutants_of_a_statement(text: str, expected: list[str]) -> None:
    """What each statement is broken into."""
    assert names(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "pr_debug(\"%d\", a + 1);",
        "lockdep_assert_held(&a);",
        "BUILD_BUG_ON(a < 56 || b != 512);",
        "DEFINE_WAIT(a);",
        "static int once = 1;",
        "int array[4];",
        "call(sizeof(a + b));",
    ],
)  # fmt: skip
def test_what_is_left_alone(text: str) -> None:
    """Messages that are off, checks of debug kernels, constants: nothing inside is broken."""
    assert [each for each in names(text) if not each.startswith("delete-call")] == []
    assert (names(text) == []) is (not text.startswith("call"))


@pytest.mark.parametrize(
    ("text", "differs"),
    [
        ("WARN_ON_ONCE(a == b);", "!!(a == b)"),
        ('WARN(a, "text %d", a);', "!!(a)"),
        ("WARN_ON(/* never */ !a);", "!!(!a)"),
        ("WARN_ON(call(a));", "1"),
        ("call(a == b);", "1"),
        ('pr_warn("text");', "1"),
    ],
)
def test_a_warning_is_missed_only_where_it_would_be_given(text: str, differs: str) -> None:
    """Its condition says when; one with a side effect cannot be asked."""
    source = f"void f(int a, int b)\n{{\n\t{text}\n}}\n".encode()
    found = candidates({FILE: source})
    assert [each.differs for each in found if each.operator is Operator.DELETE_CALL] == [differs]


def test_swaps_only_what_depends_on_each_other() -> None:
    """Two assignments that have nothing to do with each other are not swapped."""
    assert not [each for each in names("a = 1;\nb = 2;") if each.startswith("swap")]
    assert [each for each in names("a = 1;\nb = a;") if each.startswith("swap")]
    assert [each for each in names("one(a);\ntwo(b);") if each.startswith("swap")]


@pytest.mark.parametrize(
    ("text", "swaps"),
    [
        ("struct s *p;\nlock(&m);\np = container_of(k, struct s, k);", False),
        ("struct s *p;\nlock(&m);\np = container_of(k->k, struct s, k);", True),
        ("struct s *p;\nlock(&k);\np = container_of(k, struct s, k);", True),
        ("struct s *p;\nlock(p);\np = container_of(k, struct s, k);", True),
        ("lock(&m);\np = container_of(k, struct s, k);", True),
    ],
    ids=["independent", "reads-memory", "same-source", "same-variable", "not-local"],
)
def test_the_address_of_what_holds_another(text: str, swaps: bool) -> None:
    """container_of() of a pointer reads no memory: it does not matter what is done before."""
    assert any(each.startswith("swap") for each in names(text)) is swaps


TABLES = b"""
static struct klp_func funcs[] = {
	{ .old_name = "one", .new_func = klp_one }, /* the first */
	{ .old_name = "two", .new_func = klp_two, .old_sympos = 1 },
	{ }
};
static struct klp_object objs[] = {
	{ .funcs = funcs },
	{ }
};
static struct klp_patch patch = {
	.objs = objs,
	.replace = true
};
static int plain = 3;
"""


def test_tables_of_a_livepatch() -> None:
    """Entries but the last one, members, and values; nothing twice, and not behind a switch."""
    assert candidates({"klp.c": TABLES}) == ()
    found = candidates({"klp.c": TABLES}, tables=True)
    assert {mutant.function for mutant in found} == {"table funcs", "table objs", "table patch"}
    made = [mutant.apply(TABLES).decode() for mutant in found]
    assert len(made) == len(set(made)) == len({mutant.name for mutant in found})
    lines = [
        next(line for line in text.splitlines() if line not in TABLES.decode().splitlines()).strip()
        for text in made
    ]
    assert lines == [
        "/* the first */",
        "{  .new_func = klp_one }, /* the first */",
        '{ .old_name = "one",  }, /* the first */',
        "",
        "{  .new_func = klp_two, .old_sympos = 1 },",
        '{ .old_name = "two",  .old_sympos = 1 },',
        '{ .old_name = "two", .new_func = klp_two,  },',
        '{ .old_name = "two", .new_func = klp_two, .old_sympos = (1 + 1) },',
        "",
        "",
        ".replace = false",
    ]


def test_init_code_is_known(mutants: tuple[Candidate, ...]) -> None:
    """Mutants of an __init function are on from the start of the kernel."""
    assert {mutant.function for mutant in mutants if mutant.init} == {"start"}


def test_masked_text_keeps_every_place() -> None:
    """Macros are overwritten byte for byte; comments and strings stay."""
    text = (
        b'#define x \\\n\t1\n/* for_each_x( */ f("for_each_y(");\n\tfor_each_node(a, b) notrace;\n'
    )
    found = masked(text)
    assert len(found) == len(text)
    assert [i for i, c in enumerate(found) if c == 10] == [i for i, c in enumerate(text) if c == 10]
    assert b"define" not in found
    assert b'/* for_each_x( */ f("for_each_y(");' in found
    assert b"while        (a, b)        ;" in found
    assert len(loops(text)) == 1


def test_functions_that_cannot_be_read_are_named() -> None:
    """A function in which the parser gives up is reported by its line."""
    broken = b"// licence\nint f(void)\n{\n\tint x = (3 +;\n\treturn x;\n}\n"
    assert unread_lines(broken, parser())[0] == 4
    assert unread_lines(SOURCE, parser()) == ()
    assert [each.name for each in functions_of(SOURCE, parser())] == [
        *("check", "both", "either", "find", "start", "end")
    ]


def test_patch_applies(mutants: tuple[Candidate, ...], tmp_path: Path) -> None:
    """The patch makes the files with switches of the kernel's own, a new header among them."""
    sources = {FILE: SOURCE, HOME: HOME_SOURCE}
    files = schema_files(sources, mutants)
    patch = schema_patch(sources, files)
    assert set(changed_files(patch, "p")) == {FILE, HOME, HEADER}
    for name, text in sources.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(text)
    (tmp_path / "p").write_bytes(patch)
    run(["patch", "-p1", "--fuzz=0", "-i", "p"], cwd=tmp_path, deadline=Deadline.after(20))
    assert {name: (tmp_path / name).read_text() for name in files} == files


def test_record_is_read() -> None:
    """Two mutants are one digit: reached, and whether it made a difference."""
    assert read_seen("0d10\n") == {2: False, 3: True, 4: False}
    assert seen_size(()) == 2
    assert seen_size(candidates({FILE: SOURCE})) % 2 == 0


def test_flat_code_means_the_same() -> None:
    """Comments and line ends go; strings stay as they are."""
    assert flat('f("a  //b",\n\t /* x */ 1); // end') == 'f("a  //b", 1);'


def test_swap_is_shown_as_a_diff(mutants: tuple[Candidate, ...]) -> None:
    """The diff of a mutant is that of a change by hand."""
    swap = next(m for m in mutants if m.shape is Shape.SWAP and m.function == "start")
    lines = [each for each in swap.diff(SOURCE).splitlines() if each[0] in "+-" and each[1] == "\t"]
    assert len(lines) == 2
    assert lines[0][1:] == lines[1][1:]


def test_series_is_applied_to_a_copy(tmp_path: Path) -> None:
    """The tree stays; what does not fit is refused; removed and new files are known."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a/old.c").write_text("one\n")
    (tmp_path / "a/gone.c").write_text("gone\n")
    text = (
        "--- a/a/old.c\n+++ b/a/old.c\n@@ -1 +1,2 @@\n one\n+two\n"
        "--- a/a/gone.c\n+++ /dev/null\n@@ -1 +0,0 @@\n-gone\n"
        "--- /dev/null\n+++ b/a/new.h\n@@ -0,0 +1 @@\n+new\n"
    )
    (tmp_path / "p.patch").write_text(text)
    series = [read_patch(tmp_path / "p.patch")]
    found = after_series(tmp_path, series, deadline=Deadline.after(20))
    assert found == {"a/old.c": b"one\ntwo\n", "a/gone.c": None, "a/new.h": b"new\n"}
    assert (tmp_path / "a/old.c").read_text() == "one\n"
    (tmp_path / "a/old.c").write_text("other\n")
    with pytest.raises(PatchDoesNotApply, match="does not apply"):
        after_series(tmp_path, series, deadline=Deadline.after(20))
    patch = schema_patch({"a/gone.c": b"gone\n"}, {"a/gone.c": None})
    assert b"+++ /dev/null" in patch


def test_only_touched_lines_are_mutated() -> None:
    """A mutant belongs to a series when a line of its code, not only the first, is touched."""
    after = SOURCE.replace(b"\t\t\t3;", b"\t\t\t4;").replace(b"\tlock = 5;\n", b"\tlock = 6;\n")
    lines = touched_lines(SOURCE, after)
    assert [after.splitlines()[line - 1].strip() for line in sorted(lines)] == [b"4;", b"lock = 6;"]
    found = touched(candidates({FILE: after}), {FILE: after}, {FILE: lines})
    assert {(each.operator, each.function) for each in found} == {
        (Operator.DELETE_ASSIGNMENT, "start"),
        (Operator.OFF_BY_ONE, "start"),
        (Operator.SWAP, "start"),
    }
    assert touched(candidates({FILE: after}), {FILE: after}, {}) == ()


HOOKS = {
    "kernel/fork.c": b"""\
int copy(struct task *p)
{
	other(p);
	klp_copy_process(p);
	return 0;
}
""",
    "arch/x86/kernel/stacktrace.c": b"""\
int arch_stack_walk_user(void *entry)
{
	return 1;
}

int arch_stack_walk_reliable(stack_trace_consume_fn consume_entry,
	void *cookie)
{
	if (!cookie)
		return -EINVAL;
	return 0;
}
""",
    "kernel/signal.c": b"int none;\n",
    "kernel/module/livepatch.c": b"int copy_module_elf(int n)\n{\n\treturn n;\n}\n",
}


def test_hooks_are_lines_and_not_files() -> None:
    """What names the core, and the walk of a stack to its end; of the module's file, all."""
    lines = hook_lines(HOOKS)
    assert lines == {
        "kernel/fork.c": {4},
        "arch/x86/kernel/stacktrace.c": set(range(6, 13)),
        "kernel/module/livepatch.c": {1, 2, 3, 4},
    }
    mutated = {name: HOOKS[name] for name in lines}
    found = of_hooks(candidates(mutated), mutated)
    assert {each.function for each in found} == {
        "copy",
        "arch_stack_walk_reliable",
        "copy_module_elf",
    }
    assert "fork-4-delete-call" in {each.name for each in found}


def test_part_of_a_line_with_a_hook() -> None:
    """What has nothing to do with live patching is not mutated there."""
    text = b"int f(int i, void *mod)\n{\n\treturn i == 0 || is_livepatch_module(mod);\n}\n"
    found = of_hooks(candidates({"kernel/fork.c": text}), {"kernel/fork.c": text})
    operators = {each.operator for each in found}
    assert {Operator.DROP_LEFT, Operator.DROP_RIGHT} <= operators
    assert Operator.EQUALITY not in operators


def test_a_file_that_begins_with_a_comment_of_several_lines() -> None:
    """It has no line that the switches' header could take; lines keep their numbers."""
    source = b"/*\n * Licence.\n */\nint f(int a)\n{\n\treturn a + 1;\n}\n"
    text = schema_of(source, candidates({FILE: source}))
    include, directive, rest = text.split("\n", 2)
    assert include.startswith('#include "')
    assert directive == "#line 1"
    assert rest.split("\n")[:3] == ["/*", " * Licence.", " */"]
    assert "return" in rest.split("\n")[5]


@pytest.mark.parametrize(
    ("words", "other"),
    [(("--series", "a.mbox"), "--series"), (("--file", "core.c"), "--file")],
)
def test_hooks_alone(words: tuple[str, ...], other: str) -> None:
    """Other lines as well are refused before a kernel is built."""
    done = CliRunner().invoke(app, ["mutants", "sweep", "--hooks", *words])
    assert done.exit_code == 2
    assert f"--hooks chooses the lines to mutate, and {other} other ones" in done.stderr


def test_hooks_of_no_livepatch(tmp_path: Path) -> None:
    """They are the kernel's."""
    done = CliRunner().invoke(app, ["mutants", "sweep", "--hooks", "--module", str(tmp_path)])
    assert done.exit_code == 2
    assert "--hooks is about the kernel, and --module about a livepatch" in done.stderr


def test_mutants_of_two_files_of_one_name() -> None:
    """kernel/stacktrace.c and arch/x86/kernel/stacktrace.c: each mutant has a name of its own."""
    found = candidates({"a/x.c": SOURCE, "b/x.c": SOURCE})
    assert len({each.name for each in found}) == len(found)


def test_missing_parser_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the library, the error says what to install."""
    monkeypatch.setitem(sys.modules, "tree_sitter_c", None)
    with pytest.raises(MissingTool) as caught:
        parser()
    assert "tree-sitter-c" in (caught.value.hint or "")


def test_other_commands_do_not_pay_for_sweeps() -> None:
    """Neither the parser nor pytest is imported by those who do not sweep."""
    code = (
        "import sys, harness.tools.mutants.command\n"
        "print([name for name in ('tree_sitter', 'pytest') if name in sys.modules])"
    )
    done = run([sys.executable, "-c", code], deadline=Deadline.after(60))
    assert done.stdout.strip() == "[]"
