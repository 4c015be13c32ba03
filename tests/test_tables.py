import numpy as np
import pandas as pd
import pytest

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


def test_a_pair_shares_its_noise():
    """Two methods that vary together differ by the same in every seed: 0.1 ± 0, by hand."""
    table = paired_differences(tidy({"one": [0.3, 0.5, 0.7], "two": [0.2, 0.4, 0.6]}))
    assert len(table) == 1
    assert tuple(table.loc[0, ["method", "versus", "n"]]) == ("one", "two", 3)
    assert table.loc[0, "mean"] == pytest.approx(0.1)
    assert table.loc[0, "sd"] == pytest.approx(0, abs=1e-12)
    assert "+0.1" in difference_table(table)
    assert "beyond 2 sd" in difference_table(table)


def test_a_pair_that_varies_by_itself_has_the_deviation_of_its_differences():
    differences = np.array([0.1, -0.2, 0.4])
    table = paired_differences(tidy({"one": [0.5, 0.6, 0.7], "two": np.array([0.5, 0.6, 0.7]) - differences}))
    assert table.loc[0, "sd"] == pytest.approx(np.std(differences, ddof=1))
    assert "beyond" not in difference_table(table)


def test_objects_are_paired_too():
    """Two objects with one seed each: a pair is of one object, whatever the other's level."""
    metrics = tidy({"one": [0.3, 0.9], "two": [0.2, 0.8]}, object=["a", "b"])
    metrics["seed"] = 0
    table = paired_differences(metrics)
    assert table.loc[0, "n"] == 2
    assert table.loc[0, "sd"] == pytest.approx(0, abs=1e-12)
    assert varied(metrics) == "1 seed of noise and training × 2 objects"


def test_one_repetition_has_no_deviation():
    assert "±" not in spread_table(tidy({"one": [0.3], "two": [0.2]}))
    assert np.isnan(paired_differences(tidy({"one": [0.3], "two": [0.2]}))["sd"]).all()


def test_a_summary_is_a_line_a_method_in_the_order_of_the_study():
    fluence = pd.DataFrame(
        [{"dose": 1000, "view": "dense", "split": "test", "seed": 0, "overlap": 0.7, "fluence_photons_per_px": 37.0}]
    )
    lines = summary_table(tidy({"z": [0.3, 0.4], "a": [0.2, 0.2]}), fluence).splitlines()
    assert lines[0].split() == ["split", "view", "overlap", "dose", "photons/px", "method", "error"]
    assert lines[1].split() == ["test", "dense", "0.7", "1000", "37", "z", "0.35", "±0.07"]
    assert lines[2].split()[5] == "a"
