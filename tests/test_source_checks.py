"""A simulated source that no job could make is refused in a line before any job; what is not refused can be made."""

import copy
from pathlib import Path

import numpy as np
import pytest

from ptycho.data.npz import save_arrays
from ptycho.formats.images import make_probe
from ptycho.formats.source_checks import check_source
from ptycho.physics.detector import DetectorOptions, simulate_detector
from ptycho.physics.probes import illuminated_height_px
from ptycho.physics.simulate import RasterOptions, raster_positions, raster_shape
from ptycho.workflow.config import ConfigError, as_integers, check_config, load_config, load_schema
from ptycho.workflow.limits import VARIABLE

ROOT = Path(__file__).parent.parent
DEFAULT = load_config(ROOT / "config/config.yaml")
SCHEMA = load_schema()
STUDIES = sorted(path for path in (ROOT / "config").glob("*.yaml") if path.stem != "defaults")
BEAMS = {
    "zone_plate": DEFAULT["source"]["probe"],
    "gaussian": {"kind": "gaussian", "n_pixels": 64, "fwhm_px": 11.8},
}


def with_source(**changes):
    """The default study with a part of its source changed."""
    config = copy.deepcopy(DEFAULT)
    for key, value in changes.items():
        config["source"].setdefault(key, {}).update(value)
    return config


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_the_sources_of_all_studies_can_be_made(path):
    config = load_config(path)
    if config["source"]["kind"] == "simulated":
        check_source(config["source"], config.get("objects"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"probe": {"pupil_px": 1300}}, r"source\.probe: pupil_px 1300 and defocus_px .* must lie in \(0, 32\.0\]"),
        ({"probe": {"pupil_px": 1e-300}}, r"source\.probe: \{.*'pupil_px': 1e-300.* give values that are not finite"),
        (
            {"raster": {"columns": 100_000, "train_rows": 100_000, "spacing_px": 1e-3}},
            r"raster: 100,000 × 100,\d{3} exp",
        ),
        (
            {"raster": {"spacing_px": 88_000}},
            r"source\.raster: .* exposures on an object of [\d,]+ × [\d,]+ px would take [\de+.]+ GB of memory; "
            r"wanted at most .* GB \(PTYCHO_MAX_GB allows more\)",
        ),
        ({"detector": {"dead_fraction": 0.5, "hot_pixels": 1000, "gap_px": 15}}, None),
        ({"detector": {"flux_jitter": 1e-200}}, r"source\.detector: "),
        (
            {"object": {"path": "object.npz", "kind": "file"}},
            r"source\.object: object\.npz: \(9, 9\) px, but this raster",
        ),
        ({"object": {"path": "none.npz", "kind": "file"}}, None),  # the workflow says so
    ],
    ids=["pupil", "small pupil", "exposures", "spacing", "detector", "flux", "object", "no object"],
)
def test_a_source_that_no_job_can_make_is_refused_in_a_line(tmp_path, monkeypatch, changes, message):
    monkeypatch.chdir(tmp_path)
    save_arrays("object.npz", objectGuess=np.ones((9, 9), np.complex64))
    source = with_source(**changes)["source"]
    if message is None:
        return check_source(source)
    with pytest.raises(ConfigError, match=message) as error:
        check_source(source)
    assert str(error.value).count("\n") == 1
    return None


@pytest.mark.parametrize(
    ("probe", "message"),
    [
        ({"kind": "gaussian", "n_pixels": 64, "fwhm_px": 17}, r"fwhm_px 17 must lie in \(0, 16\.0\]"),
        ({"kind": "gaussian", "n_pixels": 64, "fwhm_px": 1e-9}, r"90 % of the photons in .* px; wanted 1 px at least"),
        ({"kind": "file", "path": "scan.npz"}, r"scan\.npz: 'probeGuess' is complex64 with shape \(9, 8\)"),
        ({"kind": "file", "path": "odd.npz"}, r"odd\.npz: patterns of 9 px; wanted an even number"),
    ],
)
def test_a_beam_that_cannot_be_made_is_refused(tmp_path, monkeypatch, probe, message):
    monkeypatch.chdir(tmp_path)
    save_arrays("scan.npz", probeGuess=np.ones((9, 8), np.complex64))
    save_arrays("odd.npz", probeGuess=np.ones((9, 9), np.complex64))
    with pytest.raises(ConfigError, match=rf"source\.probe: {message}"):
        check_source({**DEFAULT["source"], "probe": probe})


def test_objects_are_checked_by_name(tmp_path):
    save_arrays(tmp_path / "small.npz", objectGuess=np.ones((9, 9), np.complex64))
    source = {key: value for key, value in DEFAULT["source"].items() if key != "object"}
    objects = {"a": {"kind": "lines"}, "b": {"kind": "file", "path": str(tmp_path / "small.npz")}}
    with pytest.raises(ConfigError, match=r"invalid:\n  - objects\.b: .*small\.npz: \(9, 9\) px[^\n]*$"):
        check_source(source, objects)


def test_the_limit_is_that_of_the_environment(monkeypatch):
    monkeypatch.setenv(VARIABLE, "1e-3")
    with pytest.raises(ConfigError, match=r"source\.raster: .* wanted at most 0\.001 GB"):
        check_source(DEFAULT["source"])


def test_the_shape_of_a_raster_is_known_without_its_positions():
    rng = np.random.default_rng(0)
    for _ in range(50):
        columns, train_rows, test_rows = rng.integers(1, 9, 3).tolist()
        spacing, jitter, guard = rng.uniform(0.1, 20), rng.uniform(0, 9), rng.uniform(1, 90)
        sizes = {"columns": columns, "train_rows": train_rows, "test_rows": test_rows}
        raster = RasterOptions(**sizes, spacing_px=spacing, jitter_px=jitter)
        x, y, shape = raster_positions(raster, 32, guard, rng)
        assert shape == raster_shape(raster, 32, guard)
        assert min(x.min(), y.min()) >= 16
        assert (y.max() + 16, x.max() + 16) <= shape


def numbers_of_the_source():
    """Keys of the numbers of a simulated source with their schemas, those of a beam with its kind."""
    schema = SCHEMA["properties"]["source"]["oneOf"][0]["properties"]
    parts = [(part, None, schema[part]["properties"]) for part in ("raster", "detector")]
    parts += [("probe", kind, schema["probe"]["oneOf"][number]["properties"]) for number, kind in enumerate(BEAMS)]
    return [
        pytest.param(part, kind, key, values, id=f"{kind or part}.{key}")
        for part, kind, properties in parts
        for key, values in properties.items()
        if values.get("type") in ("integer", "number")
    ]


@pytest.mark.parametrize(("part", "kind", "key", "schema"), numbers_of_the_source())
def test_an_extreme_number_of_the_source_is_refused_or_can_be_made(monkeypatch, part, kind, key, schema):
    monkeypatch.setenv(VARIABLE, "0.03")
    monkeypatch.setattr("ptycho.workflow.config.load_schema", lambda: SCHEMA)  # not read hundreds of times
    limits = [schema[name] for name in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum") if name in schema]
    extremes = [*limits, *(1.001 * limit for limit in limits), *(0.999 * limit for limit in limits)]
    extremes += [0, 1, -1, 10**30, 1e300, -1e300, 1e-300, 5e-324, 1e6, 88_000.0, 1e-9, 0.5]
    refusals = [refusal_of(part, kind, key, value) for value in extremes]
    refusals = [refusal for refusal in refusals if refusal is not None]
    assert len(refusals) >= 4
    assert all(f"  - source.{part}" in refusal and refusal.count("\n") == 1 for refusal in refusals)


def refusal_of(part, kind, key, value):
    """Why a source with this number is refused; None if it can be made."""
    config = copy.deepcopy(DEFAULT)
    config["source"]["probe"] = dict(BEAMS[kind or "zone_plate"])
    config["source"].setdefault(part, {})[key] = value
    config = as_integers(config)
    try:
        check_config(config)
        check_source(config["source"])
    except ConfigError as error:
        return str(error)
    return make(config["source"])


def make(source):
    """What the jobs make of a source before they draw or count anything."""
    probe, raster = make_probe(**source["probe"]), RasterOptions(**source["raster"])
    assert np.isfinite(probe).all()
    n, rng = probe.shape[-1], np.random.default_rng(0)
    xcoords, _, _ = raster_positions(raster, n, illuminated_height_px(probe), rng)
    assert np.isfinite(xcoords).all()
    simulate_detector(DetectorOptions(**source.get("detector", {})), n, len(xcoords), rng)
