# SPDX-License-Identifier: GPL-2.0-only
"""Accesses to memory: what the plugin notes of them, and which stretches of code meet."""

from __future__ import annotations

from array import array
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from harness.deadline import Deadline
from harness.errors import HarnessError
from harness.observer import accesses
from harness.observer.accesses import AccessFile, Touched, existing, noting, touched_before, unseen
from harness.observer.shared_file import Flag, Head, Kind, Point, make_head
from harness.tools.race.explore.actions import HELD_STATES
from harness.tools.race.explore.pairs import find_pairs
from harness.tools.race.explore.passage import Passage, Touching
from harness.tools.race.explore.points import Point as Place
from harness.vm.guest.plugin import Plugin
from harness.vm.host.process import run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.observer.image import Image

ROOT = Path(__file__).resolve().parents[2]
KERNEL = 0xFFFF888000000000
STORE, CPU, PHASE = 1 << 45, 1 << 46, 1 << 47
# Gives the plugin's code what is on standard input, and prints what it has noted.
DRIVER = """
#include <stdio.h>
#include "klp_accesses.h"
static struct klp_shared shared;
static uint64_t room[64];
static void (*access_to)(unsigned int, uint32_t, uint64_t, void *);
void qemu_plugin_register_vcpu_mem_cb(struct qemu_plugin_insn *insn,
    void (*cb)(unsigned int, uint32_t, uint64_t, void *), enum qemu_plugin_cb_flags flags,
    enum qemu_plugin_mem_rw rw, void *data)
{
    (void)insn; (void)flags; (void)data;
    if (rw == QEMU_PLUGIN_MEM_RW)
        access_to = cb;
}
bool qemu_plugin_mem_is_store(uint32_t info) { return info & 1; }
unsigned int qemu_plugin_mem_size_shift(uint32_t info) { return info >> 1; }
int main(void)
{
    unsigned long long a, b, c;
    char what;
    shared.accesses_max = 64;
    accesses_init(&shared, room);
    accesses_of(NULL);
    while (scanf(" %c %llu %llu %llu", &what, &a, &b, &c) == 4) {
        switch (what) {
        case 'P': shared.phase = a; break;
        case 'N': accesses_next_phase(); break;
        case 'I': accesses_interrupt(a, b); break;
        case 'K': accesses_note(a, b); break;
        default: access_to(a, c, b, NULL);
        }
    }
    for (uint64_t i = 0; i < shared.n_accesses; i++)
        printf("%llu\\n", (unsigned long long)room[i]);
    return 0;
}
"""


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The plugin's code with a main() of its own."""
    folder = tmp_path_factory.mktemp("accesses")
    (folder / "driver.c").write_text(DRIVER)
    plugin = ROOT / "qemu-plugin"
    run(
        [
            *("gcc", "-std=gnu11", "-Wall", f"-I{plugin}", "-o", folder / "driver"),
            *(folder / "driver.c", plugin / "klp_accesses.c", plugin / "klp_cpu.c"),
        ],
        deadline=Deadline.after(60),
    )
    return folder / "driver"


def noted(driver: Path, *lines: str) -> list[int]:
    done = run([driver], stdin="\n".join(lines) + "\n", deadline=Deadline.after(60))
    return [int(line) for line in done.stdout.split()]


def read(address: int, *, cpu: int = 0, shift: int = 3) -> str:
    return f"A {cpu} {address} {shift << 1}"


def write(address: int, *, cpu: int = 0, shift: int = 3) -> str:
    return f"A {cpu} {address} {shift << 1 | 1}"


def word(address: int) -> int:
    return address >> 3 & (STORE - 1)


def test_each_word_is_noted_once_a_phase(driver: Path) -> None:
    """Reads and writes apart, and those of both CPUs; nothing without a phase."""
    at = word(KERNEL)
    found = noted(
        driver,
        *(read(KERNEL), "P 1 0 0", read(KERNEL), read(KERNEL), write(KERNEL)),
        *(read(KERNEL, cpu=1), "N 0 0 0", read(KERNEL), "P 0 0 0", write(KERNEL + 8)),
    )
    assert found == [PHASE + at, PHASE + STORE + at, PHASE + CPU + at, 2 * PHASE + at]


def test_an_access_may_be_to_two_words(driver: Path) -> None:
    """Of sixteen bytes, and across the end of a word."""
    at = word(KERNEL) + PHASE
    assert noted(driver, "P 1 0 0", read(KERNEL, shift=4)) == [at, at + 1]
    assert noted(driver, "P 1 0 0", read(KERNEL + 6, shift=2)) == [at, at + 1]
    assert noted(driver, "P 1 0 0", read(KERNEL + 7, shift=0)) == [at]


def test_what_is_left_out(driver: Path) -> None:
    """User space, a third CPU, and interrupts; what comes after an interrupt counts again."""
    found = noted(
        driver,
        *("P 1 0 0", write(0x7FFF00001000), write(KERNEL, cpu=2), "I 0 1 0", write(KERNEL)),
        *(f"K 0 {Kind.MEETS_ALL} 0", "I 0 0 0", read(KERNEL)),
    )
    assert found == [PHASE + word(KERNEL)]


def test_what_is_no_memory(driver: Path) -> None:
    """Code that is changed, cli, and a call of another CPU."""
    kinds = (Kind.MEETS_ALL, Kind.FLAG, Kind.IPI)
    found = noted(driver, "P 1 0 0", *(f"K 0 {kind} 0" for kind in kinds))
    assert found == [PHASE + STORE, PHASE + STORE + 1, PHASE + 1]


def test_who_meets() -> None:
    """A write meets reads and writes of the same word, a read only writes."""
    b = Touched()
    b.add([7, STORE + 8])
    assert not b.meets([7, 9, STORE + 9])
    assert b.meets([STORE + 7])
    assert b.meets([8])
    assert b.meets([STORE + 8])
    assert b.meets([STORE]), "code that A changes"
    assert not b.meets_all
    b.add([CPU + STORE])
    assert b.meets_all


def test_points_that_are_alike() -> None:
    """All but the first before which nothing of B's is touched; none when B meets everybody."""
    points = tuple(Place(function=name) for name in ("a", "b", "c", "d"))
    passage = Passage(points, (array("Q"), array("Q", [STORE + 7]), array("Q", [9]), array("Q")))
    b = Touched()
    b.add([7])
    assert passage.alike(b) == {points[2], points[3]}
    assert passage.alike(None) == frozenset()
    assert Passage(points).alike(b) == frozenset()
    b.add([STORE])
    assert passage.alike(b) == frozenset()


def test_points_where_a_kernel_that_preempts_may_do_something_else() -> None:
    """Those before which A has changed whether its CPU can go to another task."""
    count = KERNEL + 0x40
    points = tuple(Place(function=name) for name in ("a", "b", "c"))
    parts = (array("Q"), array("Q", [STORE + word(count)]), array("Q", [word(count)]))
    b = Touched(reads={7})
    assert Passage(points, parts).alike(b) == {points[1], points[2]}
    assert Passage(points, parts, count).alike(b) == {points[2]}
    assert b == Touched(reads={7})


def test_what_is_touched_before_a_lock_is_taken() -> None:
    """Up to the first write to it: who reads it has not got it. All, if it is not taken."""
    lock = word(KERNEL)
    marks = PHASE + CPU
    found = [marks + each for each in (7, lock, STORE, 1, STORE + 8, STORE + lock, 9)]
    assert touched_before(found, KERNEL) == Touched(reads={7, lock}, writes={8})
    assert touched_before(found, KERNEL + 8).reads == {7, lock, 9}


def test_what_b_has_allocated_itself_is_not_met() -> None:
    """In another run A, or who comes first, gets that memory of vmalloc() and of modules."""
    module, vmalloc = 0xFFFFFFFFA0000000, 0xFFFFC90000000000
    mapped = ((KERNEL, KERNEL + 0x1000), (vmalloc, vmalloc + 0x4000), (module, module + 0x1000))
    old = [vmalloc + 0x3FF8, module, KERNEL + 0x8000, 0xFFFFFFFF81000000, 0xFFFFFFFFFF5FB300]
    new = [vmalloc + 0x4000, module + 0x1000, 0xFFFFFFFFA0100000]
    found = [STORE + CPU + word(each) for each in (*old, *new)]
    assert list(existing(found, mapped)) == found[: len(old)]
    assert list(existing([STORE, 1], mapped)) == [STORE, 1], "what is no memory"


def test_to_which_points_a_goes_while_b_waits_for_a_lock() -> None:
    """As long as it touches nothing of what B touches before, in either order."""
    (pair, other) = find_pairs(["fork-load", "fork-replace"])
    lock = KERNEL
    points = tuple(Place(function=name) for name in ("a", "b", "c", "d", "e"))
    touches: tuple[list[int], ...] = ([], [9], [STORE + 20], [9], [STORE + 8])
    passage = Passage(points, tuple(array("Q", each) for each in touches))
    touching = Touching()
    touching.keep(pair, passage, dense=False)
    touching.add(pair, [7, STORE + word(lock), 20], b_first=True)
    assert touching.clear(pair, lock, points[0], points[1:]) == 0, "one order is not known"
    touching.add(pair, [8, STORE + word(lock)], b_first=False)
    assert touching.clear(pair, lock, points[0], points[1:]) == 3
    assert touching.clear(pair, lock, points[0], points[2:]) == 2
    assert touching.clear(pair, lock, points[2], points[3:]) == 1
    assert touching.clear(pair, lock + 8, points[0], points[1:]) == 1, "B takes another lock"
    assert touching.clear(pair, lock, Place(function="x"), points[1:]) == 0
    assert touching.clear(other, lock, points[0], points[1:]) == 0
    assert touching.clear(pair, lock, points[0], (points[1], Place(function="x"))) == 1
    (opened,) = find_pairs(["fork-reverse"])
    assert opened.state.name in HELD_STATES
    touching.keep(opened, passage, dense=False)
    for b_first in (True, False):
        touching.add(opened, [7, STORE + word(lock)], b_first=b_first)
    assert touching.clear(opened, lock, points[0], points[1:]) == 0, "a worker takes locks too"
    touching.keep(pair, Passage(points), dense=False)
    assert touching.clear(pair, lock, points[0], points[1:]) == 0, "accesses are not known"
    touching.keep(pair, passage, dense=True)
    touching.drop(pair.state)
    assert touching.clear(pair, lock, points[0], points[1:]) == 0


def test_b_is_looked_at_in_the_first_two_orders_alone() -> None:
    """What is noted later would be kept for nobody."""
    (pair,) = find_pairs(["fork-load"])
    touching = Touching()
    touching.add(pair, [7], b_first=True)
    assert not touching.wants(pair, b_first=True)
    assert touching.wants(pair, b_first=False)
    touching.add(pair, [STORE + 8, STORE + 8], b_first=False)
    assert not touching.wants(pair, b_first=False)
    assert touching.take(pair) == Touched(reads={7}, writes={8})
    assert not touching.wants(pair, b_first=False)


def test_what_b_does_first_is_the_same_in_all_pairs_of_a_state() -> None:
    """Until the state is dropped; and not in another state."""
    first, second, other = find_pairs(["fork-load", "call-load", "fork-load@patched"])
    touching = Touching()
    touching.add(first, [7], b_first=True)
    assert not touching.wants(second, b_first=True)
    assert touching.wants(second, b_first=False)
    assert touching.wants(other, b_first=True)
    touching.add(second, [8], b_first=False)
    assert touching.take(second) == Touched(reads={7, 8})
    assert touching.take(first) is None
    touching.drop(first.state)
    (third,) = find_pairs(["vfork-load"])
    assert touching.wants(third, b_first=True)


def image(*names: str) -> Image:
    symbols = {name: SimpleNamespace(address=0x1000 + number) for number, name in enumerate(names)}
    table = SimpleNamespace(
        names=lambda: tuple(symbols),
        named=lambda name: (symbols[name],) if name in symbols else (),
    )
    return cast("Image", SimpleNamespace(symbols=table))


def plugin(folder: Path, points: Sequence[Point] = ()) -> Plugin:
    head, size = make_head(points=points, events=2)
    return Plugin(library=folder / "x.so", head=head, size=size, folder=folder)


def test_where_a_plugin_notes(tmp_path: Path) -> None:
    """To the points that there are, those of interrupts and passages are added, by address."""
    names = ("asm_sysvec_reboot", "native_irq_return_iret", "__text_poke", "generic_exec_single")
    made = noting(plugin(tmp_path, [Point(0x1002, Kind.POINT)]), image(*names), [0x500])
    head = Head.from_buffer_copy(made.head)
    assert [(each.address, each.kind) for each in head.points[: head.n_points]] == [
        (0x500, Kind.PASSAGE),
        (0x1000, Kind.INTERRUPT),
        (0x1001, Kind.INTERRUPT_END),
        (0x1002, Kind.POINT),
        (0x1002, Kind.MEETS_ALL),
        (0x1003, Kind.IPI),
    ]
    assert head.flags & Flag.ACCESSES
    assert head.accesses_at + 8 * head.accesses_max == made.size
    with pytest.raises(HarnessError, match="interrupts end"):
        noting(plugin(tmp_path), image("__text_poke"))


def test_what_concerns_all_cpus_unseen() -> None:
    """A variant of a function has another name, and what it does would not be noted."""
    names = (
        *("__text_poke", "remove_vm_area", "stop_machine_cpuslocked", "generic_exec_single"),
        *("smp_call_function_single", "smp_call_function_many_cond"),
    )
    assert unseen(image(*names)) == ()
    assert unseen(image("__text_poke.constprop.0", *names[1:])) == ("__text_poke",)
    assert unseen(image(*names[:3], *names[4:])) == ("generic_exec_single",)


def test_parts_of_what_was_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one CPU, from place to place; too many are an error and no silence."""
    made = noting(plugin(tmp_path), image("native_irq_return_iret"))
    path = made.make_file("guest")
    file = AccessFile(path)
    assert file.begin() == 0
    head = Head.from_buffer_copy(path.read_bytes())
    assert head.phase == 1
    head.n_accesses = 5
    content = bytearray(path.read_bytes())
    content[: len(bytes(head))] = bytes(head)
    data = array("Q", [1, CPU + 2, 3, STORE + 4, 5]).tobytes()
    content[head.accesses_at : head.accesses_at + len(data)] = data
    path.write_bytes(content)
    assert file.end() == 5
    assert Head.from_buffer_copy(path.read_bytes()).phase == 0
    assert [list(part) for part in file.read(0, 5, cpu=0)] == [[1, 3, STORE + 4, 5]]
    assert [list(part) for part in file.read(0, 5, cpu=1)] == [[CPU + 2]]
    assert [list(part) for part in file.read(1, 5, cpu=0, at=[3, 4])] == [[3], [STORE + 4]]
    monkeypatch.setattr(accesses, "_ROOM", 4)
    with pytest.raises(HarnessError, match="with room for 4"):
        file.read(0, 5, cpu=0)
