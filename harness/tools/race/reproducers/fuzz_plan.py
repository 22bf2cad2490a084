# SPDX-License-Identifier: GPL-2.0-only
"""Sequences of steps for the fuzzer: made of a seed, and shortened while they still fail. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.tools.race.reproducers.fuzz_model import PATCHES, Model, Step

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from random import Random

_LEAST, _MOST = 8, 14


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
    for patch in PATCHES:
        # Only its functions are slept in, so only it holds transitions open.
        often = 2.0 if patch == "gate" and model.sleepers else 0.6
        yield Step("load", patch), 0.2 if held else often
        yield Step("load", patch, replace=True), 0.2 if held else often
        yield Step("disable", patch), 0.4 if held else 0.8
        yield Step("enable", patch), 0.2
    yield Step("reverse"), 6.0
    yield Step("force"), 2.0 if held else 0.2
    yield Step("enter"), 1.5 if model.sleepers else 4.0
    yield Step("leave"), 2.0
    yield Step("target"), 1.5
    yield Step("untarget"), 1.0
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
