"""Backups of a training: its state in one file, from which the same training resumes after a kill."""

import hashlib
import json
import logging
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ptycho.data.npz import Npz, save_arrays
from ptycho.workflow.damage import check_fields, is_of, parse_json
from ptycho.workflow.files import ContractError

_logger = logging.getLogger(__name__)

State: TypeAlias = tuple[dict[str, Any], dict[str, list[Any]]]
"""JSON-serializable facts, and lists of arrays by name."""


def training_key(**facts: Any) -> str:
    """Return a digest of what decides the weights: JSON-serializable config, code, data, seed and versions."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Backup:
    """State of a training in a folder, complete or absent, see `ptycho.workflow.files.replacing`."""

    folder: Path
    """Folder of the state and of its parts; it is made when something is saved."""
    key: str
    """Key of the training, see `training_key`. A state with another key belongs to another training."""

    @property
    def path(self) -> Path:
        """File of the state."""
        return Path(self.folder) / "state.npz"

    def part(self, name: str) -> "Backup":
        """Return the backup of a part of the same training: a subfolder, which is removed with this one."""
        return replace(self, folder=Path(self.folder) / name)

    def save(self, facts: dict[str, Any], **arrays: list[Any]) -> None:
        """Replace the state.

        Parameters
        ----------
        facts : dict
            JSON-serializable values: counters, history rows, `rng.bit_generator.state`. Floats are kept to the bit.
        **arrays : list of array
            Weights, optimizer state, best weights: any number of arrays of any shapes.
        """
        lengths = {name: len(group) for name, group in arrays.items()}
        text = json.dumps({"key": self.key, "lengths": lengths, "facts": facts})
        named = {f"{name}_{i}": array for name, group in arrays.items() for i, array in enumerate(group)}
        save_arrays(self.path, state=np.array(text), **named)

    def load(self) -> State | None:
        """Return facts and arrays as they were saved; None if there is no state.

        A state that is damaged or of another training is removed with a warning.
        """
        if not self.path.exists():
            return None
        try:
            return self._read()
        except ContractError as error:
            _logger.warning("%s: not used and removed, training starts again: %s", self.path, error)
            self.remove()
            return None

    def _read(self) -> State:
        with Npz(self.path) as file:
            state = parse_json(file.text("state"), "'state'")
            check_fields(state, "'state'", key=str, lengths=dict, facts=dict)
            if state["key"] != self.key:
                raise ContractError("of another config, code, data or seed")
            counts = state["lengths"]
            if not all(is_of(count, int) and 0 <= count <= len(file.keys) for count in counts.values()):
                raise ContractError(f"'lengths' is {counts}; wanted numbers of arrays in it")
            return state["facts"], {
                group: [file.array(f"{group}_{i}") for i in range(count)] for group, count in counts.items()
            }

    def remove(self) -> None:
        """Remove the folder, if there is one."""
        shutil.rmtree(self.folder, ignore_errors=True)


def assign(variables: Iterable[Any], arrays: list[NDArray[Any]]) -> None:
    """Assign saved values to the variables that they were copied from.

    Raises
    ------
    ptycho.workflow.files.ContractError
        If number or shapes differ.
    """
    saved, wanted = [array.shape for array in arrays], [tuple(variable.shape) for variable in variables]
    if saved != wanted:
        raise ContractError(f"a state of {len(saved)} arrays that does not fit the {len(wanted)} of this model")
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array)


def values_of(variables: Iterable[Any]) -> list[NDArray[Any]]:
    """Return copies of variables as NumPy arrays."""
    return [np.array(variable) for variable in variables]
