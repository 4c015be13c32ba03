"""Training that survives a kill: its state in one file beside the output, which only the same training resumes."""

import hashlib
import json
import logging
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.data.npz import load_arrays, save_arrays
from ptycho.workflow.files import ContractError

_logger = logging.getLogger(__name__)


def training_key(**facts: Any) -> str:
    """Digest of what decides the weights: config, code, data, seed, versions; anything that JSON can hold."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Backup:
    """The state of a training in a folder, whole or not there, see `ptycho.workflow.files.replacing`.

    Parameters
    ----------
    folder : Path
        Made when something is saved; holds nothing else but parts.
    key : str
        Of the training, see `training_key`. A state with another key is of another training.
    """

    folder: Path
    key: str

    @property
    def path(self) -> Path:
        """The file."""
        return Path(self.folder) / "state.npz"

    def part(self, name: str) -> "Backup":
        """Return the backup of a part of the same training: a folder in this one, which is removed with it."""
        return replace(self, folder=Path(self.folder) / name)

    def save(self, facts: dict, **arrays: list) -> None:
        """Replace the state.

        Parameters
        ----------
        facts : dict
            What JSON can hold: counters, history rows, `rng.bit_generator.state`. Floats come back to the bit.
        **arrays : list of array
            Weights, optimizer state, best weights: any number, any shapes.
        """
        lengths = {name: len(group) for name, group in arrays.items()}
        text = json.dumps({"key": self.key, "lengths": lengths, "facts": facts})
        named = {f"{name}_{i}": array for name, group in arrays.items() for i, array in enumerate(group)}
        save_arrays(self.path, state=np.array(text), **named)

    def load(self) -> tuple[dict, dict[str, list]] | None:
        """Read the state: (facts, arrays) as saved, None if there is none.

        A damaged one, or one of another training, is removed with a message.
        """
        if not self.path.exists():
            return None
        try:
            (text,) = load_arrays(self.path, "state")
            state = json.loads(str(text))
            if state["key"] != self.key:
                raise ContractError("of another config, code, data or seed")
            names = {group: [f"{group}_{i}" for i in range(count)] for group, count in state["lengths"].items()}
            return state["facts"], {group: load_arrays(self.path, *keys) for group, keys in names.items()}
        except (ContractError, KeyError, json.JSONDecodeError) as error:
            _logger.warning("%s: not used and removed, training starts again: %s", self.path, error)
            self.remove()
            return None

    def remove(self) -> None:
        """Remove the folder, if it is there."""
        shutil.rmtree(self.folder, ignore_errors=True)


def assign(variables: Iterable, arrays: list[NDArray]) -> None:
    """Give saved values to the variables that they were taken from.

    Raises
    ------
    ContractError
        If number or shapes differ.
    """
    saved, wanted = [array.shape for array in arrays], [tuple(variable.shape) for variable in variables]
    if saved != wanted:
        raise ContractError(f"a state of {len(saved)} arrays that does not fit the {len(wanted)} of this model")
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array)


def values_of(variables: Iterable) -> list[NDArray]:
    """Copy variables to NumPy."""
    return [np.array(variable) for variable in variables]
