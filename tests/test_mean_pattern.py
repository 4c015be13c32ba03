"""The mean pattern as a prediction: its numbers, worked out by hand, and who is warned of for being no better."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from ptycho.data.lazy import MaskedFrames
from ptycho.data.object_files import Reconstruction, save_reconstruction
from ptycho.formats.reconstructions import read_candidate
from ptycho.inspection.judgment import judge
from ptycho.physics.detector import Detector
from ptycho.physics.noise import poisson_deviance
from ptycho.reporting.misfits import judgment_text
from ptycho.scoring.evaluate import compare
from ptycho.scoring.mean_pattern import mean_pattern, mean_pattern_deviance
from ptycho.scoring.metric_tables import mean_pattern_warnings, with_condition
from ptycho.scoring.region import Region
from tests.conftest import view_of

CONDITION = {"dose": 1000, "view": "dense", "seed": 0, "split": "test"}


def counts_of(scan):
    return np.square(scan.diffraction[:], dtype=np.float64)


def test_the_mean_pattern_is_the_mean_of_the_counts_whatever_the_block(scan):
    known, predicted = np.arange(5, 40), np.array([0, 2, 45])
    counts = counts_of(scan)
    for block_size in (1, 7, 100):
        np.testing.assert_allclose(mean_pattern(scan, known, block_size), counts[known].mean(axis=0), rtol=1e-12)
        expected = poisson_deviance(counts[predicted], np.broadcast_to(counts[known].mean(axis=0), (3, 64, 64)))
        assert mean_pattern_deviance(scan, known, predicted, block_size) == pytest.approx(expected)


def test_it_knows_background_flux_and_bad_pixels(scan):
    """Counts of a beam without a sample: 3 times the flux plus 2, and a pixel that is bad."""
    flux, bad = np.linspace(0.5, 1.5, len(scan)), np.zeros((64, 64), bool)
    bad[3, 4] = True
    frames = np.broadcast_to(np.sqrt(3 * flux + 2)[:, None, None], (len(scan), 64, 64)).copy()
    frames[:, 3, 4] = 1e6
    detector = Detector(bad_pixels=bad, background=np.full((64, 64), 2, np.float32), exposure_scale=flux)
    beam = replace(scan, diffraction=MaskedFrames(frames, bad), detector=detector)
    every = np.arange(len(scan))
    np.testing.assert_allclose(mean_pattern(beam, every)[~bad], 3)
    assert mean_pattern_deviance(beam, every[::2], every[1::2]) == pytest.approx(0, abs=1e-9)


def test_a_method_that_predicts_no_better_than_the_mean_pattern_is_warned_of(scan, tmp_path):
    """The truth predicts; an object of random phases, as of a scan whose positions are wrong, does not."""
    noise = np.exp(1j * np.random.default_rng(1).uniform(-3, 3, scan.object.shape))
    view, objects = view_of(scan), {"tv": scan.object[:], "lsqml": (scan.object[:] * noise).astype(np.complex64)}
    for method, obj in objects.items():
        result = Reconstruction(object=obj, illumination=np.ones(obj.shape), origin_px=(0, 0))
        save_reconstruction(tmp_path / f"{method}.npz", result, method=method)
    table, _ = compare({name: tmp_path / f"{name}.npz" for name in objects}, scan, view, Region(40, 90, 40, 90))
    values = table.set_index(["method", "metric"])["value"]
    assert values["tv", "heldout_deviance"] < 0.7 * values["tv", "mean_pattern_deviance"]
    (warning,) = mean_pattern_warnings(with_condition(table, **CONDITION))
    assert warning.startswith(
        "lsqml: predicts holdout exposures no better than their mean pattern in 1 of 1 conditions"
    )
    assert mean_pattern_warnings(with_condition(table[table["metric"] == "error"], **CONDITION)) == []


def test_the_conditions_that_are_no_better_are_counted():
    rows = pd.DataFrame(
        {**CONDITION, "seed": seed, "method": "tv", "metric": metric, "value": value}
        for seed, ratio in enumerate((0.4, 1.0, 1.5, np.nan))
        for metric, value in (("heldout_deviance", 2 * ratio), ("mean_pattern_deviance", 2.0))
    )
    (warning,) = mean_pattern_warnings(rows)
    assert "in 3 of 4 conditions: up to 1.5 times its deviance" in warning
    assert mean_pattern_warnings(rows[rows["seed"] == 0]) == []
    (warning,) = mean_pattern_warnings(rows[rows["seed"] == 3])  # not a number, and nothing else
    assert "in 1 of 1 conditions" in warning


def test_a_judged_object_at_the_wrong_place_is_no_better_than_the_mean_pattern(scan, tmp_path):
    path = tmp_path / "truth.npz"
    np.savez(path, objectGuess=scan.object[...])
    right = read_candidate(path, scan)
    shuffled = np.random.default_rng(0).permutation(len(scan))
    wrong = replace(right, xcoords=right.xcoords[shuffled], ycoords=right.ycoords[shuffled])
    for candidate, useless in ((right, False), (wrong, True)):
        judgment = judge(candidate, scan)
        assert judgment.is_useless == useless
        assert (judgment.over_mean_pattern < 0.7) != useless
        warned = "WARNING: truth.npz: predicts these exposures no better than their mean pattern" in judgment_text(
            [judgment], "a test"
        )
        assert warned == useless
