# SPDX-License-Identifier: GPL-2.0-only
"""Pairs of actions: their names, the states they begin in, and what the guest is asked to do."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness.cli.app import app
from harness.errors import ExitCode, UsageError
from harness.tools.race.explore.actions import ACTIONS, EXIT, GATE, TARGET, StateName
from harness.tools.race.explore.pairs import find_pairs
from harness.tools.race.explore.scene import guest_modules, require_tcg


@pytest.mark.parametrize(
    ("name", "state", "subject", "b"),
    [
        ("fork-load", StateName.IDLE, GATE, "insmod /lib/modules/klp/klp_test_gate.ko"),
        (
            "fork-load@patched",
            StateName.PATCHED,
            GATE,
            "insmod /lib/modules/klp/klp_test_gate_b.ko",
        ),
        (
            "exit-disable",
            StateName.PATCHED,
            EXIT,
            "write /sys/kernel/livepatch/klp_test_exit/enabled 0",
        ),
        ("untarget-load", StateName.IDLE, TARGET, "insmod /lib/modules/klp/klp_test_target_fg.ko"),
        ("fork-force", StateName.OPEN, GATE, "write /sys/kernel/livepatch/klp_test_gate/force 1"),
        (
            "fork-force@replacing",
            StateName.REPLACING,
            GATE,
            "write /sys/kernel/livepatch/klp_test_gate_b/force 1",
        ),
        (
            "exit-reverse",
            StateName.OPEN,
            EXIT,
            "write /sys/kernel/livepatch/klp_test_exit_rcu/enabled 0",
        ),
    ],
)
def test_a_pair_by_its_name(name: str, state: StateName, subject: object, b: str) -> None:
    """It begins in the first state in which both make sense, with livepatches that fit both."""
    (pair,) = find_pairs([name])
    assert str(pair) == name
    assert (pair.state.name, pair.state.subject) == (state, subject)
    assert pair.steps(pair.b) == (b,)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("fork", "is no pair"),
        ("any-any", "is no pair"),
        ("fork-jump", "there is no action jump"),
        ("fork-load@noon", "there is no state noon"),
        ("load-exit", "cannot start: exit is for A alone"),
        ("load-reverse", "cannot start: no state has both"),
        ("fork-load@open", "cannot start from open: load starts from idle, patched"),
    ],
)
def test_what_is_no_pair_is_refused(name: str, message: str) -> None:
    """In one sentence that says why."""
    with pytest.raises(UsageError, match=message):
        find_pairs([name])


def test_all_pairs_of_an_action() -> None:
    """A-any and any-B; those with little that is new are among them."""
    names = {str(pair) for pair in find_pairs(["fork-any"])}
    assert {"fork-load", "fork-force@closing"} <= names
    assert all(name.startswith("fork-") for name in names)
    assert "vfork-load" in {str(pair) for pair in find_pairs(["any-load"])}
    assert {each.state.name for each in find_pairs(["any-target@open"])} == {StateName.OPEN}


def test_the_sensible_pairs() -> None:
    """Each changes something that matters to the other; B is never what only A can do."""
    pairs = find_pairs(())
    names = [str(pair) for pair in pairs]
    assert len(names) == len(set(names)) > 150
    assert not [pair for pair in pairs if pair.b.only_a]
    states = [state for state, _ in groupby(pair.state for pair in pairs)]
    assert len(states) == len(set(states))  # each is needed once, for all its pairs
    assert not {"fork-exec", "target-untarget", "shadow-load", "fork-fork"} & set(names)
    assert {"exit-disable", "untarget-load", "shadow-shadow", "force-reverse"} <= set(names)


def test_each_state_ends_with_its_sleeper_released() -> None:
    """Otherwise nothing could be unloaded after the trial."""
    for pair in find_pairs(()):
        held = pair.state.name in {StateName.OPEN, StateName.CLOSING, StateName.REPLACING}
        assert ("write /dev/klp_gate open 0" in pair.after()) == held


def test_each_module_of_an_action_is_sent_to_the_guest() -> None:
    """By the names in its steps, and those of the states."""
    names = {path.stem for path in Path("livepatch-modules").glob("klp_*.c")}
    sent = guest_modules({name: Path(f"{name}.ko") for name in names})
    for action in ACTIONS.values():
        for step in action.steps:
            if step.startswith("insmod") and "{" not in step:
                assert step.split()[1] in sent
    assert "/lib/modules/klp/klp_test_exit_rcu.ko" in sent


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("fork-jump",), "there is no action jump"),
        (("fork-load", "--at", "f g"), "is no point"),
        (("fork-load", "--gdb"), "--gdb needs one PAIR, and one point"),
        (("fork-load", "--off", "--bound", "2"), "--off is for one hold"),
        (("fork-load", "--html", "nowhere/page.html"), "does not exist"),
    ],
)
def test_wrong_usage_is_seen_before_anything_is_built(words: tuple[str, ...], message: str) -> None:
    """Exit code 2, and a sentence."""
    done = CliRunner().invoke(app, ["race", "explore", *words])
    assert done.exit_code == ExitCode.USAGE
    assert message in " ".join(done.output.split())


def test_kvm_is_refused() -> None:
    """No CPU can be sent round a loop there, in one sentence."""
    require_tcg("tcg")
    with pytest.raises(UsageError, match="under TCG, and not under kvm"):
        require_tcg("kvm")


def test_a_third_cpu_is_for_who_names_the_action() -> None:
    """All guests have as many CPUs, and each costs time."""
    assert {pair.cpus for pair in find_pairs(())} == {2}
    (pair,) = find_pairs(["cpu-load"])
    assert pair.cpus == 3
    assert [step.rsplit(" ", 1)[1] for step in pair.steps(pair.a)] == ["0", "1"]
    assert pair.after() == ("?write /sys/devices/system/cpu/cpu2/online 1",)


def test_how_klp_duel_makes_a_state() -> None:
    """What a sleeper holds is loaded last, after all else has settled."""
    steps = {name: find_pairs([f"call-fork@{name}"])[0].state.steps() for name in StateName}
    gate, patch = (
        f"insmod /lib/modules/klp/{name}.ko" for name in ("klp_target_gate", "klp_test_gate")
    )
    other = "insmod /lib/modules/klp/klp_test_gate_b.ko"
    assert steps[StateName.IDLE] == (gate,)
    assert steps[StateName.PATCHED] == (gate, patch, "settled")
    assert steps[StateName.OPEN] == (gate, "sleeper", patch)
    assert steps[StateName.REPLACING][-2:] == ("sleeper", f"{other} replace=1")
    assert steps[StateName.CLOSING][-1] == "write /sys/kernel/livepatch/klp_test_gate/enabled 0"
    assert find_pairs(["disable-unload@stacked"])[0].state.steps()[-2:] == (other, "settled")


def test_each_state_has_a_name_of_its_own() -> None:
    """It is in messages, and those of two states are never the same."""
    states = {pair.state for pair in find_pairs(())}
    assert len({str(state) for state in states}) == len(states)
    (pair,) = find_pairs(["tracer-load"])
    assert str(pair.state).endswith("set_ftrace_filter *klp*)")


def test_a_state_has_what_its_actions_need() -> None:
    """The function tracer is for few functions; a pair without it begins in another state."""
    traced, plain = (find_pairs([name])[0].state for name in ("load-tracer", "load-kprobe"))
    filtered = "write /sys/kernel/tracing/set_ftrace_filter *klp*"
    assert traced.steps() == (plain.steps()[0], filtered)
    assert filtered not in plain.steps()
    assert traced != plain
