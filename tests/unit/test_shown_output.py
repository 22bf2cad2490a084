# SPDX-License-Identifier: GPL-2.0-only
"""What the documents show of a command's output is what the command prints today.

Commands that need no guest are run. Of all others, each phrase that is shown has to be in the
sources, between the same words: a message that was changed there makes its copy here wrong.
"""

from __future__ import annotations

import ast
import re
import shlex
import tomllib
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

import harness.tools.kernel.command as command
from harness.behaviours.latest_results import History
from harness.cli.app import app
from harness.report.base import BaseReport, CheckOutcome, KernelFacts
from harness.report.suite_results import TestResult
from harness.vm.kernel.inventory import CachedKernel
from harness.vm.kernel.kernel import BUILD
from tests.unit.test_docs import DOCS, ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
_WIDTH = 79
_FEW = 3
# Sources in a block without a language, and commands of other programs without their output.
_NO_OUTPUT = re.compile(r"(?:#|host-a\$|klp-harness) ")
# Lines that others print: pytest, the kernel, gdb, git.
_FOREIGN = re.compile(
    r"[=_]+ .* [=_]+$|FAILED |\.+ +\[|\d+ workers |"
    r" *\[ *\d+\.\d+\]|  livepatch: symbol| +BUG: | +#PF: |Breakpoint |\(gdb\) "
    r"|\w+ is the first bad commit"
)
# What varies from run to run, or is not ours: names, numbers, paths, words of QEMU and the kernel.
_VARIABLE = re.compile(
    r"failed to set MSR|\(Invalid\s+argument\)|WARNING in|assert False|\bSMP\b|\bkfree\b"
    r"|\b(?:null|false)\b|\bpatched second\b|\b(?:tcg|kvm)\b|(?<=state )[A-Z]\b"
    r"|\b\d[\d.]* (?:s|MiB)\b|klp-gate|no-reliable-stack|no-stack-check|\w+(?:-\w+)+-[0-9a-f]{8}\b"
    r"|exit-disable"
    r"|'[^'\n]*'|`[^`]*`|\"[^\"\n]*\"|\[[^\]\s]*\]"
    r"|[~.]?/\S+|\S*[_/=@|\\$][^\s;,:)]*|<\S+|\w+(?:-\w+)*\.(?:py|sh|recording)"
    r"|\b0x\w+|\b\w*\d[\w.+:-]*|\w+\(\)|\b[A-Z]{4,}\b"
)
_SEPARATOR = re.compile(r"[|:;,()?!>\[\]{}*]|\.(?=\s|$)|\s{2,}|[─█░]+|'s\b")
_DIGEST, _TIME = re.compile(r"\b[0-9a-f]{12,32}\b"), re.compile(r"\d{4}-\d\d-\d\d[ T][\d:+]+")


def blocks(text: str) -> list[str]:
    """Return the blocks of a document that show output."""
    found = _BLOCK.findall(text)
    return [block for kind, block in found if not kind and not _NO_OUTPUT.match(block)]


def sessions(text: str) -> Iterator[tuple[str, str]]:
    """Yield each command of a document with the output that is shown below it."""
    for block in blocks(text):
        for part in re.split(r"^\$ ", block, flags=re.M)[1:]:
            command, _, output = part.partition("\n")
            yield command, output


def unwrapped(block: str) -> Iterator[str]:
    """Yield the lines of output, each with those that were broken off it."""
    whole: list[str] = []
    for line in block.splitlines():
        first = line.split()[:1]
        broken = line.startswith(" ") and first and not _FOREIGN.match(line)
        if whole and broken and len(whole[-1] + first[0]) >= _WIDTH:
            whole.append(line)
            continue
        yield " ".join([*whole[:1], *(each.strip() for each in whole[1:])])
        whole = [line]
    yield " ".join([*whole[:1], *(each.strip() for each in whole[1:])])


def phrases(text: str) -> Iterator[tuple[str, bool, bool]]:
    """Yield the words of a text between what varies and punctuation.

    With each: whether something that varies, or nothing, is before it; and whether after it.
    """
    marked = _SEPARATOR.sub("\1", _VARIABLE.sub("\0", f"\0{text}\0"))
    parts = re.split(r"([\0\1])", marked)
    for before, part, after in zip(parts[1::2], parts[2::2], parts[3::2], strict=False):
        phrase = " ".join(part.split()).strip(" -.+")
        if re.search(r"[a-zA-Z]{2}", phrase):
            yield phrase, before == "\0", after == "\0"


def texts_of(path: Path) -> Iterator[str]:
    """Yield the texts that a file of the project can print; a formatted value is ``0`` in them."""
    text = path.read_text()
    if path.suffix == ".toml":
        yield from _strings(tomllib.loads(text))
        return
    if path.suffix == ".md":
        yield from re.findall(r"^# (.+)", text, re.M)
        return
    if path.suffix != ".py":
        yield from re.findall(r'"([^"\n]*)"', text)
        return
    tree = ast.parse(text)
    # A docstring is not printed, and the parts of a formatted text are not whole.
    left_out = {
        id(part)
        for node in ast.walk(tree)
        for part in (
            node.values
            if isinstance(node, ast.JoinedStr)
            else [node.value]
            if isinstance(node, ast.Expr)
            else []
        )
    }
    for node in ast.walk(tree):
        if id(node) in left_out:
            continue
        if isinstance(node, ast.JoinedStr):
            yield "".join(
                str(each.value) if isinstance(each, ast.Constant) else "0" for each in node.values
            )
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.ClassDef):
            yield node.name


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _strings(each)


@dataclass(frozen=True, kw_only=True)
class Sources:
    """The phrases of all texts, and those of them that what varies follows, or comes before."""

    all: frozenset[str]
    ends: frozenset[str]
    begins: frozenset[str]

    def have(self, phrase: str) -> bool:
        """Return whether it is in a text, or made of texts that are formatted into each other.

        Few words are in some text or other: they have to be all that stands between what varies.
        """
        words = phrase.split()
        if len(words) <= _FEW:
            return phrase in self.all or any(
                " ".join(words[:number]) in self.ends and " ".join(words[number:]) in self.begins
                for number in range(1, len(words))
            )
        if any(f" {phrase} " in f" {text} " for text in self.all):
            return True
        return any(
            any(f" {text}".endswith(" " + " ".join(words[:first])) for text in self.ends)
            and any(f"{text} ".startswith(" ".join(words[last:]) + " ") for text in self.begins)
            and (first == last or words[first] in self.all)
            for first in range(1, len(words))
            for last in (first, first + 1)
        )


@cache
def sources() -> Sources:
    """Return what the files of the project can print."""
    folders = {
        "harness": ("py", "toml"),
        "benchmarks": ("py",),
        "tests/behaviours": ("toml",),
        "tests/corpus": ("sh",),
        "livepatch-modules": ("c",),
        "docs/bugs": ("md",),
    }
    found = [
        phrase
        for folder, kinds in folders.items()
        for kind in kinds
        for path in (ROOT / folder).rglob(f"*.{kind}")
        for text in texts_of(path)
        for phrase in phrases(" ".join(text.split()))
    ]
    return Sources(
        all=frozenset(phrase for phrase, _, _ in found),
        ends=frozenset(phrase for phrase, _, open_end in found if open_end),
        begins=frozenset(phrase for phrase, open_start, _ in found if open_start),
    )


def unknown_phrases(text: str) -> list[str]:
    """Return the phrases of a document's outputs that are in no source."""
    return [
        phrase
        for block in blocks(text)
        for line in unwrapped(block)
        if not line.startswith("$ ") and not _FOREIGN.match(line)
        for phrase, _, _ in phrases(line)
        if not sources().have(phrase)
    ]


@pytest.mark.parametrize("document", DOCS, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_is_shown_is_in_the_sources(document: Path) -> None:
    """Each phrase of the outputs that a document shows is one that the harness can print."""
    assert unknown_phrases(document.read_text()) == []


# -- commands that need no guest are run


def shown_for(command: str) -> list[str]:
    """Return each output that the documents show for a command."""
    return [
        output for path in DOCS for shown, output in sessions(path.read_text()) if shown == command
    ]


def normalised(output: str, *folders: Path) -> str:
    """Return output without what varies: folders, digests, times, numbers, the width of columns."""
    for folder in folders:
        output = output.replace(str(folder), "~")
    output = _TIME.sub("TIME", _DIGEST.sub("DIGEST", output.replace("...", "")))
    return " ".join(re.sub(r"\b\d+(?:\.\d+)?\b(?!\.)", "N", output).split())


@pytest.fixture
def printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Run a command as a document shows it, in a place with the kernels and results shown there."""
    cache = tmp_path / ".cache/klp-harness"
    clean = CachedKernel(
        digest="47ff5bb334e300b3290baf7f6b740825",
        version="6.1.192",
        source="linux-source-6.1 6.1.192-2",
        compiler="gcc",
        path=tmp_path,
        size_bytes=0,
        last_used_s=0.0,
        age_s=0.0,
    )
    other = replace(clean, digest="dd" * 16, source=f"{clean.source}, with no-reliable-stack")
    built = SimpleNamespace(
        describe=lambda: f"{clean.version} ({clean.source})",
        version=clean.version,
        digest=clean.digest,
        image=tmp_path / f".cache/klp-harness/kernel/{clean.digest}/linux/{BUILD}/vmlinux",
    )
    monkeypatch.setattr(command, "prepare_kernel", lambda *_: built)
    monkeypatch.setattr(command, "list_kernels", lambda _: [clean, other])
    monkeypatch.setenv("KLP_HARNESS_CACHE", str(cache))
    monkeypatch.setenv("KLP_HARNESS_RUNS", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "80")
    rule = "tests/behaviours/transition/test_sleeper.py::test_sleeper_holds_the_transition"
    passed = TestResult(
        id=rule, outcome=CheckOutcome.PASSED, seconds=1.0, kernel_digest=clean.digest
    )
    facts = KernelFacts(
        spec="6.1",
        version=clean.version,
        digest=clean.digest,
        config_digest="",
        compiler="gcc",
        source=clean.source,
    )
    history = History(folder=tmp_path / "behaviours", suite=ROOT / "tests" / "behaviours")
    history.record([passed], [facts], at="2026-11-28T06:33:01+00:00")
    (tmp_path / "arm64").mkdir()
    (tmp_path / "arm64/.config").write_text("CONFIG_ARM64=y\n")
    monkeypatch.chdir(tmp_path)

    def run(line: str) -> str:
        ran = CliRunner().invoke(app, shlex.split(line)[1:], prog_name="klp-harness")
        return ran.output

    return run


@pytest.mark.parametrize(
    "line",
    [
        "klp-harness kernel build",
        "klp-harness kernel list",
        "klp-harness kernel prune --dry-run",
        "klp-harness behaviours TR-01",
        "klp-harness bugs",
        "klp-harness run klp_test_gate --kernel build:./arm64",
    ],
)
def test_a_command_prints_what_is_shown(
    line: str, printed: Callable[[str], str], tmp_path: Path
) -> None:
    """The whole output, but for what varies."""
    (shown,) = shown_for(line)
    assert normalised(printed(line), tmp_path) == normalised(shown)


def test_the_fields_of_a_result_are_as_shown() -> None:
    """The first lines of a JSON file: no field has come since, or gone."""
    text = "".join(output for path in DOCS for _, output in sessions(path.read_text()))
    shown = re.findall(r'^  "(\w+)":', text, re.M)
    fields = [field.alias or name for name, field in BaseReport.model_fields.items()]
    assert shown == fields[: len(shown)]
    assert "error" in shown


# -- the check finds what it looks for


@pytest.mark.parametrize(
    ("shown", "unknown"),
    [
        ("klp_test_gate: passed: loaded, disabled and unloaded (2.9 s)", []),
        ("transition    passed   1.2  all tasks were switched in 1.2 s", []),
        ("  the kernel complained: WARNING in klp_complete_transition", ["the kernel complained"]),
        ("what the kernel says:", ["what the kernel says"]),
    ],
)
def test_a_stale_phrase_is_found(shown: str, unknown: list[str]) -> None:
    """Names and numbers are anything; words that no source has next to each other are stale."""
    assert unknown_phrases(f"```\n{shown}\n```\n") == unknown
