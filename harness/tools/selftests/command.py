# SPDX-License-Identifier: GPL-2.0-only
"""klp-harness selftests: the kernel's own livepatch selftests, in guests."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.coverage import CoverageOptions, observing
from harness.cli.exits import guarded
from harness.cli.invocation import Invocation
from harness.cli.options import Accel, AccelAsked, Guests, KernelOptions, ResultFiles
from harness.cli.prepare import prepare_accel, prepare_kernel
from harness.deadline import Deadline
from harness.errors import UsageError
from harness.report.base import CheckOutcome
from harness.threads import run_jobs
from harness.tools.selftests.image import guest_files
from harness.tools.selftests.output import Verdict
from harness.tools.selftests.results import SelftestResult
from harness.tools.selftests.script_run import ScriptRun, run_script
from harness.tools.selftests.tree import NOT_RUN, find_suite, source_tree
from harness.vm.guest import runs
from harness.vm.host.temporary import temporary_folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harness.report.terminal import Terminal
    from harness.tools.selftests.tree import Script
    from harness.vm.guest.session import Session
    from harness.vm.kernel.kernel import Kernel

_CPUS = 2
_FILES_S = 600.0
_OUTCOMES = {
    Verdict.PASSED: CheckOutcome.PASSED,
    Verdict.FAILED: CheckOutcome.FAILED,
    Verdict.SKIPPED: CheckOutcome.SKIPPED,
}


@guarded
def selftests(
    scripts: Annotated[
        tuple[str, ...],
        typer.Argument(metavar="SCRIPT", help="Scripts to run; default: all.", show_default=False),
    ] = (),
    *,
    kernel: KernelOptions,
    files: ResultFiles,
    accel: Accel = AccelAsked.AUTO,
    guests: Guests = None,
    may_skip: Annotated[
        tuple[str, ...],
        typer.Option(
            "--may-skip",
            metavar="SCRIPT",
            help="A script that is allowed to skip; any other that skips fails. Repeatable.",
        ),
    ] = (),
    stop: Annotated[
        bool, typer.Option("--stop", help="Start no more scripts once one has failed.")
    ] = False,
    coverage: CoverageOptions,
) -> int:
    """Run tools/testing/selftests/livepatch of the kernel's tree, each script in a fresh guest.

    A script that skips, since the kernel lacks what it needs, fails unless --may-skip names it.
    """
    coverage.check()
    coverage.refuse_oracle("the harness does not load the modules of the kernel's own scripts")
    with Invocation("selftests", files) as invocation:
        terminal = invocation.terminal
        choice = prepare_accel(invocation, accel)
        made = prepare_kernel(invocation, kernel)
        suite = find_suite(source_tree(made))
        chosen = _chosen(suite.scripts, scripts)
        invocation.print_facts()
        with temporary_folder("selftests") as folder:
            with terminal.progress() as progress:
                progress.stage(f"test modules of {made.version}")
                more = guest_files(
                    suite,
                    made,
                    folder=folder,
                    store=runs.store(),
                    deadline=Deadline.after(_FILES_S),
                )
            most = min(len(chosen), guests or runs.guests_at_a_time(choice))
            with (
                observing(invocation, coverage, (made,)) as watch,
                runs.open_session(
                    choice,
                    cpus=_CPUS,
                    name="selftests",
                    guests=most,
                    extra_files=more,
                    keep=lambda: any(_failed(result) for result in invocation.results),
                    watch=watch,
                ) as session,
            ):
                allowed = frozenset(may_skip)
                ended: dict[str, tuple[SelftestResult, ...]] = {}
                try:
                    for name in _run_all(session, made, chosen, most, allowed, ended, stop=stop):
                        _report(invocation, ended.pop(name))
                finally:
                    # Of an interrupted run: scripts that wait for an earlier one of the list.
                    for results in ended.values():
                        _report(invocation, results)
        for name in NOT_RUN:
            terminal.print(f"not-run  {name}: it needs BPF, which these guests do not have")
            invocation.results.append(
                SelftestResult(
                    id=name,
                    outcome=CheckOutcome.NOT_RUN,
                    seconds=0.0,
                    script=name,
                    detail=("needs BPF, BTF and libbpf",),
                )
            )
    return invocation.exit_code


def _chosen(all_scripts: Sequence[Script], names: Sequence[str]) -> list[Script]:
    known = {script.name: script for script in all_scripts}
    wanted = [name if name.endswith(".sh") else f"{name}.sh" for name in names]
    for name in wanted:
        if name not in known:
            raise UsageError(
                f"the kernel's tree has no selftest {name}", hint=f"it has {', '.join(known)}"
            )
    return [known[name] for name in wanted] or list(all_scripts)


def _run_all(
    session: Session,
    kernel: Kernel,
    scripts: Sequence[Script],
    guests: int,
    may_skip: frozenset[str],
    ended: dict[str, tuple[SelftestResult, ...]],
    *,
    stop: bool,
) -> Iterator[str]:
    """Run the scripts side by side, and yield the name of each in the suite's order.

    Its results are then in ``ended``, where whoever takes them removes them. With ``stop`` those
    that have not begun when one fails are left out.
    """
    # The longest first, by the number of its cases, so that the end does not wait for one script.
    order = sorted(scripts, key=lambda script: -len(script.cases))
    one_failed = threading.Event()

    def wanted() -> Iterator[Script]:
        for script in order:
            if stop and one_failed.is_set():
                return
            yield script

    def run(script: Script) -> tuple[str, tuple[SelftestResult, ...]]:
        with session.guest(kernel, name=script.name.removesuffix(".sh")) as machine:
            results = tuple(_results(run_script(machine, script), may_skip))
        if any(_failed(result) for result in results):
            one_failed.set()
        return script.name, results

    left = deque(scripts)
    for name, results in run_jobs(wanted(), run, at_a_time=guests, name="scripts"):
        ended[name] = results
        while left and left[0].name in ended:
            yield left.popleft().name
    # Those that were left out have no results.
    yield from (script.name for script in left if script.name in ended)


def _results(ran: ScriptRun, may_skip: frozenset[str]) -> Iterator[SelftestResult]:
    allowed = bool(may_skip & {ran.script, ran.script.removesuffix(".sh")})
    for case in ran.cases:
        verdict = case.verdict or Verdict.FAILED
        if verdict is Verdict.SKIPPED and not allowed:
            verdict = Verdict.FAILED
        yield SelftestResult(
            id=f"{ran.script.removesuffix('.sh')}/{case.name}",
            outcome=_OUTCOMES[verdict],
            seconds=case.seconds,
            script=ran.script,
            detail=tuple(case.detail),
        )


def _failed(result: object) -> bool:
    return isinstance(result, SelftestResult) and result.outcome is CheckOutcome.FAILED


def _report(invocation: Invocation, results: Sequence[SelftestResult]) -> None:
    _print(invocation.terminal, results)
    invocation.results += results


def _print(terminal: Terminal, results: Sequence[SelftestResult]) -> None:
    for result in results:
        terminal.print(f"{result.outcome:8} {result.id} ({result.seconds:.1f} s)")
        if result.outcome is not CheckOutcome.PASSED:
            for line in result.detail:
                terminal.print(f"    {line}")
