# SPDX-License-Identifier: GPL-2.0-only
"""The story of a replay: what events and stops make of it, its page, and its errors."""

from __future__ import annotations

import io
import socket
import threading
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from harness.cli.app import app
from harness.deadline import Deadline
from harness.errors import ExitCode, HarnessError
from harness.observer.consistency_points import ByteStore, ConsistencyPoints, Step
from harness.observer.shared_file import Event, Kind
from harness.report.terminal import Terminal
from harness.tools.race.recording_file import RecordingNote
from harness.tools.race.results import StoryKind, StoryLine
from harness.tools.race.story.facts import (
    ModuleFreed,
    ModuleFunction,
    ModuleLoaded,
    PatchEnabled,
    Replacement,
    TaskBorn,
    TaskNamed,
    Told,
)
from harness.tools.race.story.page import Span, draw, story_page
from harness.tools.race.story.teller import Teller, few, grouped
from harness.tools.race.story.terminal import one_line, print_story
from harness.vm.guest.gdb_stub import GdbStub, Stop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

BORN, NAMED, LOADED, ENABLED, FREED = range(0x10, 0x15)
INIT, COMPLETE, DEATH, TRY, WARN = range(0x20, 0x25)
STATE_INIT, STATE_TRY, FUNC_TRANSITION, FUNC_PATCHED = range(0x30, 0x34)
OLD, NEW, FUNC = 0xFFFFFFFFC000A000, 0xFFFFFFFFC000B000, 0xFFFFFFFFC000C000
TASKS = {"insmod": 0x1000, "sleeper": 0x2000}
PATCH_STATE, IN_TRANSITION, IS_PATCHED = 8, 4, 5
POINTS = ConsistencyPoints(
    offsets={
        "task_struct": {"patch_state": PATCH_STATE, "pid": 0, "comm": 0},
        "klp_func": {"patched": IS_PATCHED, "transition": IN_TRANSITION},
    },
    switch=1,
    steps={INIT: Step.INIT, COMPLETE: Step.COMPLETE, DEATH: Step.DEATH},
    state_stores={STATE_INIT: Step.INIT, STATE_TRY: "klp_try_switch_task"},
    byte_stores={
        FUNC_TRANSITION: ByteStore(value=True, function=Step.INIT),
        FUNC_PATCHED: ByteStore(value=True, function="klp_patch_func"),
    },
    originals=(),
    return_thunk=0,
    hooks=(),
)
FACTS = [
    Told(address=BORN, fact=TaskBorn(task=TASKS["insmod"], pid=7, comm="sh")),
    Told(address=NAMED, fact=TaskNamed(task=TASKS["insmod"], comm="insmod")),
    Told(address=BORN, fact=TaskBorn(task=TASKS["sleeper"], pid=8, comm="sleeper")),
    Told(
        address=LOADED,
        fact=ModuleLoaded(
            name="target", functions=(ModuleFunction(name="f", start=OLD, end=OLD + 64),)
        ),
    ),
    Told(
        address=LOADED,
        fact=ModuleLoaded(
            name="patch", functions=(ModuleFunction(name="new_f", start=NEW, end=NEW + 64),)
        ),
    ),
    Told(
        address=ENABLED,
        fact=PatchEnabled(
            name="patch",
            replaces_all=False,
            functions=(Replacement(place=FUNC, object="target", name="f", new=NEW),),
        ),
    ),
]


def event(
    clock: int, where: int, task: str = "insmod", kind: Kind = Kind.POINT, data: int = 0
) -> Event:
    return Event(clock, where, TASKS[task], data, 0, kind)


def state(clock: int, where: int, task: str, by: str = "insmod") -> Event:
    return event(clock, where, by, Kind.STORE, TASKS[task] + PATCH_STATE)


def runs(clock: int, body: int, task: str) -> Event:
    return event(clock, body + 5, task, Kind.BODY)


def stops() -> list[Event]:
    return [event(n, told.address) for n, told in enumerate(FACTS)]


def transition() -> list[Event]:
    """A transition that the sleeper, which runs the old function, holds for one attempt."""
    return [
        runs(50, OLD, "sleeper"),
        event(100, INIT),
        *(state(101, STATE_INIT, task) for task in TASKS),
        event(102, FUNC_TRANSITION, kind=Kind.STORE, data=FUNC + IN_TRANSITION),
        event(103, FUNC_PATCHED, kind=Kind.STORE, data=FUNC + IS_PATCHED),
        event(110, TRY),
        state(111, STATE_TRY, "insmod"),
        runs(120, NEW, "insmod"),
        runs(130, OLD, "sleeper"),
        runs(131, OLD, "sleeper"),
        event(140, TRY),
        state(141, STATE_TRY, "sleeper"),
        event(150, COMPLETE),
    ]


def tell(events: list[Event], told: list[Told] | None = None) -> list[StoryLine]:
    teller = Teller(
        POINTS, FACTS if told is None else told, splats={WARN: "the kernel warns"}, attempts={TRY}
    )
    return teller.tell(events)


def test_a_story_says_who_switched_and_who_ran_which_version() -> None:
    """Each line has its task by the name that it had then, its patch state, and the version."""
    lines = [one_line(line) for line in tell([*stops(), *transition()])]
    assert lines == [
        "0     insmod (7): loads the module target",
        "1     insmod (7): loads the module patch",
        "2     insmod (7): enables the livepatch patch of f()",
        "47     sleeper (8): runs the original of f()",
        "99   0 insmod (7): starts the transition of patch: patching, state 0 to 1",
        "107   0 insmod (7): tries to switch all tasks",
        "108   1 insmod (7): switches itself to 1",
        "117   1 insmod (7): runs patch's version of f()",
        "127   0 sleeper (8): runs the original of f() (2 times)",
        "137 ! 1 insmod (7): tries once more (attempt 2); held by sleeper (8)",
        "138   1 insmod (7): switches sleeper (8) to 1",
        "147   1 insmod (7): completes the transition of patch",
    ]


def test_a_splat_is_marked() -> None:
    """Where the kernel warns, the line is marked, with the task that did it."""
    line = tell([*stops(), event(90, WARN, "sleeper")])[-1]
    assert (line.kind, line.task, line.marked) == (StoryKind.SPLAT, "sleeper (8)", True)


def test_a_task_that_runs_the_wrong_version_is_marked() -> None:
    """Who runs the new version before it has switched violates consistency, and that is a line."""
    lines = tell([*stops(), *transition()[:-5], runs(125, NEW, "sleeper")])
    call, line = lines[-2:]
    assert (call.kind, line.kind) == (StoryKind.CALL, StoryKind.VIOLATION)
    assert line.task == "sleeper (8)"
    assert "in patch state 0, where the original is in force" in line.text
    assert line.marked


def test_a_task_that_exits_holds_nothing() -> None:
    """A task that has died is not said to hold the transition."""
    events = transition()
    events.insert(-3, event(139, DEATH, "sleeper"))
    texts = [line.text for line in tell([*stops(), *events])]
    assert "exits" in texts
    assert "tries once more (attempt 2); held by no task" in texts


def test_a_forked_task_has_its_state() -> None:
    """A child that is forked in a transition has a line, with the state that it got."""
    child = 0x3000
    points = POINTS.model_copy(
        update={"state_stores": {**POINTS.state_stores, 0x39: "klp_copy_process"}}
    )
    told = [*FACTS, Told(address=BORN, fact=TaskBorn(task=child, pid=9, comm="child"))]
    events = [
        *stops(),
        *transition()[:6],
        Event(112, 0x39, TASKS["insmod"], child + PATCH_STATE, 0, Kind.STORE),
        event(113, BORN),
    ]
    line = Teller(points, told, splats={}, attempts=()).tell(events)[-1]
    assert line.text == "forks child (9), which has patch state 0"
    assert (line.switched, line.to) == (("child (9)",), 0)


def test_text_that_is_freed_is_a_line() -> None:
    """The end of a module is told by its name."""
    told = [*FACTS, Told(address=FREED, fact=ModuleFreed(name="patch"))]
    line = tell([*stops(), event(60, FREED)], told)[-1]
    assert line.text == "frees the text of the module patch"


@pytest.mark.parametrize("events", [stops()[:-1], [*stops(), event(9, BORN)]])
def test_another_replay_is_refused(events: list[Event]) -> None:
    """A replay that comes by its stops more often, or not as often, is another one."""
    with pytest.raises(HarnessError, match="their stops differ"):
        tell(events)


def line(task: str, **more: object) -> StoryLine:
    fields = {"at": 0, "kind": StoryKind.SWITCH, "task": task, "text": "t", "to": 1, **more}
    return StoryLine.model_validate(fields)


def test_the_tasks_of_an_attempt_are_one_line() -> None:
    """Tasks that one task switches in a row are put together; all names are kept."""
    (found,) = grouped(line("kworker", switched=(str(n),), function="f") for n in range(6))
    assert found.text == "switches 6 tasks to 1: 0, 1, 2, 3 and 2 more"
    assert found.switched == ("0", "1", "2", "3", "4", "5")
    assert len(grouped([line("a", switched=("b",)), line("c", switched=("d",))])) == 2
    assert few([]) == ""


def test_the_drawing_has_the_states_of_the_tasks() -> None:
    """From the start on a task is in the old state, and from its switch to the end in the new."""
    lines = tell([*stops(), *transition()])
    drawing = draw(lines)
    lanes = {lane.name: lane for lane in drawing.lanes}
    assert list(lanes) == ["insmod (7)", "sleeper (8)"]
    start, turn, end = (
        next(n for n, each in enumerate(lines) if text in each.text)
        for text in ("starts", "switches sleeper", "completes")
    )
    spans = lanes["sleeper (8)"].spans
    assert [span.state for span in spans] == [0, 1]
    assert spans[0].end == spans[1].start
    assert spans[1].end - spans[0].start == (end - start) * (spans[1].end - spans[1].start) / (
        end - turn
    )
    assert isinstance(spans[0], Span)
    assert [sign.text for sign in lanes["sleeper (8)"].signs] == ["○", "○", "→1"]
    assert [mark.text for mark in drawing.marks] == ["starts", "completes"]


NOTE = RecordingNote(
    reproducer="fork-stale-forward",
    seed=1,
    kernel="6.1.192",
    digest="d",
    qemu="QEMU",
    argv=(),
    memory_mib=256,
    seconds=1.0,
    shown=True,
    message="splat: <WARNING>",
    details=("a line",),
    files={},
)


def test_a_task_without_a_state_is_drawn_without() -> None:
    """A task that a transition does not know, since it has left all lists, has no state there."""
    events = [each for each in transition() if each.data != TASKS["sleeper"] + PATCH_STATE]
    lanes = {lane.name: lane for lane in draw(tell([*stops(), *events])).lanes}
    assert lanes["insmod (7)"].spans
    assert lanes["sleeper (8)"].spans == ()


def test_the_page_says_what_was_shown() -> None:
    """The page has the recording's message, escaped, and each line; without lines it says so."""
    page = story_page(NOTE, tell([*stops(), *transition()]))
    assert "splat: &lt;WARNING&gt;" in page
    assert "switches sleeper (8) to 1" in page
    assert "No module was loaded" in story_page(NOTE, [])


def test_a_long_story_is_shortened() -> None:
    """The terminal gets the beginning and the end of a long story, and how much is missing."""
    stream = io.StringIO()
    print_story(
        Terminal(stdout=stream, stderr=stream),
        [line(f"task-{number}") for number in range(500)],
    )
    text = stream.getvalue()
    assert "task-0:" in text
    assert "task-499:" in text
    assert "task-250:" not in text
    assert "300 lines are left out" in text


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--html", "x.html"], "--html is the page of a story"),
        (["--story", "--gdb"], "neither --gdb nor --times"),
        (["--story", "--times", "2"], "neither --gdb nor --times"),
    ],
)
def test_options_that_do_not_go_together(words: list[str], says: str, tmp_path: Path) -> None:
    """A page without a story, and a story that somebody debugs, are wrong usage."""
    file = tmp_path / "a.recording"
    result = CliRunner().invoke(app, ["race", "replay", str(file), *words])
    assert result.exit_code == ExitCode.USAGE
    assert says in result.stderr


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Callable[[dict[str, str]], Path]]:
    """Make a gdb server that has an answer for each request, and then goes away."""
    threads = []

    def serve(answers: dict[str, str]) -> Path:
        path = tmp_path / "gdb"
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(str(path))
        listening.listen()

        def work() -> None:
            with listening, listening.accept()[0] as peer:
                buffer = b""
                while True:
                    while b"#" not in buffer or len(buffer.partition(b"#")[2]) < 2:
                        data = peer.recv(4096)
                        if not data:
                            return
                        buffer += data
                    request = buffer[buffer.index(b"$") + 1 : buffer.index(b"#")].decode()
                    buffer = buffer[buffer.index(b"#") + 3 :]
                    if request not in answers:
                        return
                    answer = answers[request].encode()
                    peer.sendall(b"+$%s#%02x" % (answer, sum(answer) & 0xFF))

        thread = threading.Thread(target=work)
        thread.start()
        threads.append(thread)
        return path

    yield serve
    for thread in threads:
        thread.join()


REGISTERS = "".join(
    value.to_bytes(8, "little").hex() for value in (0, 0, 0, 0, 22, 11, *([0] * 10), 0x1234)
)


def test_the_gdb_client_stops_and_reads(server: Callable[[dict[str, str]], Path]) -> None:
    """A stop has the place and two arguments; it steps off a breakpoint; QEMU's end is the end."""
    path = server(
        {
            "qSupported": "PacketSize=1000",
            "Z1,1234,1": "OK",
            "c": "T05thread:01;",
            "g": REGISTERS,
            "mb,10": b"name\0".ljust(16, b"?").hex(),
            "m20,8": (77).to_bytes(8, "little").hex(),
            "m30,1": "E14",
        }
    )
    with GdbStub(path, Deadline.after(20)) as gdb:
        gdb.break_at(0x1234)
        assert gdb.go_on() == Stop(0x1234, 11, 22)
        assert gdb.text(11) == "name"
        assert gdb.pointer(0x20) == 77
        with pytest.raises(HarnessError, match="no memory at 0x30"):
            gdb.memory(0x30, 1)
        # There is no answer to the step: the server is gone, as QEMU is at its end.
        assert gdb.go_on() is None


def test_a_gdb_server_that_never_answers(tmp_path: Path) -> None:
    """A socket that nobody serves is an error when the time is up, and no endless wait."""
    with pytest.raises(HarnessError, match="does not answer"):
        GdbStub(tmp_path / "none", Deadline.after(0.1))
