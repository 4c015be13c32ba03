"""What made a result: digests of the executed code and of the files it read, and the record that results carry."""

import ast
import contextlib
import hashlib
import importlib.metadata
import json
import platform
import re
import subprocess
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ptycho.workflow.archives import Archive, check_archive
from ptycho.workflow.damage import is_file, reading, sealed
from ptycho.workflow.files import ContractError, StrPath, save_text

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


def commit(folder: StrPath) -> str:
    """Return the Git commit of a folder, with "-dirty" if files differ from it; "" outside a repository."""
    command = ["git", "-C", str(folder), "describe", "--always", "--abbrev=12", "--dirty", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, encoding="utf-8", check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def file_digest(path: StrPath) -> str:
    """Return a digest of a file: "sha256:…" of its content; of an archive (NPZ, .keras) "zip:…".

    An archive lists names, sizes and checksums of its members at its end. Its digest is the SHA-256 of that list, so
    that large scans are told apart without being read. `is_intact` compares the content with the checksums.
    """
    try:
        with Archive(path) as archive:
            entries = [archive.info(name) for name in archive.names]
    except ContractError:  # no archive, or a damaged one
        with reading(path), Path(path).open("rb") as file:
            return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
    members = sorted((entry.filename, entry.file_size, entry.CRC) for entry in entries)
    return f"zip:{hashlib.sha256(repr(members).encode()).hexdigest()}"


def is_intact(path: StrPath) -> bool:
    """Check every byte of an archive against its checksums; True for a file that is no archive."""
    if not zipfile.is_zipfile(path):
        return True
    try:
        check_archive(path)
    except ContractError:
        return False
    return True


def array_digest(array: ArrayLike) -> str:
    """Return the SHA-256 of an array's dtype, shape and values."""
    contiguous = np.ascontiguousarray(array)
    header = f"{contiguous.dtype.str}{contiguous.shape}".encode()
    return hashlib.sha256(header + contiguous.tobytes()).hexdigest()


def origin_of(seed: int, config: dict[str, Any], code: str, inputs: Any) -> dict[str, Any]:
    """Return what determines a result: seed, options, code digest, and the digests of all of a job's inputs by name.

    Parameters
    ----------
    seed, config, code
        Seed of the job, its options, and the digest of its code.
    inputs : snakemake.iocontainers.InputFiles, or mapping
        Name -> path of every input; a name without a file is left out.
    """
    return {
        "seed": seed,
        "config": config,
        "code": code,
        "data": {name: file_digest(path) for name, path in inputs.items() if path},
    }


PACKAGES = ("ptycho", "h5py", "keras", "matplotlib", "numpy", "pandas", "ptychi", "scikit-image", "scipy", "snakemake",
            "tensorflow", "torch")  # fmt: skip
"""Packages that results depend on."""

CARD = "ptycho.json"
"""Name of the model card in a saved model's archive; Keras reads the other members."""


def make_record(
    script: StrPath,
    *,
    config: dict[str, Any],
    seeds: dict[str, Any],
    inputs: Iterable[StrPath],
    outputs: Iterable[StrPath],
    **job: Any,
) -> dict[str, Any]:
    """Return the record of a job, JSON-serializable.

    It has no time stamp, so that the same work gives the same bytes; files have their own times.

    Parameters
    ----------
    script : path or str
        The program's file, or the name of a module of this package.
    config, seeds : dict
        What determines the result, apart from the inputs.
    inputs, outputs : iterable of path
        Files that are read, recorded with their present digests, and files that are written.
    **job
        Further facts.
    """
    path = Path(script)
    is_program = path.suffix == ".py"
    return {
        **job,
        "script": f"{path.parent.name}/{path.name}" if is_program else str(script),
        "code": script_digest(path) if is_program else code_digest(str(script)),
        "config": config,
        "seeds": seeds,
        "inputs": {str(path): file_digest(path) for path in inputs},
        "outputs": [str(path) for path in outputs],
        "versions": {"python": platform.python_version(), **versions(*PACKAGES)},
        "host": platform.node(),
        "platform": platform.platform(),
        "directory": str(Path.cwd()),
    }


def record_of(snakemake: Any, script: StrPath) -> dict[str, Any]:
    """Return the record of a Snakemake job, see `make_record`.

    Parameters
    ----------
    snakemake : snakemake.iocontainers.snakemake
        The object that Snakemake gives the job's script.
    script : path
        The script's `__file__`.
    """
    study, wildcards = snakemake.config, dict(snakemake.wildcards.items())
    sample = study.get("objects", {}).get(wildcards.get("object"), {})
    own_seed = {"object": sample["seed"]} if "seed" in sample else {}
    seeds = [int(wildcards["seed"])] if "seed" in wildcards else study["seeds"]
    return make_record(
        script,
        rule=snakemake.rule,
        study=study["study"],
        wildcards=wildcards,
        config={name: value for name, value in snakemake.params.items() if name != "code"},
        seeds={"sample": study["source"]["seed"], **own_seed, "noise_and_training": seeds},
        inputs=snakemake.input,
        outputs=snakemake.output,
    )


def save_record(path: StrPath, record: dict[str, Any], **facts: Any) -> None:
    """Write a record, and JSON-serializable facts, as a file, for a job whose other outputs cannot carry them."""
    save_text(path, json.dumps(sealed({**facts, "provenance": record}), indent=2) + "\n")


def versions(*packages: str) -> dict[str, str]:
    """Return the versions of the packages that are installed, by name."""
    installed = {}
    for name in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            installed[name] = importlib.metadata.version(name)
    return installed


def dependency_versions(package: str) -> dict[str, str]:
    """Return the installed versions of a package and of its required dependencies."""
    requirements = [line for line in importlib.metadata.requires(package) or [] if "extra ==" not in line]
    names = [match[0] for line in requirements if (match := re.match(r"[\w.-]+", line))]
    return versions(package, *names)
