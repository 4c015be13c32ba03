"""Tables as text: spread over repetitions, paired differences of methods, the summary."""

import numpy as np
import pandas as pd
import pytest

from ptycho.reporting.page import warnings_in
from ptycho.reporting.summary import StudyTables, fluence_table, summary_text, tile_table, view_warnings
from ptycho.reporting.tables import difference_table, paired_differences, spread_table, summary_table, varied


def tidy(values, **more):
    """Error of two methods in one condition: a list for each."""
    rows = [
        {"dose": 1000, "view": "dense", "split": "test", "method": method, "seed": seed, "metric": "error"}
        | {"value": value}
        | {name: column[seed] for name, column in more.items()}
        for method, column in values.items()
        for seed, value in enumerate(column)
    ]
    return pd.DataFrame(rows)


def test_variation_common_to_a_pair_cancels():
    """Two methods that vary together differ by the same in every seed: 0.1 ± 0, by hand."""
    table = paired_differences(tidy({"one": [0.3, 0.5, 0.7], "two": [0.2, 0.4, 0.6]}))
    assert len(table) == 1
    assert tuple(table.loc[0, ["method", "versus", "n"]]) == ("one", "two", 3)
    assert table.loc[0, "mean"] == pytest.approx(0.1)
    assert table.loc[0, "sd"] == pytest.approx(0, abs=1e-12)
    assert "+0.1" in difference_table(table)
    assert "beyond 2 sd" in difference_table(table)


def test_the_deviation_of_a_pair_is_that_of_its_differences():
    differences = np.array([0.1, -0.2, 0.4])
    table = paired_differences(tidy({"one": [0.5, 0.6, 0.7], "two": np.array([0.5, 0.6, 0.7]) - differences}))
    assert table.loc[0, "sd"] == pytest.approx(np.std(differences, ddof=1))
    assert "beyond" not in difference_table(table)


def test_objects_are_paired_too():
    """Two objects with one seed each: a difference is taken within an object, whatever the other's error."""
    metrics = tidy({"one": [0.3, 0.9], "two": [0.2, 0.8]}, object=["a", "b"])
    metrics["seed"] = 0
    table = paired_differences(metrics)
    assert table.loc[0, "n"] == 2
    assert table.loc[0, "sd"] == pytest.approx(0, abs=1e-12)
    assert varied(metrics) == "1 seed of noise and training × 2 objects"


def test_one_repetition_has_no_deviation():
    assert "±" not in spread_table(tidy({"one": [0.3], "two": [0.2]}))
    assert np.isnan(paired_differences(tidy({"one": [0.3], "two": [0.2]}))["sd"]).all()


def test_a_summary_has_a_line_per_method_in_the_order_of_the_study():
    fluence = pd.DataFrame(
        [{"dose": 1000, "view": "dense", "split": "test", "seed": 0, "overlap": 0.7, "fluence_photons_per_px": 37.0}]
    )
    lines = summary_table(tidy({"z": [0.3, 0.4], "a": [0.2, 0.2]}), fluence).splitlines()
    assert lines[0].split() == ["split", "view", "overlap", "dose", "photons/px", "method", "error"]
    assert lines[1].split() == ["test", "dense", "0.7", "1000", "37", "z", "0.35", "±0.07"]
    assert lines[2].split()[5] == "a"


def study_tables(metrics):
    """The tables of a study with these metrics."""
    differences = paired_differences(metrics)
    fluence = pd.DataFrame(
        [{"dose": 1000, "view": "dense", "split": "test", "seed": 0, "overlap": 0.7, "fluence_photons_per_px": 37.0}]
    )
    training = pd.DataFrame({"method": ["pinn", "pinn"], "cpu_s": [4.0, 6.0]})
    tables = {"differences": differences, "fluence": fluence, "training": training}
    return StudyTables(metrics=metrics, **tables, bound=metrics.iloc[:0], price=pd.DataFrame(), tiles=tile_table({}))


@pytest.mark.parametrize("name", ["truth", "reference"])
def test_the_summary_names_direction_cost_and_warnings(name):
    tables = study_tables(tidy({"pinn": [0.3, 0.4], "tv": [0.2, 0.2]}))
    text = summary_text("mine", tables, ["a, b"], results="results/mine", reference_name=name)
    assert f"Study 'mine': aligned to the {name}," in text
    assert "Mean ± standard deviation over 2 seeds of noise and training." in text
    assert "Higher is better: none; lower is better: error." in text
    assert "pinn - tv" in text
    assert "Training of pinn: 4 to 6 CPU-seconds per condition" in text
    assert warnings_in(text) == ["a, b"]
    assert {"truth": "reference", "reference": "truth"}[name] not in text


def test_the_summary_of_one_repetition_has_no_error_bars_and_no_differences():
    text = summary_text("mine", study_tables(tidy({"pinn": [0.3], "tv": [0.2]})), [], results="results/mine")
    assert "One repetition, no error bars: 1 seed of noise and training." in text
    assert "paired differences of methods:" not in text
    assert "WARNING" not in text


def test_views_with_too_few_groups_or_photons_are_warned_of():
    counts = {"exposures": 49, "exposures_without_photons": 9}
    numbers = {"counts": counts, "overlap": {"between_exposures": {"linear": 0.7}}}
    numbers |= {"fluence_photons_per_px": 37.0, "mean_detected_photons": 600.0}
    views = {"results/x/dose_1000/dense/seed_0/test.json": numbers}
    (photons,) = view_warnings(views)  # nothing is trained on the test split: it has no groups
    assert photons.startswith("test, dense 1000: 9 of 49 exposures have no photons")
    row = fluence_table(views).iloc[0]
    assert (row["dose"], row["view"], row["seed"], row["split"], row["overlap"]) == (1000, "dense", 0, "test", 0.7)
    counts |= {"exposures_without_photons": 0, "groups": 20, "groups_wanted": 40}
    train = {"results/x/dose_1000/dense/seed_0/train.json": numbers}
    assert view_warnings(train) == ["train, dense 1000: only 20 of 40 requested groups were found"]
    counts["groups"] = 40
    assert view_warnings(train | views) == []
