"""Importing the library is free of frameworks, and TensorFlow has one door. Layers: `lint-imports`, in `make lint`."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FRAMEWORKS = ("keras", "matplotlib", "tensorflow", "torch")
FILES = sorted(path for folder in ("ptycho", "scripts") for path in (ROOT / folder).rglob("*.py"))


def name_of(path):
    """Name of a module of the library."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


PTYCHI = {f"ptycho.reconstruction.{module}" for module in ("lsqml", "ptychi_adapter", "ptychi_engines")}
"""Modules that are about pty-chi."""


def imports_of(path):
    """Packages that a file imports anywhere in it, by statement or by name."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").partition(".")[0]
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("importlib.import_module", "__import__"):
            yield from (
                argument.value.partition(".")[0] for argument in node.args if isinstance(argument, ast.Constant)
            )


def test_only_the_backend_and_the_models_import_tensorflow_or_keras():
    importing = {path for path in FILES if {"tensorflow", "keras"} & set(imports_of(path))}
    assert ROOT / "ptycho/backend.py" in importing
    assert ROOT / "ptycho/model/layers.py" in importing
    assert {path for path in importing if ROOT / "ptycho/model" not in path.parents} == {ROOT / "ptycho/backend.py"}


@pytest.mark.parametrize(
    ("package", "allowed"),
    [
        ("matplotlib", {"ptycho.reporting", "ptycho.cli.view"}),
        ("torch", PTYCHI),
        ("ptychi", PTYCHI),
    ],
)
def test_a_module_imports_a_framework_only_where_it_is_about_it(package, allowed):
    importing = {name_of(path) for path in FILES if package in imports_of(path)}
    assert importing
    assert [name for name in importing if not f"{name}.".startswith(tuple(f"{root}." for root in allowed))] == []


def test_the_library_is_imported_without_frameworks():
    """All modules but those that are about one, in a process where none can be imported."""
    about = ("ptycho.model", "ptycho.reporting", "ptycho.__main__")
    modules = [name_of(path) for path in FILES if ROOT / "scripts" not in path.parents]
    free = [name for name in modules if not f"{name}.".startswith(tuple(f"{root}." for root in about))]
    assert {"ptycho", "ptycho.loader", "ptycho.backend", "ptycho.cli.main", "ptycho.data.scan"} < set(free)
    code = f"""
import importlib, sys
sys.modules.update(dict.fromkeys({FRAMEWORKS}))
for name in {free}:
    importlib.import_module(name)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout + run.stderr == ""
