"""What made a result: digests of the executed code and of the files it read, and the record that results carry."""

import contextlib
import hashlib
import importlib.metadata
import json
import platform
import re
import subprocess
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ptycho.workflow.archives import Archive, check_archive
from ptycho.workflow.code_digests import code_digest, script_digest
from ptycho.workflow.damage import reading, sealed
from ptycho.workflow.files import ContractError, StrPath, save_text


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
