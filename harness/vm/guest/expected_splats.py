# SPDX-License-Identifier: GPL-2.0-only
"""The splats of a guest that are declared: those that a test causes on purpose."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from harness.klog.splats import Splat


class ExpectedSplats:
    """Patterns of splats, and whether each has to come."""

    def __init__(self) -> None:
        self._patterns: dict[re.Pattern[str], bool] = {}

    def add(self, pattern: str, *, required: bool) -> None:
        """Declare splats whose title or text matches a regular expression."""
        self._patterns[re.compile(pattern)] = required

    def unexpected(self, splats: Iterable[Splat]) -> tuple[Splat, ...]:
        """Return those of the splats that were not declared."""
        return tuple(
            splat
            for splat in splats
            if not any(pattern.search(splat.text) for pattern in self._patterns)
        )

    def unmet(self, splats: Iterable[Splat]) -> tuple[str, ...]:
        """Return the patterns that are required and match none of the splats."""
        texts = [splat.text for splat in splats]
        return tuple(
            pattern.pattern
            for pattern, required in self._patterns.items()
            if required and not any(pattern.search(text) for text in texts)
        )

    @contextlib.contextmanager
    def all_known(self) -> Iterator[None]:
        """Within this no splat is unexpected: of a guest that has failed, more is asked."""
        before = dict(self._patterns)
        self.add("", required=False)
        try:
            yield
        finally:
            self._patterns = before
