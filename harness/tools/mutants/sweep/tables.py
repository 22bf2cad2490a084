# SPDX-License-Identifier: GPL-2.0-only
"""The mutants of a file's tables: what a livepatch says of itself is in initialisers.

A switch cannot be put around an initialiser, so only a sweep of a module has these.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.tools.mutants.sweep.candidates import Operator, Shape
from harness.tools.mutants.sweep.masking import masked
from harness.tools.mutants.sweep.operators import CONSTANTS, Found, Function

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tree_sitter import Node, Parser

_LIST, _PAIR = "initializer_list", "initializer_pair"
_ENTRIES = frozenset({_LIST, _PAIR})


def tables_of(source: bytes, reader: Parser) -> Iterator[tuple[Function, Found]]:
    """Yield the mutants of all tables at the top of a file, each with its table as the function."""
    tree = reader.parse(masked(source))
    for declaration in tree.root_node.named_children:
        if declaration.type != "declaration" or declaration.has_error:
            continue
        for node in declaration.named_children:
            value = node.child_by_field_name("value") if node.type == "init_declarator" else None
            name = _name(node)
            if value is None or value.type != _LIST or name is None:
                continue
            table = Function(
                name=f"table {source[name.start_byte : name.end_byte].decode()}",
                body=value,
                source=source,
                loops=frozenset(),
                returns="",
                init=False,
            )
            for found in _mutants(table, value):
                yield table, found


def _mutants(table: Function, node: Node) -> Iterator[Found]:
    if node.type == "sizeof_expression":
        return
    text = table.text(node)
    members = [child for child in node.named_children if child.type != "comment"]
    if text in CONSTANTS and node.type in {"true", "false", "identifier"}:
        yield Found(Operator.CONSTANT, Shape.EXPRESSION, node, CONSTANTS[text])
    elif node.type == "number_literal":
        yield Found(Operator.OFF_BY_ONE, Shape.EXPRESSION, node, f"({text} + 1)")
    for child in members:
        is_entry = node.type == _LIST and child.type in _ENTRIES
        if is_entry and not _is_the_same(table, child, alone=len(members) == 1):
            yield Found(Operator.DELETE_ENTRY, Shape.EXPRESSION, child, "")
        if child.type not in {"field_designator", "subscript_designator"}:
            yield from _mutants(table, child)


def _is_the_same(table: Function, entry: Node, *, alone: bool) -> bool:
    """Whether it changes nothing to leave an entry out, or what another mutant changes.

    That is the empty entry that ends a table, the only member of an entry, and what becomes false.
    """
    if entry.type == _LIST:
        return all(child.type == "comment" for child in entry.named_children)
    value = entry.child_by_field_name("value")
    above = entry.parent.parent if entry.parent is not None else None
    is_entry = above is not None and above.type == _LIST
    return (alone and is_entry) or (value is not None and table.text(value) in CONSTANTS)


def _name(declarator: Node | None) -> Node | None:
    while declarator is not None and declarator.type != "identifier":
        declarator = declarator.child_by_field_name("declarator")
    return declarator
