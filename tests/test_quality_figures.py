"""Figures of quality and cost: a panel per view, a line or mark per method, the photon limit."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from ptycho.reporting.quality_figures import plot_cost, plot_quality
from ptycho.workflow.files import ContractError
from tests.test_figures import rendered

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture
def tables():
    rows, fluence = [], []
    for view, share in (("dense", 0.01), ("sparse", 0.001)):
        for dose in (1000, 10000):
            fluence += [
                {"dose": dose, "view": view, "split": split, "seed": seed, "fluence_photons_per_px": dose * share}
                for split in ("train", "test")
                for seed in range(3)
            ]
            for method in ("pinn", "lsqml", "mystery"):
                for seed in range(3):
                    value = np.log10(dose) / 5 + 0.01 * seed
                    where = {"dose": dose, "view": view, "split": "test", "method": method, "seed": seed}
                    rows.append({**where, "metric": "ssim_phase", "value": value})
    return pd.DataFrame(rows), pd.DataFrame(fluence)


def test_quality_has_a_panel_per_view_and_a_line_per_method(tables, tmp_path):
    figure = plot_quality(*tables)
    rendered(figure, tmp_path)
    assert len(figure.axes) == 4
    assert [axes.get_title() for axes in figure.axes[:2]] == ["dense view", "sparse view"]
    assert all(axes.get_xscale() == "log" for axes in figure.axes)
    assert figure.axes[0].get_ylabel() == "SSIM of phase"
    lines = {line.get_label(): line for line in figure.axes[1].lines}
    np.testing.assert_allclose(lines["PINN"].get_xdata(), [1000, 10000])
    np.testing.assert_allclose(lines["PINN"].get_ydata(), [0.61, 0.81])
    below = {line.get_label(): line for line in figure.axes[3].lines}
    np.testing.assert_allclose(below["PINN"].get_xdata(), [1, 10])
    assert "n = 3: mean ± standard deviation over 3 seeds" in figure._supxlabel.get_text()
    assert len({to_hex(line.get_color()) for name, line in lines.items() if not name.startswith("_")}) == 3


def test_the_photon_limit_is_drawn_in_the_panels_of_its_view_and_moves_no_axis(tables, tmp_path):
    metrics, fluence = tables
    dense = metrics[(metrics["view"] == "dense") & (metrics["method"] == "pinn")]
    bound = pd.concat([dense.assign(value=dense["value"] + 5), dense.assign(metric="error")]).assign(method="x")
    with_bound, without = (
        plot_quality(metrics, fluence, bound),
        plot_quality(metrics, fluence),
    )
    rendered(with_bound, tmp_path)
    of_panel = [(1000, 10000), None, (10, 100), None]
    for axes, other, ends in zip(with_bound.axes, without.axes, of_panel, strict=True):
        assert axes.get_ylim() == other.get_ylim()
        limits = [line for line in axes.lines if line.get_label() == "photon limit (unbiased)"]
        assert len(limits) == (ends is not None)
        for line in limits:
            (left, *_, right), (first, *_, last) = line.get_data()
            np.testing.assert_allclose((left, right, first, last), (*ends, 5.61, 5.81))
            middle = np.interp(np.sqrt(ends[0] * ends[1]), *line.get_data())  # of a power law
            assert middle == pytest.approx(np.sqrt(5.61 * 5.81), rel=1e-5)
    labels = [text.get_text() for text in with_bound.legends[0].get_texts()]
    assert labels == ["PINN", "LSQML", "mystery", "photon limit (unbiased)"]


def test_a_measured_study_has_no_photon_limit(tables, tmp_path):
    metrics, fluence = tables
    metrics.iloc[:0].to_csv(tmp_path / "bound.csv", index=False)
    figure = plot_quality(metrics, fluence, pd.read_csv(tmp_path / "bound.csv"))
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["PINN", "LSQML", "mystery"]


def test_error_bars_only_where_there_are_seeds(tables):
    metrics, fluence = tables
    several, one = (
        plot_quality(metrics, fluence),
        plot_quality(metrics[metrics["seed"] == 0], fluence),
    )
    assert len(several.axes[0].containers) == 3
    bar = several.axes[0].containers[0].lines[2][0].get_segments()[0]
    np.testing.assert_allclose(np.ptp(bar[:, 1]), 2 * 0.01)  # sd of 0, 1, 2 hundredths, either way
    assert "n = 3: mean ± standard deviation over 3 seeds" in several.get_supxlabel()
    assert not one.axes[0].containers
    assert "n = 1: no error bar; 1 seed" in one.get_supxlabel()


def test_quality_names_what_is_missing(tables):
    metrics, fluence = tables
    with pytest.raises(ValueError, match=r"no metric 'ssim'.*ssim_phase"):
        plot_quality(metrics, fluence, metric="ssim")
    with pytest.raises(ValueError, match=r"no fluence.*sparse"):
        plot_quality(metrics, fluence[fluence["view"] == "dense"])


def test_cost_has_a_curve_per_dose_and_a_mark_per_method(tables, tmp_path):
    metrics = tables[0].assign(metric="error")
    seconds = {"pinn": 1.0, "lsqml": 30.0, "mystery": 5.0}
    costs = metrics.assign(metric="cpu_s", value=metrics["method"].map(seconds))
    figure = plot_cost(pd.concat([metrics, costs]))
    rendered(figure, tmp_path)
    dense = figure.axes[0]
    assert [axes.get_title() for axes in figure.axes] == ["dense view", "sparse view"]
    curve = [line for line in dense.lines if to_hex(line.get_color()) == "#bbbbbb"]
    assert [line.get_xdata().tolist() for line in curve] == [[1, 5, 30]] * 2
    marks = {line.get_label(): line for line in dense.lines}
    np.testing.assert_allclose(marks["PINN"].get_ydata(), [0.61, 0.81])
    np.testing.assert_allclose(marks["LSQML"].get_xdata(), [30, 30])
    assert {text.get_text().strip() for text in dense.texts} == {"1,000", "10,000"}


def test_cost_without_a_time_is_refused(tables):
    metrics, _ = tables
    for wrong in (metrics.assign(metric="error"), metrics.assign(metric="cpu_s"), metrics.assign(value=0.0)):
        with pytest.raises(ContractError, match=r"a\.csv: no method with 'error' and 'cpu_s' above 0 in split 'test'"):
            plot_cost(wrong, name="a.csv")
