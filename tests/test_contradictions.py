"""Files whose arrays are intact and do not fit together, or do not fit their scan, are refused by file and key."""

import json
from dataclasses import asdict

import numpy as np
import pytest

from ptycho.data.npz import save_arrays
from ptycho.data.object_files import load_reconstruction
from ptycho.data.sample_files import open_sample
from ptycho.data.scan import open_scan
from ptycho.data.tiles import Tile, load_tiles, save_tiles
from ptycho.data.views import open_view
from ptycho.scoring.region import Region
from ptycho.workflow.files import ContractError
from tests.small_files import (
    COUNT,
    N,
    write_sample,
    write_scan,
    write_view,
)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metadata": {"dose": -1}}, "'dose' in 'metadata' is -1; wanted a number above 0"),
        ({"metadata": {"dose": float("nan")}}, "'dose' in 'metadata' is nan"),
        ({"metadata": {"dose": "many"}}, "'dose' in 'metadata' is 'many'"),
        ({"metadata": {"dose": True}}, "'dose' in 'metadata' is True"),
        ({"metadata": ["dose"]}, r"'metadata' is .*; wanted a JSON object"),
        ({"scan_index": np.zeros(COUNT)}, "'scan_index' is float64"),
        ({"probeGuess": np.full((N, N), 1e20, np.complex64)}, "'probeGuess' has Σ"),
    ],
    ids=str,
)
def test_a_scan_that_contradicts_itself_is_refused(tmp_path, change, message):
    with pytest.raises(ContractError, match=rf"scan.npz: {message}"):
        open_scan(write_scan(tmp_path / "scan.npz", **change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"exposures": [0, 1, 2, 3, COUNT]}, f"'exposures' has exposures 0 to {COUNT}; .*scan.npz has {COUNT}"),
        ({"exposures": [-1, 1, 2, 3, 4]}, "'exposures' has exposures -1 to 4"),
        ({"exposures": [0, 1, 2, 2, 4]}, "'exposures' is not ascending, or has an exposure twice"),
        ({"exposures": np.arange(5.0)}, "'exposures' is float64"),
        ({"role": np.array([0, 0, 0, 1, 3], np.int8)}, "'role' is int8 .*wanted one of 0 to 2"),
        ({"role": np.zeros(4, np.int8)}, "'role' is int8"),
        ({"role": np.zeros(5, np.int8)}, "'role' has no exposure for validation, 1; wanted one at least"),
        ({"role": np.full(5, 2, np.int8)}, "'role' has no exposure for fit, 0"),
        ({"exposures": np.zeros(0, int), "role": np.zeros(0, np.int8)}, "'role' has no exposure for fit, 0"),
        ({"nn_indices": [[0, 4]]}, "'nn_indices' has exposure 4, which is holdout or not in the view"),
        ({"nn_indices": [[0, 7]]}, "'nn_indices' has exposure 7, which is holdout or not in the view"),
        ({"nn_indices": [0, 1]}, "'nn_indices' is int64"),
        ({"metadata": {"counts": 3}}, "'metadata': 'counts' is 3; wanted an object"),
        ({"metadata": {"counts": {"exposures_of_scan": 9}}}, "a view of a scan of 9 exposures"),
    ],
    ids=str,
)
def test_a_view_that_does_not_fit_its_scan_is_refused(tmp_path, change, message):
    scan = open_scan(write_scan(tmp_path / "scan.npz"))
    with pytest.raises(ContractError, match=rf"view.npz: {message}"):
        open_view(write_view(tmp_path / "view.npz", **change), scan)


def test_tiles_and_samples_are_held_against_their_scan(tmp_path):
    scan = open_scan(write_scan(tmp_path / "scan.npz"))
    save_tiles(tmp_path / "tiles.npz", [Tile(np.array([COUNT]), ((0, 1), (0, 1)), 2.0)])
    with pytest.raises(ContractError, match=r"tiles.npz: 'exposures' has exposures 0 to 6; .*scan.npz has 6"):
        load_tiles(tmp_path / "tiles.npz", scan)
    arrays = {"exposures": np.arange(4), "cores": np.zeros((2, 2, 2)), "halo_px": np.zeros(2)}
    save_arrays(tmp_path / "starts.npz", **arrays, starts=np.array([0, 3, 9]))
    with pytest.raises(ContractError, match=r"starts.npz: 'starts' goes from 0 to 9; wanted ascending from 0 to 4"):
        load_tiles(tmp_path / "starts.npz")
    for change, message in (
        ({"is_test": np.full(COUNT, 2, np.int8)}, "'is_test' holds 2"),
        ({"xcoords": np.full(COUNT, 1e6)}, "'xcoords' spans 1000000"),
        ({"probe": np.ones((N, N + 2), np.complex64)}, "'probeGuess' is complex64"),
        ({"probe": np.zeros((N, N), "V8")}, r"'probeGuess' is \|V8 with shape \(8, 8\); wanted finite, complex"),
        (
            {"object": np.full((3 * N, 3 * N), np.inf, np.complex64)},
            "'objectGuess' holds 576 values that are not finite",
        ),
        ({"probe": np.full((N, N), "x")}, r"'probeGuess' is <U1 with shape \(8, 8\); wanted finite, complex"),
    ):
        with pytest.raises(ContractError, match=rf"sample.npz: {message}"):
            open_sample(write_sample(tmp_path / "sample.npz", **change))


def test_an_object_of_other_types_or_shapes_is_refused(tmp_path):
    good = {"object": np.ones((4, 5), np.complex64), "illumination": np.ones((4, 5)), "origin_px": np.zeros(2, int)}
    for change, message in (
        ({"object": np.ones((4, 5))}, "'object' is float64"),
        ({"illumination": np.ones((4, 4))}, r"'illumination' is float64 with shape \(4, 4\)"),
        ({"origin_px": np.array([0, 1 << 60])}, "'origin_px' is int64"),
        ({"probe": np.ones((4, 5), complex)}, "'probe' is complex128"),
        ({"metadata": '{"chosen": {"tv_weight": "much"}}'}, "'metadata': 'chosen' is .*much"),
        ({"metadata": "[" * 100_000}, "'metadata' is .*wanted a JSON object"),
    ):
        np.savez(tmp_path / "object.npz", **{"metadata": "{}", **good, **change})
        with pytest.raises(ContractError, match=rf"object.npz: {message}"):
            load_reconstruction(tmp_path / "object.npz")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1, 2]", r"its content is .*; wanted a JSON object"),
        ("{", "wanted a JSON object"),
        ('{"y0": 0, "y1": 4, "x0": 0}', "its content has no 'x1'; found y0, y1, x0"),
        ('{"y0": 0, "y1": 4.5, "x0": 0, "x1": 4}', "'y1' is 4.5; wanted an integer"),
        ('{"y0": 0, "y1": 7, "x0": 1, "x1": 4, "shape": [6, 3]}', r"with 'shape' \[6, 3\]; wanted \[7, 3\]"),
        ('{"y0": 0, "y1": 7, "x0": 1, "x1": 4, "shape": 7}', r"with 'shape' 7; wanted \[7, 3\]"),
        ('{"y0": 4, "y1": 4, "x0": 0, "x1": 4}', "wanted rows and columns from 0 on, at least one of each"),
    ],
)
def test_a_region_that_is_none_is_refused(tmp_path, text, message):
    (tmp_path / "region.json").write_text(text, encoding="utf-8")
    with pytest.raises(ContractError, match=rf"region.json: .*{message}"):
        Region.load(tmp_path / "region.json")
    with pytest.raises(ContractError, match=r"none.json: no such file"):
        Region.load(tmp_path / "none.json")
    (tmp_path / "good.json").write_text(json.dumps(asdict(Region(0, 4, 1, 5))), encoding="utf-8")
    for shape in (None, (4, 5), (9, 9)):
        assert Region.load(tmp_path / "good.json", shape) == Region(0, 4, 1, 5)
    for shape in ((3, 9), (9, 4)):
        with pytest.raises(ContractError, match=rf"good.json: .*; the object plane has {shape[0]} × {shape[1]} px"):
            Region.load(tmp_path / "good.json", shape)
