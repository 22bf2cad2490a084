# SPDX-License-Identifier: GPL-2.0-only
"""What a configuration needs of the host is named before anything is built."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from harness.errors import MissingTool, UsageError
from harness.vm.kernel import build_needs
from harness.vm.kernel.build_needs import require_compiler, require_host
from harness.vm.kernel.toolchain import (
    Toolchain,
    find_toolchain,
    is_clang,
    make_command,
    version_in,
)

if TYPE_CHECKING:
    from pathlib import Path

    from harness.deadline import Deadline

GCC = Toolchain(cc="gcc", compiler="gcc (Debian 12.2.0-14+deb12u1) 12.2.0", linker="ld")
CLANG = Toolchain(
    cc="clang", compiler="Debian clang version 14.0.6", linker="Debian LLD 14.0.6", llvm=True
)


@pytest.mark.parametrize(
    ("line", "version"),
    [
        ("gcc (Debian 12.2.0-14+deb12u1) 12.2.0", "12.2.0"),
        ("gcc (GCC) 14.2.1 20240912 (Red Hat 14.2.1-3)", "14.2.1"),
        ("gcc (SUSE Linux) 13.3.0", "13.3.0"),
        ("Debian clang version 14.0.6", "14.0.6"),
        ("Ubuntu clang version 18.1.3 (1ubuntu1)", "18.1.3"),
        ("clang version 19.1.0 (Fedora 19.1.0-1.fc41)", "19.1.0"),
        ("a compiler", None),
    ],
)
def test_versions_of_compilers(line: str, version: str | None) -> None:
    """The first line of --version, as distributions write it."""
    assert version_in(line) == version
    assert is_clang(line) == ("clang" in line)


def min_tool_version(tree: Path, text: str) -> Path:
    (tree / "scripts").mkdir(exist_ok=True)
    (tree / "scripts/min-tool-version.sh").write_text(text)
    return tree


def test_a_clang_that_is_too_old(tmp_path: Path, soon: Deadline) -> None:
    """The kernel's own script says which is old enough; the sentence names both versions."""
    tree = min_tool_version(tmp_path, 'case "$1" in llvm) echo 15.0.0 ;; gcc) echo 8.1.0 ;; esac\n')
    require_compiler(tree, GCC, "linux-7.2", soon)
    with pytest.raises(MissingTool, match=r"clang 15\.0\.0 or later") as got:
        require_compiler(tree, CLANG, "linux-7.2", soon)
    assert "14.0.6" in got.value.message
    assert "--llvm" in str(got.value.hint)
    require_compiler(
        tree, replace(CLANG, compiler="Debian clang version 15.0.0"), "linux-7.2", soon
    )


def test_a_gcc_that_is_too_old(tmp_path: Path, soon: Deadline) -> None:
    """The same for gcc."""
    tree = min_tool_version(tmp_path, "echo 13.1\n")
    with pytest.raises(MissingTool, match=r"gcc 13\.1 or later, and the host has 12\.2\.0"):
        require_compiler(tree, GCC, "linux-9.0", soon)


@pytest.mark.parametrize("script", [None, "exit 1\n", "echo nothing\n"])
def test_sources_that_do_not_say(tmp_path: Path, soon: Deadline, script: str | None) -> None:
    """Before 5.13 there is no such script: for clang what was written in a header counts."""
    if script is not None:
        min_tool_version(tmp_path, script)
    require_compiler(tmp_path, GCC, "linux-5.10", soon)
    require_compiler(tmp_path, CLANG, "linux-5.10", soon)
    old = replace(CLANG, compiler="clang version 9.0.1")
    with pytest.raises(MissingTool, match=r"clang 10\.0\.1"):
        require_compiler(tmp_path, old, "linux-5.10", soon)


@pytest.mark.parametrize("name", ["LTO_CLANG_THIN", "LTO_CLANG_FULL", "CFI_CLANG", "CFI"])
def test_what_only_clang_does(soon: Deadline, name: str) -> None:
    """gcc would build a kernel without it, which is another kernel."""
    with pytest.raises(UsageError, match=f"CONFIG_{name} needs a kernel that is built with clang"):
        require_host({f"CONFIG_{name}": "y"}, GCC, soon)
    require_host({f"CONFIG_{name}": "n"}, GCC, soon)


@pytest.mark.parametrize(
    ("name", "compiler", "said"),
    [
        ("CFI_CLANG", CLANG, "needs clang 16 or later, and the host has 14.0.6"),
        ("RANDSTRUCT_FULL", CLANG, "needs clang 15 or later"),
        ("KCSAN", CLANG, "needs clang 11 or later"),
        ("X86_KERNEL_IBT", GCC, "needs gcc 9 or later, and the host has 12.2.0"),
    ],
)
def test_flags_that_the_compiler_does_not_take(
    soon: Deadline, monkeypatch: pytest.MonkeyPatch, name: str, compiler: Toolchain, said: str
) -> None:
    """What a compiler can do is tried, and not derived from its version."""
    monkeypatch.setattr(build_needs, "_takes", lambda *_: True)
    require_host({f"CONFIG_{name}": "y"}, compiler, soon)
    monkeypatch.setattr(build_needs, "_takes", lambda *_: False)
    with pytest.raises(MissingTool, match=said):
        require_host({f"CONFIG_{name}": "y"}, compiler, soon)


def test_flags_are_tried_on_the_compiler(soon: Deadline) -> None:
    """A flag that no compiler has is refused, a plain one is taken."""
    assert build_needs._takes(find_toolchain(), ("-O2",), soon)
    assert not build_needs._takes(find_toolchain(), ("-fno-such-flag-anywhere",), soon)


@pytest.mark.parametrize(
    ("name", "said", "package"),
    [
        ("DEBUG_INFO_BTF", "pahole", "pahole"),
        ("KERNEL_ZSTD", "zstd", "zstd"),
        ("KERNEL_LZO", "lzop", "lzop"),
        ("MODULE_SIG", "openssl", "openssl"),
    ],
)
def test_programs_that_are_missing(
    soon: Deadline,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    name: str,
    said: str,
    package: str,
) -> None:
    """A build would fail at its last step; the package is named instead."""
    monkeypatch.setenv("PATH", os.fspath(tmp_path))
    with pytest.raises(MissingTool, match=f"CONFIG_{name} needs {said}") as caught:
        require_host({f"CONFIG_{name}": "y"}, GCC, soon)
    assert f"apt-get install {package}" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("name", "probe", "package"),
    [
        ("MODULE_SIG", "_has_header", "libssl-dev"),
        ("RANDSTRUCT_FULL", "_has_plugins", "gcc-12-plugin-dev"),
        ("GCC_PLUGINS", "_has_plugins", "gcc-12-plugin-dev"),
    ],
)
def test_headers_that_are_missing(
    soon: Deadline, monkeypatch: pytest.MonkeyPatch, name: str, probe: str, package: str
) -> None:
    """Headers that a build needs are named by the package that has them."""
    monkeypatch.setattr("shutil.which", lambda _: "/usr/bin/x")
    monkeypatch.setattr(build_needs, probe, lambda *_: False)
    with pytest.raises(MissingTool, match="headers") as caught:
        require_host({f"CONFIG_{name}": "y"}, GCC, soon)
    assert package in str(caught.value.hint)
    monkeypatch.setattr(build_needs, probe, lambda *_: True)
    require_host({f"CONFIG_{name}": "y"}, GCC, soon)


def test_clang_that_is_not_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """--llvm without clang is a sentence with the packages."""
    monkeypatch.setenv("PATH", os.fspath(tmp_path))
    with pytest.raises(MissingTool, match=r"needs clang, ld\.lld, llvm-ar") as caught:
        find_toolchain(llvm=True)
    assert "apt-get install clang lld llvm" in str(caught.value.hint)


def test_make_gets_llvm(tmp_path: Path) -> None:
    """LLVM=1 goes with clang, and with nothing else."""
    assert "LLVM=1" in make_command(tmp_path, CLANG)
    assert not [word for word in make_command(tmp_path, GCC) if "LLVM" in word]
