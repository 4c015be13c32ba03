"""Figures render without a display, have the panels and labels they promise, and show the data they are given."""

import numpy as np
import pandas as pd
import pytest
from matplotlib._pylab_helpers import Gcf
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from ptycho.physics.samples import simulate_object
from ptycho.reporting import figures, frc_figures

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
