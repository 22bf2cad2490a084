# SPDX-License-Identifier: GPL-2.0-only
"""A C file read by tree-sitter: its functions, and the mutants in them."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from harness.errors import MissingTool
from harness.tools.mutants.sweep.candidates import Candidate, Shape
from harness.tools.mutants.sweep.masking import loops, masked
from harness.tools.mutants.sweep.operators import Function, mutants_of
from harness.tools.mutants.sweep.tables import tables_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tree_sitter import Node, Parser

    from harness.tools.mutants.sweep.operators import Found


class Unread(RuntimeError):
    """A function that the parser could not read; ``line`` is where it gave up."""


def parser() -> Parser:
    """Return the parser of C; raises MissingTool where its library is not installed."""
    try:
        import tree_sitter
        import tree_sitter_c
    except ImportError as error:
        raise MissingTool(
            "mutants sweep reads C with tree-sitter, which is not installed",
            hint="pip install tree-sitter tree-sitter-c",
        ) from error
    return tree_sitter.Parser(tree_sitter.Language(tree_sitter_c.language()))


def functions_of(source: bytes, reader: Parser) -> Iterator[Function]:
    """Yield the functions that a file defines, in their order."""
    text = masked(source)
    found_loops = loops(source)
    for node in _definitions(reader.parse(text).root_node):
        declarator, body = node.child_by_field_name("declarator"), node.child_by_field_name("body")
        kind = node.child_by_field_name("type")
        name = _name(declarator)
        if body is None or name is None or kind is None:
            continue
        head = source[node.start_byte : body.start_byte].decode(errors="replace")
        star = "*" if declarator is not None and declarator.type == "pointer_declarator" else ""
        yield Function(
            name=source[name.start_byte : name.end_byte].decode(),
            body=body,
            source=source,
            loops=found_loops,
            returns=source[kind.start_byte : kind.end_byte].decode(errors="replace") + star,
            init="__init" in head.split(),
        )


def unread_lines(source: bytes, reader: Parser) -> tuple[int, ...]:
    """Return the lines in functions that the parser could not read."""
    found = {
        node.start_point[0] + 1
        for function in functions_of(source, reader)
        for node in _all(function.body)
        if node.type == "ERROR" or node.is_missing
    }
    return tuple(sorted(found))


def candidates(files: Mapping[str, bytes], *, tables: bool = False) -> tuple[Candidate, ...]:
    """Return the mutants of some files, by the name of each, numbered from 1.

    ``tables``: those of tables too, which cannot be behind a switch. Raises MissingTool.
    """
    reader = parser()
    made: list[Candidate] = []
    # Of all files: two of one name may be in different folders.
    names: Counter[str] = Counter()
    for file, source in files.items():
        seen: set[tuple[int, int, str, int]] = set()
        for function in functions_of(source, reader):
            for found in mutants_of(function):
                partner = found.partner
                key = (
                    found.node.start_byte,
                    found.node.end_byte,
                    found.new,
                    partner.end_byte if partner is not None else 0,
                )
                if key in seen or _has_directive(source, found):
                    continue
                seen.add(key)
                made.append(_candidate(len(made) + 1, file, function, found, names))
        for table, found in tables_of(source, reader) if tables else ():
            if not _has_directive(source, found):
                made.append(_candidate(len(made) + 1, file, table, found, names))
    return tuple(made)


def _candidate(
    number: int, file: str, function: Function, found: Found, names: Counter[str]
) -> Candidate:
    line = found.node.start_point[0] + 1
    stem = file.rpartition("/")[2].removesuffix(".c")
    name = f"{stem}-{line}-{found.operator.value}"
    names[name] += 1
    if names[name] > 1:
        name = f"{name}-{names[name]}"
    partner = found.partner
    return Candidate(
        number=number,
        name=name,
        file=file,
        function=function.name,
        operator=found.operator,
        shape=found.shape,
        line=line,
        start=found.node.start_byte,
        end=found.node.end_byte,
        new=found.new,
        differs=found.differs,
        partner_start=partner.start_byte if partner is not None else 0,
        partner_end=partner.end_byte if partner is not None else 0,
        init=function.init,
    )


def _has_directive(source: bytes, found: Found) -> bool:
    """Whether a copy of the code would hold a line for the preprocessor."""
    nodes = [found.node]
    if found.partner is not None:
        nodes.append(found.partner)
    elif found.shape is Shape.STATEMENT and found.new in (";", "break;", "continue;"):
        return False
    texts = (source[node.start_byte : node.end_byte] for node in nodes)
    return any(line.lstrip().startswith(b"#") for text in texts for line in text.splitlines())


def _definitions(node: Node) -> Iterator[Node]:
    for child in node.named_children:
        if child.type == "function_definition":
            yield child
        elif child.type in {"ERROR", "linkage_specification", "declaration_list"}:
            yield from _definitions(child)


def _name(declarator: Node | None) -> Node | None:
    while declarator is not None and declarator.type != "identifier":
        declarator = declarator.child_by_field_name("declarator")
    return declarator


def _all(node: Node) -> Iterator[Node]:
    yield node
    for child in node.children:
        yield from _all(child)


__all__: Sequence[str] = ("candidates", "functions_of", "parser", "unread_lines")
