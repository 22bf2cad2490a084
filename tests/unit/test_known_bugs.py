# SPDX-License-Identifier: GPL-2.0-only
"""Hits of the fuzzer that are known bugs: their signatures, and what a campaign makes of them."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from harness.cli.app import app
from harness.errors import ExitCode, KernelSplat, KernelVerdict, RaceShown, UsageError
from harness.tools.race import command
from harness.tools.race.campaign import Campaign, Extent, Trial
from harness.tools.race.catalogue import CATALOGUE
from harness.tools.race.known_bugs import OURS, KnownBug, bug_of, load_known, read_known
from harness.tools.race.reproducers.exit import exit_use_after_free
from harness.tools.race.reproducers.fuzz import fuzz_schedule
from harness.tools.race.reproducers.fuzz_model import parse_steps
from harness.tools.race.reproducers.fuzz_plan import meaningful
from harness.tools.race.results import RaceHit
from harness.tools.race.trial_results import hit_of, judge

if TYPE_CHECKING:
    from pathlib import Path

    from harness.tools.race.reproducer import Reproducer

# Hits as they were on 6.1.192.
HITS = {
    "forced-flag-too-narrow": (
        "load gate; enter gate; load over; force; load a replace; leave",
        "after 6 steps, the last of them 'leave': page fault on a bad address",
    ),
    "late-init": (
        "load setup; target setup; disable setup",
        "after 3 steps, the last of them 'disable setup': WARNING in klp_unpatch_func",
    ),
    "cold-part": (
        "load cold; enter cold; disable cold",
        "'disable cold': task 5, asleep in klp_cold_outer(), was switched in the body that is left",
    ),
    "cold-switched": (
        "enter cold; load cold",
        "'load cold': task 55, asleep in klp_cold_outer(), was switched in the body that is left",
    ),
}
MORE = (
    (
        "forced-flag-too-narrow",
        "enter gate; load third; fork; force; load over replace; load a",
        (
            "klp_test_cmdline_a did not end its transition within 48 s: "
            "held by klp-gate (61) in no patched function"
        ),
    ),
    (
        "forced-flag-too-narrow",
        "load gate; enter gate; load over; force; load a replace",
        (
            "the oracle: consistency is violated 1 time: I4: klp-gate (61) is inside "
            "klp_test_gate's version of klp_gate_wait(), whose text is freed"
        ),
    ),
    (
        "exit-warning",
        "explore exit-disable at klp_ftrace_handler",
        "splat in the kernel log: WARNING in klp_ftrace_handler",
    ),
    (
        "preempted-handler",
        "explore call-supersede at return of klp_ftrace_handler@off",
        "splat in the kernel log: page fault on a bad address",
    ),
    (
        "late-init",
        "load setup; target setup; load a replace",
        "after 3 steps: the kernel answered EINVAL (Invalid argument), and success is right",
    ),
    (
        "reverse-out-of-bounds",
        "load gate; enter gate; load over; force; disable gate; reverse",
        "klp_test_gate did not end its transition: held by kthreadd (2) in no patched function",
    ),
    (
        "reverse-out-of-bounds",
        "enter gate; load gate; force; enter gate; load over; force; disable gate; reverse",
        "a transition ended with task 56, asleep in klp_gate_wait(), in the body that is left",
    ),
)
KNOWN = load_known((), "6.1.192")


def hit(steps: str, message: str) -> RaceHit:
    return RaceHit(seed=1, seconds=1.0, message=message, details=(f"steps: {steps}", "[<0>] f+0x1"))


def shown(bug: str) -> RaceShown:
    steps, message = HITS[bug]
    return RaceShown(message, details=(f"steps: {steps}",))


def trial(
    ended_by: KernelVerdict | None, *, race: Reproducer = fuzz_schedule, seed: int = 1
) -> Trial:
    return Trial(race=race, seed=seed, seconds=1.0, ended_by=ended_by)


@pytest.mark.parametrize("bug", HITS)
def test_a_known_bug_is_named(bug: str) -> None:
    """Each by its own signature; the steps of the example mean something."""
    steps, message = HITS[bug]
    assert bug_of(hit(steps, message), KNOWN) == bug
    assert meaningful(parse_steps(steps)) == parse_steps(steps)


@pytest.mark.parametrize(("bug", "steps", "message"), MORE)
def test_a_bug_has_several_ways_to_show(bug: str, steps: str, message: str) -> None:
    """Each has a signature of its own."""
    assert bug_of(hit(steps, message), KNOWN) == bug


@pytest.mark.parametrize("bug", HITS)
def test_another_hit_is_new(bug: str) -> None:
    """The same symptom after other steps, and another symptom after the same ones, are new."""
    steps, message = HITS[bug]
    assert bug_of(hit("load gate; enter gate; reverse", message), KNOWN) is None
    assert bug_of(hit(steps, "the kernel answered EBUSY, and success is right"), KNOWN) is None
    assert bug_of(hit("load a", message), KNOWN) is None


def test_each_signature_is_of_a_reproducer_and_has_an_example() -> None:
    """And only of bugs that the kernel is expected to show: on a fixed one, the hit is new."""
    entries = tomllib.loads(OURS.read_text())["known"]
    assert {entry["bug"] for entry in entries} == {*HITS, *(bug for bug, _, _ in MORE)}
    assert {entry["bug"] for entry in entries} <= {race.name for race in CATALOGUE}
    assert "forced-flag-too-narrow" not in {known.bug for known in load_known((), "5.10.262")}
    always = {"reverse-out-of-bounds", "exit-warning", "preempted-handler"}
    assert {known.bug for known in load_known((), "9.9.9")} == always


def test_signatures_of_the_users_own(tmp_path: Path) -> None:
    """They come first, and may name anything."""
    file = tmp_path / "mine.toml"
    file.write_text("[[known]]\nbug = 'mine'\nsteps = 'enter cold'\nshows = 'asleep'\n")
    known = load_known(read_known((file,)), "6.1.192")
    assert bug_of(hit(*HITS["cold-part"]), known) == "mine"
    assert bug_of(hit(*HITS["late-init"]), known) == "late-init"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "known: Field required"),
        ("[[known]]\nbug = 'x'\nsteps = '('\nshows = ''", "is no regular expression"),
        ("[[known]]\nbug = 'x'\nsteps = ''\nshows = ''\nmore = 1", "Extra inputs"),
        ("[[known", "has no signatures"),
        ("\x00", "has no signatures"),
    ],
)
def test_a_file_that_is_none(tmp_path: Path, text: str, why: str) -> None:
    """It is the user's fault, and the command says what the file has to have."""
    file = tmp_path / "mine.toml"
    file.write_text(text)
    with pytest.raises(UsageError, match=why) as raised:
        read_known((file,))
    assert "[[known]]" in str(raised.value.hint)


def test_a_file_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said before a kernel is built."""
    monkeypatch.setattr(command, "prepare_kernel", lambda *_: pytest.fail("a kernel was made"))
    ran = CliRunner().invoke(app, ["race", "run", "fuzz", "--known", str(tmp_path / "none.toml")])
    assert ran.exit_code == ExitCode.USAGE
    assert "none.toml" in ran.output


EXTENT = Extent(seed=0, trials=4)


def judged(*ended_by: KernelVerdict | None, excuse: bool = True) -> tuple[bool, list[str | None]]:
    campaign = Campaign([fuzz_schedule], EXTENT)
    found = campaign.found[fuzz_schedule.name]
    found.trials += [trial(error, seed=seed) for seed, error in enumerate(ended_by)]
    found.first_hit_s = 1.0
    result = judge(found, "6.1.192", EXTENT, excuse_expected=excuse, known=KNOWN)
    return result.excused, [hit.bug for hit in result.hits]


def test_only_known_hits_are_excused() -> None:
    """A new one, or a failure of another kind, is not; nor anything without the option."""
    cold, late, new = shown("cold-part"), shown("late-init"), RaceShown("something else")
    assert judged(cold, None, late) == (True, ["cold-part", "late-init"])
    assert judged(cold, new) == (False, ["cold-part", None])
    assert judged(cold, KernelSplat("x")) == (False, ["cold-part"])
    assert judged(cold, excuse=False) == (False, ["cold-part"])
    assert judged(None) == (False, [])


def test_a_campaign_goes_on_after_a_known_hit() -> None:
    """And ends with one that is new."""
    outcomes = {0: shown("cold-part"), 1: None, 2: RaceShown("something else"), 3: None}
    tried: list[int] = []

    def try_one(race: Reproducer, seed: int) -> Trial:
        tried.append(seed)
        return trial(outcomes[seed], race=race, seed=seed)

    def is_known(each: Trial) -> bool:
        return each.shown is not None and hit_of(each, KNOWN).bug is not None

    extent = Extent(seed=0, trials=4, passed_over=is_known)
    for _ in Campaign([fuzz_schedule], extent).run(try_one, guests=1):
        pass
    assert tried == [0, 1, 2]


def test_other_reproducers_have_no_signatures() -> None:
    """A hit of theirs is known by its rule."""
    campaign = Campaign([exit_use_after_free], EXTENT)
    found = campaign.found[exit_use_after_free.name]
    found.trials.append(trial(shown("cold-part"), race=exit_use_after_free))
    (only,) = judge(found, "6.1.192", EXTENT, known=KNOWN).hits
    assert only.bug is None


def test_a_signature_looks_at_all_lines() -> None:
    """What a splat says may be below the message."""
    known = KnownBug(bug="x", steps="^load a$", shows="^BUG: KASAN")
    found = RaceHit(seed=1, seconds=1, message="splat", details=("steps: load a", "BUG: KASAN: x"))
    assert bug_of(found, [known]) == "x"
    assert bug_of(found.model_copy(update={"details": ("BUG: KASAN: x",)}), [known]) is None
