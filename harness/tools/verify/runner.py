# SPDX-License-Identifier: GPL-2.0-only
"""Runs scenes, several at a time, each in a fresh guest."""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from harness.errors import (
    ConsistencyViolated,
    HarnessError,
    KernelVerdict,
    LostConnection,
    LostGuest,
    UsageError,
)
from harness.log import LOGGER
from harness.threads import run_jobs
from harness.tools.verify.logs import read_log
from harness.tools.verify.scene import Scene, SceneResult
from harness.tools.verify.step import SceneEnded, code_of
from harness.tools.verify.verdict import failed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager

    from harness.tools.verify.case import Case
    from harness.tools.verify.scene import SceneSpec
    from harness.tools.verify.verdict import Check
    from harness.vm.guest.machine import Machine
    from harness.vm.guest.session import Session

_TRIES = 2


class SceneRunner:
    """Runs the scenes of a case in threads: a guest dies with the thread that started it."""

    def __init__(
        self,
        case: Case,
        session: Session,
        *,
        guests: int,
        gate: AbstractContextManager[object] | None = None,
    ) -> None:
        """``gate`` is held while a scene runs."""
        self._case = case
        self._session = session
        self._guests = guests
        self._gate = gate or contextlib.nullcontext()
        # Set when the first scene has failed, and when no scene is of use any more.
        self._stop = threading.Event()
        self._stop_all = threading.Event()

    def run(self, specs: Sequence[SceneSpec]) -> Iterator[SceneResult]:
        """Yield the result of each scene when it has ended; raises what is no KlpError."""
        workers = min(self._guests, len(specs))
        try:
            yield from run_jobs(specs, self._run, at_a_time=workers, name="scenes")
        except BaseException:
            self._stop.set()
            self._stop_all.set()
            raise

    def _run(self, spec: SceneSpec) -> SceneResult:
        result = SceneResult(spec=spec)
        for attempt in range(_TRIES):
            with self._gate:
                result = self._try(spec)
            # A guest that was lost says nothing about the patch: once more.
            if not isinstance(result.error, LostGuest | LostConnection):
                break
            LOGGER.info("%s: %s (attempt %d)", spec.name, result.error.message, attempt + 1)
        is_usage = isinstance(result.error, UsageError)
        if (spec.first and result.failed) or is_usage:
            self._stop.set()
        if is_usage:
            self._stop_all.set()
        return result

    def _try(self, spec: SceneSpec) -> SceneResult:
        result = SceneResult(spec=spec)
        stop = self._stop_all if spec.always or spec.first else self._stop
        if stop.is_set():
            return result
        start_s = time.monotonic()
        try:
            with self._guest(spec, spec.name) as machine:
                scene = Scene(
                    machine,
                    self._case,
                    result,
                    stop=stop,
                    another_guest=lambda: self._guest(spec, f"{spec.name}-other"),
                )
                result.has_guest = True
                try:
                    spec.run(scene)
                except SceneEnded:
                    pass
                except KernelVerdict as error:
                    result.checks.append(_outside(spec, error, time.monotonic() - start_s))
                read_log(machine, result)
                self._note_failure(machine, result)
        except (HarnessError, UsageError) as error:
            result.error = error
        except OSError as error:
            # In a step these are failures of the patch; between steps they are not.
            result.error = HarnessError(f"the scene {spec.name} could not go on: {error}")
        except ConsistencyViolated as error:
            # What the oracle found at the end of a guest.
            result.checks.append(_outside(spec, error, time.monotonic() - start_s))
        except KernelVerdict as error:
            # The guest did not start: no patch can have caused that.
            result.error = LostGuest(
                f"no guest for {spec.name}: {error.message}", details=error.details
            )
        return result

    def _note_failure(self, machine: Machine, result: SceneResult) -> None:
        """Let the session keep the guest of a scene that failed; returns when it is let go."""
        failed, keeper = result.failed, self._session.keeper
        why = f"{failed.id}: {failed.detail}" if failed is not None else None
        if why is None and result.splat is not None and not result.excused:
            why = f"{result.spec.name}: {result.splat.splitlines()[0]}"
        if why is None or keeper is None:
            return
        if keeper.stops_all:
            self._stop.set()
            self._stop_all.set()
        keeper.failed(machine, self._case.kernel, why)

    def _guest(self, spec: SceneSpec, name: str) -> AbstractContextManager[Machine]:
        return self._session.guest(
            self._case.kernel, name=f"{self._case.name}-{name}", cpus=spec.cpus
        )


def _outside(spec: SceneSpec, error: KernelVerdict, seconds: float) -> Check:
    """Return the check of a guest that died between two steps."""
    return replace(
        failed(spec.name, code_of(error), error.message, lines=error.details),
        seconds=seconds,
        evidence=(error.artefacts,) if error.artefacts is not None else (),
    )
