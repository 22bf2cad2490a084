# SPDX-License-Identifier: GPL-2.0-only
"""The documents name what exists: files, headings, commands, options, variables."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import typer

from harness.cli.app import app
from harness.deadline import Deadline
from harness.vm.host.process import run

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
DOCS = sorted(
    path for pattern in ("*.md", "docs/*.md", "[!.]*/README.md") for path in ROOT.glob(pattern)
)

_FENCE = re.compile(r"^```.*?^```$", re.M | re.S)
_LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.M)
_VARIABLE = re.compile(r"\bKLP_HARNESS_\w+")
_MAKE = re.compile(r"\bmake ([a-z]+)(?=$|[^\w])")


def without_code(text: str) -> str:
    """Return the text without its fenced blocks and without code in a line."""
    return re.sub(r"`[^`\n]+`", "", _FENCE.sub("", text))


def anchors(text: str) -> set[str]:
    """Return the anchors that GitHub gives to the headings."""
    titles = (title.lower() for title in _HEADING.findall(_FENCE.sub("", text)))
    return {re.sub(r"[^\w\- ]", "", title).replace(" ", "-") for title in titles}


def broken_links(document: Path, text: str) -> list[str]:
    """Return the links of a document to files and headings that do not exist."""
    broken = []
    for link in _LINK.findall(without_code(text)):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = (document.parent / name).resolve() if name else document
        if not target.exists() or (anchor and anchor not in anchors(target.read_text())):
            broken.append(link)
    return broken


def code_in(text: str) -> Iterator[str]:
    """Yield every piece of code of a document: lines of blocks, and code within a line."""
    for block in _FENCE.findall(text):
        yield from block.splitlines()[1:-1]
    rest = _FENCE.sub("", text)
    yield from (line.strip() for line in rest.splitlines() if line.startswith("    "))
    yield from re.findall(r"`([^`\n]+)`", rest)


def commands_in(text: str, program: str) -> list[tuple[str, ...]]:
    """Return the calls of a program that a document shows, each without the program itself."""
    found = []
    for code in code_in(text):
        for part in re.split(r"\s[|;]\s|\s&&\s|\s#\s", code.removeprefix("$ ")):
            # A version follows where a program's output is shown.
            if re.match(rf"{re.escape(program)} +[a-z.-]", part.strip()):
                found.append(tuple(shlex.split(part)[1:]))
    return found


def words_for_pytest(words: tuple[str, ...]) -> list[str]:
    """Parse a klp-harness command line and return the options left over for pytest.

    Raises what the command itself would: an unknown command or option, a missing argument.
    """
    command: Any = typer.main.get_command(app)
    context: Any = None
    name, rest = "klp-harness", list(words)
    while hasattr(command, "commands"):
        context = command.context_class(command, parent=context, info_name=name)
        known = {option for each in command.get_params(context) for option in each.opts}
        while rest[:1] and rest[0] in known and rest[1:]:
            rest = rest[1:]  # one that comes before the command: all of them are switches
        if not rest or rest[0].startswith("-"):
            if set(rest) - known - {"-h", "--help"}:
                raise LookupError(f"{name} has no option {' '.join(rest)}")
            return []
        name, *rest = rest
        if name not in command.commands:
            raise LookupError(f"there is no command {name}")
        command = command.commands[name]
    if rest in ([], ["--help"]):
        return []  # a command is named as such: `klp-harness run`
    parsed = command.make_context(name, rest, parent=context).params
    left = [word for word in parsed.get("arguments") or () if word.startswith("-")]
    return [word.partition("=")[0] for word in left]


@pytest.fixture(scope="module")
def pytest_help() -> str:
    """What pytest with our plugin says on its options."""
    return run(
        [sys.executable, "-m", "pytest", "--help", "-p", "no:cacheprovider"],
        cwd=ROOT,
        deadline=Deadline.after(60),
    ).stdout


@pytest.mark.parametrize("document", DOCS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_resolve(document: Path) -> None:
    assert broken_links(document, document.read_text()) == []


def test_every_document_is_reached_from_the_readme() -> None:
    reached: set[Path] = set()
    pending = [ROOT / "README.md"]
    while pending:
        document = pending.pop()
        if document in reached or document.suffix != ".md" or not document.is_file():
            continue
        reached.add(document)
        for link in _LINK.findall(without_code(document.read_text())):
            if "://" not in link and not link.startswith("#"):
                pending.append((document.parent / link.partition("#")[0]).resolve())
    assert [str(path.relative_to(ROOT)) for path in DOCS if path not in reached] == []


@pytest.mark.parametrize(
    "words",
    sorted({words for path in DOCS for words in commands_in(path.read_text(), "klp-harness")}),
    ids=" ".join,
)
def test_commands_exist(words: tuple[str, ...], pytest_help: str) -> None:
    """Each command that a document shows parses; what is not its own option is pytest's."""
    for option in words_for_pytest(words):
        assert re.search(rf"^\s+(?:-[\w-]+, )*{re.escape(option)}\b", pytest_help, re.M), option


def test_every_command_is_in_the_readme() -> None:
    text = (ROOT / "README.md").read_text()
    group: Any = typer.main.get_command(app)
    assert [name for name in group.commands if f"klp-harness {name}" not in text] == []


def test_options_of_pytest_exist(pytest_help: str) -> None:
    """Also those in the table of docs/writing-tests.md."""
    calls = [
        word for path in DOCS for call in commands_in(path.read_text(), "pytest") for word in call
    ]
    table = re.findall(r"^\| `(--[\w-]+)", (ROOT / "docs/writing-tests.md").read_text(), re.M)
    options = {word.partition("=")[0] for word in [*calls, *table] if word.startswith("-")}
    assert "--fresh" in options
    unknown = [
        option
        for option in sorted(options)
        if not re.search(rf"^\s+(?:-[\w-]+, )*{re.escape(option)}\b", pytest_help, re.M)
    ]
    assert unknown == []


def test_targets_of_make_exist() -> None:
    known = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    named = {
        name
        for path in DOCS
        if path.parent in (ROOT, ROOT / "docs")
        for code in code_in(path.read_text())
        for name in _MAKE.findall(code)
    }
    assert {"demo", "test"} <= named
    assert named - known == set()


def test_variables_are_read_by_the_code() -> None:
    code = "".join(path.read_text() for path in (ROOT / "harness").rglob("*.py"))
    named = {name for path in DOCS for name in _VARIABLE.findall(path.read_text())}
    assert named
    assert [name for name in named if f'"{name}"' not in code] == []


# -- each check finds what it looks for


@pytest.mark.parametrize(
    ("text", "broken"),
    [
        ("[a](nowhere.md)", ["nowhere.md"]),
        ("[a](README.md#no-such-heading)", ["README.md#no-such-heading"]),
        ("[a](README.md#requirements) [b](https://example.org/x) [c](#limits)", []),
        ("`[a](nowhere.md)`\n```\n[a](nowhere.md)\n```\n", []),
    ],
)
def test_a_broken_link_is_found(text: str, broken: list[str]) -> None:
    assert broken_links(ROOT / "README.md", text) == broken


@pytest.mark.parametrize(
    "words",
    [
        ("nonsense",),
        ("kernel", "nonsense"),
        ("run", "m.ko", "--nonsense"),
        ("run", "--hold", "long", "m.ko"),
    ],
    ids=" ".join,
)
def test_a_wrong_command_is_found(words: tuple[str, ...]) -> None:
    with pytest.raises(Exception, match=r"nonsense|valid number"):
        words_for_pytest(words)


def test_an_option_for_pytest_is_handed_on() -> None:
    assert words_for_pytest(("test", "--guests", "2", "--nonsense=1", "-k", "x")) == [
        "--nonsense",
        "-k",
    ]


def test_commands_are_found_in_all_places() -> None:
    text = (
        "say `klp-harness boot`\n\n    klp-harness demo  # a comment\n\n"
        "```\n$ echo x | klp-harness boot m && klp-harness doctor\nklp-harness 0.1.0 on x\n```\n"
    )
    found = commands_in(text, "klp-harness")
    assert set(found) >= {("boot",), ("demo",), ("boot", "m"), ("doctor",)}
