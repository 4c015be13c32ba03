"""Which code made a result: a digest of what a module, and all of ours that it imports, does."""

import ast
import hashlib
import importlib.util
from functools import cache
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parent


def module_path(name: str) -> Path | None:
    """File of one of our modules, None for anybody else's."""
    parts = name.split(".")
    if parts[0] != ROOT.name:
        return None
    place = ROOT.joinpath(*parts[1:])
    for candidate in (place.with_suffix(".py"), place / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


def imported_modules(path: Path) -> set[str]:
    """Names of our modules that a file imports, anywhere in it; packages on the way included."""
    found, relative = _imports(path.read_text())
    if relative:
        raise ImportError(f"{path}:{relative}: relative import; wanted the full name")
    found = found | {ROOT.name}
    parents = {name.rpartition(".")[0] for name in found if "." in name}
    return {name for name in found | parents if module_path(name)}


@cache
def _imports(text: str) -> tuple[frozenset[str], int]:
    """What a program may import, whoever's it is, and the line of its first relative import, 0 without one."""
    nodes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    absolute = [node for node in nodes if isinstance(node, ast.ImportFrom) and not node.level]
    names |= {node.module for node in absolute}
    names |= {f"{node.module}.{alias.name}" for node in absolute for alias in node.names}
    relative = [node.lineno for node in nodes if isinstance(node, ast.ImportFrom) and node.level]
    return frozenset(names), min(relative, default=0)


def import_closure(*paths: Path) -> set[Path]:
    """Files of ours that some files need, themselves included."""
    closure, todo = set(), list(paths)
    while todo:
        path = todo.pop()
        if path not in closure:
            closure.add(path)
            todo += [module_path(name) for name in imported_modules(path)]
    return closure


def without_docstrings(tree: ast.Module) -> ast.Module:
    """Drop docstrings, and strings that stand as attribute descriptions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [
                child
                for child in node.body
                if not (isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant))
            ] or [ast.Pass()]
    return tree


@cache
def _meaning(text: str) -> str:
    """Write a program so that comments, layout and docstrings do not show; once for each, as many rules share it."""
    return ast.dump(without_docstrings(ast.parse(text)))


def _digest(*files: Path) -> str:
    closure = sorted(path for path in import_closure(*files) if ROOT in path.parents)
    text = "".join(f"{path.relative_to(ROOT)}:{_meaning(path.read_text())}" for path in closure)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@cache
def code_digest(*modules: str) -> str:
    """What the modules and all of ours that they import do: comments, layout and docstrings left out.

    Raises
    ------
    ModuleNotFoundError
        If a module is none of ours.
    """
    paths = [module_path(name) for name in modules]
    if None in paths:
        raise ModuleNotFoundError(f"{modules[paths.index(None)]} is not a module of {ROOT.name}")
    return _digest(*paths)


@cache
def script_digest(script) -> str:
    """Digest of all of ours that a script imports; the script itself is left to Snakemake."""
    return _digest(Path(script))


def file_digest(path) -> str:
    """sha256 of a file, read in blocks."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def array_digest(array) -> str:
    """sha256 of an array's dtype, shape and values."""
    array = np.ascontiguousarray(array)
    return hashlib.sha256(f"{array.dtype.str}{array.shape}".encode() + array.tobytes()).hexdigest()


def origin_of(seed: int, config: dict, code: str, **files) -> dict:
    """Write down what decides a result: seed, options, digest of the code, sha256 of the files that it is made of."""
    return {
        "seed": seed,
        "config": config,
        "code": code,
        "data": {name: file_digest(path) for name, path in files.items()},
    }


UNITS = "diffraction sqrt(counts), coords px, probeGuess sqrt(photon), objectGuess transmittance"


def made_by(code: str) -> dict:
    """Units, and what made a data set: digest of the code, versions of the packages that draw the numbers."""
    return {"units": UNITS, "code": code, "versions": versions("ptycho", "numpy", "scipy")}


def versions(*packages: str) -> dict[str, str]:
    """Installed versions of packages; missing ones left out."""
    from importlib.metadata import version

    return {name: version(name) for name in packages if importlib.util.find_spec(name)}
