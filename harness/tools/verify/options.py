# SPDX-License-Identifier: GPL-2.0-only
"""The options that say how a livepatch is verified, for all commands that verify one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.modules import check_named
from harness.errors import UsageError
from harness.tools.verify.request import VerifyRequest
from harness.tools.verify.user_load import parse_loads

if TYPE_CHECKING:
    from typing import Any


@dataclass(frozen=True, kw_only=True)
class RequestOptions:
    """The options of a `VerifyRequest` but for the livepatch itself."""

    replaces: Annotated[
        tuple[str, ...],
        typer.Option(metavar="OLD.ko", help="Older patch to upgrade from. Repeatable."),
    ] = ()
    target: Annotated[
        tuple[str, ...],
        typer.Option(metavar="T.ko", help="Module that the patch patches. Repeatable."),
    ] = ()
    param: Annotated[
        tuple[str, ...],
        typer.Option(metavar="NAME=VALUE", help="Parameter of the patch. Repeatable."),
    ] = ()
    check: Annotated[
        Path | None,
        typer.Option(
            metavar="SCRIPT",
            help="Runs in the guest with the argument before, during or after; ends with 0 when "
            "the kernel behaves as it should then; or a pytest file, NAME.py.",
        ),
    ] = None
    check_timeout: Annotated[
        float, typer.Option(min=1, metavar="SECONDS", help="How long the script may run.")
    ] = VerifyRequest.check_timeout_s
    load: Annotated[
        tuple[str, ...],
        typer.Option(
            metavar="LOAD",
            help="Load to verify the patch under: forks, syscalls, cpu, memory, modules, or a "
            "program of yours. Repeatable; default: all five.",
        ),
    ] = ()
    scene: Annotated[
        tuple[str, ...],
        typer.Option(metavar="NAME", help="Run this scene only: idle, cycles... Repeatable."),
    ] = ()
    within: Annotated[
        float,
        typer.Option(
            min=1, metavar="SECONDS", help="How long a transition may take on quick hardware."
        ),
    ] = VerifyRequest.within_s
    cycles: Annotated[
        int, typer.Option(min=1, metavar="N", help="How often it is loaded and unloaded.")
    ] = VerifyRequest.cycles

    def settings(self) -> dict[str, Any]:
        """Return the fields of a request, but for its files. Raises UsageError."""
        return {
            "params": _params(self.param),
            "load": parse_loads(self.load),
            "scenes": self.scene,
            "cycles": self.cycles,
            "within_s": self.within,
            "check_timeout_s": self.check_timeout,
        }

    def refuse_unusable(self) -> None:
        """Refuse what no kernel could make right, before one is built. Raises UsageError."""
        # They need pytest and all scenes, which commands that only have the options do not.
        from harness.tools.verify.case import check_script
        from harness.tools.verify.scene_list import check_names

        check_names(self.scene)
        check_named((*self.target, *self.replaces))
        if self.check is not None:
            check_script(self.check)


def _params(texts: tuple[str, ...]) -> dict[str, str]:
    params = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise UsageError(f"--param {text!r} is not of the form name=value")
        params[name] = value
    return params
