# SPDX-License-Identifier: GPL-2.0-only
"""The plugin of QEMU: built by gcc for the newest interface that this QEMU accepts, and cached."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import CommandFailed, HarnessError
from harness.observer.shared_file import Flag
from harness.resources import Resource, resource_dir
from harness.vm.host.accel import QEMU
from harness.vm.host.process import find_program, run

if TYPE_CHECKING:
    from harness.deadline import Deadline
    from harness.vm.host.cache import Store

KIND = "qemu-plugin"
VERSIONS = (3, 2, 1)
"""The versions of QEMU's interface for plugins that the sources can be compiled for."""

_BUILD_S = 60.0
_WRONG_CPU = 10
_FORMAT = 2
_FLAGS = ("-std=gnu11", "-O2", "-Wall", "-Wextra", "-fPIC", "-shared", "-fvisibility=hidden")
_LIBRARY = "klp_observer.so"
_FACTS = "plugin.json"
_QEMU_VERSION = re.compile(r"version (\d+\.[\d.]*\d)")
_REASON = re.compile(r"^.*?: (?:Could not load plugin [^:]*: )?(.*)$")


@dataclass(frozen=True, kw_only=True)
class BuiltPlugin:
    """The plugin as a library, and the version of QEMU's interface that it is for.

    ``qemu`` is QEMU's own version, such as 7.2.22; "" when QEMU does not say it.
    """

    library: Path
    version: int
    qemu: str = ""

    @property
    def flags(self) -> Flag:
        """What the plugin has to be asked for with this QEMU, whatever it observes.

        From 10.0 on a block that was translated for one CPU names that one whichever runs it, but
        with a thread for each CPU (gen_cpu_index() in accel/tcg/plugin-gen.c). The plugin then
        takes the CPU from the guest's registers.
        """
        major = self.qemu.partition(".")[0]
        return Flag.CPU_BY_GS if major.isdigit() and int(major) >= _WRONG_CPU else Flag(0)


def obtain_plugin(store: Store, *, deadline: Deadline) -> BuiltPlugin:
    """Return the plugin for this QEMU, built now or taken from the cache.

    Raises MissingTool without gcc or QEMU, and HarnessError when the sources do not compile or this
    QEMU accepts none of the versions.
    """
    qemu = Path(find_program(QEMU)).resolve()
    compiler = run(["gcc", "--version"], deadline=deadline).stdout.splitlines()[0]
    status = qemu.stat()
    source = resource_dir(Resource.QEMU_PLUGIN)
    digest = hashlib.sha256(
        json.dumps(
            [_FORMAT, compiler, str(qemu), status.st_mtime_ns, status.st_size, VERSIONS]
        ).encode()
    )
    for path in sorted(source.glob("*.[ch]")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")

    def fill(folder: Path) -> None:
        version = _build(source, folder, deadline)
        said = run([QEMU, "--version"], deadline=deadline.within(_BUILD_S), check=False).stdout
        found = _QEMU_VERSION.search(said)
        facts = {"version": version, "qemu": found[1] if found else ""}
        (folder / _FACTS).write_text(json.dumps(facts))

    entry = store.obtain(KIND, digest.hexdigest()[:16], fill, deadline=deadline)
    facts = json.loads((entry / _FACTS).read_text())
    return BuiltPlugin(
        library=entry / _LIBRARY, version=facts["version"], qemu=facts.get("qemu", "")
    )


def _build(source: Path, folder: Path, deadline: Deadline) -> int:
    """Build the plugin for the first version that QEMU accepts; return the version."""
    refused = "it says nothing"
    for version in VERSIONS:
        library = folder / _LIBRARY
        try:
            run(
                [
                    *("gcc", *_FLAGS, f"-DPLUGIN_API={version}", "-o", library),
                    *sorted(source.glob("*.c")),
                ],
                deadline=deadline.within(_BUILD_S),
            )
        except CommandFailed as error:
            raise HarnessError(
                "the plugin of QEMU does not compile",
                hint="`klp-harness doctor` shows whether gcc and the C library are installed",
                details=error.details,
            ) from error
        accepted, refused = _probe(library, deadline)
        if accepted:
            return version
    raise HarnessError(
        f"this QEMU cannot load the plugin that observes the kernel: {refused}",
        hint="install a QEMU that is built with plugins, as those of Debian and Fedora are",
    )


def _probe(library: Path, deadline: Deadline) -> tuple[bool, str]:
    """Return whether QEMU loads the plugin, and what QEMU says; it starts no guest."""
    option = f"{str(library).replace(',', ',,')},probe=on"
    machine = ("-machine", "none", "-nodefaults", "-display", "none", "-accel", "tcg")
    done = run([QEMU, *machine, "-plugin", option], deadline=deadline.within(_BUILD_S), check=False)
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    said = lines[-1] if lines else "it says nothing"
    reason = _REASON.match(said)
    return "is accepted" in done.stdout, reason[1] if reason else said


def examine_plugin(store: Store, *, deadline: Deadline) -> tuple[bool, str]:
    """Return whether the kernel can be observed on this machine, and why or why not."""
    try:
        plugin = obtain_plugin(store, deadline=deadline)
    except HarnessError as error:
        return False, error.message
    return True, f"QEMU accepts version {plugin.version} of its interface for plugins"
