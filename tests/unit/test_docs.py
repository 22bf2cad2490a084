# SPDX-License-Identifier: GPL-2.0-only
"""The documents name what exists: files, headings, images, commands, options, variables.

Their links work on GitHub and on the site that ``make docs`` builds; their words are the field's.
"""

from __future__ import annotations

import re
import shlex
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import pytest
import typer

from harness.cli.app import app
from harness.deadline import Deadline
from harness.vm.host.process import run

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
DOCS = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "[!.]*/README.md", "tests/*/README.md")
    for path in ROOT.glob(pattern)
)
README_MAX_LINES = 130

_FENCE = re.compile(r"^```.*?^```$", re.M | re.S)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)[^)]*\)|\b(?:src|srcset|href)=\"([^\"]+)\"")
_ABSOLUTE = re.compile(r"[a-z]+:|//")
_HEADING = re.compile(r"^#+ (.+)$", re.M)
_VARIABLE = re.compile(r"\bKLP_HARNESS_\w+")
_MAKE = re.compile(r"\bmake ([a-z]+)(?=$|[^\w])")
_PATH = re.compile(r"(?:harness|benchmarks|tests|docs|kernel-\w+)/[\w./-]*\w/?")
# Expressions of our own: docs/glossary.md has the field's word, or the sentence lacks a subject.
_PRIVATE = re.compile(
    r"last came to|comes? to nothing|comes? and goes?|turn(?:s|ed)? (?:it |them )?round|the crew"
    r"|workshop|\bpulse\b|\bfilms?\b|is to be seen|in the place of|goes? to pytest|needs? luck",
    re.I,
)


def without_code(text: str) -> str:
    """Return the text without its fenced blocks and without code in a line."""
    return re.sub(r"`[^`\n]+`", "", _FENCE.sub("", text))


def anchors(text: str) -> set[str]:
    """Return the anchors that GitHub gives to the headings."""
    titles = (title.lower() for title in _HEADING.findall(_FENCE.sub("", text)))
    return {re.sub(r"[^\w\- ]", "", title).replace(" ", "-") for title in titles}


def links_in(text: str) -> list[str]:
    """Return what the links and images of a document lead to, but for other sites."""
    found = (markdown or html for markdown, html in _LINK.findall(without_code(text)))
    return [link for link in found if not _ABSOLUTE.match(link)]


def broken_links(document: Path, text: str) -> list[str]:
    """Return the links of a document that GitHub or the site cannot follow.

    They lead to a file or heading that does not exist, to a folder, which the site has no page for,
    or out of the project.
    """
    broken = []
    for link in links_in(text):
        name, _, anchor = link.partition("#")
        target = (document.parent / name).resolve() if name else document
        if (
            not target.is_file()
            or not target.is_relative_to(ROOT)
            or (anchor and anchor not in anchors(target.read_text()))
        ):
            broken.append(link)
    return broken


def reached(start: Path) -> set[Path]:
    """Return the documents that can be reached from one by links, and the one itself."""
    found: set[Path] = set()
    pending = [start]
    while pending:
        document = pending.pop()
        if document in found or document.suffix != ".md" or not document.is_file():
            continue
        found.add(document)
        for link in links_in(document.read_text()):
            if not link.startswith("#"):
                pending.append((document.parent / link.partition("#")[0]).resolve())
    return found


def private_words(text: str) -> list[str]:
    """Return the expressions in a document's prose that the glossary replaces."""
    return _PRIVATE.findall(without_code(text))


def missing_paths(text: str) -> list[str]:
    """Return the paths that a document has as code, and that the project does not have."""
    named = set(re.findall(r"`([^`\n]+)`", _FENCE.sub("", text)))
    paths = sorted(name for name in named if _PATH.fullmatch(name))
    return [path for path in paths if not (ROOT / path).exists() and "NAME" not in path]


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
    """What pytest with our plugin says on its options, and on those of the corpus."""
    return run(
        [sys.executable, "-m", "pytest", "--help", "-p", "no:cacheprovider", "tests/corpus"],
        cwd=ROOT,
        deadline=Deadline.after(60),
    ).stdout


@pytest.mark.parametrize("document", DOCS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_resolve(document: Path) -> None:
    """Each link of a document leads to a file and a heading that exist."""
    assert broken_links(document, document.read_text()) == []


@pytest.mark.parametrize("document", DOCS, ids=lambda path: str(path.relative_to(ROOT)))
def test_paths_exist(document: Path) -> None:
    """A file or folder of the project that a document names as code is there."""
    assert missing_paths(document.read_text()) == []


@pytest.mark.parametrize(
    "document",
    [path for path in DOCS if path.parent in (ROOT, ROOT / "docs") and path.stem != "CHANGELOG"],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_words_are_those_of_the_field(document: Path) -> None:
    """No document has an expression of our own where the field has a word."""
    assert private_words(document.read_text()) == []


def test_every_document_is_reached_from_the_readme() -> None:
    """A reader who starts at the README can find every document."""
    found = reached(ROOT / "README.md")
    assert [str(path.relative_to(ROOT)) for path in DOCS if path not in found] == []


def test_every_page_is_in_the_navigation_of_the_site() -> None:
    """The menu of the site has every page of docs/, and no page that the site does not have."""
    text = (ROOT / "zensical.toml").read_text()
    assert tomllib.loads(text)["project"]["nav"]
    named = {ROOT / path for path in re.findall(r'"([\w./-]+\.md)"', text)}
    assert named <= reached(ROOT / "README.md")
    assert set((ROOT / "docs").glob("*.md")) <= named


@pytest.mark.parametrize(
    "image", sorted((ROOT / "docs").rglob("*.svg")), ids=lambda path: path.name
)
def test_drawings_can_be_shown(image: Path) -> None:
    """A browser shows nothing of a drawing that is no well-formed XML."""
    assert ElementTree.parse(image).getroot().tag == "{http://www.w3.org/2000/svg}svg"


def test_the_readme_is_short() -> None:
    """It is read on one screen or two; everything else is a document of its own."""
    assert len((ROOT / "README.md").read_text().splitlines()) <= README_MAX_LINES


@pytest.mark.parametrize("document", DOCS, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_is_installed_from_the_index(document: Path) -> None:
    """klp-harness is not in the package index; a stranger's package of that name may be."""
    assert not re.search(r"pip install[^`\n]*['\" ]klp-harness", document.read_text())


@pytest.mark.parametrize(
    "words",
    sorted(
        {
            words
            for path in DOCS
            if path.stem != "CHANGELOG"  # it also names what is gone
            for words in commands_in(path.read_text(), "klp-harness")
        }
    ),
    ids=" ".join,
)
def test_commands_exist(words: tuple[str, ...], pytest_help: str) -> None:
    """Each command that a document shows parses; what is not its own option is pytest's."""
    for option in words_for_pytest(words):
        assert re.search(rf"^\s+(?:-[\w-]+, )*{re.escape(option)}\b", pytest_help, re.M), option


def test_every_command_is_in_the_documents() -> None:
    """In the README or in a document that is reached from it, as somebody would type it."""
    documents = reached(ROOT / "README.md")
    named = {
        words[0] for path in documents for words in commands_in(path.read_text(), "klp-harness")
    }
    group: Any = typer.main.get_command(app)
    assert set(group.commands) - named == set()


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
    """A document names only targets that the Makefile has."""
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
    """A document names only environment variables that the code reads."""
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
        (
            "![a](docs/images/nowhere.svg) ![](nowhere.png)",
            ["docs/images/nowhere.svg", "nowhere.png"],
        ),
        ('<img src="nowhere.svg"> <a href="README.md">b</a>', ["nowhere.svg"]),
        ("[a folder](docs) [out](../elsewhere.md)", ["docs", "../elsewhere.md"]),
    ],
)
def test_a_broken_link_is_found(text: str, broken: list[str]) -> None:
    """The check of links finds a missing file and a missing heading."""
    assert broken_links(ROOT / "README.md", text) == broken


def test_a_missing_path_is_found() -> None:
    """The check of paths in code finds one that does not exist."""
    text = "`harness/errors.py` `harness/nowhere.py` `tests/unit/` `kernel-configs/none`"
    assert missing_paths(text) == ["harness/nowhere.py", "kernel-configs/none"]


def test_a_private_word_is_found() -> None:
    """The check of words finds an expression that is not the field's."""
    assert private_words("what it last came to; `the crew`\n```\nthe crew\n```\n") == [
        "last came to"
    ]


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
    """The check of commands finds an unknown command and an unknown option."""
    with pytest.raises(Exception, match=r"nonsense|valid number"):
        words_for_pytest(words)


def test_an_option_for_pytest_is_handed_on() -> None:
    """An option that is not the command's own is left for pytest."""
    assert words_for_pytest(("test", "--guests", "2", "--nonsense=1", "-k", "x")) == [
        "--nonsense",
        "-k",
    ]


def test_commands_are_found_in_all_places() -> None:
    """Commands are found in blocks, in indented code, and in a line."""
    text = (
        "say `klp-harness boot`\n\n    klp-harness demo  # a comment\n\n"
        "```\n$ echo x | klp-harness boot m && klp-harness doctor\nklp-harness 0.1.0 on x\n```\n"
    )
    found = commands_in(text, "klp-harness")
    assert set(found) >= {("boot",), ("demo",), ("boot", "m"), ("doctor",)}


def test_the_walks_are_short() -> None:
    """A newcomer follows a command to its guest, or to its verdict, in at most 20 files."""
    text = (ROOT / "docs" / "architecture.md").read_text()
    walks = re.findall(
        r"(?:^\d+\. .*\n(?:  .*\n)*)+", text.partition("## Walks")[2].partition("\n## ")[0], re.M
    )
    counts = [len(re.findall(r"`[\w/]+\.py`", walk)) for walk in walks]
    assert len(counts) == 2
    assert all(10 < count <= 20 for count in counts), counts
