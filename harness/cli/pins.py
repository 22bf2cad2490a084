# SPDX-License-Identifier: GPL-2.0-only
"""The kernels that a command has to use: those of an earlier run, by digest.

A spec such as 6.1 or ./linux names other sources after an update or an edit. The commands that a
pinned command starts are pinned as well, by a variable of their environment.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError

from harness.errors import HarnessError, UsageError
from harness.report.base import KernelFacts
from harness.vm.kernel.patch_file import read_patch
from harness.vm.kernel.patched import patched_key
from harness.vm.kernel.resolved import ResolvedKernel, open_kernel

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harness.vm.host.cache import Store
    from harness.vm.kernel.build import KernelRequest
    from harness.vm.kernel.kernel import Kernel

_VARIABLE = "KLP_HARNESS_PINNED"
_FACTS = TypeAdapter(tuple[KernelFacts, ...])
_pinned: list[KernelFacts] = []


@contextlib.contextmanager
def pinned(kernels: Sequence[KernelFacts]) -> Iterator[None]:
    """Have commands of this process use these kernels, and refuse any other."""
    _pinned[:] = kernels
    try:
        yield
    finally:
        _pinned.clear()


def environment() -> dict[str, str]:
    """Return the variables that pin a command that this one starts to the same kernels."""
    kernels = _current()
    return {_VARIABLE: _FACTS.dump_json(tuple(kernels)).decode()} if kernels else {}


def find(facts: KernelFacts, store: Store) -> Kernel | None:
    """Return that very kernel from the cache; None when it is not there any more."""
    try:
        return open_kernel(ResolvedKernel(spec=facts.spec, digest=facts.digest), store)
    except HarnessError:
        return None


def kernel_for(request: KernelRequest, store: Store) -> Kernel | None:
    """Return the kernel that is pinned for a request, if it is one and in the cache."""
    return _the_one(request.spec, store, is_patched=bool(request.patches))


def base_for(request: KernelRequest, store: Store) -> Kernel | None:
    """Return the clean kernel that is pinned, in the cache, for a request with patches.

    A mutant is in no result's kernels: it is built from the clean one.
    """
    return _the_one(request.spec, store, is_patched=False) if request.patches else None


def check(kernel: Kernel, request: KernelRequest) -> None:
    """Raise UsageError when kernels are pinned, and this is none of them, nor built from one."""
    kernels = _current()
    digests = {facts.digest for facts in kernels}
    if request.patches:
        patches = tuple(read_patch(path) for path in request.patches)
        digests |= {patched_key(digest, patches) for digest in digests}
    if not kernels or kernel.digest in digests:
        return
    then = ", ".join(f"{each.version} ({each.source}), {each.digest[:12]}" for each in kernels)
    raise UsageError(
        f"{kernel.spec} is now another kernel than in that result: {kernel.version} "
        f"({kernel.source}), {kernel.digest[:12]}; then it was {then}",
        hint="its sources, configuration or compiler have changed; --any-kernel takes what it is",
    )


def _current() -> Sequence[KernelFacts]:
    """Return the pinned kernels: those of this process, or of the command that started it.

    The variable is taken out of the environment: it is for this command alone.
    """
    given = os.environ.pop(_VARIABLE, None)
    if given is not None:
        try:
            _pinned[:] = _FACTS.validate_json(given)
        except ValidationError as error:
            raise UsageError(
                f"{_VARIABLE} does not say which kernels are pinned",
                hint="`klp-harness rerun` sets it for the commands that it starts; unset it",
            ) from error
    return _pinned


def _the_one(spec: str, store: Store, *, is_patched: bool) -> Kernel | None:
    # As harness.vm.kernel.patched names patched ones: a command may use the clean kernel as well.
    named = [
        facts
        for facts in _current()
        if facts.spec == spec and (" + " in facts.source) == is_patched
    ]
    return find(named[0], store) if len(named) == 1 else None
