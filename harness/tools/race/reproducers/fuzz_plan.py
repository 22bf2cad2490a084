# SPDX-License-Identifier: GPL-2.0-only
"""Sequences of steps for the fuzzer: made of a seed, and shortened while they still fail. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.tools.race.reproducers.fuzz_model import PATCHES, SLEEPS, TARGETS, Model, Step

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from random import Random

_LEAST, _MOST = 8, 16


def make_steps(chance: Random) -> tuple[Step, ...]:
    """Return a sequence of steps that all have a meaning; the kernel refuses some of them."""
    model = Model()
    steps: list[Step] = []
    length = chance.randint(_LEAST, _MOST)
    while len(steps) < length:
        weighted = [(step, weight) for step, weight in _choices(model) if model.can(step)]
        choices, weights = zip(*weighted, strict=True)
        (step,) = chance.choices(choices, weights)
        if not model.refusal(step):
            model.take(step)
        steps.append(step)
    return tuple(steps)


def _choices(model: Model) -> Iterator[tuple[Step, float]]:
    """Yield steps with their weights: those that reverse a held transition weigh most."""
    held = model.transition is not None
    slept_in = {sleeper.function for sleeper in model.sleepers.values()}
    for name, patch in PATCHES.items():
        # What is slept in holds transitions open.
        often = 2.0 if slept_in & set(patch.functions) else 0.5
        yield Step("load", name), 0.2 if held else often
        if not patch.is_alone:
            yield Step("load", name, replace=True), 0.2 if held else often / 2
        yield Step("disable", name), 0.4 if held else 0.8
        yield Step("enable", name), 0.2
    yield Step("reverse"), 5.0
    yield Step("force"), 3.0 if held else 0.2
    for where in SLEEPS:
        # A known bug ends nearly each sequence with a task in a cold part, before anything else.
        rarely = 0.1 if where == "cold" else 1.0
        yield Step("enter", where), rarely * (1.5 if model.sleepers else 4.0)
    yield Step("leave"), 1.5
    for target in TARGETS:
        yield Step("target", target), 1.0
        yield Step("untarget", target), 0.7
    yield Step("fork"), 1.0
    yield Step("exit"), 1.0
    yield Step("storm"), 0.4


def meaningful(steps: Sequence[Step]) -> tuple[Step, ...]:
    """Return the steps without those that have no meaning at their place."""
    model = Model()
    kept = []
    for step in steps:
        if not model.can(step):
            continue
        if not model.refusal(step):
            model.take(step)
        kept.append(step)
    return tuple(kept)


def shrink(
    steps: Sequence[Step], fails: Callable[[tuple[Step, ...]], bool], *, most: int
) -> tuple[Step, ...]:
    """Return a shortest sequence that still fails: without any one of its steps it does not.

    ``fails`` is called ``most`` times at most; the sequence may then be longer. Parts are left out,
    large ones first (A. Zeller, R. Hildebrandt, IEEE TSE 2002).
    """
    left = tuple(steps)
    tried_before: set[tuple[Step, ...]] = {left}
    size = max(len(left) // 2, 1)
    while len(left) > 1:
        shorter = None
        for start in range(0, len(left), size):
            tried = meaningful(left[:start] + left[start + size :])
            if not tried or tried in tried_before:
                continue
            if len(tried_before) > most:
                return left
            tried_before.add(tried)
            if fails(tried):
                shorter = tried
                break
        if shorter is not None:
            left = shorter
            size = min(size, max(len(left) // 2, 1))
        elif size == 1:
            break
        else:
            size = max(size // 2, 1)
    return left
