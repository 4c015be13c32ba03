"""The price of resolution: doses interpolated in the logarithm, what is not reached, and what `ptycho plan` says."""

import numpy as np
import pandas as pd
import pytest

from ptycho.cli.main import main
from ptycho.reporting.prices import price_words
from ptycho.scoring.price import TARGETS, first_crossing, price_table

DOSES = (1000, 10_000, 100_000)


def metrics_of(curves, doses=DOSES, **columns):
    """A table of metrics: method -> list of curves of frc50_phase, one per seed."""
    rows = [
        {"dose": dose, "view": "dense", "split": "test", "method": method, "seed": seed, "metric": "frc50_phase"}
        | {"value": value}
        for method, repetitions in curves.items()
        for seed, curve in enumerate(repetitions)
        for dose, value in zip(doses, curve, strict=True)
    ]
    return pd.DataFrame(rows).assign(**columns)


def fluence_of(metrics, per_photon=0.012):
    conditions = metrics[["dose", "view", "split", "seed"]].drop_duplicates()
    return conditions.assign(fluence_photons_per_px=per_photon * conditions["dose"])


def price_of(curves, target, doses=DOSES):
    metrics = metrics_of({"tv": curves}, doses)
    (row,) = price_table(metrics, fluence_of(metrics), [target]).to_dict("records")
    return row


@pytest.mark.parametrize(
    ("resolutions", "target", "dose"),
    [
        ((0.2, 0.4, 0.8), 0.3, 10**3.5),  # half way between 1,000 and 10,000
        ((0.2, 0.4, 0.8), 0.5, 10**4.25),
        ((0.2, 0.4, 0.8), 0.4, 10_000),
        ((0.2, 0.4, 0.8), 0.8, 100_000),
        ((0.2, 0.4, 0.8), 0.81, np.inf),
        ((0.2, 0.6, 0.3), 0.4, 10**3.5),  # the first crossing of a curve that falls again
        ((0.6, 0.3, 0.8), 0.5, 1000),
        ((0.2, np.nan, 0.8), 0.5, 10_000),  # half way between 1,000 and 100,000
        ((np.nan, 0.6, 0.8), 0.5, 10_000),
        ((np.nan, np.nan, np.nan), 0.5, np.nan),
    ],
)
def test_the_first_crossing_is_linear_in_the_logarithm_of_the_dose(resolutions, target, dose):
    assert 10 ** first_crossing(DOSES, resolutions, target).log_dose == pytest.approx(dose, nan_ok=True)


@pytest.mark.parametrize(
    ("resolutions", "at_lowest"), [((0.6, 0.3, 0.8), True), ((np.nan, 0.6, 0.8), True), ((0.4, 0.6, 0.8), False)]
)
def test_what_the_lowest_dose_has_already_is_marked(resolutions, at_lowest):
    assert first_crossing(DOSES, resolutions, 0.5).at_lowest is at_lowest


def test_repetitions_give_a_geometric_mean_and_a_factor():
    row = price_of([(0.2, 0.4, 0.8), (0.1, 0.5, 0.9), (0.3, 0.6, 0.9)], 0.4)
    logs = np.array([4.0, 3.75, 3 + 1 / 3])
    assert row["status"] == "reached"
    assert row["dose_photons"] == pytest.approx(10 ** logs.mean())
    assert row["sd_factor"] == pytest.approx(10 ** logs.std(ddof=1))
    assert (row["n_reached"], row["n"]) == (3, 3)
    assert row["fluence_photons_per_px"] == pytest.approx(0.012 * row["dose_photons"])


def test_one_repetition_has_no_factor():
    row = price_of([(0.2, 0.4, 0.8)], 0.5)
    assert row["dose_photons"] == pytest.approx(10**4.25)
    assert np.isnan(row["sd_factor"])


@pytest.mark.parametrize(
    ("curves", "status", "dose", "reached", "n"),
    [
        ([(0.1, 0.2, 0.3), (0.1, 0.2, 0.4)], "not reached", np.nan, 0, 2),
        ([(0.1, 0.2, 0.3), (0.1, 0.5, 0.6)], "partly reached", 10_000, 1, 2),
        ([(0.5, 0.6, 0.7), (0.6, 0.6, 0.7)], "at lowest dose", 1000, 2, 2),
        ([(0.5, 0.6, 0.7), (0.4, 0.5, 0.7)], "reached", 10**3.5, 2, 2),
        ([(np.nan,) * 3, (0.1, 0.5, 0.6)], "reached", 10_000, 1, 1),
        ([(np.nan,) * 3], "none", np.nan, 0, 0),
    ],
)
def test_what_is_not_reached_or_reached_before_is_said(curves, status, dose, reached, n):
    row = price_of(curves, 0.5)
    assert (row["status"], row["n_reached"], row["n"]) == (status, reached, n)
    assert row["dose_photons"] == pytest.approx(dose, nan_ok=True)
    assert np.isnan(row["fluence_photons_per_px"]) == np.isnan(dose)


@pytest.mark.parametrize(
    ("curves", "dose", "words"),
    [
        ([(0.5, 0.6, 0.7), (0.4, 0.5, 0.7)], 10**3.5, "≤ 3,200"),
        ([(0.5, 0.6, 0.7), (0.4, 0.5, 0.7), (0.1, 0.2, 0.3)], 10**3.5, "≤ 3,200 (2 of 3)"),
        ([(0.5, 0.6, 0.7), (0.6, 0.6, 0.7)], 1000, "≤ 1,000"),
    ],
)
def test_a_price_that_one_repetition_reaches_at_the_lowest_dose_is_a_limit_without_deviation(curves, dose, words):
    row = price_of(curves, 0.5)
    assert row["upper_limit"] is True
    assert np.isnan(row["sd_factor"])
    assert row["dose_photons"] == pytest.approx(dose)
    assert price_words(row) == words


def test_a_price_that_no_repetition_reaches_at_the_lowest_dose_is_no_limit():
    row = price_of([(0.4, 0.6, 0.7), (0.4, 0.5, 0.7)], 0.5)
    assert row["upper_limit"] is False
    assert np.isfinite(row["sd_factor"])


@pytest.mark.parametrize(("value", "status"), [(0.7, "at lowest dose"), (0.3, "not reached")])
def test_a_single_dose_is_enough_or_not(value, status):
    assert price_of([(value,)], 0.5, doses=(1000,))["status"] == status


def test_the_order_of_the_rows_and_of_the_doses_does_not_matter():
    metrics = metrics_of({"tv": [(0.2, 0.4, 0.8)], "pinn": [(0.1, 0.2, 0.3)]})
    table = price_table(metrics, fluence_of(metrics))
    assert list(zip(table["method"], table["resolution"], strict=True)) == [
        (method, target) for method in ("tv", "pinn") for target in TARGETS
    ]
    shuffled = metrics.sample(frac=1, random_state=0)
    same = price_table(shuffled, fluence_of(metrics)).sort_values(["method", "resolution"], ignore_index=True)
    pd.testing.assert_frame_equal(same, table.sort_values(["method", "resolution"], ignore_index=True))


def test_views_splits_and_objects_are_kept_apart():
    curves = {"tv": [(0.2, 0.4, 0.8)]}
    parts = [
        metrics_of(curves, object="a"),
        metrics_of({"tv": [(0.4, 0.6, 0.8)]}, object="b"),
        metrics_of(curves, object="a", view="sparse"),
        metrics_of(curves, object="a", split="train"),
    ]
    metrics = pd.concat(parts, ignore_index=True)
    fluence = metrics[["dose", "view", "split", "object", "seed"]].drop_duplicates()
    factor = np.where(fluence["view"] == "dense", 0.01, 0.002)
    table = price_table(metrics, fluence.assign(fluence_photons_per_px=factor * fluence["dose"]), [0.5])
    table = table.set_index(["split", "view"])
    assert list(table["n"]) == [2, 1, 1]
    assert table.loc[("test", "dense"), "dose_photons"] == pytest.approx(10 ** ((4.25 + 3.5) / 2))
    photons = table["fluence_photons_per_px"] / table["dose_photons"]
    np.testing.assert_allclose(photons, [0.01, 0.002, 0.01])


@pytest.mark.parametrize("target", [0, -0.1, 1.01, np.nan])
def test_a_resolution_outside_of_nyquist_is_refused(target):
    metrics = metrics_of({"tv": [(0.2, 0.4, 0.8)]})
    with pytest.raises(ValueError, match=r"wanted a fraction of Nyquist in \(0, 1\]"):
        price_table(metrics, fluence_of(metrics), [target])


def test_a_table_without_resolution_is_refused():
    metrics = metrics_of({"tv": [(0.2, 0.4, 0.8)]}, metric="error")
    with pytest.raises(ValueError, match=r"no metric 'frc50_phase'; the table has \['error'\]"):
        price_table(metrics, fluence_of(metrics))


@pytest.fixture
def results(tmp_path):
    """Tables of a study of two views and three methods, two seeds each."""
    curves = {
        "pinn": [(0.1, 0.2, 0.3)] * 2,
        "tv": [(0.2, 0.4, 0.8), (0.3, 0.5, 0.8)],
        "lsqml": [(0.1, 0.3, 0.5), (0.1, 0.3, 0.4)],
    }
    metrics = pd.concat([metrics_of(curves, view=view) for view in ("dense", "sparse")])
    metrics.loc[(metrics["view"] == "sparse") & (metrics["method"] == "tv"), "value"] /= 2
    fluence = fluence_of(metrics)
    fluence.loc[fluence["view"] == "sparse", "fluence_photons_per_px"] /= 10
    metrics.to_csv(tmp_path / "metrics.csv", index=False)
    fluence.to_csv(tmp_path / "fluence.csv", index=False)
    metrics_of({"photon limit": [(0.4, 0.6, 0.9)]}).to_csv(tmp_path / "bound.csv", index=False)
    return tmp_path


def plan(capsys, *arguments):
    assert main(["plan", *map(str, arguments)]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    return line


def test_a_plan_answers_in_a_line_fewest_photons_first(results, capsys):
    """TV-MAP, dense, reaches 0.5 at 10^4.25 and 10^4, their mean 10^4.125 and a factor of 10^(0.25/√2)."""
    assert plan(capsys, results, "--resolution", 0.5, "--pixel-size", 8) == (
        "0.5 of Nyquist (half period 16 nm), test split: "
        "TV-MAP dense 13,000 photons per exposure (160 per object pixel, ×/÷ 1.50 over 2 repetitions); "
        "not in all repetitions: LSQML sparse 100,000 photons per exposure (120 per object pixel, 1 of 2), "
        "LSQML dense 100,000 photons per exposure (1,200 per object pixel, 1 of 2); "
        "photon limit of an unbiased estimate: dense 3,200 photons per exposure (38 per object pixel); "
        "not reached up to 100,000: PINN dense, PINN sparse, TV-MAP sparse"
    )


def test_a_plan_of_one_view_and_of_any_resolution(results, capsys):
    line = plan(capsys, results, "--resolution", 0.3, "--view", "sparse")
    assert line.startswith(
        "0.3 of Nyquist, test split: LSQML sparse 10,000 photons per exposure (12 per object pixel, "
    )
    assert "TV-MAP sparse 26,000" in line  # 10^4.5 and 10^(4 + 0.05/0.15)
    assert "dense" not in line
    assert "half period" not in line


def test_a_plan_marks_an_upper_limit(results, capsys):
    line = plan(capsys, results, "--resolution", 0.25, "--view", "dense")
    assert "TV-MAP dense ≤ 1,300 photons per exposure (16 per object pixel); " in line  # 10^3.25 and at most 10^3


def test_a_plan_of_what_no_method_reaches(results, capsys):
    line = plan(capsys, results, "--resolution", 1, "--view", "dense")
    assert line.startswith(
        "1 of Nyquist, test split: no method reaches it in all repetitions; not reached up to 100,000: "
    )


def test_a_plan_needs_no_photon_limit(results, capsys):
    (results / "bound.csv").unlink()
    assert "photon limit" not in plan(capsys, results, "--resolution", 0.5)


def test_a_plan_of_a_measured_study_has_a_photon_limit_without_rows(results, capsys):
    """Its bound.csv is a header."""
    before = plan(capsys, results, "--resolution", 0.5)
    pd.read_csv(results / "metrics.csv").iloc[:0].to_csv(results / "bound.csv", index=False)
    line = plan(capsys, results, "--resolution", 0.5)
    assert "photon limit" in before
    assert "photon limit" not in line
    assert line.startswith(before.partition("; photon limit")[0])


@pytest.mark.parametrize("name", ["bound", "metrics"])
def test_a_plan_names_an_empty_file(results, capsys, name):
    (results / f"{name}.csv").write_text("", encoding="utf-8")
    assert main(["plan", str(results), "--resolution", "0.5"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{results / name}.csv: is empty; wanted" in line


@pytest.mark.parametrize("name", ["metrics", "fluence"])
def test_a_plan_without_scores_is_refused(results, capsys, name):
    pd.read_csv(results / f"{name}.csv").iloc[:0].to_csv(results / f"{name}.csv", index=False)
    assert main(["plan", str(results), "--resolution", "0.5"]) == 2
    assert f"{results / name}.csv: no rows; wanted a line of" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none"], "none: no such folder; wanted the folder of a study's results"),
        (["metrics.csv"], "metrics.csv: a file; wanted the folder of a study's results, such as results/default"),
        ([".", "--view", "middle"], "--view middle; . has dense, sparse"),
        ([".", "--split", "train"], "--split train; . has test"),
        ([".", "--pixel-size", "0"], "--pixel-size 0: wanted a number above 0"),
        ([".", "--pixel-size", "inf"], "--pixel-size inf: wanted a number above 0"),
        ([".", "--pixel-size", "8e-9"], "--pixel-size 8e-09: read as a pixel of 8e-09 nm; wanted one of 1 pm to 1 mm"),
        ([".", "--resolution", "1.5"], "a resolution of 1.5; wanted a fraction of Nyquist"),
    ],
)
def test_a_plan_that_cannot_be_made_is_refused(results, capsys, monkeypatch, arguments, message):
    monkeypatch.chdir(results)
    assert main(["plan", "--resolution", "0.5", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_study_without_resolution_has_no_plan(results, capsys):
    pd.read_csv(results / "metrics.csv").assign(metric="error").to_csv(results / "metrics.csv", index=False)
    (results / "bound.csv").unlink()
    assert main(["plan", str(results), "--resolution", "0.5"]) == 2
    assert "no metric 'frc50_phase'; the table has ['error']" in capsys.readouterr().err
