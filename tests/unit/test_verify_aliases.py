# SPDX-License-Identifier: GPL-2.0-only
"""A function that ftrace lists under another of its names is redirected all the same."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.tools.verify.scenes import guest_state as looks

GETPID = 0x1000
GETPPID = 0x2000
SYMBOLS = {"__x64_sys_getpid": GETPID, "__ia32_sys_getpid": GETPID, "__x64_sys_getppid": GETPPID}


@dataclass(frozen=True, kw_only=True)
class Symbol:
    address: int


class Image:
    """A vmlinux of a few symbols."""

    def named(self, name: str) -> tuple[Symbol, ...]:
        address = SYMBOLS.get(name)
        return (Symbol(address=address),) if address is not None else ()


@pytest.mark.parametrize(
    ("function", "hook", "known"),
    [
        ("vmlinux:__x64_sys_getpid", "vmlinux:__ia32_sys_getpid", True),
        ("vmlinux:__x64_sys_getpid", "vmlinux:__x64_sys_getppid", False),
        ("vmlinux:__x64_sys_getpid", "a_module:__ia32_sys_getpid", False),
        ("vmlinux:nothing", "vmlinux:__ia32_sys_getpid", False),
    ],
)
def test_names_of_one_address(
    monkeypatch: pytest.MonkeyPatch, function: str, hook: str, known: bool
) -> None:
    monkeypatch.setattr(looks, "read_vmlinux", lambda _: Image())
    found = looks.under_other_names([function], [hook], Path("vmlinux"))
    assert (function in found) is known


def test_a_packaged_kernel_has_no_symbols_to_ask() -> None:
    assert not looks.under_other_names(["vmlinux:a"], ["vmlinux:b"], None)
