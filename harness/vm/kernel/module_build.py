# SPDX-License-Identifier: GPL-2.0-only
"""What modules of a kernel that somebody else built are compiled with, and what make gets for it.

What that kernel has switched on, and this machine cannot build modules for, is refused here, before
a module is compiled.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from harness.deadline import Deadline
from harness.errors import KernelUnfit, MissingTool
from harness.log import LOGGER
from harness.vm.host.process import find_program, run
from harness.vm.kernel.toolchain import build_environment

if TYPE_CHECKING:
    from pathlib import Path

    from harness.vm.kernel.config import KernelConfig

_ASK_DEADLINE_S = 60.0
# Recorded when the kernel was configured, so that an older compiler gets the option all the same.
# Without it functions are aligned by -falign-functions, as before 6.12.
_RECORDED_FLAGS = {"CC_HAS_MIN_FUNCTION_ALIGNMENT": "-fmin-function-alignment=16"}
# Programs of the headers that Kbuild starts for each module.
_HOST_PROGRAMS = ("scripts/basic/fixdep", "scripts/mod/modpost")
_OBJTOOL = "tools/objtool/objtool"
_LLVM = ("clang", "ld.lld")
_RANDSTRUCT = ("RANDSTRUCT_FULL", "RANDSTRUCT_PERFORMANCE", "GCC_PLUGIN_RANDSTRUCT")
_SEEDS = ("scripts/basic/randstruct.seed", "scripts/gcc-plugins/randomize_layout_plugin.so")


def module_variables(config: KernelConfig, headers: Path, where: str) -> tuple[str, ...]:
    """Return what make gets besides when it builds modules against a finished kernel's headers.

    Raises KernelUnfit for what cannot be built for here, by the option that the kernel has on.
    """
    _require_plugins(config, headers, where)
    _require_host_programs(config, headers, where)
    if config.enabled("CC_IS_CLANG"):
        return (*_for_clang(where), *_for_btf(config))
    return (*_for_gcc(config, where), *_for_btf(config))


def _for_btf(config: KernelConfig) -> tuple[str, ...]:
    """Build without types: they need the kernel's vmlinux and a pahole that fits it.

    A module without them is loaded; one with types that do not fit is refused
    (btf_module_notify(), kernel/bpf/btf.c).
    """
    return ("CONFIG_DEBUG_INFO_BTF_MODULES=",) if config.enabled("DEBUG_INFO_BTF_MODULES") else ()


def _for_clang(where: str) -> tuple[str, ...]:
    missing = [name for name in _LLVM if shutil.which(name) is None]
    if missing:
        raise KernelUnfit(
            f"{where} was built with clang (CONFIG_CC_IS_CLANG=y), and so are its modules: "
            f"{missing[0]} is not installed",
            hint="install clang and lld",
        )
    return ("LLVM=1", "CC=clang")


def _for_gcc(config: KernelConfig, where: str) -> tuple[str, ...]:
    version = config.get("GCC_VERSION") or ""
    theirs = int(version) // 10000 if version.isdecimal() else 0
    named = f"gcc-{theirs}"
    chosen = named if theirs and shutil.which(named) else "gcc"
    variables = [f"CC={chosen}"] if chosen != "gcc" else []
    for symbol, flag in _RECORDED_FLAGS.items():
        if config.enabled(symbol) and not _accepts(chosen, flag):
            variables.append(f"CONFIG_{symbol}=")
            LOGGER.info(
                "%s was built by gcc %d, and this machine's gcc has no %s: modules are built "
                "without it; the package %s has the kernel's own compiler",
                *(where, theirs, flag, named),
            )
    return tuple(variables)


def _accepts(compiler: str, flag: str) -> bool:
    try:
        argv = [find_program(compiler), "-Werror", flag, "-c", "-x", "c", "/dev/null"]
    except MissingTool:
        return True  # the build says so
    return (
        run(
            [*argv, "-o", "/dev/null"],
            deadline=Deadline.after(_ASK_DEADLINE_S),
            env=build_environment(),
            check=False,
        ).returncode
        == 0
    )


def _require_plugins(config: KernelConfig, headers: Path, where: str) -> None:
    for symbol in _RANDSTRUCT:
        if config.enabled(symbol) and not any((headers / seed).exists() for seed in _SEEDS):
            raise KernelUnfit(
                f"no module can be built for {where}: CONFIG_{symbol}=y shuffles the kernel's "
                "structures by a secret seed, which its headers do not have",
                hint="use the folder that it was built in (build:DIR), or one without that option",
            )
    if config.enabled("GCC_PLUGINS"):
        made = [path.name for path in (headers / "scripts/gcc-plugins").glob("*.so")]
        if not made:
            raise KernelUnfit(
                f"no module can be built for {where}: it is built with plugins of gcc "
                "(CONFIG_GCC_PLUGINS=y), which its headers do not have",
                hint="use the folder that it was built in (build:DIR)",
            )


def _require_host_programs(config: KernelConfig, headers: Path, where: str) -> None:
    """Check that the programs among the headers are there and run on this machine."""
    wanted = [*_HOST_PROGRAMS, *([_OBJTOOL] if config.enabled("OBJTOOL") else [])]
    for name in wanted:
        program = headers / name
        if not program.is_file():
            raise KernelUnfit(
                f"no module can be built for {where}: its headers have no {name}",
                hint="run `make modules_prepare` there; or give or install all packages of its "
                "headers, on Debian linux-kbuild-X as well",
            )
        # Without arguments they print how they are used; the dynamic linker fails with 127.
        started = run(
            [program],
            deadline=Deadline.after(_ASK_DEADLINE_S),
            # Debian's objtool starts that of the machine that this names.
            env={**build_environment(), "SRCARCH": "x86"},
            check=False,
        )
        if started.returncode in (126, 127) or "GLIBC_" in started.stderr:
            said = (started.stderr.strip().splitlines() or ["it cannot be executed"])[0]
            raise KernelUnfit(
                f"no module can be built for {where}: {name} of its headers does not run here",
                hint="it was made for a later release of the distribution: give the packages of "
                "its C library and libelf among the files, on Debian libc6, libelf1t64, zlib1g and "
                "libzstd1; or work there",
                details=(said,),
            )
