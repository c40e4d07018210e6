"""The predicates that keep a late, mistaken or dead writer from changing rows, found in the source, one mutant for each.

Mutation of guards only (R. DeMillo, R. Lipton, F. Sayward, "Hints on Test Data Selection", IEEE Computer 1978): in every
`.where(…)` of a statement that writes, or of one in a function that comes to write, each condition on `fence`, `status`,
`node` or `leftover` is left out once. A named condition, such as `_MINE`, is mutated where it is made.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

MODULES = ("claim", "finish", "notes", "nodes", "changes")
COLUMNS = ("fence", "status", "node", "leftover")
WRITES = ("update", "delete", "insert")

# Guards that no test can miss, because another one says the same; each with why it may stay.
REDUNDANT: dict[str, str] = {}  # its text, and the reason


class Guard(NamedTuple):
    """One condition: the `number`-th of those in a module, in the order of the source."""

    module: str
    number: int
    text: str

    @property
    def name(self) -> str:
        return f"{self.module}: {self.text}"


def find(storage: Path) -> list[Guard]:
    """Return the guards of the modules in this folder."""
    found = []
    for module in MODULES:
        tree = ast.parse((storage / f"{module}.py").read_text("utf-8"))
        for number, (where, terms, place) in enumerate(_places(tree)):
            found.append(Guard(module, number, f"{where}: {ast.unparse(terms[place])}"))
    return found


def remove(storage: Path, guard: Guard) -> None:
    """Rewrite the module in this folder without that guard."""
    file = storage / f"{guard.module}.py"
    tree = ast.parse(file.read_text("utf-8"))
    _, terms, place = list(_places(tree))[guard.number]
    del terms[place]
    file.write_text(ast.unparse(tree), "utf-8")


def _places(tree: ast.Module) -> Iterator[tuple[str, list[ast.expr], int]]:
    """Yield (where, terms, which of them): the lists of conditions from which one can be taken."""
    module_names, writers = _assigned(tree.body), _writers(tree)
    for part in tree.body:
        if not any(_calls(node, writers) for node in ast.walk(part)) and not _is_named_condition(part, tree):
            continue
        names = module_names | (_assigned(part.body) if isinstance(part, ast.FunctionDef) else {})
        title = _title(part)
        for node in ast.walk(part):
            terms = _terms(node)
            for place, term in enumerate(terms):
                inner = term.value if isinstance(term, ast.Starred) else term
                if isinstance(inner, ast.Name) and _is_list(names.get(inner.id)):
                    continue  # mutated where it is made
                if isinstance(inner, ast.Call) and _calls(inner, ("and_",)):
                    yield from ((title, inner.args, at) for at, one in enumerate(inner.args) if _is_guard(one, names))
                elif _is_guard(inner, names):
                    yield title, terms, place


def _writers(tree: ast.Module) -> tuple[str, ...]:
    """Return the names of what writes, and of the functions that call it."""
    found = WRITES
    while True:
        more = tuple(
            part.name
            for part in tree.body
            if isinstance(part, ast.FunctionDef)
            and part.name not in found
            and any(_calls(node, found) for node in ast.walk(part))
        )
        if not more:
            return found
        found += more


def _terms(node: ast.AST) -> list[ast.expr]:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "where":
        return node.args
    if isinstance(node, ast.Assign) and _is_list(node.value):
        value = node.value
        return value.args if isinstance(value, ast.Call) else value.elts  # type: ignore[attr-defined]
    return []


def _is_list(value: ast.expr | None) -> bool:
    """Tell whether this names several conditions that all must hold."""
    if isinstance(value, ast.Tuple):
        return all(isinstance(one, ast.Compare) for one in value.elts)
    return value is not None and _calls(value, ("and_",)) and all(isinstance(one, ast.Compare) for one in value.args)  # type: ignore[attr-defined]


def _is_named_condition(part: ast.stmt, tree: ast.Module) -> bool:
    """Tell whether a module-wide list of conditions is used in some `where`."""
    if not isinstance(part, ast.Assign) or not _is_list(part.value):
        return False
    name = ast.unparse(part.targets[0])
    return any(
        isinstance(used, ast.Name) and used.id == name
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        for used in _terms(node)
    )


def _is_guard(term: ast.expr, names: dict[str, ast.expr]) -> bool:
    for node in ast.walk(term):
        if isinstance(node, ast.Attribute) and node.attr in COLUMNS and ast.unparse(node.value) in ("jobs.c", "nodes.c"):
            return True
        if isinstance(node, ast.Name) and node.id in names and _is_guard(names[node.id], {}):
            return True
    return False


def _calls(node: ast.AST, names: tuple[str, ...]) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names


def _assigned(body: list[ast.stmt]) -> dict[str, ast.expr]:
    return {
        target.id: part.value
        for part in body
        if isinstance(part, ast.Assign)
        for target in part.targets
        if isinstance(target, ast.Name)
    }


def _title(part: ast.stmt) -> str:
    if isinstance(part, ast.FunctionDef):
        return part.name
    return ast.unparse(part.targets[0]) if isinstance(part, ast.Assign) else "?"
