# SPDX-License-Identifier: GPL-2.0-only
"""Reproducers as declarations, the catalogue of them, and what makes a failure this race."""

from __future__ import annotations

import contextlib
import json
from collections import deque
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from harness.behaviours.table import load_table
from harness.errors import GuestHang, HarnessError, KernelSplat, RaceShown, UsageError
from harness.livepatch.forker import Forker
from harness.livepatch.gates import Gates
from harness.livepatch.tasks import PatchState
from harness.tools.race.catalogue import CATALOGUE, find_races, known_of
from harness.tools.race.reproducer import reproducer
from harness.tools.race.reproducers.fork import fork_stale_forward
from harness.tools.race.reproducers.module_text import ModuleText
from tests.unit.scripted_guest import ScriptedGuest, ScriptedProcess

if TYPE_CHECKING:
    from harness.tools.race.reproducer import Reproducer

EXIT_KO = Path(__file__).parent / "data" / "modules" / "klp_test_gate.ko"


def declare(name: str = "x-y", *, shows: str | None = None) -> Reproducer:
    @reproducer(name, rule="FO-02", shows=shows)
    def steps(livepatch: object, chance: object) -> None:
        """What it shows.

        And more of it.
        """

    return steps


def test_a_declaration_names_its_parameters() -> None:
    """A reproducer knows what its steps take, and its title is the docstring's first line."""
    race = declare()
    assert race.parameters == ("livepatch", "chance")
    assert race.title == "What it shows."


def test_a_parameter_that_no_context_has_is_an_error_at_once() -> None:
    """A misspelt parameter fails when the module is imported, not in the middle of a campaign."""

    def steps(livepatsch: object) -> None:
        """Misspelt."""

    with pytest.raises(TypeError, match="livepatsch"):
        reproducer("x", rule="FO-02")(steps)


def test_steps_have_to_say_what_they_show() -> None:
    """A reproducer without a docstring would have no title in `race list`."""

    def steps() -> None:
        pass

    with pytest.raises(TypeError, match="docstring"):
        reproducer("x", rule="FO-02")(steps)


@pytest.mark.parametrize(
    ("error", "is_this_race"),
    [
        (RaceShown("found by the steps"), True),
        (KernelSplat("a", details=("cut here", "WARNING: CPU: 0 at klp_complete_x+0x1")), True),
        (KernelSplat("a", details=("WARNING: CPU: 0 at klp_other+0x1",)), False),
        (GuestHang("WARNING: klp_complete_x"), False),
    ],
)
def test_only_the_splat_that_was_declared_shows_it(error: KernelSplat, is_this_race: bool) -> None:
    """Another splat, or a hang, is another failure and no hit."""
    assert declare(shows=r"WARNING: .*klp_complete").recognises(error) is is_this_race


@pytest.mark.parametrize(
    ("line", "stale"),
    [
        ("WARNING: CPU: 0 PID: 6 at transition.c:110 klp_complete_transition+0x2", True),
        ("WARNING: kernel/livepatch/transition.c:110 at klp_try_complete_transition+0x2/0x3", True),
        ("WARNING: CPU: 0 PID: 6 at kernel/livepatch/core.c:1 klp_complete+0x2", False),
    ],
)
def test_a_stale_flag_is_recognised_on_old_and_new_kernels(line: str, stale: bool) -> None:
    """Kernels print the place of a warning in two forms, and both are recognised."""
    assert fork_stale_forward.recognises(KernelSplat("x", details=(line,))) is stale


def test_a_race_is_found_by_name_and_by_group() -> None:
    """A group is the word before the first dash; what is named twice runs once."""
    assert [race.name for race in find_races(["going", "fork-stale-forward"])] == [
        "going-stale-target",
        "fork-stale-forward",
    ]
    assert len(find_races(["fork", "fork-stale-forward"])) == 3
    assert find_races([]) == CATALOGUE


def test_an_unknown_race_is_wrong_usage() -> None:
    """The error lists the names that there are."""
    with pytest.raises(UsageError, match="no reproducer fork-stale\n") as caught:
        find_races(["fork-stale"])
    assert "fork-stale-forward" in str(caught.value.hint)


def test_each_race_is_about_a_rule() -> None:
    """Every reproducer has a name of its own and a rule of the table."""
    rules = {rule.id for rule in load_table().rule}
    assert {race.rule for race in CATALOGUE} <= rules
    assert len({race.name for race in CATALOGUE}) == len(CATALOGUE)


def test_what_is_expected_comes_from_the_table() -> None:
    """A race is expected only where the table of rules says so for that release."""
    (ending,) = find_races(["exit-use-after-free"])
    assert "use after free" in (known_of(ending, "6.1.192") or "")
    assert known_of(fork_stale_forward, "6.1.192") is None


def test_what_a_race_needs_is_there_where_it_is_shown() -> None:
    """A race that needs an option is expected by what the table says of kernels with that."""
    (race,) = find_races(["preempted-handler"])
    assert "CONFIG_PREEMPTION" in race.needs
    for version in ("6.1.192", "7.2.13"):
        assert "use after free" in (known_of(race, version) or "")


@pytest.mark.parametrize(
    ("on", "said"),
    [
        ({"KPROBES"}, None),
        (set(), "needs CONFIG_KPROBES"),
        ({"KPROBES", "LTO_CLANG"}, "does not go with CONFIG_LTO_CLANG"),
    ],
)
def test_options_that_a_race_does_not_go_with(on: set[str], said: str | None) -> None:
    """One that begins with ! may not be on."""
    (race,) = find_races(["exit-warning"])
    config = SimpleNamespace(enabled=lambda option: option in on)
    kernel = cast("Any", SimpleNamespace(config=config, version="6.1"))
    with pytest.raises(UsageError, match=said) if said else contextlib.nullcontext():
        race.check_kernel(kernel)


# -- the text of a module


def text_at(address: int) -> ModuleText:
    return ModuleText(name="klp_test_gate", file=EXIT_KO, sections={".text": address}, size=0x1000)


def test_an_address_in_the_text_is_named_once() -> None:
    """An address of a module that is gone is given the name of its function."""
    splat = (
        "BUG: unable to handle page fault for address: ffffffffa0005013\n"
        "RIP: 0010:0xffffffffa0005013\n ? do_exit+0x68f/0x930\n"
    )
    (named,) = text_at(0xFFFFFFFFA0005000).names(splat)
    assert named.startswith("0xffffffffa0005013 was klp_test_gate_")
    assert named.endswith("[klp_test_gate]")


def test_an_address_elsewhere_is_not_named() -> None:
    """An address outside of the module is not taken for one of it."""
    splat = "BUG: unable to handle page fault for address: ffffffffa0005013\n"
    assert text_at(0xFFFFFFFFA0006000).names(splat) == ()


def test_a_hole_in_the_text_is_said_so() -> None:
    """An address of the module in no function says that."""
    splat = "RIP: 0010:0xffffffffa0005fff\n"
    (named,) = text_at(0xFFFFFFFFA0005000).names(splat)
    assert "no function" in named


# -- forks that are held


class ForkGuest(ScriptedGuest):
    """A guest with the gates' files, in which klp-fork prints the given lines."""

    def __init__(self, *lines: dict[str, object]) -> None:
        super().__init__()
        self.files |= {"/dev/klp_gate": "", "/proc/klp_gate_waiting": "2 50\n6 51\n"}
        self.process = ScriptedProcess(pid=50, says=deque(json.dumps(line) for line in lines))
        self.words: tuple[str, ...] = ()
        self.programs["klp-fork"] = self._start

    def _start(self, words: tuple[str, ...]) -> ScriptedProcess:
        self.words = words
        return self.process


def test_a_fork_is_held_in_the_gates_named() -> None:
    """The program is started with the gates' numbers, which are closed before."""
    guest = ForkGuest({"ready": 50}, {"forked": 51})
    gates = Gates(guest)
    parent = Forker(guest).clone3(args=gates[2], pidfd=gates[5], child_tid=gates[6])
    assert guest.words == ("args=2", "pidfd=5", "tid=6")
    assert guest.process.heard == ["line go"]
    assert [call for call in guest.calls if "close" in call or "write" in call]
    assert parent.child().tid == 51
    parent.finish()


def test_the_lines_of_a_spinning_child_come_in_any_order() -> None:
    """Parent and child print on their own, so either line may come first."""
    guest = ForkGuest({"ready": 50}, {"forked": 51}, {"states": [0, 1, 1, -1]})
    parent = Forker(guest).clone3(spin=True)
    assert parent.child_saw() == (
        PatchState.UNPATCHED,
        PatchState.PATCHED,
        PatchState.PATCHED,
        PatchState.UNDEFINED,
    )
    assert parent.child().tid == 51
    parent.finish()
    assert guest.process.heard == ["line go", "end of input"]


def test_only_a_spinning_child_is_asked_for_its_state() -> None:
    """Any other child never prints its states, and the caller would wait in vain."""
    guest = ForkGuest({"ready": 50})
    with pytest.raises(UsageError, match="spins"):
        Forker(guest).clone3().child_saw()


def test_a_fork_program_that_ends_early_is_no_verdict() -> None:
    """A program that cannot start is a failure of the harness."""
    guest = ForkGuest()
    guest.process.code = 1
    with pytest.raises(HarnessError, match="ended early, with code 1"):
        Forker(guest).clone3()


def test_a_failed_fork_is_no_verdict() -> None:
    """An exit code other than 0 is a failure of the harness, too."""
    guest = ForkGuest({"ready": 50}, {"forked": 51})
    parent = Forker(guest).clone3()
    guest.process.code = 1
    with pytest.raises(HarnessError, match="code 1"):
        parent.finish()


def test_the_document_has_all_of_the_catalogue() -> None:
    """docs/races.md lists each reproducer with its rule."""
    text = (Path(__file__).resolve().parents[2] / "docs" / "races.md").read_text()
    assert [r.name for r in CATALOGUE if f"| `{r.name}` | {r.rule} |" not in text] == []
