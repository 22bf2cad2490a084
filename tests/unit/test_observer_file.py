# SPDX-License-Identifier: GPL-2.0-only
"""The file that QEMU's plugin shares with the harness: its layout, and files that are damaged."""

from __future__ import annotations

import ctypes
import os
import struct
from pathlib import Path

import pytest

from harness.deadline import Deadline
from harness.errors import HarnessError
from harness.observer import shared_file
from harness.observer.shared_file import (
    MOST_FUNCTIONS,
    MOST_POINTS,
    DamagedFile,
    Event,
    Flag,
    Function,
    FunctionFlag,
    Head,
    Kind,
    Point,
    SharedFile,
    make_head,
    write_functions,
)
from harness.vm.host.process import run

ROOT = Path(__file__).resolve().parents[2]
EVENT = struct.Struct("<QQQIHH")
HIGH = 0xFFFFFFFF00000000
RANGES = ((0x2000, 0x2010), (0x1000, 0x1008))
# Prints name and number of everything that both sides have to agree on.
FACTS = """
#include <stddef.h>
#include <stdio.h>
#include "klp_observer.h"
#define AT(field) printf(#field " %zu\\n", offsetof(struct klp_shared, field))
int main(void)
{
    AT(magic); AT(bytes); AT(flags); AT(n_ranges); AT(n_points); AT(counters_at); AT(events_at);
    AT(n_counters); AT(events_max); AT(module_start); AT(module_end); AT(return_thunk);
    AT(table); AT(n_functions); AT(hooks); AT(accesses_at); AT(accesses_max); AT(phase);
    AT(n_accesses); AT(n_events); AT(n_repeated); AT(clock); AT(current); AT(cpu_base); AT(ranges);
    AT(points); AT(functions);
    printf("size %zu\\nevent %zu\\nMAGIC %llu\\n", sizeof(struct klp_shared),
           sizeof(struct klp_event), KLP_MAGIC);
    printf("CLOCK %d\\nMODULE_CALLS %d\\nBY_CALLBACK %d\\n", KLP_CLOCK, KLP_MODULE_CALLS,
           KLP_BY_CALLBACK);
    printf("MODULE_ENTRIES %d\\nSWITCHES %d\\nACCESSES %d\\nCPU_BY_GS %d\\n", KLP_MODULE_ENTRIES,
           KLP_SWITCHES, KLP_ACCESSES, KLP_CPU_BY_GS);
    printf("INTERRUPT %d\\nINTERRUPT_END %d\\nMEETS_ALL %d\\nIPI %d\\nFLAG %d\\n", KLP_INTERRUPT,
           KLP_INTERRUPT_END, KLP_MEETS_ALL, KLP_IPI, KLP_FLAG);
    printf("PASSAGE %d\\n", KLP_PASSAGE);
    printf("POINT %d\\nSTORE %d\\nSWITCH %d\\nBODY %d\\nRETURN %d\\nENTRY %d\\n", KLP_POINT,
           KLP_STORE, KLP_SWITCH, KLP_BODY, KLP_RETURN, KLP_ENTRY);
    printf("IS_LEFT %d\\nfunction %zu\\n", KLP_IS_LEFT, sizeof(struct klp_function));
    return 0;
}
"""


def write(
    path: Path,
    *,
    counters: dict[int, int] | None = None,
    events: tuple[Event, ...] = (),
    written: int | None = None,
    room: int = 4,
) -> Path:
    """Make a file as QEMU leaves it."""
    head, size = make_head(ranges=RANGES, events=room)
    made = Head.from_buffer_copy(head)
    made.n_events = len(events) if written is None else written
    with path.open("wb") as file:
        file.write(bytes(made))
        os.truncate(file.fileno(), size)
        for number, times in (counters or {}).items():
            file.seek(made.counters_at + 8 * number)
            file.write(struct.pack("<Q", times))
        file.seek(made.events_at)
        for event in events[:room]:
            parts = (event.clock, event.task, event.data, event.where & 0xFFFFFFFF)
            file.write(EVENT.pack(*parts, event.cpu, event.kind))
    return path


def test_both_sides_have_one_layout(tmp_path: Path) -> None:
    """Each field, flag and kind is where, and what, the plugin's header says."""
    (tmp_path / "facts.c").write_text(FACTS)
    deadline = Deadline.after(60)
    run(
        ["gcc", f"-I{ROOT}/qemu-plugin", "-o", tmp_path / "facts", tmp_path / "facts.c"],
        deadline=deadline,
    )
    lines = run([tmp_path / "facts"], deadline=deadline).stdout.splitlines()
    there = {name: int(number) for name, number in (line.split() for line in lines)}
    ours = {name: getattr(Head, name).offset for name, *_ in Head._fields_}
    ours |= {"size": ctypes.sizeof(Head), "event": EVENT.size, "MAGIC": shared_file.MAGIC}
    ours |= {flag.name or "": flag.value for flag in Flag}
    ours |= {kind.name: kind.value for kind in Kind}
    ours |= {"IS_LEFT": FunctionFlag.IS_LEFT, "function": 8 * len(Function._fields)}
    assert ours == there


def test_counters_have_the_addresses_of_their_ranges(tmp_path: Path) -> None:
    """The ranges are sorted: the first counter is that of the lowest address."""
    path = write(tmp_path / "a", counters={0: 7, 7: 1, 8: 2, 23: 5})
    found = dict(SharedFile(path).counters())
    assert found == {0x1000: 7, 0x1007: 1, 0x2000: 2, 0x200F: 5}


def test_counters_between_holes(tmp_path: Path) -> None:
    """What was never written takes no time, and does not move what was: there are several holes."""
    head, size = make_head(ranges=((0x1000, 0x41000), (0x100000, 0x140000)))
    path = tmp_path / "a"
    places = {0x1000: 1, 0x1FFF: 2, 0x20008: 3, 0x40FFF: 4, 0x100000: 5, 0x12F001: 6, 0x13FFFF: 7}
    at = Head.from_buffer_copy(head).counters_at
    with path.open("wb") as file:
        file.write(head)
        os.truncate(file.fileno(), size)
        for address, times in places.items():
            number = address - 0x1000 if address < 0x100000 else address - 0x100000 + 0x40000
            os.pwrite(file.fileno(), times.to_bytes(8, "little"), at + 8 * number)
    shared = SharedFile(path)
    assert dict(shared.counters()) == places
    assert dict(shared.counters(0x100000)) == {a: n for a, n in places.items() if a >= 0x100000}


def test_events_in_their_order(tmp_path: Path) -> None:
    """All are there while there is room, with the whole address of the instruction."""
    each = tuple(Event(n, HIGH + 0x81000000 + n, 5, 6, 1, Kind.STORE) for n in range(3))
    shared = SharedFile(write(tmp_path / "a", events=each))
    assert tuple(shared.events()) == each
    assert shared.lost == 0


def test_cpus_that_the_plugin_found_by_itself(tmp_path: Path) -> None:
    """They are numbered as the guest does, in whatever order they came by."""
    direct, image = 0xFFFF888000000000, 0xFFFFFFFF82000000
    each = tuple(Event(n, HIGH + 1, 2, 3, cpu, Kind.POINT) for n, cpu in enumerate((0, 1, 2)))
    path = write(tmp_path / "a", events=each)
    with path.open("r+b") as file:
        file.seek(Head.cpu_base.offset)
        file.write(struct.pack("<3Q", image, direct + 0x20000, direct))
    assert [event.cpu for event in SharedFile(path).events()] == [2, 1, 0]


def test_lost_events_are_counted(tmp_path: Path) -> None:
    """Of a full file, what is kept is the beginning, and how much is missing is known."""
    each = tuple(Event(n, HIGH + 1, 2, 3, 0, Kind.POINT) for n in range(6))
    shared = SharedFile(write(tmp_path / "a", events=each))
    assert tuple(shared.events()) == each[:4]
    assert shared.lost == 2


def test_an_event_that_was_not_finished_is_none(tmp_path: Path) -> None:
    """QEMU was killed between taking a number and writing the event."""
    each = (Event(1, HIGH + 1, 2, 3, 0, Kind.POINT), Event(2, HIGH + 1, 2, 3, 0, 0))
    shared = SharedFile(write(tmp_path / "a", events=each, written=3))
    assert tuple(shared.events()) == each[:1]
    assert shared.lost == 0


def test_functions_are_said_anew(tmp_path: Path) -> None:
    """The table that is not in force is filled, sorted, before its number is: QEMU may read."""
    path = write(tmp_path / "a")
    first = Function(0x10, 0x20, 0x15, FunctionFlag.IS_LEFT)
    second = Function(0x20, 0x30, 0, FunctionFlag(0))
    write_functions(path, [second, first])
    head = SharedFile(path).head
    assert head.table == 1
    assert [
        tuple(getattr(each, name) for name in Function._fields)
        for each in head.functions[1][: head.n_functions[1]]
    ] == [first, second]
    write_functions(path, [second] * (MOST_FUNCTIONS + 1))
    head = SharedFile(path).head
    assert head.table == 2
    assert list(head.n_functions) == [MOST_FUNCTIONS, 2]


@pytest.mark.parametrize("keep", [0, 100, ctypes.sizeof(Head), ctypes.sizeof(Head) + 5000])
def test_a_short_file_is_damaged(tmp_path: Path, keep: int) -> None:
    """It is refused when it is opened, and the message has its size."""
    path = write(tmp_path / "a", counters={0: 7})
    os.truncate(path, keep)
    with pytest.raises(DamagedFile, match=str(keep)):
        SharedFile(path)


def test_the_file_of_another_version_is_refused(tmp_path: Path) -> None:
    """Its head has another magic."""
    path = tmp_path / "a"
    path.write_bytes(bytes(ctypes.sizeof(Head)))
    with pytest.raises(DamagedFile, match="this version"):
        SharedFile(path)


def test_more_than_the_plugin_takes_is_refused() -> None:
    """A list that would not fit is an error before QEMU starts."""
    points = [Point(number, Kind.POINT) for number in range(MOST_POINTS + 1)]
    with pytest.raises(HarnessError, match="at most"):
        make_head(points=points)
