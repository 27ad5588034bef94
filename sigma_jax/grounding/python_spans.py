"""Python, cut at definitions, constants and blocks of statements."""

import ast
import warnings
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from .spans import MAX_LINES, Span, chunks, plain_spans

STATEMENTS = 12
"""The most lines of constants or fields in one passage, unless one alone has more."""

_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


class _Piece(NamedTuple):
    """Where something ends, whether it may stand with its neighbours, and what it is within."""

    last: int
    room: int
    """The most lines that it may have together with its neighbours; 0: it stands alone."""
    context: str


def python_spans(lines: Sequence[str]) -> list[Span]:
    """Spans with the names that they stand under, and the first line of their docstrings.

    A definition of at most 30 lines is one span. Of a longer one the signature with its docstring
    is one, and the rest is cut between statements, a class at its methods. Comments go with what
    follows them. Every line that is not blank is in one span. Text that Python cannot parse is cut
    at blank lines.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)  # of an escape that is none
            warnings.simplefilter("ignore", DeprecationWarning)  # the same, before Python 3.12
            body = ast.parse("\n".join(lines)).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # what the parser may raise
        return plain_spans(lines)
    spans: list[Span] = []
    end, room = 0, 0
    for piece in _pieces(body, "", STATEMENTS):
        first = _skip_blank(lines, end + 1)
        if first > piece.last:  # on one line with what came before
            continue
        joins = spans and room and room == piece.room and spans[-1].context == piece.context
        if joins and piece.last - spans[-1].first < room:
            spans[-1] = spans[-1]._replace(last=piece.last)
        else:
            spans += [Span(*chunk, piece.context) for chunk in chunks(first, piece.last)]
        end, room = piece.last, piece.room
    rest = plain_spans(lines[end:])  # comments after the last statement
    return spans + [Span(first + end, last + end) for first, last, _ in rest]


def _pieces(body: Sequence[ast.stmt], context: str, room: int) -> Iterator[_Piece]:
    for place, node in enumerate(body):
        following = body[place + 1] if place + 1 < len(body) else None
        if isinstance(node, _Definition):
            yield from _definition(node, context)
        elif place == 0 and _is_text(node):
            yield _Piece(_last(node), 0, context)
        elif following is not None and _is_text(following) and not _is_text(node):
            continue  # a constant stands with its docstring, which comes next
        else:
            yield _Piece(_last(node), room, context)


def _definition(node: _Definition, context: str) -> Iterator[_Piece]:
    name = f"{context} {node.name}".strip()
    if _last(node) - _first(node) < MAX_LINES:
        yield _Piece(_last(node), 0, context)
        return
    docstring = ast.get_docstring(node) or ""
    yield _Piece(_last(node.body[0]) if docstring else _first(node.body[0]) - 1, 0, context)
    inside = f"{name} {docstring.partition(chr(10))[0]}".strip()
    room = STATEMENTS if isinstance(node, ast.ClassDef) else MAX_LINES
    yield from _pieces(node.body[1:] if docstring else node.body, inside, room)


def _is_text(node: ast.stmt) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _first(node: ast.stmt) -> int:
    decorators = node.decorator_list if isinstance(node, _Definition) else []
    return min([node.lineno, *(decorator.lineno for decorator in decorators)])


def _last(node: ast.stmt) -> int:
    return node.end_lineno or node.lineno


def _skip_blank(lines: Sequence[str], number: int) -> int:
    while number <= len(lines) and not lines[number - 1].strip():
        number += 1
    return number
