# SPDX-License-Identifier: GPL-2.0-only
"""What all mutants of a run have in common."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from harness.observer.test_lines import TestLines


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """What all mutants of a run have in common.

    ``kernel`` are the options that name the clean kernel, ``suite`` is the folder of the tests and
    ``carriers`` those of each rule, ``builds`` those for which a kernel is built with other
    options. The tests of one mutant use ``guests`` guests at a time. ``everything`` runs every
    test, though one has noticed; ``rules_only`` runs those of the broken rules alone, and all for a
    mutant that names none. ``selftests`` runs the kernel's own as well, when the outcome is known.
    ``without`` are tests that are not run. ``lines`` is what is known of the lines that tests run
    on the clean kernel: those that run what a mutant changes come first.
    """

    kernel: tuple[str, ...]
    suite: Path
    carriers: Mapping[str, Sequence[str]]
    builds: frozenset[str] = frozenset()
    accel: str
    guests: int
    everything: bool = False
    rules_only: bool = False
    selftests: bool = False
    without: frozenset[str] = frozenset()
    lines: TestLines | None = None

    def with_fragments(self, fragments: Sequence[str]) -> Conditions:
        """Return the same with a kernel that is built with these config fragments as well."""
        more = [name for name in fragments if name not in self.kernel]
        words = [word for name in more for word in ("--kernel-config", name)]
        return replace(self, kernel=(*self.kernel, *words))
