# SPDX-License-Identifier: GPL-2.0-only
"""Options that commands share: what typer sees of them, and what the command gets."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from harness.cli.option_groups import with_option_groups
from harness.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Paint:
    """A group of options, one of them inherited below."""

    colour: Annotated[str, typer.Option("--colour", help="What to paint with.")] = "red"
    walls: Annotated[tuple[Path, ...], typer.Option("--wall", metavar="DIR")] = ()

    def __post_init__(self) -> None:
        if self.colour == "none":
            raise UsageError("no colour")


@dataclass(frozen=True, kw_only=True)
class GlossyPaint(Paint):
    """A group that has the fields of another."""

    gloss: Annotated[bool, typer.Option("--gloss")] = False


GOT: list[tuple[tuple[str, ...], int, GlossyPaint]] = []


def house(
    rooms: Annotated[tuple[str, ...], typer.Argument(metavar="ROOM")],
    *,
    paint: GlossyPaint,
    coats: Annotated[int, typer.Option("--coats", min=1)] = 1,
) -> None:
    """Paint a house."""
    GOT.append((rooms, coats, paint))


def ran(*words: str) -> tuple[int, str]:
    """Run the command and return its exit code and output; what it got is in GOT."""
    GOT.clear()
    app = typer.Typer(rich_markup_mode=None)
    app.command()(with_option_groups(house))
    result = CliRunner().invoke(app, list(words))
    return result.exit_code, result.output


@pytest.mark.parametrize(
    ("words", "got"),
    [
        (["a"], (("a",), 1, GlossyPaint())),
        (["a", "b", "--coats", "3"], (("a", "b"), 3, GlossyPaint())),
        (
            ["a", "--gloss", "--wall", "w", "--colour", "blue", "--wall", "x"],
            (("a",), 1, GlossyPaint(colour="blue", walls=(Path("w"), Path("x")), gloss=True)),
        ),
    ],
)
def test_a_command_gets_its_groups(words: list[str], got: object) -> None:
    """Each field is an option of its own type; a list is a tuple, and without a value empty."""
    assert ran(*words) == (0, "")
    assert [got] == GOT


@pytest.mark.parametrize("words", [[], ["a", "--coats", "0"], ["a", "--paint", "x"]])
def test_what_typer_refuses_does_not_reach_the_command(words: list[str]) -> None:
    """What is required stays so, a limit holds, and a group's own name is no option."""
    assert ran(*words)[0] == 2
    assert not GOT


def test_the_help_is_that_of_the_fields() -> None:
    """An option is explained where it is declared, with its metavar and default."""
    code, text = ran("--help")
    assert code == 0
    for part in ("Paint a house.", "ROOM", "--colour", "What to paint with.", "red", "--wall DIR"):
        assert part in text


def test_a_group_may_refuse_its_values() -> None:
    """Options that exclude each other are checked by the group that has them."""
    with pytest.raises(UsageError, match="no colour"):
        with_option_groups(house)(rooms=["a"], colour="none")
