"""What made a result: digests of the code that was executed and of what it read, and the record that files carry."""

import ast
import contextlib
import hashlib
import importlib.metadata
import json
import platform
import re
import subprocess
import zipfile
from functools import cache
from pathlib import Path

import numpy as np

from ptycho.workflow.files import save_text

ROOT = Path(__file__).parents[1]


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


WORKFLOW = ROOT / "workflow"
"""How jobs are run, logged and repeated: no result depends on it, and no digest."""


def import_closure(*paths: Path) -> set[Path]:
    """Files of ours that some files need, themselves included; none of `ptycho.workflow`."""
    closure, pending = set(), list(paths)
    while pending:
        path = pending.pop()
        if path not in closure and WORKFLOW not in path.parents:
            closure.add(path)
            pending += [module_path(name) for name in imported_modules(path)]
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
    names = {path: path.relative_to(ROOT).as_posix() if ROOT in path.parents else path.name for path in files}
    names |= {path: path.relative_to(ROOT).as_posix() for path in import_closure(*files) if ROOT in path.parents}
    ordered = sorted(names, key=names.get)
    text = "".join(f"{names[path]}:{_meaning(path.read_text())}" for path in ordered)
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
    """What a script and all of ours that it imports do."""
    return _digest(Path(script).resolve())


@cache
def library_digest() -> str:
    """Digest of all of ours."""
    return _digest(*ROOT.rglob("*.py"))


def commit(folder) -> str:
    """Name the Git commit that a folder is at, "-dirty" where files differ from it; empty where there is no Git."""
    command = ["git", "-C", str(folder), "describe", "--always", "--abbrev=12", "--dirty", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def file_digest(path) -> str:
    """Digest of a file's content, read in blocks: "sha256:…" as sha256sum says; of an archive (NPZ, .keras) "zip:…".

    An archive keeps names, sizes and check sums of its members at its end. The digest is the sha256 of those, so that
    a scan of any size is told from another one without being read; `is_intact` reads it and holds it against them.
    """
    if not zipfile.is_zipfile(path):
        with Path(path).open("rb") as file:
            return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
    with zipfile.ZipFile(path) as archive:
        members = sorted((member.filename, member.file_size, member.CRC) for member in archive.infolist())
    return f"zip:{hashlib.sha256(repr(members).encode()).hexdigest()}"


def is_intact(path) -> bool:
    """Whether every byte of an archive's members agrees with its check sums; True for any other file."""
    if not zipfile.is_zipfile(path):
        return True
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (zipfile.BadZipFile, EOFError, ValueError):
        return False


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


PACKAGES = ("ptycho", "h5py", "keras", "matplotlib", "numpy", "pandas", "ptychi", "scikit-image", "scipy", "snakemake",
            "tensorflow", "torch")  # fmt: skip
"""Those that results depend on."""

CARD = "ptycho.json"
"""Name of the card in a saved model's archive; Keras reads the other members."""


def make_record(script, *, config: dict, seeds: dict, inputs, outputs, **job) -> dict:
    """Say what makes some files, as JSON can say it.

    There is no time in it, so that the same work gives the same bytes. Every file has its own time of writing.

    Parameters
    ----------
    script : Path or str
        The program's file, or the name of one of our modules.
    config, seeds : dict
        What decides the result, beside the inputs.
    inputs, outputs : iterable of path
        Files that are read, with their digests as they are now, and files that are written.
    **job
        Further facts.
    """
    path = Path(script)
    is_file = path.suffix == ".py"
    return {
        **job,
        "script": f"{path.parent.name}/{path.name}" if is_file else str(script),
        "code": script_digest(path) if is_file else code_digest(script),
        "config": config,
        "seeds": seeds,
        "inputs": {str(path): file_digest(path) for path in inputs},
        "outputs": [str(path) for path in outputs],
        "versions": {"python": platform.python_version(), **versions(*PACKAGES)},
        "host": platform.node(),
        "platform": platform.platform(),
        "directory": str(Path.cwd()),
    }


def record_of(snakemake, script) -> dict:
    """Make the record of a Snakemake job.

    Parameters
    ----------
    snakemake : snakemake.iocontainers.snakemake
        What the job's script is given.
    script : str
        The script's `__file__`.
    """
    study, where = snakemake.config, dict(snakemake.wildcards.items())
    chosen = study.get("objects", {}).get(where.get("object"), {})
    own = {"object": chosen["seed"]} if "seed" in chosen else {}
    drawn = [int(where["seed"])] if "seed" in where else study["seeds"]
    return make_record(
        script,
        rule=snakemake.rule,
        study=study["study"],
        wildcards=where,
        config={name: value for name, value in snakemake.params.items() if name != "code"},
        seeds={"sample": study["source"]["seed"], **own, "noise_and_training": drawn},
        inputs=snakemake.input,
        outputs=snakemake.output,
    )


def save_record(path, record: dict) -> None:
    """Write a record as a file of its own, for a job whose other files cannot carry one."""
    save_text(path, json.dumps({"provenance": record}, indent=2) + "\n")


def versions(*packages: str) -> dict[str, str]:
    """Installed versions of packages; missing ones left out."""
    found = {}
    for name in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def dependency_versions(package: str) -> dict[str, str]:
    """Installed versions of a package and of everything that it says it needs."""
    needed = [line for line in importlib.metadata.requires(package) or [] if "extra ==" not in line]
    return versions(package, *(re.match(r"[\w.-]+", line)[0] for line in needed))
