# SPDX-License-Identifier: GPL-2.0-only
"""Parts of functions that GCC splits off, in which something sleeps: compiled, and read again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.errors import HarnessError, UsageError
from harness.tools.verify.cold_parts import (
    ColdPart,
    cold_bodies,
    cold_functions,
    cold_in_vmlinux,
)
from harness.vm.elf.vmlinux import KernelSymbol, Vmlinux, called_from
from tests.unit.compiled_modules import HEAD, compiled

if TYPE_CHECKING:
    from collections.abc import Mapping

MODULES = Path(__file__).parent / "data/modules"
STRUCTS = """
struct func { const char *name; void *body; unsigned long sympos; char rest[128]; };
struct object { const char *name; struct func *funcs; void *callbacks[4]; char rest[128]; };
struct patch { void *mod; struct object *objs; char rest[100]; };
void msleep(int); void say(void);
static struct func f[] = { { "f", body }, { "g", new_g }, { 0 } };
static struct object o[] = { { 0, f }, { 0 } };
struct patch patch = { __this_module, o };
"""
# A call of what is cold makes its branch unlikely, and GCC moves that to new_g.cold.
COLD = """
#define COLD __attribute__((cold, noipa))
#define BODY __attribute__((noipa)) int new_g(int n)
void msleep(int); void say(void);
"""
THROUGH_ANOTHER = """
COLD void odd(void);
static COLD void far(void) { msleep(1); say(); }
static __attribute__((noipa)) void rare(void) { far(); say(); }
BODY { if (n) { odd(); rare(); say(); } return n; }
"""
OF_ANOTHER = """
COLD void rare(void);
int other(int n) { if (n) { rare(); msleep(1); } return n; }
BODY { return n; }
"""


def found(folder: Path, functions: str) -> tuple[ColdPart, ...]:
    return cold_bodies(compiled(folder, f"{HEAD}{COLD}{functions}{STRUCTS}"))


@pytest.mark.parametrize(
    ("functions", "sleeps"),
    [
        ("COLD void rare(void); BODY { if (n) { rare(); msleep(1); } return n; }", "msleep"),
        (
            "static COLD void rare(void) { msleep(1); say(); } BODY { if (n) rare(); return n; }",
            "msleep",
        ),
        (THROUGH_ANOTHER, "msleep"),
    ],
    ids=["itself", "callee", "through-another"],
)
def test_a_cold_part_that_sleeps(tmp_path: Path, functions: str, sleeps: str) -> None:
    """What it calls itself, and what functions of the module do that it calls."""
    assert found(tmp_path, functions) == (ColdPart(function="new_g", sleeps=sleeps),)


@pytest.mark.parametrize(
    "functions",
    [
        "COLD void rare(void); BODY { if (n) rare(); return n; }",
        "COLD void rare(void); BODY { msleep(1); if (n) { rare(); say(); } return n; }",
        "BODY { if (n) msleep(1); return n; }",
        OF_ANOTHER,
    ],
    ids=["says", "sleeps-elsewhere", "nothing-cold", "of-another-function"],
)
def test_no_cold_part_that_sleeps(tmp_path: Path, functions: str) -> None:
    """A part that prints is harmless, as is a sleep in the function's own range."""
    assert found(tmp_path, functions) == ()


@pytest.mark.parametrize("path", sorted(MODULES.glob("klp_test_*.ko")), ids=lambda path: path.stem)
def test_good_livepatches_have_none(path: Path) -> None:
    """Real livepatches give no false alarm."""
    assert cold_bodies(path) == ()


def test_functions_of_a_target(tmp_path: Path) -> None:
    """Those that are patched, and no others."""
    source = (
        "COLD void rare(void);"
        "int f(int n) { if (n) { rare(); msleep(1); } return n; }"
        "int g(int n) { if (n) { rare(); msleep(1); } return n; }"
        "BODY { return n; }"
    )
    path = compiled(tmp_path, f"{HEAD}{COLD}{source}")
    assert cold_functions(path, ["f", "h"]) == (ColdPart(function="f", sleeps="msleep"),)
    assert cold_functions(path, []) == ()


def test_a_damaged_file(tmp_path: Path) -> None:
    """It is the user's."""
    path = tmp_path / "x.ko"
    path.write_bytes(b"no module")
    with pytest.raises(UsageError):
        cold_bodies(path)


CODE = bytes.fromhex("90 e8 0a000000 0f84 00010000 c3")
CALLED = 0x1000 + 6 + 10


def image(names: Mapping[str, int]) -> Vmlinux:
    part = KernelSymbol(0x1000, len(CODE), is_function=True)
    symbols = {name: (KernelSymbol(at, 16, is_function=True),) for name, at in names.items()}
    return Vmlinux({"f.cold": (part,), **symbols}, (), None)


@pytest.mark.parametrize(
    ("names", "sleeps"),
    [({"msleep": CALLED}, "msleep"), ({"_printk": CALLED}, None), ({"msleep": CALLED + 1}, None)],
)
def test_functions_of_the_kernel(
    monkeypatch: pytest.MonkeyPatch, names: Mapping[str, int], sleeps: str | None
) -> None:
    """What the part calls is named by the addresses of the image."""
    called = {0x1000: (CALLED, 0x2000)}
    monkeypatch.setattr(
        "harness.tools.verify.cold_parts.called_from", lambda _, part: called[part.address]
    )
    parts = cold_in_vmlinux(image(names), Path("vmlinux"), ["f", "g"])
    assert parts == (() if sleeps is None else (ColdPart(function="f", sleeps=sleeps),))


def test_calls_are_read_from_the_image(tmp_path: Path) -> None:
    """Calls and jumps with a distance of four bytes, of that symbol alone."""
    path = compiled(tmp_path, "void g(void); void f(void) { g(); g(); }")
    with pytest.raises(HarnessError, match="cannot be read"):
        called_from(tmp_path / "none", KernelSymbol(0, 1, is_function=True))
    # A relocatable file has no addresses, so nothing is at this one.
    assert called_from(path, KernelSymbol(0x1000, 8, is_function=True)) == ()
