# SPDX-License-Identifier: GPL-2.0-only
"""The fuzzer's model, the sequences that it makes, and how they are shortened."""

from __future__ import annotations

import errno
import functools
import io
import random
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from harness.cli.app import app
from harness.errors import ExitCode, RaceShown, UsageError
from harness.report.base import CheckOutcome
from harness.report.terminal import Terminal
from harness.tools.race.campaign import ReproducerTrials, Trial
from harness.tools.race.fuzz_shrink import shorten_hits, with_shortest
from harness.tools.race.reproducer import Reproducer
from harness.tools.race.reproducers.fuzz import fuzz_schedule, is_fuzzer, steps_of, with_steps
from harness.tools.race.reproducers.fuzz_model import (
    ORIGINAL,
    PATCHES,
    TARGETS,
    Model,
    Step,
    parse_steps,
)
from harness.tools.race.reproducers.fuzz_plan import make_steps, meaningful, shrink
from harness.tools.race.results import RaceHit, RaceResult
from harness.tools.race.terminal import print_race


def after(text: str) -> Model:
    """The model after the steps; each has to mean something, and refused ones do nothing."""
    model = Model()
    for step in parse_steps(text):
        assert model.can(step), step
        if not model.refusal(step):
            model.take(step)
    return model


@pytest.mark.parametrize(
    ("steps", "transition", "blockers"),
    [
        ("load gate", None, set()),
        ("enter gate; load gate", "gate", {0}),
        ("enter gate; load gate; leave", None, set()),
        # Who enters meanwhile is in the new body, and blocks the way back.
        ("enter gate; load gate; enter gate; reverse", "gate", {1}),
        ("load gate; enter gate; disable gate", "gate", {0}),
        # Another function: nobody sleeps there.
        ("enter gate; load a", None, set()),
        ("enter gate; load a replace", None, set()),
        # A replacing patch has nops for the functions of the one below.
        ("load gate; enter gate; load a replace", "a", {0}),
        ("load gate; enter gate; load a replace; enter gate; reverse", "a", {1}),
        ("load gate; enter gate; load a replace; force", None, set()),
        # Who was forced sleeps in the old body still, and no longer blocks.
        ("enter gate; load gate; force; disable gate", None, set()),
    ],
)
def test_who_blocks(steps: str, transition: str | None, blockers: set[int]) -> None:
    """The model knows which sleepers hold a transition, in either direction."""
    model = after(steps)
    assert (model.transition, set(model.blockers())) == (transition, blockers)


@pytest.mark.parametrize(
    ("steps", "function", "body"),
    [
        ("", "cmdline_proc_show", ORIGINAL),
        ("load a; load b", "cmdline_proc_show", "b"),
        ("load a; load b; disable b", "cmdline_proc_show", "a"),
        ("load a; load b; disable a", "cmdline_proc_show", "b"),
        ("load a; load fg replace", "cmdline_proc_show", ORIGINAL),
        ("enter gate; load gate", "klp_gate_wait", "gate"),
        ("enter gate; load gate; reverse", "klp_gate_wait", ORIGINAL),
        ("load gate; enter gate; load a replace", "klp_gate_wait", ORIGINAL),
        ("load gate; enter gate; load a replace; reverse", "klp_gate_wait", "gate"),
        # Replaced, the patch is one as any other, and others stack on it.
        ("load gate; load a replace; load gate", "klp_gate_wait", "gate"),
    ],
)
def test_whose_body_runs(steps: str, function: str, body: str) -> None:
    """The model knows which patch's function a switched task calls."""
    assert after(steps).body_of(function) == body


@pytest.mark.parametrize(
    ("steps", "step", "refusal"),
    [
        ("load a", "disable a", 0),
        ("load a", "enable a", errno.EINVAL),
        ("load a", "force", errno.EINVAL),
        ("enter gate; load gate", "load a", errno.EBUSY),
        ("enter gate; load gate", "force", 0),
        ("load a; enter gate; load gate", "disable a", errno.EBUSY),
        ("load a; enter gate; load gate", "enable a", errno.EINVAL),
        ("enter gate; load gate", "disable gate", 0),
        ("enter gate; load gate; enter gate; reverse", "disable gate", errno.EINVAL),
        ("enter gate; load gate; enter gate; reverse", "enable gate", 0),
    ],
)
def test_what_is_refused(steps: str, step: str, refusal: int) -> None:
    """The model knows which steps the kernel refuses, and with which errno."""
    (parsed,) = parse_steps(step)
    assert after(steps).refusal(parsed) == refusal


def test_replaced_patches_go_and_forced_ones_stay_loaded() -> None:
    """Replacing removes patches; a forced transition keeps their modules."""
    model = after("load gate; load a; enter gate; load b replace")
    assert model.stack == ["gate", "a", "b"]
    model = after("load gate; load a; enter gate; load b replace; leave")
    assert (model.stack, model.stuck) == (["b"], set())
    model = after("load gate; load a; enter gate; load b replace; force")
    assert (model.stack, model.stuck) == (["b"], {"gate", "a"})
    assert not model.can(Step("load", "gate"))


def test_hooks_follow_the_target() -> None:
    """ftrace has hooks in a target's functions only while the target is loaded."""
    assert after("load fg").hooked() == set()
    assert after("load fg; target mod").hooked() == {"klp_target_f", "klp_target_g"}
    assert after("load fg; target mod; untarget mod").hooked() == set()
    assert PATCHES["fg"].object == TARGETS["mod"]


@pytest.mark.parametrize("text", ["jump", "load", "load x", "reverse a", "disable a replace"])
def test_what_is_no_step_is_wrong_usage(text: str) -> None:
    """--steps with a word that is no step is refused."""
    with pytest.raises(UsageError, match="no step"):
        parse_steps(f"load a; {text}")


@given(st.integers(min_value=0, max_value=1 << 31))
@settings(max_examples=200, deadline=None)
def test_a_sequence_is_the_same_for_a_seed_and_reads_back(seed: int) -> None:
    """It means something in each step, ends, and what is printed is what can be typed."""
    steps = steps_of(seed)
    assert steps == make_steps(random.Random(seed))
    assert meaningful(steps) == steps
    assert parse_steps("; ".join(map(str, steps))) == steps


@given(st.integers(min_value=0, max_value=1 << 31))
@settings(max_examples=200, deadline=None)
def test_a_transition_lasts_only_while_somebody_blocks_it(seed: int) -> None:
    """In every sequence, a transition without a blocker has ended after the step."""
    model = Model()
    for step in steps_of(seed):
        if not model.refusal(step):
            model.take(step)
        assert (model.transition is None) or model.blockers()
        assert set(model.stack) <= set(PATCHES)
        assert not model.stuck & set(model.stack)
        assert model.transition is None or model.transition in model.stack


def test_held_transitions_are_often_reversed() -> None:
    """The steps that races are made of come often enough to be worth a campaign."""
    steps = [str(step) for seed in range(200) for step in steps_of(seed)]
    for verb in ("reverse", "force", "leave", "untarget mod", "fork", "exit", "storm"):
        assert steps.count(verb) >= 20, verb


def test_a_failure_is_shortened_to_its_cause() -> None:
    """What fails needs two steps in their order, and what makes these mean something."""
    asked: list[str] = []

    def fails(steps: tuple[Step, ...]) -> bool:
        text = "; ".join(map(str, steps))
        asked.append(text)
        return (
            "enter gate" in text and "load gate" in text and "reverse" in text.partition("load")[2]
        )

    steps = parse_steps(
        "load a; fork; enter gate; target mod; load gate; fork; enter gate; reverse; disable a"
    )
    assert "; ".join(map(str, shrink(steps, fails, most=60))) == "enter gate; load gate; reverse"
    assert len(asked) == len(set(asked)), "a sequence was tried twice"


def test_shortening_ends_when_it_has_asked_enough() -> None:
    """Shortening makes no more trials than its limit."""
    asked = 0

    def fails(_: tuple[Step, ...]) -> bool:
        nonlocal asked
        asked += 1
        return False

    shrink(steps_of(1), fails, most=3)
    assert asked == 3


def test_what_cannot_be_shortened_stays() -> None:
    """A sequence of which every step is needed is returned as it is."""
    steps = parse_steps("enter gate; load gate")
    assert shrink(steps, lambda tried: tried == steps, most=50) == steps


def test_the_fuzzer_can_be_given_its_steps() -> None:
    """The fuzzer with given steps is still the fuzzer, and takes those."""
    race = with_steps(fuzz_schedule, parse_steps("load a"))
    assert is_fuzzer(race)
    assert race.parameters == ("context",)
    assert race.steps is not fuzz_schedule.steps


# -- the command


def tried(race: Reproducer, seed: int, *, shown: bool) -> Trial:
    return Trial(race=race, seed=seed, seconds=1.0, ended_by=RaceShown("x") if shown else None)


def test_the_first_hit_is_shortened_and_printed() -> None:
    """Each try is a trial with the seed of the hit and steps of its own."""
    seeds: list[int] = []

    def try_one(race: Reproducer, seed: int) -> Trial:
        assert is_fuzzer(race)
        seeds.append(seed)
        steps = cast("functools.partial[None]", race.steps).keywords["steps"]
        return tried(race, seed, shown=Step("reverse") in steps)

    found = ReproducerTrials(fuzz_schedule)
    found.trials += [
        tried(fuzz_schedule, 7, shown=False),
        tried(fuzz_schedule, 8, shown=True),
    ]
    stream = io.StringIO()
    terminal = Terminal(stdout=stream, stderr=stream)
    text = "enter gate; load gate; fork; reverse; leave"
    shortest = shorten_hits(terminal, [found], try_one, given=text)
    assert shortest == {8: "enter gate; load gate; reverse"}
    assert set(seeds) == {8}
    hits = (RaceHit(seed=8, seconds=1.0, message="x"), RaceHit(seed=9, seconds=1.0, message="x"))
    result = RaceResult(
        id="fuzz-schedule",
        outcome=CheckOutcome.SHOWN,
        seconds=1.0,
        title="x",
        rule="TR-02",
        hits=hits,
        trials=2,
        first_hit_s=1.0,
    )
    shown = with_shortest(result, shortest)
    assert [hit.steps for hit in shown.hits] == ["enter gate; load gate; reverse", None]
    print_race(terminal, shown)
    assert "--steps 'enter gate; load gate; reverse'" in stream.getvalue()


def test_without_a_hit_nothing_is_shortened() -> None:
    """No guest is started for a campaign that found nothing."""
    found = ReproducerTrials(fuzz_schedule)
    found.trials.append(tried(fuzz_schedule, 7, shown=False))
    terminal = Terminal(stdout=io.StringIO(), stderr=io.StringIO())
    assert shorten_hits(terminal, [found], lambda *_: pytest.fail("a trial")) == {}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["fork", "--steps", "load a"], "--steps is for the fuzzer alone"),
        (["fuzz", "--steps", "jump"], "'jump' is no step"),
        (["fuzz", "--steps", "leave; reverse"], "no step of 'leave; reverse' has a meaning"),
    ],
)
def test_steps_that_cannot_be_taken_are_wrong_usage(words: list[str], message: str) -> None:
    """--steps is refused for other reproducers and for steps without effect."""
    done = CliRunner().invoke(app, ["race", "run", *words])
    assert done.exit_code == ExitCode.USAGE
    assert message in " ".join(done.output.split())
