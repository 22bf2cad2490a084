# SPDX-License-Identifier: GPL-2.0-only
"""The operators: which mutants a function's syntax tree has. Pure but for the parser's library."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from harness.tools.mutants.sweep.candidates import Operator, Shape

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tree_sitter import Node

# Calls that are no behaviour: what only debug kernels check, and messages that are off.
_ANNOTATIONS = re.compile(
    r"lockdep_\w+|might_sleep\w*|pr_debug|dev_dbg|BUILD_BUG\w*|static_assert|kasan_\w+|kcsan_\w+"
    r"|kmsan_\w+|instrumentation_\w+|annotate_\w+|__set_current_state_debug"
)
# A declaration in the form of a call: a switch cannot be put around it.
_DECLARES = re.compile(r"(?:DEFINE|DECLARE)_\w+|H?LIST_HEAD|guard|CLASS|scoped_\w+|EXPORT_\w+")
_LOGS = re.compile(r"pr_\w+|printk\w*|dev_\w+|WARN_ONCE|WARN|panic")
_WARNS = re.compile(r"WARN(_ON)?(_ONCE)?|VM_(WARN|BUG)_ON(_ONCE)?|BUG_ON")
_TYPES = frozenset(
    {"sizeof_expression", "type_descriptor", "array_declarator", "offsetof_expression"}
)
CONSTANTS = {
    "true": "false",
    "false": "true",
    "KLP_PATCHED": "KLP_UNPATCHED",
    "KLP_UNPATCHED": "KLP_PATCHED",
    "KLP_UNDEFINED": "KLP_UNPATCHED",
}
_BOUNDARIES = {"<": "<=", "<=": "<", ">": ">=", ">=": ">"}
_EQUALITIES = {"==": "!=", "!=": "=="}
_SUMS = {"+": "-", "-": "+"}
_LIST_ENDS = {
    "list_add": "list_add_tail",
    "list_add_tail": "list_add",
    "list_add_rcu": "list_add_tail_rcu",
    "list_add_tail_rcu": "list_add_rcu",
    "list_first_entry": "list_last_entry",
    "list_last_entry": "list_first_entry",
    "list_next_entry": "list_prev_entry",
    "list_prev_entry": "list_next_entry",
    "list_move": "list_move_tail",
    "list_move_tail": "list_move",
    "hlist_add_head_rcu": "hlist_add_tail_rcu",
}
_REVERSED_LOOPS = {
    "list_for_each_entry": "list_for_each_entry_reverse",
    "list_for_each_entry_reverse": "list_for_each_entry",
    "list_for_each_entry_safe": "list_for_each_entry_safe_reverse",
}
_CONTAINER = re.compile(r"(\w+)\s*=\s*container_of\((\w+),[^()]*\)")
_ERROR = re.compile(r"-E[A-Z0-9]+\Z")
_EFFECTS = frozenset({"call_expression", "assignment_expression", "update_expression"})
_WORD = re.compile(r"[A-Za-z_]\w*")


class Found(NamedTuple):
    """A mutant of a function, before it has a number; as in `Candidate`."""

    operator: Operator
    shape: Shape
    node: Node
    new: str
    differs: str = "1"
    partner: Node | None = None


@dataclass(frozen=True, kw_only=True)
class Function:
    """A function definition: its tree in the masked text, and the source that it stands for."""

    name: str
    body: Node
    source: bytes
    loops: frozenset[int]
    returns: str
    init: bool

    def text(self, node: Node) -> str:
        """Return what the source has at a node."""
        return self.source[node.start_byte : node.end_byte].decode(errors="replace")


def mutants_of(function: Function) -> Iterator[Found]:
    """Yield the mutants of a function, in the order of the source."""
    yield from _walk(function, function.body, in_loop=False, in_switch=False)


def _walk(of: Function, node: Node, *, in_loop: bool, in_switch: bool) -> Iterator[Found]:
    if node.type in _TYPES or node.type == "ERROR":
        return
    if node.type == "declaration" and any(
        child.type == "storage_class_specifier" for child in node.children
    ):
        return
    if node.type == "call_expression" and (_called(of, node, _LOGS) or _is_no_behaviour(of, node)):
        # Statements with such calls are looked at as statements.
        return
    if not node.has_error or node.type.endswith("_statement"):
        yield from _here(of, node, in_loop=in_loop, in_switch=in_switch)
    loop = node.type in {"while_statement", "for_statement", "do_statement"}
    for child in node.named_children:
        if node.type == "case_statement" and child == node.child_by_field_name("value"):
            continue
        if loop and node.start_byte in of.loops and child == node.child_by_field_name("condition"):
            # The arguments of a macro that is a loop.
            continue
        yield from _walk(
            of,
            child,
            in_loop=in_loop or loop,
            in_switch=(in_switch or node.type == "switch_statement") and not loop,
        )


def _here(of: Function, node: Node, *, in_loop: bool, in_switch: bool) -> Iterator[Found]:
    if node.type in _CONDITIONS:
        yield from _condition(of, node)
    elif node.type in _JUMPS:
        yield from _jump(node, in_loop=in_loop, in_switch=in_switch)
    elif node.type in _FINDERS:
        yield from _FINDERS[node.type](of, node)
    if node.type == "while_statement" and node.start_byte in of.loops:
        yield from _reversed(of, node)


def _statement(of: Function, node: Node) -> Iterator[Found]:
    inner = node.named_children[0] if node.named_children else None
    if inner is None or inner.has_error or any(child.is_missing for child in node.children):
        return
    if inner.type == "call_expression" and not _is_no_behaviour(of, inner):
        yield Found(Operator.DELETE_CALL, Shape.STATEMENT, node, ";", _warned_of(of, inner))
    if inner.type == "update_expression":
        yield Found(Operator.DELETE_ASSIGNMENT, Shape.STATEMENT, node, ";")
    if inner.type == "assignment_expression":
        left, right = inner.child_by_field_name("left"), inner.child_by_field_name("right")
        differs = "1"
        is_plain = _operator(inner) == "=" and not _has_directive(of.text(inner))
        if is_plain and left and right and _is_pure(left) and _is_pure(right):
            differs = f"({of.text(left)}) != ({of.text(right)})"
        yield Found(Operator.DELETE_ASSIGNMENT, Shape.STATEMENT, node, ";", differs)


def _warned_of(of: Function, call: Node) -> str:
    """Return when a call that is left out would have done something: a WARN when it warns."""
    arguments = call.child_by_field_name("arguments")
    if arguments is None or not _called(of, call, _WARNS):
        return "1"
    condition = next((each for each in arguments.named_children if each.type != "comment"), None)
    if condition is None or not _is_pure(condition):
        return "1"
    return f"!!({of.text(condition)})"


def _condition(of: Function, node: Node) -> Iterator[Found]:
    if node.start_byte in of.loops:
        return
    condition = _bare(node.child_by_field_name("condition"))
    if condition is None or condition.has_error:
        return
    # A ! that is dropped, and == for !=, are the same mutant.
    if condition.type == "unary_expression" and _operator(condition) == "!":
        return
    if condition.type == "binary_expression" and _operator(condition) in _EQUALITIES:
        return
    yield Found(Operator.NEGATE_CONDITION, Shape.EXPRESSION, condition, f"!({of.text(condition)})")


def _binary(of: Function, node: Node) -> Iterator[Found]:
    left, right = node.child_by_field_name("left"), node.child_by_field_name("right")
    sign = _operator(node)
    if left is None or right is None:
        return
    a, b = of.text(left), of.text(right)
    if sign in ("&&", "||"):
        yield from _sides(node, sign, left, (a, b))
    for operator, signs in (
        (Operator.BOUNDARY, _BOUNDARIES),
        (Operator.EQUALITY, _EQUALITIES),
        (Operator.OFF_BY_ONE, _SUMS),
    ):
        if sign in signs:
            new = f"{a} {signs[sign]} {b}"
            # == and != are never the same.
            asks = _is_pure(node) and operator is not Operator.EQUALITY
            differs = f"({of.text(node)}) != ({new})" if asks else "1"
            yield Found(operator, Shape.EXPRESSION, node, new, differs)


def _sides(node: Node, sign: str, left: Node, texts: tuple[str, str]) -> Iterator[Found]:
    """Yield what drops a side. The right side is not evaluated where the original does not."""
    a, b = texts
    decides = f"!({a})" if sign == "&&" else f"({a})"
    yield Found(
        Operator.DROP_LEFT, Shape.EXPRESSION, node, f"({b})", decides if _is_pure(left) else "1"
    )
    goes_on = f"({a}) && !({b})" if sign == "&&" else f"!({a}) && ({b})"
    yield Found(
        Operator.DROP_RIGHT, Shape.EXPRESSION, node, f"({a})", goes_on if _is_pure(node) else "1"
    )


def _unary(of: Function, node: Node) -> Iterator[Found]:
    inner = node.child_by_field_name("argument")
    text = of.text(node)
    if _operator(node) == "!" and inner is not None:
        yield Found(Operator.DROP_NOT, Shape.EXPRESSION, node, f"!!({of.text(inner)})")
    if _ERROR.match(text) and node.parent is not None and node.parent.type != "binary_expression":
        yield Found(Operator.ERROR_TO_ZERO, Shape.EXPRESSION, node, "0")


def _return(of: Function, node: Node) -> Iterator[Found]:
    value = node.named_children[0] if node.named_children else None
    if value is None:
        yield Found(Operator.JUMP, Shape.STATEMENT, node, ";")
        return
    value = _bare(value)
    if value is None or value.has_error:
        return
    text = of.text(value)
    if text in CONSTANTS or _ERROR.match(text):
        return
    if text == "0":
        if of.returns == "int":
            yield Found(Operator.ZERO_TO_ERROR, Shape.EXPRESSION, value, "-EINVAL")
        return
    if text == "NULL":
        return
    nothing = "NULL" if of.returns.endswith("*") else "0"
    differs = f"({text}) != {nothing}" if _is_pure(value) else "1"
    yield Found(Operator.RESULT_LOST, Shape.EXPRESSION, value, nothing, differs)


def _jump(node: Node, *, in_loop: bool, in_switch: bool) -> Iterator[Found]:
    yield Found(Operator.JUMP, Shape.STATEMENT, node, ";")
    if node.type == "break_statement" and in_loop and not in_switch:
        yield Found(Operator.JUMP, Shape.STATEMENT, node, "continue;")
    if node.type == "continue_statement":
        yield Found(Operator.JUMP, Shape.STATEMENT, node, "break;")


def _number(of: Function, node: Node) -> Iterator[Found]:
    parent = node.parent
    if parent is None or parent.type in {"case_statement", "bitfield_clause", "enumerator"}:
        return
    text = of.text(node)
    if parent.type == "return_statement" and of.returns == "int" and text == "0":
        return
    if parent.type == "binary_expression" and _operator(parent) in _BOUNDARIES:
        # x < 1 and x <= 0 are the same.
        return
    yield Found(Operator.OFF_BY_ONE, Shape.EXPRESSION, node, f"({text} + 1)")


def _constant(of: Function, node: Node) -> Iterator[Found]:
    new = CONSTANTS.get(of.text(node))
    if new is not None:
        yield Found(Operator.CONSTANT, Shape.EXPRESSION, node, new)


def _list_end(of: Function, node: Node) -> Iterator[Found]:
    name, arguments = node.child_by_field_name("function"), node.child_by_field_name("arguments")
    if name is None or arguments is None or of.text(name) not in _LIST_ENDS:
        return
    new = f"{_LIST_ENDS[of.text(name)]}{of.text(arguments)}"
    parent = node.parent
    if parent is not None and parent.type == "expression_statement":
        yield Found(Operator.LIST_END, Shape.STATEMENT, parent, f"{new};")
    else:
        yield Found(Operator.LIST_END, Shape.EXPRESSION, node, new)


def _reversed(of: Function, node: Node) -> Iterator[Found]:
    text = of.text(node)
    name = _WORD.match(text)
    if name is not None and name[0] in _REVERSED_LOOPS:
        new = _REVERSED_LOOPS[name[0]] + text[name.end() :]
        yield Found(Operator.LIST_END, Shape.STATEMENT, node, new)


def _swaps(of: Function, node: Node) -> Iterator[Found]:
    children = [child for child in node.named_children if child.type != "comment"]
    for first, second in itertools.pairwise(children):
        pair = (first, second)
        if any(each.type != "expression_statement" or each.has_error for each in pair):
            continue
        if any(any(child.is_missing for child in each.children) for each in pair):
            continue
        inner = [each.named_children[0] for each in pair if each.named_children]
        if len(inner) != 2 or any(
            each.type == "call_expression"
            and (_is_no_behaviour(of, each) or _called(of, each, _LOGS))
            for each in inner
        ):
            continue
        if _independent(of, *inner):
            continue
        yield Found(Operator.SWAP, Shape.SWAP, first, "", "1", second)


def _independent(of: Function, first: Node, second: Node) -> bool:
    """Whether two statements surely have nothing to do with each other.

    These are assignments without calls; and one that takes a local variable from the address in
    another one, which reads no memory, beside anything that names neither.
    """
    for one, other in ((first, second), (second, first)):
        names = _CONTAINER.fullmatch(of.text(one))
        if names is None or set(names.groups()) & set(_WORD.findall(of.text(other))):
            continue
        if re.search(rf"\*\s*{names[1]}\s*[;,]", of.text(of.body)):
            return True
    if not all(_is_plain_assignment(each) for each in (first, second)):
        return False
    for one, other in ((first, second), (second, first)):
        left = one.child_by_field_name("left")
        if left is None or of.text(left).rpartition("->")[2] in _WORD.findall(of.text(other)):
            return False
    return True


def _is_plain_assignment(node: Node) -> bool:
    right = node.child_by_field_name("right")
    return node.type == "assignment_expression" and right is not None and _is_pure(right)


def _is_no_behaviour(of: Function, call: Node) -> bool:
    return _called(of, call, _ANNOTATIONS) or _called(of, call, _DECLARES)


def _called(of: Function, call: Node, names: re.Pattern[str]) -> bool:
    name = call.child_by_field_name("function")
    while name is not None and name.type == "call_expression":
        name = name.child_by_field_name("function")
    return name is not None and names.fullmatch(of.text(name)) is not None


def _has_directive(text: str) -> bool:
    return any(line.lstrip().startswith("#") for line in text.splitlines())


def _is_pure(node: Node) -> bool:
    if node.type in _EFFECTS or node.type == "ERROR":
        return False
    return all(_is_pure(child) for child in node.named_children)


def _bare(node: Node | None) -> Node | None:
    """Return what is inside of parentheses."""
    while node is not None and node.type == "parenthesized_expression":
        node = next((child for child in node.named_children if child.type != "comment"), None)
    return node


def _operator(node: Node) -> str:
    sign = node.child_by_field_name("operator")
    return sign.type if sign is not None else ""


_CONDITIONS = frozenset(
    {
        "if_statement",
        "while_statement",
        "for_statement",
        "do_statement",
        "conditional_expression",
    }
)
_JUMPS = frozenset({"break_statement", "continue_statement", "goto_statement"})
_FINDERS: dict[str, Callable[[Function, Node], Iterator[Found]]] = {
    "expression_statement": _statement,
    "binary_expression": _binary,
    "unary_expression": _unary,
    "return_statement": _return,
    "number_literal": _number,
    "true": _constant,
    "false": _constant,
    "identifier": _constant,
    "call_expression": _list_end,
    "compound_statement": _swaps,
    "case_statement": _swaps,
}
