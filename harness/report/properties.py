# SPDX-License-Identifier: GPL-2.0-only
"""What the plugin records of a test in pytest's ``user_properties``, and the command reads there.

They cross from a worker's process, and stand in pytest's own JUnit file under these names. Nothing
is imported here: the command reads them before pytest may import the plugin.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Value = TypeVar("Value")


@dataclass(frozen=True)
class Property(Generic[Value]):
    """A property by its name, of which the values have one type."""

    name: str
    parse: Callable[[str], Value]

    def of(self, value: Value) -> tuple[str, object]:
        """Return the property with a value, as pytest takes it."""
        return self.name, value

    def values(self, properties: Iterable[tuple[str, object]]) -> list[Value]:
        """Return its values among a test's properties, in order."""
        return [self.parse(str(value)) for name, value in properties if name == self.name]

    def last(self, properties: Iterable[tuple[str, object]]) -> Value | None:
        """Return the value that was recorded last, if there is one."""
        return next(iter(self.values(properties)[::-1]), None)


RULE = Property("behaviour", str)
FAULT = Property("klp_fault", int)
"""The exit code that says whose fault a failure is."""
KERNEL = Property("kernel", str)
KERNEL_DIGEST = Property("kernel_digest", str)
ACCELERATOR = Property("accelerator", str)
CONFIG_DIGEST = Property("config_digest", str)
COMPILER = Property("compiler", str)
