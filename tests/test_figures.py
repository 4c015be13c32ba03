"""Figures render without a display, have the panels and labels they promise, and show the data they are given."""

import numpy as np
import pandas as pd
import pytest
from matplotlib._pylab_helpers import Gcf
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from ptycho.methods import METHODS
from ptycho.physics.samples import simulate_object
from ptycho.reporting import curves, figures, frc_figures
from ptycho.reporting.price_figure import plot_price
from ptycho.reporting.prices import price_rows, price_words

pytestmark = pytest.mark.filterwarnings("error")


def rendered(figure, tmp_path):
    """Pixels of the saved figure."""
    assert isinstance(figure, Figure)
    figures.save(figure, tmp_path / "figure.png")
    pixels = np.asarray(Image.open(tmp_path / "figure.png").convert("RGB"))
    assert pixels.std() > 5  # something was drawn
    return pixels


def images(figure):
    return [axes for axes in figure.axes if axes.images]


@pytest.fixture(scope="module")
def truth():
    return simulate_object("dead_leaves", (60, 80), np.random.default_rng(0)).astype(np.complex128)


def test_matplotlib_keeps_no_reference_to_a_figure(truth):
    figures.plot_comparison({"truth": truth}, {}, "")
    assert not Gcf.figs


@pytest.mark.parametrize("methods", [[], ["pinn", "another"]])
def test_a_comparison_has_truth_methods_and_errors_with_common_colors(truth, methods, tmp_path):
    aligned = {name: truth * (1 + 0.1 * rank) for rank, name in enumerate(methods)}
    scores = {name: {"ssim_amplitude": 0.5, "ssim_phase": 0.75, "error": 0.123} for name in methods}
    figure = figures.plot_comparison({"truth": truth, **aligned}, scores, "dose 1000", origin_px=(100, 200))
    rendered(figure, tmp_path)
    panels = images(figure)
    assert len(panels) == 2 + 4 * len(methods)
    for axes in panels:
        np.testing.assert_allclose(axes.images[0].get_extent(), (199.5, 279.5, 159.5, 99.5))
    rows = {}
    for axes in panels:
        rows.setdefault(axes.get_subplotspec().rowspan.start, set()).add(axes.images[0].get_clim())
    assert all(len(limits) == 1 for limits in rows.values())  # colors of a row are common
    titles = [axes.get_title() for axes in panels]
    assert titles.count("truth") == 2
    if methods:
        assert "PINN\nSSIM 0.500, error 0.123" in titles
        assert "PINN\nSSIM 0.750, error 0.123" in titles
        low, high = next(iter(rows[2]))
        assert low == -high


def test_a_comparison_shows_the_error_with_its_sign(truth):
    figure = figures.plot_comparison(
        {"truth": truth, "pinn": (np.abs(truth) + 0.1) * np.exp(1j * (np.angle(truth) - 0.2))}, {}, ""
    )
    arrays = {axes.get_subplotspec().rowspan.start: axes.images[0].get_array() for axes in images(figure)}
    np.testing.assert_allclose(arrays[2], 0.1)
    np.testing.assert_allclose(arrays[3], -0.2)


def test_phase_that_wraps_has_a_cyclic_color_map(truth):
    phase = np.linspace(-3, 3, truth.size).reshape(truth.shape)
    figure = figures.plot_comparison({"truth": np.exp(1j * phase), "pinn": np.exp(1j * (phase + 0.5))}, {}, "")
    shown = [axes.images[0] for axes in images(figure) if axes.get_subplotspec().rowspan.start == 1]
    assert {image.get_cmap().name for image in shown} == {"twilight"}
    assert all(np.abs(image.get_array()).max() <= np.pi for image in shown)


@pytest.mark.parametrize("with_validation", [True, False])
@pytest.mark.parametrize("offset", [0.0, -2.0])
def test_a_training_curve_marks_the_epoch_kept(with_validation, offset, tmp_path):
    epoch = np.arange(1, 21)
    history = pd.DataFrame({"epoch": epoch, "loss": np.exp(-epoch / 5) + offset, "learning_rate": 1e-3})
    if with_validation:
        history["validation_deviance"] = 1 + (epoch - 13) ** 2 / 100
    figure = curves.plot_training(history)
    rendered(figure, tmp_path)
    top, *between, bottom = figure.axes
    assert len(between) == with_validation
    assert top.get_yscale() == ("linear" if offset else "log")
    assert bottom.get_xlabel() == "epoch"
    assert bottom.get_ylabel() == "learning rate"
    np.testing.assert_array_equal(top.lines[0].get_ydata(), history["loss"])
    if with_validation:
        np.testing.assert_array_equal(between[0].lines[0].get_ydata(), history["validation_deviance"])
        assert between[0].get_legend().get_texts()[0].get_text() == "kept: epoch 13.00"
        assert [list(axes.lines[1].get_xdata()) for axes in figure.axes] == [[13, 13]] * 3


def test_a_training_curve_marks_the_epoch_kept_of_every_tile(tmp_path):
    epoch = np.arange(1, 9)
    columns = {"epoch": epoch, "loss": 1.0 / epoch, "learning_rate": 1e-3, "tile": ["1/2"] * 4 + ["2/2"] * 4}
    history = pd.DataFrame({**columns, "validation_deviance": [4, 3, 3.5, 4, 2, 1, 0.5, 1]})
    figure = curves.plot_training(history)
    rendered(figure, tmp_path)
    labels = [text.get_text() for text in figure.axes[1].get_legend().get_texts()]
    assert labels == ["kept: epoch 2.00 (tile 1/2)", "kept: epoch 7.00 (tile 2/2)"]


def test_an_early_stopping_curve_marks_the_epoch_kept(tmp_path):
    epoch = np.arange(1, 31)
    evaluated = np.where(epoch % 5 == 0, (epoch - 15.0) ** 2, np.nan)
    figure = curves.plot_early_stopping(
        pd.DataFrame({"epoch": epoch, "loss": 1 / epoch, "validation_deviance": evaluated}), 15
    )
    rendered(figure, tmp_path)
    validation, training = figure.axes
    assert validation.get_legend().get_texts()[0].get_text() == "kept: epoch 15"
    assert list(validation.lines[1].get_xdata()) == list(training.lines[1].get_xdata()) == [15, 15]
    np.testing.assert_array_equal(validation.lines[0].get_xdata(), [5, 10, 15, 20, 25, 30])


def test_a_sample_shows_object_probe_and_positions(truth, tmp_path):
    axis = np.arange(16) - 8
    probe = np.exp(-(axis[:, None] ** 2 + axis**2) / 20) * np.exp(0.1j * axis**2)
    positions = {"train": ([10.0, 20.0], [10.0, 12.0]), "test": ([10.0, 20.0, 30.0], [50.0, 52.0, 51.0])}
    figure = figures.plot_sample(truth, np.stack([0.1 * probe, probe]), positions, guard_px=(20, 40))
    rendered(figure, tmp_path)
    panels = images(figure)
    assert len(panels) == 4
    assert all(axes.get_xlabel() == "x [px]" and axes.get_ylabel() == "y [px]" for axes in panels)
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["train: 2 exposures", "test: 3 exposures", "guard band"]
    phase = next(axes for axes in panels if axes.lines)
    np.testing.assert_array_equal(phase.lines[1].get_xydata(), np.transpose(positions["test"]))
    wave = next(axes.images[0] for axes in panels if axes.images[0].get_cmap().name == "twilight")
    assert np.ma.count_masked(np.ma.masked_invalid(wave.get_array())) > 0  # dark pixels have no phase
    assert np.nanmax(panels[2].images[0].get_array()) == pytest.approx(1)  # the brightest mode, not the first


def test_a_view_shows_roles_and_illumination(tmp_path):
    rng = np.random.default_rng(0)
    x, y = rng.uniform(10, 90, (2, 50))
    parts = {"fit": slice(0, 40), "validation": slice(40, 46), "holdout": slice(46, 50)}
    exposures = {role: (x[part], y[part]) for role, part in parts.items()}
    figure = figures.plot_view(exposures, rng.random((60, 100)), rng.uniform(0.6, 0.8, 50), origin_px=(40, 0))
    rendered(figure, tmp_path)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["fit: 40", "validation: 6", "holdout: 4"]
    positions, illumination = figure.axes[:2]
    assert illumination.get_ylim() == positions.get_ylim() == (99.5, 39.5)  # row 0 is at the top
    tiled = figures.plot_view(
        exposures, rng.random((60, 100)), rng.uniform(0.6, 0.8, 50), borders_px=([50.0], [30.0, 60.0])
    )
    assert len(tiled.axes[0].lines) == len(positions.lines) + 3


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
    figure = curves.plot_quality(*tables)
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
    with_bound, without = curves.plot_quality(metrics, fluence, bound), curves.plot_quality(metrics, fluence)
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
    figure = curves.plot_quality(metrics, fluence, pd.read_csv(tmp_path / "bound.csv"))
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["PINN", "LSQML", "mystery"]


@pytest.fixture
def prices():
    columns = ["status", "dose_photons", "fluence_photons_per_px", "upper_limit", "sd_factor", "n_reached", "n"]
    rows = {
        ("dense", "pinn", 0.25): ("at lowest dose", 1000.0, 10.0, True, np.nan, 3, 3),
        ("dense", "pinn", 0.5): ("reached", 4120.0, 41.2, False, 1.25, 3, 3),
        ("dense", "tv", 0.25): ("partly reached", 2000.0, 20.0, False, 1.5, 2, 3),
        ("dense", "tv", 0.5): ("not reached", np.nan, np.nan, False, np.nan, 0, 3),
        ("sparse", "pinn", 0.25): ("reached", 3000.0, 3.0, True, np.nan, 3, 3),
        ("sparse", "pinn", 0.5): ("none", np.nan, np.nan, False, np.nan, 0, 0),
        ("sparse", "photon limit", 0.5): ("reached", 9000.0, 9.0, False, 1.1, 4, 4),
    }
    names = ["split", "view", "method", "resolution"]
    return pd.DataFrame([dict(zip(names + columns, ("test", *key, *row), strict=True)) for key, row in rows.items()])


def test_the_price_has_a_panel_per_view_and_says_what_is_not_reached(prices, tables, tmp_path):
    figure = plot_price(prices, tables[1])
    rendered(figure, tmp_path)
    dense, sparse = figure.axes
    assert [axes.get_title() for axes in figure.axes] == ["dense view", "sparse view"]
    assert dense.get_ylim() == sparse.get_ylim() == (250, 40000)
    marks = {
        (to_hex(line.get_color()), line.get_ydata()[0]): line.get_markerfacecolor()
        for line in dense.lines
        if line.get_linestyle() == "None" and line.get_marker() in "oD"
    }
    pinn, tv = METHODS["pinn"].color.lower(), METHODS["tv"].color.lower()
    assert marks == {
        (pinn, 500): "white",
        (pinn, 4120): METHODS["pinn"].color,
        (tv, 2000): "white",
        (tv, 20000): "white",
    }
    bar = [container.lines[2][0].get_segments()[0][:, 1] for container in dense.containers]
    (limit,) = [line for line in sparse.lines if line.get_linestyle() == "None" and list(line.get_ydata()) == [3000]]
    assert limit.get_markerfacecolor() == "white"
    np.testing.assert_allclose(bar, [(4120 / 1.25, 4120 * 1.25), (2000 / 1.5, 3000)])
    (right,) = dense.child_axes
    figure.draw_without_rendering()
    np.testing.assert_allclose(right.get_ylim(), (2.5, 400))
    assert {text.get_text() for text in dense.texts} == {"not reached", "reached at the lowest dose"}
    assert "n = 3" in figure.get_supxlabel()
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["PINN", "TV-MAP", "photon limit (unbiased)"]


def test_prices_are_written_in_words(prices):
    assert [price_words(row) for row in prices.to_dict("records")] == [
        *(
            "≤ 1,000",
            "4,100 ×/÷ 1.25",
            "2,000 ×/÷ 1.50 (2 of 3)",
            "not reached",
            "≤ 3,000",
            "–",
            "9,000 ×/÷ 1.10",
        )
    ]


def test_error_bars_only_where_there_are_seeds(tables):
    metrics, fluence = tables
    several, one = curves.plot_quality(metrics, fluence), curves.plot_quality(metrics[metrics["seed"] == 0], fluence)
    assert len(several.axes[0].containers) == 3
    bar = several.axes[0].containers[0].lines[2][0].get_segments()[0]
    np.testing.assert_allclose(np.ptp(bar[:, 1]), 2 * 0.01)  # sd of 0, 1, 2 hundredths, either way
    assert "n = 3: mean ± standard deviation over 3 seeds" in several.get_supxlabel()
    assert not one.axes[0].containers
    assert "n = 1: no error bar; 1 seed" in one.get_supxlabel()


def test_quality_names_what_is_missing(tables):
    metrics, fluence = tables
    with pytest.raises(ValueError, match=r"no metric 'ssim'.*ssim_phase"):
        curves.plot_quality(metrics, fluence, metric="ssim")
    with pytest.raises(ValueError, match=r"no fluence.*sparse"):
        curves.plot_quality(metrics, fluence[fluence["view"] == "dense"])


def test_cost_has_a_curve_per_dose_and_a_mark_per_method(tables, tmp_path):
    metrics = tables[0].assign(metric="error")
    seconds = {"pinn": 1.0, "lsqml": 30.0, "mystery": 5.0}
    costs = metrics.assign(metric="cpu_s", value=metrics["method"].map(seconds))
    figure = curves.plot_cost(pd.concat([metrics, costs]))
    rendered(figure, tmp_path)
    dense = figure.axes[0]
    assert [axes.get_title() for axes in figure.axes] == ["dense view", "sparse view"]
    curve = [line for line in dense.lines if to_hex(line.get_color()) == "#bbbbbb"]
    assert [line.get_xdata().tolist() for line in curve] == [[1, 5, 30]] * 2
    marks = {line.get_label(): line for line in dense.lines}
    np.testing.assert_allclose(marks["PINN"].get_ydata(), [0.61, 0.81])
    np.testing.assert_allclose(marks["LSQML"].get_xdata(), [30, 30])
    assert {text.get_text().strip() for text in dense.texts} == {"1,000", "10,000"}


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_equal_figures_have_equal_bytes(ending, tmp_path):
    contents = set()
    for attempt in range(2):
        figure, path = Figure(figsize=(2, 2)), tmp_path / f"{attempt}.{ending}"
        figure.subplots().plot([1, 2, 4], marker="o", clip_on=True)
        figures.save(figure, path)
        contents.add(path.read_bytes())
    assert len(contents) == 1


@pytest.mark.parametrize("name", ["truth", "reference"])
def test_figures_of_a_measured_study_say_reference(truth, name):
    comparison = figures.plot_comparison({"truth": truth, "pinn": truth}, {}, "", reference_name=name)
    assert [axes.get_title() for axes in images(comparison)].count(name) == 2
    curve = {"method": "pinn", "part": "phase", "frequency": np.array([0.5, 1.0]), "frc": [0.9, 0.2], "ssnr": [9, 0.1]}
    frc = frc_figures.plot_frc(pd.DataFrame(curve), "", reference_name=name)
    assert frc.axes[0].get_ylabel() == f"FRC with the {name}"
    other = {"truth": "reference", "reference": "truth"}[name]
    for figure in (comparison, frc):
        texts = [text.get_text() for text in figure.findobj(Text)]
        assert any(name in text for text in texts)
        assert not any(other in text for text in texts)


def test_a_sample_is_an_object_and_that_of_a_measured_study_a_reference(truth):
    probe, positions = np.ones((16, 16)), {"train": ([10.0], [10.0])}
    for name, label in (("truth", "object amplitude"), ("reference", "reference amplitude")):
        figure = figures.plot_sample(truth, probe, positions, reference_name=name)
        assert label in [text.get_text() for text in figure.findobj(Text)]


def test_prices_have_a_row_for_each_view_and_resolution(prices):
    rows = price_rows(prices, "test")
    conditions = [("dense", 0.25), ("dense", 0.5), ("sparse", 0.25), ("sparse", 0.5)]
    assert [(row["view"], row["resolution"]) for row in rows] == conditions
    assert rows[1]["cells"] == {
        "PINN": {"text": "4,100 ×/÷ 1.25", "fluence": "41"},
        "TV-MAP": {"text": "not reached", "fluence": ""},
    }
    assert price_rows(prices, "train") == []
