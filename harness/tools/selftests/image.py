# SPDX-License-Identifier: GPL-2.0-only
"""The files that a guest also needs to run the selftests: scripts, modules and commands."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from harness.vm.guest.initramfs import with_libraries
from harness.vm.host.process import find_program, run
from harness.vm.kernel.module import obtain_modules

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.deadline import Deadline
    from harness.tools.selftests.tree import Suite
    from harness.vm.host.cache import Store
    from harness.vm.kernel.kernel import Kernel

FOLDER = "/selftests"
# Options of GNU and util-linux that busybox lacks: comm --nocheck-order, date --rfc-3339,
# stat --format, mktemp --tmpdir, sysctl --values, diff --label; and a dmesg that reads all of the
# log.
_COMMANDS = (
    "comm",
    "date",
    "getconf",
    "stat",
    "mktemp",
    "sysctl",
    "diff",
    "dmesg",
    "awk",
    "grep",
    "sed",
    "sleep",
)
_DEPMOD_S = 30


def guest_files(
    suite: Suite, kernel: Kernel, *, folder: Path, store: Store, deadline: Deadline
) -> Mapping[str, Path]:
    """Return the suite's files: guest path to host file. Those that are built go to ``folder``.

    Raises KernelBuildFailed when the test modules do not compile, MissingTool, HarnessError.
    """
    modules = obtain_modules(
        kernel, suite.modules, variables=suite.variables, store=store, deadline=deadline
    )
    files = {f"{FOLDER}/{path.name}": path for path in suite.folder.glob("*.sh")}
    for source in suite.programs:
        files[f"{FOLDER}/{source.stem}"] = _compile(source, suite, folder, deadline=deadline)
    files |= _modules(modules, kernel, folder, deadline=deadline)
    if suite.modules.parent == suite.folder:
        # From 6.8 on the scripts take the modules from beside themselves, and skip where there is
        # no folder to build them in (has_kdir() of functions.sh).
        beside = f"{FOLDER}/{suite.modules.name}"
        files |= {f"{beside}/{name}.ko": path for name, path in modules.items()}
        files[f"/lib/modules/{kernel.version}/build/.config"] = kernel.build_dir / ".config"
    for name in _COMMANDS:
        files |= with_libraries(Path(find_program(name)), f"/bin/{name}", deadline=deadline)
    return files


def _compile(source: Path, suite: Suite, folder: Path, *, deadline: Deadline) -> Path:
    program = folder / source.stem
    include = suite.tree / "tools/testing/selftests"
    run(["gcc", "-O2", "-static", f"-I{include}", "-o", program, source], deadline=deadline)
    return program


def _modules(
    modules: Mapping[str, Path], kernel: Kernel, folder: Path, *, deadline: Deadline
) -> dict[str, Path]:
    """Lay the modules out as modprobe wants them, with the indexes that depmod makes."""
    place = folder / "lib/modules" / kernel.version
    place.mkdir(parents=True, exist_ok=True)
    for name, path in modules.items():
        (place / f"{name}.ko").unlink(missing_ok=True)
        (place / f"{name}.ko").symlink_to(path)
    run(
        [find_program("depmod"), "-b", folder, kernel.version],
        deadline=deadline.within(_DEPMOD_S),
    )
    return {f"/lib/modules/{kernel.version}/{path.name}": path for path in place.iterdir()}
