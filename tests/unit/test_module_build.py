# SPDX-License-Identifier: GPL-2.0-only
"""What modules of a finished kernel are built with; what cannot be built for is refused by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.errors import ExitCode, KernelUnfit
from harness.vm.kernel.config import KernelConfig
from harness.vm.kernel.module_build import module_variables
from tests.unit.finished_kernels import host_programs, write_files

if TYPE_CHECKING:
    from pathlib import Path

GCC = """\
#!/bin/sh
case "$*" in *{refused}*) exit 1 ;; esac
"""


@pytest.fixture
def headers(tmp_path: Path) -> Path:
    return write_files(tmp_path / "headers", host_programs())


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a folder of programs that is first in PATH, without clang and other compilers."""
    folder = write_files(tmp_path / "bin", {"gcc": GCC.format(refused="-fmin-function-alignment")})
    for name in ("setpriv", "sh"):
        (folder / name).symlink_to(f"/usr/bin/{name}")
    monkeypatch.setenv("PATH", str(folder))
    return folder


def variables(headers: Path, **options: str) -> tuple[str, ...]:
    config = KernelConfig({f"CONFIG_{name}": value for name, value in options.items()})
    return module_variables(config, headers, "the kernel")


def refusal(headers: Path, **options: str) -> str:
    with pytest.raises(KernelUnfit) as caught:
        variables(headers, **options)
    assert caught.value.exit_code is ExitCode.USAGE
    assert caught.value.hint
    return caught.value.message


def test_a_kernel_like_ours_needs_nothing(headers: Path, programs: Path) -> None:
    """No variable, so that modules of such kernels stay what they were."""
    assert variables(headers, GCC_VERSION="120200") == ()


def test_types_are_left_out(headers: Path, programs: Path) -> None:
    """BTF of a module must fit the kernel's: without it the module is loaded, by any pahole."""
    assert variables(headers, DEBUG_INFO_BTF_MODULES="y") == ("CONFIG_DEBUG_INFO_BTF_MODULES=",)


def test_the_kernels_own_compiler_is_taken(headers: Path, programs: Path) -> None:
    """gcc-14 for a kernel that gcc 14 built, where it is installed; the host's gcc elsewhere."""
    assert variables(headers, GCC_VERSION="140200") == ()
    write_files(programs, {"gcc-14": GCC.format(refused="nothing")})
    assert variables(headers, GCC_VERSION="140200") == ("CC=gcc-14",)


def test_an_option_that_an_older_compiler_lacks(headers: Path, programs: Path) -> None:
    """It was recorded in the configuration, and gcc would stop at it."""
    recorded = {"GCC_VERSION": "140200", "CC_HAS_MIN_FUNCTION_ALIGNMENT": "y"}
    assert variables(headers, **recorded) == ("CONFIG_CC_HAS_MIN_FUNCTION_ALIGNMENT=",)
    write_files(programs, {"gcc-14": GCC.format(refused="nothing")})
    assert variables(headers, **recorded) == ("CC=gcc-14",)


def test_a_kernel_that_clang_built(headers: Path, programs: Path) -> None:
    """With CFI or LTO nothing else makes its modules; without clang it is refused."""
    said = refusal(headers, CC_IS_CLANG="y")
    assert "CONFIG_CC_IS_CLANG=y" in said
    assert "clang is not installed" in said
    write_files(programs, {"clang": "#!/bin/sh\n", "ld.lld": "#!/bin/sh\n"})
    assert variables(headers, CC_IS_CLANG="y") == ("LLVM=1", "CC=clang")


@pytest.mark.parametrize("symbol", ["RANDSTRUCT_FULL", "GCC_PLUGIN_RANDSTRUCT", "GCC_PLUGINS"])
def test_secrets_and_plugins_that_headers_lack(symbol: str, headers: Path, programs: Path) -> None:
    """A module with other structures would corrupt the kernel; in the build's folder it works."""
    assert f"CONFIG_{symbol}=y" in refusal(headers, **{symbol: "y"})
    write_files(headers, {"scripts/gcc-plugins/randomize_layout_plugin.so": b"\x7fELF"})
    assert variables(headers, **{symbol: "y"}) == ()


@pytest.mark.parametrize("name", [*host_programs(), "tools/objtool/objtool"])
def test_programs_of_the_headers(name: str, headers: Path, programs: Path) -> None:
    """Headers of a later release have programs that this machine's C library cannot start."""
    write_files(headers, {"tools/objtool/objtool": "#!/bin/sh\nexit 129\n"})
    assert variables(headers, OBJTOOL="y") == ()
    (headers / name).write_text("#!/bin/sh\necho 'libc.so.6: GLIBC_2.99 not found' >&2; exit 1\n")
    assert f"{name} of its headers does not run here" in refusal(headers, OBJTOOL="y")
    (headers / name).unlink()
    assert f"its headers have no {name}" in refusal(headers, OBJTOOL="y")
