"""Numbers of views, tiles and references: JSON files by shape, and held against the NPZ beside them."""

import json

import pytest

from ptycho.data.numbers import LINEAR_OVERLAP, read_tile_numbers, read_view_numbers
from ptycho.reporting.measured import read_reference
from ptycho.workflow.damage import number_in
from ptycho.workflow.files import ContractError
from tests.small_files import write_tiles, write_view

NUMBERS = {
    "target_overlap": 0.7,
    "overlap": {"between_exposures": {"linear": 0.69}},
    "counts": {"exposures_of_scan": 6, "exposures": 5, "holdout": 1},
    "spacing_px": {"q50": 4.5},
    "fluence_photons_per_px": 12.0,
    "mean_detected_photons": float(600),
    "provenance": {"host": "é"},
}
REFERENCE = {
    "misfit": 1.2,
    "standard_error": 0.01,
    "explained_by_shot_noise": 1.1,
    "exceeds_shot_noise": True,
    "over_mean_pattern": 0.4,
}


@pytest.mark.parametrize("name", ["view", "tiles"])
def test_numbers_are_those_of_the_file_beside_them(tmp_path, name):
    """A digit that flipped in the JSON changed the summary."""
    read = {"view": read_view_numbers, "tiles": read_tile_numbers}[name]
    path = tmp_path / f"{name}.npz"
    _ = write_view(path, metadata=NUMBERS) if name == "view" else write_tiles(path)
    beside = path.with_suffix(".json")
    written = beside.read_text(encoding="utf-8")
    assert read(beside) == json.loads(written)
    for old, new in {"view": ("12.0", "13.0"), "tiles": ('"tiles": 2', '"tiles": 3')}[name], ("{", '{"more": 1, '):
        beside.write_text(written.replace(old, new, 1), encoding="utf-8")
        with pytest.raises(ContractError, match=rf"{name}\.json: other numbers than in {name}\.npz"):
            read(beside)
    path.unlink()
    assert read(beside)["more"] == 1  # alone it is believed


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("overlap", None, "'overlap' is None; wanted an object"),
        ("overlap", {"between_exposures": {}}, "'between_exposures' has no 'linear'"),
        ("overlap", {"between_exposures": {"linear": "0.7"}}, "'linear' is '0.7'; wanted a finite number"),
        ("counts", {"exposures": 5}, "'counts' has no 'holdout'; found exposures"),
        ("counts", {**NUMBERS["counts"], "groups": 1.5, "groups_wanted": 2}, "'groups' is 1.5; wanted an integer"),
        ("counts", {**NUMBERS["counts"], "groups_wanted": 2}, "'counts' has no 'groups'; found exposures_of_scan"),
        ("spacing_px", {"q51": 1.0}, "'spacing_px' has no 'q50'"),
        ("fluence_photons_per_px", float("nan"), "'fluence_photons_per_px' is nan; wanted a finite number"),
        ("valid_pixel_fraction", "all", "'valid_pixel_fraction' is 'all'; wanted a finite number"),
    ],
)
def test_numbers_of_a_view_are_checked_by_name(tmp_path, key, value, message):
    path = tmp_path / "view.json"
    path.write_text(json.dumps(NUMBERS | {key: value}), encoding="utf-8")
    with pytest.raises(ContractError, match=rf"view\.json: its content.*{message}"):
        read_view_numbers(path)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({}, "'metadata' has no 'overlap'; found nothing"),
        ({"overlap": 3}, r"'overlap' is 3; wanted an object, \{…\}"),
        ({"overlap": {"linear": 1}}, "'metadata': 'overlap' has no 'between_exposures'; found linear"),
        ({"overlap": {"between_exposures": {"linear": True}}}, "'linear' is True; wanted a finite number"),
        ({"overlap": {"between_exposures": {"linear": -0.5}}}, "'linear' is -0.5; wanted a number above 0"),
    ],
)
def test_a_number_that_is_not_where_it_should_be_is_named(metadata, message):
    with pytest.raises(ContractError, match=f"view.npz: .*{message}"):
        number_in(metadata, "view.npz: 'metadata'", *LINEAR_OVERLAP, above=0)
    assert number_in(NUMBERS, "view.npz: 'metadata'", *LINEAR_OVERLAP, above=0) == 0.69
    assert number_in({"x": -3}, "a.json", "x") == -3


def test_numbers_of_tiles_are_checked_by_name(tmp_path):
    path, right = tmp_path / "tiles.json", {"tiles": 4, "largest_tile": 30, "redundancy": 1.75}
    for wrong in ({"tiles": 4.5}, {"redundancy": None}, {"warning": 3}):
        path.write_text(json.dumps(right | wrong), encoding="utf-8")
        with pytest.raises(ContractError, match=rf"tiles\.json: .*'{next(iter(wrong))}' is"):
            read_tile_numbers(path)


def test_numbers_of_a_reference_are_checked_by_name(tmp_path):
    path = tmp_path / "misfit.json"
    for ratio in (0.4, float("inf")):
        path.write_text(json.dumps(REFERENCE | {"over_mean_pattern": ratio}), encoding="utf-8")
        assert read_reference(path)["over_mean_pattern"] == ratio
    for key, value in (("misfit", None), ("exceeds_shot_noise", 1), ("over_mean_pattern", "0.4")):
        path.write_text(json.dumps(REFERENCE | {key: value}), encoding="utf-8")
        with pytest.raises(ContractError, match=rf"misfit\.json: .*'{key}' is"):
            read_reference(path)
