"""Digests of code: of a script or a module, and of all of this package that it imports."""

import ast
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ptycho.workflow.damage import is_file
from ptycho.workflow.files import StrPath

ROOT = Path(__file__).parents[1]
"""Folder of this package."""


@cache
def module_path(name: str) -> Path | None:
    """Return the file of a module of this package, None for a module of any other; cached, as scripts share modules."""
    package, *parts = name.split(".")
    if package != ROOT.name:
        return None
    stem = ROOT.joinpath(*parts)
    for candidate in (stem.with_suffix(".py"), stem / "__init__.py"):
        if is_file(candidate):
            return candidate
    return None


def imported_modules(path: Path) -> set[str]:
    """Return the names of this package's modules that a file imports, inside functions too, and of their packages.

    Raises
    ------
    ImportError
        If the file has a relative import.
    """
    program = _parsed(path.read_text(encoding="utf-8"))
    if program.relative:
        raise ImportError(f"{path}:{program.relative}: relative import; wanted the full name")
    names = program.imported | {ROOT.name}
    packages = {name.rpartition(".")[0] for name in names if "." in name}
    return {name for name in names | packages if module_path(name)}


@dataclass(frozen=True)
class _Program:
    """What counts of a program's text."""

    imported: frozenset[str]
    """All names that it may import."""
    relative: int
    """Line of its first relative import, 0 without one."""
    semantics: str
    """Its syntax tree as text, without comments, layout and docstrings."""


@cache
def _parsed(text: str) -> _Program:
    """Parse a program; cached, as scripts share modules."""
    tree = ast.parse(text)
    nodes = list(ast.walk(tree))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    absolute = [node for node in nodes if isinstance(node, ast.ImportFrom) and not node.level]
    for node in absolute:
        module = node.module or ""
        names |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
    relative = [node.lineno for node in nodes if isinstance(node, ast.ImportFrom) and node.level]
    _remove_docstrings(nodes)
    return _Program(frozenset(names), min(relative, default=0), ast.dump(tree))


WORKFLOW = ROOT / "workflow"
"""How jobs are run, logged and repeated: no result depends on it, and no digest covers it."""


def import_closure(*paths: Path) -> set[Path]:
    """Return the files of this package that some files need, these included, without `ptycho.workflow`."""
    closure, pending = set(), list(paths)
    while pending:
        path = pending.pop()
        if path not in closure and WORKFLOW not in path.parents:
            closure.add(path)
            modules = (module_path(name) for name in imported_modules(path))
            pending += [module for module in modules if module is not None]
    return closure


def _remove_docstrings(nodes: Iterable[ast.AST]) -> None:
    """Remove docstrings, those of attributes included, from the nodes of a syntax tree, in place."""
    for node in nodes:
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [
                child
                for child in node.body
                if not (isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant))
            ] or [ast.Pass()]


def _digest(*files: Path) -> str:
    names = {path: path.relative_to(ROOT).as_posix() if ROOT in path.parents else path.name for path in files}
    names |= {path: path.relative_to(ROOT).as_posix() for path in import_closure(*files) if ROOT in path.parents}
    ordered = sorted(names, key=lambda path: names[path])
    text = "".join(f"{names[path]}:{_parsed(path.read_text(encoding='utf-8')).semantics}" for path in ordered)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@cache
def code_digest(*modules: str) -> str:
    """Return a digest of modules and all that they import of this package, without comments, layout and docstrings.

    Raises
    ------
    ModuleNotFoundError
        If a module is not in this package.
    """
    paths = []
    for name in modules:
        if (path := module_path(name)) is None:
            raise ModuleNotFoundError(f"{name} is not a module of {ROOT.name}")
        paths.append(path)
    return _digest(*paths)


@cache
def script_digest(script: StrPath) -> str:
    """Return the digest of a script and all that it imports of this package, see `code_digest`."""
    return _digest(Path(script).resolve())


@cache
def library_digest() -> str:
    """Return the digest of the whole package, see `code_digest`."""
    return _digest(*ROOT.rglob("*.py"))
