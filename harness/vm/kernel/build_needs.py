# SPDX-License-Identifier: GPL-2.0-only
"""What a configuration needs of the host, checked in seconds before the hour that a build may take.

Kconfig turns off what the compiler cannot do, and a missing program ends a build at its last step.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import MissingTool, UsageError
from harness.vm.host.process import run
from harness.vm.host.temporary import temporary_folder
from harness.vm.kernel.toolchain import build_environment, version_in

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.deadline import Deadline
    from harness.vm.kernel.toolchain import Toolchain

# The least clang of kernels that have no scripts/min-tool-version.sh: before 5.13, of
# include/linux/compiler-clang.h.
_OLD_LEAST_CLANG = "10.0.1"
_LEAST = "scripts/min-tool-version.sh"
_CLANG_ONLY = ("LTO_CLANG", "LTO_CLANG_FULL", "LTO_CLANG_THIN", "CFI_CLANG", "CFI")
_PROGRAMS = {
    "DEBUG_INFO_BTF": ("pahole", "pahole"),
    "KERNEL_ZSTD": ("zstd", "zstd"),
    "KERNEL_XZ": ("xz", "xz-utils"),
    "KERNEL_LZMA": ("lzma", "xz-utils"),
    "KERNEL_LZ4": ("lz4", "lz4"),
    "KERNEL_LZO": ("lzop", "lzop"),
    "KERNEL_BZIP2": ("bzip2", "bzip2"),
}
_KEYS = ("MODULE_SIG", "SYSTEM_TRUSTED_KEYRING")
_PLUGINS = ("GCC_PLUGINS", "RANDSTRUCT_FULL", "RANDSTRUCT_PERFORMANCE")
# Options that decide what code is made, or what the kernel loads. To build without one that was
# asked for would answer another question.
NOT_TO_BE_LOST = (
    *_CLANG_ONLY,
    *("MODULE_SIG", "MODULE_SIG_FORCE", "MODVERSIONS"),
    *("X86_KERNEL_IBT", "DEBUG_INFO_BTF", "BPF_SYSCALL", "BPF_JIT"),
    *("KCSAN", "KASAN", "PREEMPT_RT", "PREEMPT", "PREEMPT_DYNAMIC"),
    *("UNWINDER_ORC", "UNWINDER_FRAME_POINTER", "STACK_VALIDATION"),
    *("JUMP_LABEL", "RANDSTRUCT_FULL", "RANDSTRUCT_PERFORMANCE"),
    *("SECURITY_LOCKDOWN_LSM", "LOCK_DOWN_KERNEL_FORCE_INTEGRITY"),
    *("LOCK_DOWN_KERNEL_FORCE_CONFIDENTIALITY", "PRINTK_CALLER", "LIVEPATCH"),
)


@dataclass(frozen=True, kw_only=True)
class _Compiled:
    """An option that works only with a compiler that takes a flag."""

    flags: tuple[str, ...]
    clang: str | None = None
    gcc: str | None = None


_FLAGS = {
    "KCSAN": _Compiled(
        flags=("-fsanitize=thread", "-mllvm", "-tsan-distinguish-volatile=1"), clang="11"
    ),
    "CFI_CLANG": _Compiled(flags=("-fsanitize=kcfi",), clang="16"),
    "CFI": _Compiled(flags=("-fsanitize=kcfi",), clang="16"),
    "X86_KERNEL_IBT": _Compiled(
        flags=("-fcf-protection=branch", "-mindirect-branch-register"), gcc="9"
    ),
    "RANDSTRUCT_FULL": _Compiled(flags=("-frandomize-layout-seed=0",), clang="15"),
    "RANDSTRUCT_PERFORMANCE": _Compiled(flags=("-frandomize-layout-seed=0",), clang="15"),
}


def require_compiler(tree: Path, toolchain: Toolchain, what: str, deadline: Deadline) -> None:
    """Refuse a compiler that is older than a kernel's sources demand; ``what`` names the kernel.

    Raises MissingTool.
    """
    name = "llvm" if toolchain.llvm else "gcc"
    have = version_in(toolchain.compiler)
    least = _least(tree, name, deadline) or (_OLD_LEAST_CLANG if toolchain.llvm else None)
    if have is None or least is None or _numbers(have) >= _numbers(least):
        return
    program = "clang" if toolchain.llvm else "gcc"
    raise MissingTool(
        f"{what} is built with {program} {least} or later, and the host has {have}",
        hint=f"install a later {program}, or take an older kernel"
        + ("; without --llvm it is built with gcc" if toolchain.llvm else ""),
    )


def require_host(
    wanted: Mapping[str, str | None], toolchain: Toolchain, deadline: Deadline
) -> None:
    """Refuse options that this host cannot build; ``wanted`` are values by names, ``y`` and others.

    Raises UsageError for what needs another compiler, MissingTool for what is not installed.
    """
    on = {name.removeprefix("CONFIG_") for name, value in wanted.items() if value in ("y", "m")}
    _require_flags(on, toolchain, deadline)
    _require_programs(on, deadline)
    for name in _PLUGINS:
        if name in on and not toolchain.llvm and not _has_plugins(deadline):
            major = (version_in(toolchain.compiler) or "").partition(".")[0]
            raise _missing(name, "the headers for gcc's plugins", f"gcc-{major}-plugin-dev")


def _require_flags(on: set[str], toolchain: Toolchain, deadline: Deadline) -> None:
    only_clang = next((name for name in _CLANG_ONLY if name in on), None)
    if only_clang is not None and not toolchain.llvm:
        raise UsageError(
            f"CONFIG_{only_clang} needs a kernel that is built with clang",
            hint="add --llvm, or turn it off",
        )
    for name, asked in _FLAGS.items():
        least = asked.clang if toolchain.llvm else asked.gcc
        if name in on and least is not None and not _takes(toolchain, asked.flags, deadline):
            compiler = "clang" if toolchain.llvm else "gcc"
            raise MissingTool(
                f"CONFIG_{name} needs {compiler} {least} or later, and the host has "
                f"{version_in(toolchain.compiler) or toolchain.compiler}",
                hint=f"install a later {compiler}, or turn the option off",
            )


def _require_programs(on: set[str], deadline: Deadline) -> None:
    for name, (program, package) in _PROGRAMS.items():
        if name in on and shutil.which(program) is None:
            raise _missing(name, program, package)
    for name in _KEYS:
        if name in on:
            if shutil.which("openssl") is None:
                raise _missing(name, "openssl", "openssl")
            if not _has_header("openssl/opensslv.h", deadline):
                raise _missing(name, "the headers of OpenSSL", "libssl-dev")


def _missing(name: str, what: str, package: str) -> MissingTool:
    return MissingTool(
        f"CONFIG_{name} needs {what}, which the host lacks",
        hint=f"Debian, Ubuntu: apt-get install {package}; or turn the option off",
    )


def _least(tree: Path, tool: str, deadline: Deadline) -> str | None:
    script = tree / _LEAST
    if not script.is_file():
        return None
    environment = {**build_environment(), "SRCARCH": "x86"}
    said = run(["sh", script, tool], deadline=deadline, env=environment, check=False)
    version = said.stdout.strip()
    return version if said.returncode == 0 and _numbers(version) else None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdecimal())


def _takes(toolchain: Toolchain, flags: tuple[str, ...], deadline: Deadline) -> bool:
    compiler = "clang" if toolchain.llvm else "gcc"
    return _compiles([compiler, "-Werror", *flags], "int x;\n", deadline)


def _has_header(name: str, deadline: Deadline) -> bool:
    return _compiles(["gcc"], f"#include <{name}>\n", deadline)


def _has_plugins(deadline: Deadline) -> bool:
    asked = run(
        ["gcc", "-print-file-name=plugin"], deadline=deadline, env=build_environment(), check=False
    )
    return Path(asked.stdout.strip(), "include/plugin-version.h").is_file()


def _compiles(command: list[str], text: str, deadline: Deadline) -> bool:
    with temporary_folder("compiler") as folder:
        source = folder / "asked.c"
        source.write_text(text)
        call = [*command, "-c", str(source), "-o", str(source.with_suffix(".o"))]
        return run(call, deadline=deadline, env=build_environment(), check=False).returncode == 0
