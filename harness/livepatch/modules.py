# SPDX-License-Identifier: GPL-2.0-only
"""Kernel modules in the guest: their parameters, reference count and file; unloading."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from harness.agent_protocol import Op
from harness.errors import UsageError
from harness.livepatch.sysfs import exists, number
from harness.livepatch.waiting import QUICK_S, poll, scaled

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.deadline import Deadline
    from harness.livepatch.guest import Guest

Parameter = str | int | bool


class Module:
    """The module of a name, loaded or not."""

    def __init__(self, guest: Guest, name: str) -> None:
        self._guest = guest
        self.name = name
        self.path = f"/sys/module/{name}"

    def __repr__(self) -> str:
        return f"<module {self.name}>"

    @property
    def loaded(self) -> bool:
        """Whether it is loaded: live, coming or going."""
        return exists(self._guest, f"{self.path}/initstate")

    @property
    def refcount(self) -> int:
        """Its reference count; 1 while its patch is enabled. Raises FileNotFoundError."""
        path = f"{self.path}/refcnt"
        return number(self._guest.read(path), path)

    def parameter(self, name: str) -> str:
        """Return a parameter's value; raises FileNotFoundError."""
        return self._guest.read(f"{self.path}/parameters/{name}").removesuffix("\n")

    def wait_unused(self, deadline: Deadline | None = None) -> bool:
        """Wait until its reference count is 0; False when the deadline came first."""
        deadline = deadline or scaled(self._guest, QUICK_S)
        return poll(self._guest, f"{self.path}/refcnt", Op.EQUALS, "0", deadline=deadline)

    def unload(self) -> None:
        """Unload it without waiting; raises ModuleRefused with the kernel's errno."""
        self._guest.rmmod(self.name)


def module_name(path: Path) -> str:
    """Return the kernel's name of the module in that file."""
    return path.name.removesuffix(".ko").replace("-", "_")


def find_module(module: str | Path, modules: Mapping[str, Path]) -> Path:
    """Return the file of a module, by the name of a sample or by a path; raises UsageError."""
    if isinstance(module, Path):
        path = module
    elif module in modules:
        path = modules[module]
    elif "/" in module or module.endswith(".ko"):
        path = Path(module)
    else:
        known = ", ".join(sorted(modules)) or "none"
        raise UsageError(f"there is no module {module}", hint=f"known by name: {known}")
    if not path.is_file():
        raise UsageError(f"there is no file {path}", hint="build the module first")
    return path


def format_params(params: Mapping[str, Parameter]) -> str:
    """Return parameters as finit_module(2) takes them (lib/cmdline.c, next_arg()).

    Raises UsageError for a value that cannot be written so.
    """
    return " ".join(f"{name}={_value(name, value)}" for name, value in params.items())


def _value(name: str, value: Parameter) -> str:
    if isinstance(value, bool):
        return "1" if value else "0"
    text = str(value)
    if '"' in text or "\n" in text or "\0" in text:
        raise UsageError(f"parameter {name}: a module parameter cannot hold quotes or line ends")
    return f'"{text}"' if not text or any(char.isspace() for char in text) else text
