# SPDX-License-Identifier: GPL-2.0-only
"""What a user may type, and where a name may lead: wrong usage in a sentence, before a build."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import harness.tools.boot.command as boot
import harness.tools.mutants.command as mutants
import harness.tools.race.command as race
import harness.tools.run.command as run
import harness.tools.suite.compare as compare
import harness.tools.verify.command as verify
from harness.cli.app import app
from harness.cli.modules import check_named, sample_names
from harness.cli.options import KernelOptions
from harness.errors import ExitCode, UsageError
from harness.inputs import MIB, Kind, kind_of, read_file, shown, user_path
from harness.resources import Resource, resource_dir
from harness.vm.kernel.build import KernelRequest, check_request
from harness.vm.kernel.config import load_fragments
from harness.vm.kernel.module import source_files
from harness.vm.kernel.patch_file import read_patch
from harness.vm.kernel.spec import parse_spec
from harness.vm.kernel.tree import source_version

if TYPE_CHECKING:
    from collections.abc import Callable

MODULE = Path(__file__).with_name("data") / "modules" / "klp_test_gate.ko"
ODD = (
    "",
    " ",
    "x" * 5000,
    "a/" * 3000,
    "~nosuchuser",
    "~nosuchuser/linux",
    "a\0b",
    "/dev/null",
    "/dev/zero",
    "/proc/self/mem",
    "\udcff\udcfe",
    "кернел",
    "-1",
    "9" * 400,
    "../" * 50,
    "\x1b[31mred",
    "a\nb",
)
ODD_SPECS = (
    *ODD,
    *("http://[", "http://", "http://h:99999/x", "http://h:x/", "http://a b/", "ftp://h/x"),
    *("https://" + "h" * 5000, "http://\udcff/", "http:///x", "://", "http://h/\n"),
    *("deb:", "deb:/", "deb:..", "deb:" + "a" * 5000, "deb:a\0b", "deb:--help", "deb:-o=x"),
    *("build:", "build:/nonexistent", "build:~nosuchuser", "build:" + "x" * 5000, "build:\0"),
    *("build:/dev/null", "6.1\0", "6.1 ", "NEWEST", "0", "-0x1"),
)


@pytest.mark.parametrize("text", ODD_SPECS, ids=lambda text: repr(text)[:20])
def test_odd_specs_are_wrong_usage(text: str) -> None:
    """Whatever is typed after --kernel is a kernel, or refused in a sentence of bounded length."""
    with pytest.raises(UsageError) as raised:
        parse_spec(text, sha256="0" * 64)
    assert len(raised.value.message) < 400
    assert raised.value.message.isprintable()


@settings(max_examples=500, deadline=None)
@given(
    text=st.text(st.characters(codec=None), max_size=40), sha256=st.none() | st.text(max_size=70)
)
@example(text="http://[", sha256="0" * 64)
@pytest.mark.parametrize("head", ["", "http://", "https://", "deb:", "build:", "~", "/", "./"])
def test_any_spec_is_parsed_or_refused(head: str, text: str, sha256: str | None) -> None:
    """The parser of specs answers or refuses, whatever the text."""
    try:
        parse_spec(head + text, sha256=sha256)
    except UsageError as error:
        assert len(error.message) < 1000  # noqa: PT017


@pytest.fixture
def places(tmp_path: Path) -> dict[str, Path]:
    """Names that lead to what is no file, each by what it is."""
    fifo, sock, loop = tmp_path / "fifo", tmp_path / "s", tmp_path / "loop"
    os.mkfifo(fifo)
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(sock))
    server.close()
    loop.symlink_to(loop)
    (tmp_path / "to-fifo").symlink_to(fifo)
    return {
        "pipe": fifo,
        "link to a pipe": tmp_path / "to-fifo",
        "socket": sock,
        "loop": loop,
        "device": Path("/dev/zero"),
        "nothing": tmp_path / "absent",
        "long": tmp_path / ("x" * 300),
        "behind a file": MODULE / "x",
    }


READERS: dict[str, Callable[[Path], object]] = {
    "module": lambda path: check_named([str(path)]),
    "module, unread": lambda path: check_named([str(path)], contents=False),
    "patch": read_patch,
    "fragment": lambda path: load_fragments([str(path)]),
    "kernel": lambda path: parse_spec(str(path)),
    "any": lambda path: read_file(path, "the file"),
}


@pytest.mark.parametrize("reader", READERS)
def test_what_is_no_file_is_refused_without_waiting(places: dict[str, Path], reader: str) -> None:
    """A pipe that nobody writes to, a socket, a device, a circle of links: a sentence at once."""
    for path in places.values():
        with pytest.raises(UsageError):
            READERS[reader](path)


@pytest.mark.parametrize("makefile", ["Makefile", "Kbuild"])
def test_a_pipe_as_makefile(tmp_path: Path, makefile: str) -> None:
    """A folder whose Makefile is a pipe is no folder of sources."""
    os.mkfifo(tmp_path / makefile)
    with pytest.raises(UsageError, match="is a pipe"):
        source_files(tmp_path)
    if makefile == "Makefile":
        with pytest.raises(UsageError, match="is a pipe"):
            source_version(tmp_path)


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: _socket(path)])
def test_a_pipe_or_socket_among_sources(tmp_path: Path, make: Callable[[Path], None]) -> None:
    """What cannot be copied is refused by its name, and not read."""
    (tmp_path / "Kbuild").write_text("obj-m += a.o\n")
    (tmp_path / "sub").mkdir()
    make(tmp_path / "sub" / "a.c")
    with pytest.raises(UsageError, match=r"a\.c is no file"):
        source_files(tmp_path)


def _socket(path: Path) -> None:
    server = socket.socket(socket.AF_UNIX)
    server.bind(os.path.relpath(path))
    server.close()


def test_a_link_that_leads_nowhere_is_no_source(tmp_path: Path) -> None:
    """A lock of an editor, and a circle of links, are left out of the copy, as before."""
    (tmp_path / "Kbuild").write_text("obj-m += a.o\n")
    (tmp_path / "circle").symlink_to("circle")
    (tmp_path / "gone").symlink_to("/nonexistent/x")
    assert source_files(tmp_path) == ("Kbuild",)


def test_a_file_that_is_too_large(tmp_path: Path) -> None:
    """A file of a size that nothing of its kind has is refused before it is read."""
    path = tmp_path / "huge"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # sparse
    for read in (READERS["patch"], READERS["fragment"], READERS["module"], READERS["any"]):
        with pytest.raises(UsageError, match="has more than"):
            read(path)


def test_a_file_without_a_size_is_counted(tmp_path: Path) -> None:
    """/proc has files of size 0 with content; what comes is held against the limit."""
    assert read_file(Path("/proc/self/status"), "the file").startswith(b"Name:")
    (tmp_path / "a").write_bytes(bytes(MIB + 1))
    with pytest.raises(UsageError, match="more than 1 MiB"):
        read_file(tmp_path / "a", "the file", at_most=MIB)


def test_names_are_shown_in_bounds() -> None:
    """A sentence quotes what was typed without control characters, and not all of a long word."""
    assert shown("a\x1b[31m\n") == "a\\x1b[31m\\n"
    assert len(shown("x" * 5000)) < 200
    assert kind_of(user_path(MODULE, "it"), "it") is Kind.FILE


def test_the_samples_are_those_of_their_kbuild() -> None:
    """A name is told from a sample's without a build, by the list that the build reads."""
    sources = {path.stem for path in resource_dir(Resource.LIVEPATCH_MODULES).glob("*.c")}
    assert len(sample_names()) > 30
    assert {name for name in sample_names() if name != "klp_target_twins"} <= sources


COMMANDS: dict[str, Any] = {
    "run": run,
    "verify": verify,
    "boot": boot,
    "race run": race,
    "mutants run": mutants,
    "compare": compare,
}


def invoke(monkeypatch: pytest.MonkeyPatch, *words: str) -> str:
    """The output of a command that has to end as wrong usage, before a kernel is made."""

    def built(*_: object, **__: object) -> None:
        raise AssertionError("a kernel is made before the arguments were looked at")

    for module in COMMANDS.values():
        monkeypatch.setattr(module, "prepare_kernel", built)
        monkeypatch.setattr(module, "prepare_accel", built)
    result = CliRunner().invoke(app, list(words), prog_name="klp-harness")
    assert result.exit_code == ExitCode.USAGE, (words, result.output)
    assert "bug" not in result.output
    return " ".join(result.output.split())


@pytest.mark.parametrize("command", ["run", "verify", "boot"])
@pytest.mark.parametrize("name", ODD, ids=lambda text: repr(text)[:20])
def test_odd_modules_on_the_command_line(
    monkeypatch: pytest.MonkeyPatch, command: str, name: str
) -> None:
    """Whatever a module is called: wrong usage, before anything is built."""
    invoke(monkeypatch, command, "--", name)


@pytest.mark.parametrize(
    "words",
    [
        ["run", "klp_test_gate", "--kernel", "http://["],
        ["run", "klp_test_gate", "--patch", "/nonexistent"],
        ["run", "klp_test_gate", "--kernel-config", "~nosuchuser"],
        ["run", "klp_test_gate", "--sha256", "zz"],
        ["run", "klp_test_gate", "--param", "novalue"],
        ["run", "klp_test_gate", "--target", "absent.ko"],
        ["run", "klp_test_gate", "--json", "x" * 5000],
        ["run", "klp_test_gate", "--html", "a\0b"],
        ["run", "klp_test_gate", "klp_test_pair", "--svg", "x.svg"],
        ["run", "klp_test_gaet"],
        ["run", "README.md"],
        ["verify", "klp_test_gate", "--check", "/nonexistent"],
        ["verify", "klp_test_gate", "--check", "/dev/zero"],
        ["verify", "klp_test_gate", "--replaces", "absent.ko"],
        ["verify", "klp_test_gate", "--target", "README.md"],
        ["verify", "--source", "README.md"],
        ["verify", "klp_test_gate", "--patch", "/dev/zero"],
        ["race", "run", "--kernel", "deb:"],
        ["race", "run", "--patch", "/nonexistent"],
        ["mutants", "run", "--kernel", "build:"],
        ["mutants", "run", "--patch", "/dev/zero"],
        ["compare", "6.1", "--series", "/nonexistent"],
        ["compare", "6.1", "http://["],
        ["compare", "x" * 5000, "6.1"],
        ["boot", "--kernel", "~nosuchuser"],
    ],
    ids=lambda words: " ".join(words)[:40],
)
def test_what_can_be_seen_before_a_build_is_seen_then(
    monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    """A build takes minutes: what is wrong without it is said before it."""
    invoke(monkeypatch, *words)


def test_a_check_file_with_a_wrong_word_is_seen_before_a_build(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """pytest cannot collect it: that needs no guest."""
    (tmp_path / "check_it.py").write_text("def test_a(:\n")
    invoke(monkeypatch, "verify", str(MODULE), "--check", str(tmp_path / "check_it.py"))


def test_a_request_is_looked_at_as_a_whole(tmp_path: Path) -> None:
    """A good request passes; a fragment that contradicts itself does not."""
    check_request(KernelOptions().request())
    (tmp_path / "a.config").write_text("CONFIG_A=y\nCONFIG_A=m\n")
    with pytest.raises(UsageError, match="contradicts itself"):
        check_request(KernelRequest(fragments=(str(tmp_path / "a.config"),)))
