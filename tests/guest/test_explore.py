# SPDX-License-Identifier: GPL-2.0-only
"""A CPU that is held at a point while another one acts, on an unmodified kernel."""

from __future__ import annotations

import contextlib
import os
import signal
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from harness.deadline import Deadline
from harness.errors import KernelSplat
from harness.observer.consistency import Model
from harness.observer.plugin_build import obtain_plugin
from harness.observer.shared_file import Flag
from harness.observer.watch import Watch
from harness.tools.race.explore.guests import used_guest
from harness.tools.race.explore.kernel_code import KernelCode
from harness.tools.race.explore.pairs import find_pairs
from harness.tools.race.explore.points import Hold, parse_hold
from harness.tools.race.explore.scene import Scenes, guest_modules
from harness.tools.race.explore.seen import Move
from harness.tools.race.explore.trial import Trials
from harness.vm.guest.session import Session
from harness.vm.host.accel import Accel

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from harness.vm.kernel.kernel import Kernel

LATE = "exit_task_stack_account"


@pytest.fixture
def trials(
    kernel: Kernel, klp_session: Session, sample_modules: Mapping[str, Path], tmp_path: Path
) -> Iterator[Trials]:
    """Trials in guests of a run of their own, with the modules that they need and the oracle."""
    settings = replace(klp_session.settings, accel=Accel.TCG)
    more = guest_modules(sample_modules)
    store = klp_session.store
    watch = Watch(folder=tmp_path / "observed", store=store, files=(), oracle=True, clock=False)
    with contextlib.ExitStack() as stack:
        session = stack.enter_context(
            Session(tmp_path / "run", settings, store, extra_files=more, plugins=watch)
        )
        yield Trials(
            stack.enter_context(Scenes(session, kernel, watch=watch, modules=sample_modules))
        )


@pytest.mark.slow(20)
def test_b_acts_while_a_is_held(trials: Trials) -> None:
    """B loads a livepatch while A stands in a fork; both then end as in an order of the two."""
    (pair,) = find_pairs(["fork-load"])
    points = {str(point) for point in trials.points_of(pair, dense=False)}
    assert "call of klp_copy_process in copy_process" in points
    order = trials.try_order(pair, (Move.A, Move.B))
    assert order.ended
    assert (order.a_errors, order.b_errors) == ((0,), (0,))
    assert "klp_test_gate=1" in order.state
    seen = trials.try_hold(pair, parse_hold("call of sched_fork in copy_process"), with_calls=True)
    assert (seen.reached, seen.b) == (True, "done")
    assert seen.outcome == order.outcome
    held = seen.calls[seen.calls_before :]
    by_b = [call.function for call in held if call.by == "B"]
    assert by_b.index("klp_enable_patch") < by_b.index("klp_start_transition")
    first_of_a = next(at for at, call in enumerate(held) if call.by == "A")
    assert "klp_start_transition" in {call.function for call in held[:first_of_a]}


@pytest.mark.slow(20)
def test_points_at_which_b_would_be_blocked_too(trials: Trials) -> None:
    """B waits for klp_mutex; that is not known where A has touched what B had touched before."""
    (pair,) = find_pairs(["target-load@patched"])
    points = trials.points_of(pair, dense=False)
    at = [str(each) for each in points].index("call of klp_init_object_loaded in klp_module_coming")
    hold, *then = [Hold(a=point) for point in points[at:]]
    seen = trials.try_hold(pair, hold, then=then)
    assert (seen.b, seen.also_blocked) == ("blocked: it sleeps", 0), "what B touches is not known"
    for order in ((Move.A, Move.B), (Move.B, Move.A)):
        assert trials.try_order(pair, order).ended
    seen = trials.try_hold(pair, hold, then=then)
    if not trials.scenes.get(pair.state).noting():
        assert seen.also_blocked == 0
        return
    assert 0 < seen.also_blocked < len(then)
    assert trials.try_hold(pair, then[seen.also_blocked - 1]).b == seen.b


@pytest.mark.slow(20)
def test_all_points_of_a_thread_that_leaves(trials: Trials) -> None:
    """It goes on when it is on no list any more, and whoever waits for that may preempt it."""
    (pair,) = find_pairs(["exit-disable"])
    points = [str(point) for point in trials.points_of(pair, dense=False)]
    assert points[-1] == "call of do_task_dead in do_exit"
    assert trials.try_hold(pair, parse_hold(points[-1])).reached


@pytest.mark.slow(20)
def test_points_before_which_nothing_of_b_is_touched(
    trials: Trials, kernel: Kernel, klp_session: Session
) -> None:
    """Most of a load's are such for a call; not those at which the called function gets a hook."""
    (pair,) = find_pairs(["load-call"])
    for order in ((Move.A, Move.B), (Move.B, Move.A)):
        assert trials.try_order(pair, order).ended
    points = trials.points_of(pair, dense=False)
    alike = trials.alike(pair, dense=False)
    plugin = obtain_plugin(klp_session.store, deadline=Deadline.after(60))
    if kernel.config.enabled("PREEMPT_RCU") or plugin.flags & Flag.CPU_BY_GS:
        assert not alike
        return
    assert len(points) / 3 < len(alike) < len(points)
    # Here A changes code, which B may be about to execute.
    tried = {point.function for point in points if point not in alike}
    assert any(name.startswith("klp_") for name in tried)


@pytest.mark.slow(20)
def test_each_trial_is_judged(trials: Trials, monkeypatch: pytest.MonkeyPatch) -> None:
    """A calls a function while B loads a livepatch of it: in a version that its state allows."""
    (pair,) = find_pairs(["call-load@patched"])
    hold = parse_hold("klp_ftrace_handler")
    seen = trials.try_hold(pair, hold)
    assert (seen.ended, seen.violation) == (True, None)
    monkeypatch.setattr(Model, "_expected", lambda *_: None)
    for fresh, earlier in ((False, ("call-load@patched at 'klp_ftrace_handler'",)), (True, ())):
        seen = trials.try_hold(pair, hold, fresh=fresh)
        assert seen.earlier == earlier
        assert seen.violation is not None
        what = "enters klp_test_gate's version of klp_gate_wait() in patch state 0"
        assert what in seen.violation
        assert any("klp-duel-a" in line for line in seen.violations)


@pytest.mark.slow(20)
@pytest.mark.parametrize(
    "name", ["reverse-call", "unload-fork", "target-disable@patched", "force-call@closing"]
)
def test_a_guest_makes_more_than_one_trial(trials: Trials, name: str) -> None:
    """Its scene is made again, with a sleeper that holds a transition too, and gives the same.

    A livepatch whose disabling was forced, which the kernel keeps loaded, is unloaded before.
    """
    (pair,) = find_pairs([name])
    seen = [trials.try_order(pair, (Move.A,) * len(pair.steps(pair.a)) + (Move.B,), fresh=True)]
    hold = parse_hold("klp_reverse_transition" if name == "reverse-call" else "klp_shadow_alloc")
    for _ in range(3):
        seen.append(trials.try_hold(pair, hold))
        assert (seen[-1].ended, seen[-1].problems, seen[-1].violation) == (True, (), None)
    assert [len(each.earlier) for each in seen] == [0, 0, 1, 2]
    assert len({each.state for each in seen}) == 1


@pytest.mark.slow(20)
def test_a_guest_that_dies_between_two_trials(
    trials: Trials, caplog: pytest.LogCaptureFixture
) -> None:
    """A fresh one is taken, and it is said."""
    (pair,) = find_pairs(["fork-load"])
    hold = parse_hold("call of sched_fork in copy_process")
    with used_guest(trials.scenes, pair, "x") as guest:
        guest.held.is_clean = True
    os.kill(guest.hypervisor.pid, signal.SIGKILL)
    seen = trials.try_hold(pair, hold)
    assert (seen.ended, seen.earlier) == (True, ())
    assert "a guest is not used again after fork-load at 'x'" in caplog.text


@pytest.mark.slow(20)
def test_the_warning_of_a_thread_past_exit_notify(trials: Trials, kernel: Kernel) -> None:
    """The known bug of today's kernels is shown without a gate; a point not passed is not held."""
    if not KernelCode(kernel).has(LATE):
        pytest.skip(f"this kernel has no {LATE}()")
    (pair,) = find_pairs(["exit-disable"])
    seen = trials.try_hold(pair, parse_hold("klp_ftrace_handler"))
    assert isinstance(seen.verdict, KernelSplat)
    assert "WARNING in klp_ftrace_handler" in seen.verdict.message
    elsewhere = trials.try_hold(pair, parse_hold("klp_copy_process"))
    assert not elsewhere.reached
    assert elsewhere.verdict is None
