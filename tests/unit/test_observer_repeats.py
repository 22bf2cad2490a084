# SPDX-License-Identifier: GPL-2.0-only
"""Entries that the plugin leaves out: whoever reads the rest knows as much at each other event."""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from harness.deadline import Deadline
from harness.vm.host.process import run

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

ROOT = Path(__file__).resolve().parents[2]
# Gives the plugin's code the events on standard input, and prints those that it would report.
DRIVER = """
#include <stdio.h>
#include "klp_repeats.h"
static struct klp_shared shared;
static void held(const struct held_entry *entry, uint64_t task)
{
    printf("E %llu %llu\\n", (unsigned long long)entry->where, (unsigned long long)task);
}
int main(void)
{
    unsigned long long a, b, c, d;
    char kind;
    while (scanf(" %c %llu %llu %llu %llu", &kind, &a, &b, &c, &d) == 5) {
        struct held_entry entry = { 0, a, 0 };
        int next = (shared.table + 1) % 2;
        bool out = false;
        switch (kind) {
        case 'F':
            shared.functions[next][shared.n_functions[next]++] =
                (struct klp_function){ a, b, c, d };
            continue;
        case 'T': shared.table++; shared.n_functions[(shared.table + 1) % 2] = 0; continue;
        case 'E': out = repeats_entry(&shared, &entry, b, held); break;
        case 'R': out = repeats_return(&shared, a, b, held); break;
        default: repeats_end(held);
        }
        if (!out)
            printf("%c %llu %llu\\n", kind, a, b);
    }
    printf("repeated %llu\\n", (unsigned long long)shared.n_repeated);
    return 0;
}
"""


class Seen(NamedTuple):
    """An event: E and R are an entry and a return, P is any other."""

    kind: str
    where: int = 0
    task: int = 0


class Code(NamedTuple):
    """A function of 100 bytes whose body begins at 5; ``is_left``: its returns are all reported."""

    start: int
    is_left: bool = True
    is_known: bool = True
    is_traced: bool = True

    @property
    def body(self) -> int:
        return self.start + 5


F, G, JUMPS = Code(100), Code(200), Code(300, is_left=False)
UNKNOWN, UNTRACED = Code(400, is_known=False), Code(500, is_traced=False)
ALL = (F, G, JUMPS, UNKNOWN, UNTRACED)


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The plugin's code with a main() of its own."""
    folder = tmp_path_factory.mktemp("repeats")
    (folder / "driver.c").write_text(DRIVER)
    plugin = ROOT / "qemu-plugin"
    run(
        [
            *("gcc", "-std=gnu11", "-fsanitize=undefined", f"-I{plugin}"),
            *("-o", folder / "driver", folder / "driver.c", plugin / "klp_repeats.c"),
        ],
        deadline=Deadline.after(60),
    )
    return folder / "driver"


def reported(driver: Path, events: Sequence[Seen]) -> tuple[list[Seen], int]:
    """Return the events that are reported, and how many entries are not."""
    lines = [
        f"F {code.start} {code.start + 100} {code.body if code.is_traced else 0} {code.is_left:d}"
        for code in ALL
        if code.is_known
    ]
    lines += ["T 0 0 0 0", *(f"{each.kind} {each.where} {each.task} 0 0" for each in events)]
    done = run([driver], stdin="\n".join(lines) + "\n", deadline=Deadline.after(60))
    *found, last = done.stdout.splitlines()
    return [Seen(k, int(w), int(t)) for k, w, t in map(str.split, found)], int(last.split()[1])


def states(events: Iterable[Seen]) -> list[tuple[dict[int, list[int]], set[tuple[int, int]]]]:
    """Return, at each other event, who is inside of what, and who has entered what before it.

    It is what the model of consistency makes of events.
    """
    inside: dict[int, list[Code]] = {}
    entered: set[tuple[int, int]] = set()
    found = []
    for each in events:
        code = next((code for code in ALL if code.start <= each.where < code.start + 100), None)
        if each.kind == "P":
            found.append(
                (
                    {task: [one.start for one in those] for task, those in inside.items() if those},
                    entered,
                )
            )
            entered = set()
        elif each.kind == "E" and code is not None and code.is_traced:
            entered.add((each.task, code.start))
            if code.is_left:
                inside.setdefault(each.task, []).append(code)
        elif each.kind == "R":
            own = inside.get(each.task, [])
            places = [place for place, one in enumerate(own) if one is code]
            if places:
                del own[places[-1] :]
    return found


def calls(code: Code, times: int = 1, task: int = 1) -> list[Seen]:
    return [Seen("E", code.body, task), Seen("R", code.start + 50, task)] * times


def test_a_loop_is_one_call(driver: Path) -> None:
    """Of a thousand calls the first is reported, and again after each other event."""
    loop = calls(F, 1000)
    found, repeated = reported(driver, [*loop, Seen("P"), *loop])
    assert found == [*calls(F), Seen("P"), *calls(F)]
    assert repeated == 2 * 999


def test_who_is_inside_is_reported_before_another_event(driver: Path) -> None:
    """A call that has not returned is no repetition."""
    events = [*calls(F, 3), Seen("E", F.body, 1), Seen("E", F.body, 2), Seen("P")]
    found, repeated = reported(driver, [*events, Seen("R", F.start + 50, 1)])
    first, second = Seen("E", F.body, 1), Seen("E", F.body, 2)
    assert found == [*calls(F), second, first, Seen("P"), Seen("R", F.start + 50, 1)]
    assert repeated == 3


def test_what_is_not_known_is_reported(driver: Path) -> None:
    """Entries by nobody known, and into text of which nothing is known, are all there."""
    events = [*calls(UNKNOWN, 3), *calls(F, 3, task=0)]
    assert reported(driver, events) == (events, 0)


def test_returns_of_what_is_not_traced_are_left_out(driver: Path) -> None:
    """They end no call that was reported."""
    inside = [Seen("E", F.body, 1), Seen("R", UNTRACED.start + 50, 1)]
    found, _ = reported(driver, [*inside, Seen("R", F.start + 50, 1)])
    assert found == calls(F)


def test_returns_of_what_was_never_entered(driver: Path) -> None:
    """There are no more calls than a stack has room for, so the other returns end none."""
    deep = [Seen("E", UNKNOWN.body, 1)] * 3000 + [Seen("R", UNKNOWN.start + 50, 1)] * 3000
    flood = [Seen("R", 900, 1)] * 10_000
    other = [Seen("R", 900, 2)]
    found, _ = reported(driver, [*deep, *flood, *other, *calls(F), *flood])
    first = 4096 - 3000
    assert found[: len(deep)] == deep
    assert found[len(deep) :] == [*flood[:first], *other, *calls(F), *flood[:4095]]


@pytest.mark.parametrize("seed", range(20))
def test_nothing_is_lost(driver: Path, seed: int) -> None:
    """In whatever order tasks call, return, jump out and are interrupted: the same is known."""
    chance = random.Random(seed)
    events = []
    for _ in range(4000):
        kind = chance.choices("ERP", (10, 10, 1))[0]
        code, task = chance.choice(ALL), chance.randrange(4)
        if kind == "P":
            events.append(Seen("P"))
        elif kind == "R":
            events.append(Seen("R", code.start + 50, task))
        elif code.is_traced:
            events += [Seen("E", code.body, task)] * chance.choice((1, 1, 1, 30))
    found, repeated = reported(driver, events)
    assert states(found) == states(events)
    assert repeated > 0
