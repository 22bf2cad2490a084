# SPDX-License-Identifier: GPL-2.0-only
"""Exit codes for `git bisect run`, which reads them in its own way (git-bisect(1)).

0 is good, 1 to 127 are bad but for 125, "cannot be tested"; from 128 on it gives up. So a wrong
command line and a broken host, exit codes 2 and 3 elsewhere, must not look like a bad revision.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.cli.exits import EXIT_CODE
from harness.cli.invocation import Invocation
from harness.cli.prepare import prepare_accel, prepare_kernel, prepare_modules
from harness.errors import (
    ExitCode,
    KernelBuildFailed,
    KernelUnfit,
    KernelVerdict,
    KlpError,
    PatchDoesNotApply,
    UsageError,
)
from harness.report.terminal import Terminal
from harness.vm.guest import runs
from harness.vm.guest.session import Fresh

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.tools.suite.run_suite import SuiteOptions

CANNOT_BE_TESTED = 125
GIVE_UP = 255
_NOT_THIS_REVISION = (KernelVerdict, KernelBuildFailed, KernelUnfit, PatchDoesNotApply)


def in_bisect(prepare: Callable[[], None], work: Callable[[], int]) -> int:
    """Return git's exit code: ``prepare`` builds and boots the revision, ``work`` judges it.

    What the kernel does wrong in ``prepare`` means that the revision cannot be tested.
    """
    terminal = Terminal()
    is_prepared = False
    try:
        prepare()
        is_prepared = True
        code = work()
    except KlpError as error:
        terminal.error(error)
        if is_prepared and isinstance(error, KernelVerdict):
            return ExitCode.VERDICT
        if not is_prepared and isinstance(error, _NOT_THIS_REVISION):
            terminal.note("this revision cannot be built, configured or booted: git skips it (125)")
            return CANNOT_BE_TESTED
        terminal.note(f"this is no fault of the revision: git stops ({GIVE_UP})")
        return GIVE_UP
    except Exception as error:
        # A bug of ours ends the process as a broken host does, not with a bad revision's code.
        setattr(error, EXIT_CODE, GIVE_UP)
        raise
    if code in (ExitCode.HELD, ExitCode.VERDICT):
        return code
    terminal.note(f"no verdict on this revision: git stops ({GIVE_UP})")
    return GIVE_UP


def try_kernels(options: SuiteOptions) -> None:
    """Build the kernels of a run and their sample modules, and boot each once.

    Raises as these do; UsageError when more than one kernel is given.
    """
    if len(options.kernels) != 1:
        raise UsageError("--bisect judges one kernel", hint="give one --kernel, the tree: .")
    with Invocation("test") as invocation:
        choice = prepare_accel(invocation, options.accel)
        kernel = prepare_kernel(invocation, options.kernels[0])
        prepare_modules(invocation.terminal, kernel)
        with (
            runs.open_session(choice, cpus=options.smp, fresh=Fresh.BOOT, name="bisect") as session,
            session.guest(kernel, name="first-boot") as machine,
        ):
            machine.check_splats()
