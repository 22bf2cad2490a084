# SPDX-License-Identifier: GPL-2.0-only
"""When the accesses of A and B to memory are noted, without a guest."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.tools.race.explore import scene as scenes
from harness.tools.race.explore.scene import Scene


@dataclass
class Shape:
    """What of a guest's shape counts here."""

    plugin: Any


@dataclass
class Template:
    """The guest of a state."""

    shape: Any


def scene(**of_kernel: object) -> Scene:
    usual = {"preempts_readers": False, "has_kasan": False, "has_kcsan": False, "unseen": ()}
    code = SimpleNamespace(noting=lambda plugin, _: (plugin, "noted"), **usual | of_kernel)
    values: Any = dict.fromkeys(("state", "pages", "spin", "idle"))
    saved: Any = Template(shape=Shape(plugin="plugin"))
    return Scene(**values, files={"klp": Path("klp.ko")}, code=code, saved=saved)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("of_kernel", "noted"),
    [
        ({}, True),
        ({"preempts_readers": True}, False),
        ({"has_kasan": True}, False),
        ({"has_kcsan": True}, False),
        ({"unseen": ("__text_poke",)}, False),
    ],
)
def test_whether_accesses_are_noted(
    of_kernel: dict[str, object], noted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only on kernels of which what is noted says which points are alike."""
    monkeypatch.setattr(scenes, "notes_accesses", lambda _: True)
    template: Any = scene(**of_kernel).noting()
    assert (template is not None) == noted
    assert not noted or template.shape.plugin == ("plugin", "noted")
