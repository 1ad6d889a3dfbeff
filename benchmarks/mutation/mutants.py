"""Small faults in a module's source, one at a time, by the operators of mutmut.

mutmut's own runner leaves out whatever has a decorator, which here is every property, validator and cached function,
and knows neither samples nor which tests belong to a module. So only its operators are used.
"""

from __future__ import annotations

import difflib
import random
from dataclasses import dataclass

import libcst as cst
import libcst.matchers as m
from libcst.metadata import MetadataWrapper, PositionProvider
from mutmut.mutation.mutators import mutation_operators


@dataclass(frozen=True)
class Mutant:
    """A module's source with one fault in it."""

    line: int
    before: str
    after: str
    source: str


def sampled(source: str, size: int, seed: int, names: tuple[str, ...] | None = None) -> list[Mutant]:
    """Returns `size` mutants of a source drawn without replacement, by line; all where there are no more.

    Only those inside the top-level definitions `names`, if these are given.
    """
    mutants = _mutants(source, names)
    drawn = random.Random(seed).sample(mutants, min(size, len(mutants)))
    return sorted(drawn, key=lambda mutant: (mutant.line, mutant.after))


def _mutants(source: str, names: tuple[str, ...] | None) -> list[Mutant]:
    wrapper = MetadataWrapper(cst.parse_module(source))
    visitor = _Visitor(names)
    wrapper.visit(visitor)
    found: dict[str, Mutant] = {}
    for line, original, mutated in visitor.pairs:
        text = wrapper.module.deep_replace(original, mutated).code  # type: ignore[union-attr]
        try:
            compile(text, "mutant", "exec")
        except SyntaxError:
            continue
        if text != source and text not in found and _stricts(text) == _stricts(source):
            before, after = _changed_lines(source, text)
            found[text] = Mutant(line, before, after, text)
    return list(found.values())


def _stricts(source: str) -> tuple[int, int]:
    return source.count("strict"), source.count("strict=None")


def _changed_lines(source: str, mutated: str) -> tuple[str, str]:
    lines = list(difflib.unified_diff(source.splitlines(), mutated.splitlines(), n=0, lineterm=""))[2:]
    return tuple("\n".join(line[1:].strip() for line in lines if line[0] == sign) for sign in "-+")  # type: ignore[return-value]


class _Visitor(cst.CSTVisitor):  # type: ignore[misc]
    """Collects nodes with what they may become.

    Left out: annotations, decorators, imports, names of types, what stands under TYPE_CHECKING, the words of errors,
    and `strict` of zip, which is there to notice faults itself.
    """

    METADATA_DEPENDENCIES = (PositionProvider,)

    def __init__(self, names: tuple[str, ...] | None) -> None:
        self.pairs: list[tuple[int, cst.CSTNode, cst.CSTNode]] = []
        self._names = names
        self._line = 0

    def visit_Module(self, node: cst.Module) -> bool:  # noqa: N802
        for statement in node.body:
            if self._names is None or _name_of(statement) in self._names:
                statement.visit(self)
        return False

    def on_visit(self, node: cst.CSTNode) -> bool:
        if isinstance(node, cst.Module):
            return self.visit_Module(node)
        if isinstance(node, (cst.Annotation, cst.Decorator, cst.Import, cst.ImportFrom, cst.Raise)):
            return False
        if m.matches(node, m.If(test=m.Name("TYPE_CHECKING")) | m.Arg(keyword=m.Name("strict"))) or _names_a_type(node):
            return False
        for kind, operator in mutation_operators:
            if isinstance(node, kind):
                line = self.get_metadata(PositionProvider, node).start.line if not _bare(node) else 0
                self.pairs.extend((line or self._line, node, mutated) for mutated in operator(node))
        if not _bare(node):
            self._line = self.get_metadata(PositionProvider, node).start.line
        return True


def _bare(node: cst.CSTNode) -> bool:
    """Returns whether a node is an operator or white space, which libcst gives no usable place."""
    return isinstance(node, (cst.BaseParenthesizableWhitespace, cst.BaseCompOp, cst.BaseBinaryOp, cst.BaseUnaryOp))


def _name_of(statement: cst.CSTNode) -> str | None:
    if isinstance(statement, (cst.FunctionDef, cst.ClassDef)):
        return statement.name.value
    assigned = m.extract(statement, m.SimpleStatementLine(body=[m.Assign(targets=[m.AssignTarget(m.SaveMatchedNode(
        m.Name(), "name"))]), m.ZeroOrMore()]))  # fmt: skip
    return assigned["name"].value if assigned else None  # type: ignore[union-attr]


def _names_a_type(node: cst.CSTNode) -> bool:
    """Returns whether an assignment is a type's other name, such as `Row = tuple[int, ...]`, or a type variable.

    No line runs by it.
    """
    names = [m.AssignTarget(m.Name(m.MatchRegex(r"_?[A-Z][a-z]\w*$")))]
    is_variable = m.matches(node, m.Assign(value=m.Call(func=m.Name("TypeVar"))))
    return is_variable or m.matches(node, m.Assign(targets=names, value=m.Subscript()))
