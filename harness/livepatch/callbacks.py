# SPDX-License-Identifier: GPL-2.0-only
"""The callbacks that ran, in order, from the kernel log. Pure.

The sample modules log each callback as ``PATCH: callback PHASE OBJECT STATE``
(livepatch-modules/klp_callbacks.h).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from harness.agent_protocol import KlogRecord

_EVENT = re.compile(
    r"(?P<patch>\w+): callback (?P<phase>\w+) (?P<object>[\w-]+) (?P<state>-|[A-Z]+)$"
)


class CallbackPhase(StrEnum):
    """One of the four callbacks of struct klp_callbacks."""

    PRE_PATCH = "pre_patch"
    POST_PATCH = "post_patch"
    PRE_UNPATCH = "pre_unpatch"
    POST_UNPATCH = "post_unpatch"


@dataclass(frozen=True, kw_only=True)
class CallbackEvent:
    """A callback that ran. ``state`` is the target module's state, "-" for vmlinux.

    ``us`` is the time since boot in microseconds; it does not count when events are compared.
    """

    patch: str
    phase: CallbackPhase
    object: str
    state: str
    us: int = field(default=0, compare=False)

    def __str__(self) -> str:
        return f"{self.patch} {self.phase} {self.object} {self.state}"


def read_callbacks(records: Iterable[KlogRecord]) -> list[CallbackEvent]:
    """Return the callbacks that these records report, in their order.

    Raises ValueError for an unknown phase: then the module and the harness disagree.
    """
    events = []
    for record in records:
        match = _EVENT.fullmatch(record.text.rstrip("\n"))
        if match:
            events.append(
                CallbackEvent(
                    patch=match["patch"],
                    phase=CallbackPhase(match["phase"]),
                    object=match["object"],
                    state=match["state"],
                    us=record.us,
                )
            )
    return events
