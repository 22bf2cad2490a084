# SPDX-License-Identifier: GPL-2.0-only
"""What unit tests of verify have in place of a guest and of a case."""

from __future__ import annotations

import threading
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from harness.deadline import Deadline
from harness.tools.verify.request import VerifyRequest
from harness.tools.verify.scene import Scene, SceneResult, SceneSpec

MODULES = Path(__file__).parent / "data/modules"
TARGET = SimpleNamespace(name="klp_target_gate", path=MODULES / "klp_target_gate.ko")


class Guest:
    """A guest with a few files, by their names; it raises ``refuses`` for what is named there."""

    folder = Path("guest")
    time_scale = 2.0

    def __init__(self, **files: str) -> None:
        self.files = files
        self.refuses: dict[str, Exception] = {}
        self.has_tasks: tuple[Any, ...] = ()

    def read(self, path: str) -> str:
        self._refuse(f"read {path}")
        return self.files[path.rpartition("/")[2]]

    def write(self, path: str, text: str) -> None:
        self._refuse(f"write {text}")

    def upload(self, path: Path) -> str:
        return path.name

    def insmod(self, path: str, params: str = "", **_: Any) -> None:
        self._refuse(f"insmod {path}")

    def rmmod(self, name: str) -> None:
        self._refuse(f"rmmod {name}")

    def scaled(self, seconds: float) -> Deadline:
        return Deadline.after(seconds)

    def check_splats(self) -> None:
        self._refuse("check splats")

    def poll_file(self, *_: Any, **__: Any) -> Any:
        return SimpleNamespace(errno=0)

    def tasks(self) -> Any:
        return SimpleNamespace(tasks=self.has_tasks)

    def _refuse(self, what: str) -> None:
        if what in self.refuses:
            raise self.refuses[what]


def case() -> Any:
    """Return a case of a patch with one target."""
    return SimpleNamespace(
        name="klp_fix",
        request=VerifyRequest(module=Path("klp_fix.ko")),
        plan=SimpleNamespace(targets=(TARGET,)),
        info=SimpleNamespace(patch=None),
        refused={},
        loadable=(TARGET,),
        kernel=SimpleNamespace(vmlinux=None),
    )


def scene(
    guest: Guest | None = None, *, other: Guest | None = None, stop: threading.Event | None = None
) -> Scene:
    """Return a scene in that guest; ``other`` is the guest that it may start beside."""
    return Scene(
        guest or Guest(),  # type: ignore[arg-type]
        case(),
        SceneResult(spec=SceneSpec(name="scene", run=lambda _: None, checks=())),
        stop=stop or threading.Event(),
        another_guest=lambda: nullcontext(other or Guest()),  # type: ignore[arg-type]
    )
