"""Numbers of views and of their tiles: the JSON files beside their NPZs, which tables and pages are made of."""

import json
from pathlib import Path
from typing import Any

from ptycho.data.npz import Npz
from ptycho.workflow.damage import check_fields, is_file, is_of, number_in, read_json
from ptycho.workflow.files import ContractError, StrPath

LINEAR_OVERLAP = ("overlap", "between_exposures", "linear")
"""Keys of a view's median linear overlap of nearest neighbors in its statistics."""


def read_view_numbers(path: StrPath) -> dict[str, Any]:
    """Read the statistics of a view.

    Parameters
    ----------
    path : path
        JSON that `ptycho.data.views.save_view` wrote.

    Raises
    ------
    ptycho.workflow.files.ContractError
        If it is missing or damaged, lacks a number, or says something else than the view beside it.
    """
    numbers, where = _read(path)
    for key in ("target_overlap", "fluence_photons_per_px", "mean_detected_photons"):
        number_in(numbers, where, key)
    number_in(numbers, where, *LINEAR_OVERLAP)
    number_in(numbers, where, "spacing_px", "q50")
    check_fields(numbers, where, counts=dict)
    of_groups = {"groups", "groups_wanted"}  # of a view to train on: both or neither
    counts = {"exposures", "holdout", *(of_groups if of_groups & set(numbers["counts"]) else ()), *numbers["counts"]}
    check_fields(numbers["counts"], f"{where}: 'counts'", **dict.fromkeys(counts, int))
    check_fields({"valid_pixel_fraction": 1.0} | numbers, where, valid_pixel_fraction=float)
    return numbers


def read_tile_numbers(path: StrPath) -> dict[str, Any]:
    """Read the numbers of the tiles of a view.

    Parameters
    ----------
    path : path
        JSON that `ptycho.data.tiles.save_tiles` wrote.

    Raises
    ------
    ptycho.workflow.files.ContractError
        If it is missing or damaged, lacks a number, or says something else than the tiles beside it.
    """
    numbers, where = _read(path)
    check_fields(numbers, where, tiles=int, largest_tile=int, redundancy=float)
    if not is_of(numbers.get("warning") or "", str):
        raise ContractError(f"{where}: 'warning' is {numbers['warning']!r}; wanted a text")
    return numbers


def _read(path: StrPath) -> tuple[dict[str, Any], str]:
    """Read a JSON file and hold it against the metadata of the NPZ beside it; return it and the start of messages."""
    numbers, beside = read_json(path), Path(path).with_suffix(".npz")
    if is_file(beside):
        with Npz(beside) as file:
            if json.dumps(file.metadata()) != json.dumps(numbers):  # as texts: NaN equals NaN
                raise ContractError(f"{path}: other numbers than in {beside.name}; wanted those of the file beside it")
    return numbers, f"{path}: its content"
