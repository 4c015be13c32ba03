"""Object files: a reconstruction comes back, older files are refused, an object is pasted."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from ptycho.data.object_files import (
    POSITION_KEYS,
    Reconstruction,
    Refined,
    RefinedPositions,
    load_reconstruction,
    paste,
    refined_probe,
    save_reconstruction,
)
from ptycho.data.written import digests_of
from ptycho.workflow.files import ContractError


def test_a_reconstruction_comes_back_from_its_file(tmp_path):
    rng = np.random.default_rng(0)
    saved = Reconstruction(
        object=(rng.random((2, 3)) + 1j).astype(np.complex64),
        illumination=rng.random((2, 3)),
        origin_px=(4, -1),
        history=pd.DataFrame({"epoch": [1, 2], "loss": [0.5, 0.25]}),
        refined=Refined(probe=(rng.random((1, 4, 4)) + 0j).astype(np.complex64)),
        cpu_s=2.5,
        chosen={"best_epoch": 2},
    )
    save_reconstruction(tmp_path / "object.npz", saved, history=tmp_path / "history.csv", method="lsqml")
    loaded, metadata = load_reconstruction(tmp_path / "object.npz")
    digests = digests_of(tmp_path / "history.csv")
    assert metadata == {"method": "lsqml", "chosen": {"best_epoch": 2}, "cpu_s": 2.5, "digests": digests}
    np.testing.assert_array_equal(loaded.object, saved.object)
    np.testing.assert_array_equal(loaded.illumination, saved.illumination.astype(np.float32))
    assert (loaded.origin_px, loaded.cpu_s, loaded.chosen) == ((4, -1), 2.5, {"best_epoch": 2})
    np.testing.assert_array_equal(loaded.refined.probe, saved.refined.probe)
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "history.csv"), saved.history)
    save_reconstruction(tmp_path / "plain.npz", replace(saved, refined=None, cpu_s=None, chosen={}))
    plain, metadata = load_reconstruction(tmp_path / "plain.npz")
    assert (plain.refined, plain.cpu_s, plain.chosen, metadata) == (None, None, {}, {})


@pytest.fixture
def moved():
    """A reconstruction with refined positions and without a refined probe."""
    obj, rng = np.ones((2, 3), np.complex64), np.random.default_rng(0)
    places = {key: rng.normal(size=4) for key in POSITION_KEYS[1:]}
    refined = Refined(positions=RefinedPositions(exposures=np.array([0, 2, 3, 9]), **places))
    return Reconstruction(object=obj, illumination=obj.real, origin_px=(0, 0), refined=refined)


def test_refined_positions_come_back_from_their_file(tmp_path, moved):
    save_reconstruction(tmp_path / "object.npz", moved, method="lsqml")
    refined = load_reconstruction(tmp_path / "object.npz")[0].refined
    assert refined.probe is None
    for key in POSITION_KEYS:
        np.testing.assert_array_equal(getattr(refined.positions, key), getattr(moved.refined.positions, key))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("xcoords", np.zeros(3), r"'xcoords' is float64 with shape \(3,\); wanted finite floats \(4,\), one for"),
        ("y_shift", np.zeros((4, 1)), r"'y_shift' is float64 with shape \(4, 1\); wanted finite floats \(4,\)"),
        ("x_shift", np.array([0, 1, np.nan, 0]), "'x_shift' is float64 with shape .*wanted finite floats"),
        ("ycoords", np.arange(4), "'ycoords' is int64 with shape .*wanted finite floats"),
        ("exposures", np.array([0, 2, 2, 9]), "'exposures' of the refined positions do not ascend from 0 or more"),
        ("exposures", np.array([-1, 2, 3, 9]), "'exposures' of the refined positions do not ascend from 0 or more"),
        ("exposures", np.arange(4.0), r"'exposures' is float64 with shape \(4,\); wanted integers \(m,\)"),
    ],
)
def test_refined_positions_that_do_not_fit_are_neither_written_nor_read(tmp_path, moved, key, value, message):
    save_reconstruction(tmp_path / "right.npz", moved)
    with np.load(tmp_path / "right.npz") as arrays:
        np.savez(tmp_path / "wrong.npz", **(dict(arrays) | {key: value}))
    with pytest.raises(ContractError, match=rf"wrong\.npz: {message}"):
        load_reconstruction(tmp_path / "wrong.npz")
    wrong = replace(moved, refined=Refined(positions=replace(moved.refined.positions, **{key: value})))
    with pytest.raises(ContractError, match=rf"new\.npz: {message}"):
        save_reconstruction(tmp_path / "new.npz", wrong)
    assert not (tmp_path / "new.npz").exists()


def test_refined_positions_are_there_as_a_whole_or_not_at_all(tmp_path, moved):
    save_reconstruction(tmp_path / "object.npz", moved)
    with np.load(tmp_path / "object.npz") as arrays:
        fields = {key: array for key, array in arrays.items() if key != "x_shift"}
    np.savez(tmp_path / "object.npz", **fields)
    with pytest.raises(ContractError, match=r"object\.npz: no key 'x_shift'"):
        load_reconstruction(tmp_path / "object.npz")


def test_an_object_file_of_ptycho_0_1_is_refused(tmp_path):
    obj = np.ones((2, 3), np.complex64)
    save_reconstruction(tmp_path / "new.npz", Reconstruction(object=obj, illumination=abs(obj), origin_px=(0, 0)))
    with np.load(tmp_path / "new.npz") as arrays:
        fields = {"weight" if key == "illumination" else key: array for key, array in arrays.items()}
    np.savez(tmp_path / "old.npz", **fields)
    with pytest.raises(ContractError, match=r"old\.npz: no key 'illumination'.*written by ptycho 0\.1"):
        load_reconstruction(tmp_path / "old.npz")
    del fields["weight"]
    np.savez(tmp_path / "other.npz", **fields)
    with pytest.raises(ContractError, match=r"other\.npz: no key 'illumination'; found .*'origin_px'\]$"):
        load_reconstruction(tmp_path / "other.npz")


KNOWN = Reconstruction(
    object=np.ones((2, 3), np.complex64),
    illumination=np.ones((2, 3)),
    origin_px=(0, 0),
    refined=Refined(probe=np.ones((2, 4, 4), np.complex64)),
)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("cpu_s", "", "'cpu_s' is ''; wanted seconds, at least 0"),
        ("cpu_s", [], "'cpu_s' is .*; wanted seconds"),
        ("cpu_s", False, "'cpu_s' is 'False'"),
        ("cpu_s", -1, "'cpu_s' is '-1'"),
        ("cpu_s", float("inf"), "'cpu_s' is 'inf'"),
        ("chosen", [], "'chosen' is .*; wanted an object of finite numbers"),
        ("chosen", {"tv_weight": None}, "'chosen' is .*None"),
    ],
)
def test_what_a_method_left_in_its_file_is_numbers(tmp_path, key, value, message):
    save_reconstruction(tmp_path / "object.npz", KNOWN, **{key: value})
    with pytest.raises(ContractError, match=rf"object\.npz: 'metadata': {message}"):
        load_reconstruction(tmp_path / "object.npz")
    save_reconstruction(tmp_path / "object.npz", KNOWN, cpu_s=None)
    assert load_reconstruction(tmp_path / "object.npz")[0].cpu_s is None


@pytest.mark.parametrize(
    ("probe", "message"),
    [
        (None, "no key 'probe'; wanted the object file of a method that has refined the probe"),
        (np.ones((2, 6, 6), np.complex64), r"'probe' has shape \(2, 6, 6\); wanted patterns of 4 px"),
        (np.zeros((2, 4, 4), np.complex64), "'probe' is zero everywhere"),
        (np.full((2, 4, 4), np.nan, np.complex64), "'probe' .* not finite"),
    ],
    ids=str,
)
def test_a_reference_without_its_probe_is_refused(probe, message):
    assert refined_probe("reference.npz", KNOWN, 4) is KNOWN.refined.probe
    with pytest.raises(ContractError, match=rf"reference\.npz: {message}"):
        refined_probe("reference.npz", replace(KNOWN, refined=None if probe is None else Refined(probe=probe)), 4)


@pytest.mark.parametrize(
    "origin",
    [["4", "1"], [b"4", b"1"], np.array([4, 1], "M8[s]"), np.zeros(2, "V8"), [4.0, 1.0], [2**41, 0], [-(2**63), 0]],
    ids=str,
)
def test_an_origin_that_is_no_pixel_is_refused(tmp_path, origin):
    """Also the one integer whose absolute value is negative."""
    arrays = {"object": np.ones((2, 3), np.complex64), "illumination": np.ones((2, 3)), "metadata": np.array("{}")}
    np.savez(tmp_path / "object.npz", **arrays, origin_px=np.asarray(origin))
    with pytest.raises(ContractError, match=r"object\.npz: 'origin_px' is .* with shape \(2,\); wanted two integers"):
        load_reconstruction(tmp_path / "object.npz")


def test_an_object_is_pasted_where_it_lies():
    obj = np.arange(6).reshape(2, 3).astype(np.complex64)
    whole = paste(obj, (4, -1), (8, 9))
    np.testing.assert_array_equal(whole[4:6, :2], obj[:, 1:])
    assert whole.sum() == obj[:, 1:].sum() + (72 - 4)
