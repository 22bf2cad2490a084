# SPDX-License-Identifier: GPL-2.0-only
"""What there is of a finished kernel: its parts, and what cannot be judged or built without one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.errors import KlpError, UsageError
from harness.inputs import shown
from harness.report.base import CheckOutcome
from harness.tools.doctor.results import DoctorResult
from harness.vm.kernel.build import KernelRequest, obtain_kernel
from harness.vm.kernel.finished_spec import FinishedSpec
from harness.vm.kernel.spec import BuildSpec, parse_spec
from harness.vm.kernel.symbols import not_judged

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.deadline import Deadline
    from harness.vm.host.cache import Store
    from harness.vm.kernel.kernel import Kernel
    from harness.vm.kernel.progress import Progress


def require_finished_spec(spec: str) -> None:
    """Raise UsageError for a spec that names nothing, or sources, which doctor does not build."""
    if not isinstance(parse_spec(spec), BuildSpec | FinishedSpec):
        raise UsageError(
            f"doctor looks at kernels that are finished, and {shown(spec)} names sources",
            hint="`klp-harness kernel build` builds them; finished are installed, /boot/vmlinuz-X, "
            "deb:, rpm: and build:",
        )


def examine_kernel(
    spec: str, *, store: Store, deadline: Deadline, progress: Progress
) -> tuple[DoctorResult, ...]:
    """Return a result for each part of a finished kernel, or one for why it cannot be used."""
    request = KernelRequest(spec=spec)
    try:
        kernel = obtain_kernel(request, store=store, deadline=deadline, progress=progress)
    except KlpError as error:
        failed = CheckOutcome.FAILED
        return (_result("kernel", failed, "; ".join([error.message, *error.details]), error.hint),)
    return tuple(_judge(kernel))


def _judge(kernel: Kernel) -> Iterator[DoctorResult]:
    passed, warned = CheckOutcome.PASSED, CheckOutcome.WARNED
    yield _result("kernel", passed, kernel.describe())
    yield _result("kernel headers", passed, str(kernel.build_dir))
    names = ", ".join(path.stem for path in kernel.boot_modules)
    yield _result("kernel drivers", passed, f"as modules: {names}" if names else "all built in")
    left_open = not_judged(kernel)
    if left_open is None:
        yield _result("kernel symbols", passed, str(kernel.vmlinux))
    else:
        hint = "give or install the package of its debug information: linux-image-X-dbg, "
        hint += "kernel-debuginfo"
        yield _result("kernel symbols", warned, left_open, hint)
    for_make = " ".join(kernel.module_variables)
    yield _result(
        "kernel modules", passed, f"built with {for_make}" if for_make else "built as its own are"
    )


def _result(name: str, outcome: CheckOutcome, detail: str, hint: str | None = None) -> DoctorResult:
    return DoctorResult(id=name, outcome=outcome, seconds=0.0, detail=detail, hint=hint)
