"""Images as panels: scale bars."""

import numpy as np
import pytest

from ptycho.physics.samples import simulate_object
from ptycho.reporting import figures
from ptycho.reporting.image_panels import add_scale_bars, scale_bar_length


@pytest.mark.parametrize(
    ("width_m", "length_m", "label"),
    [
        (1e-6, 2e-7, "200 nm"),
        (2e-6, 5e-7, "500 nm"),
        (4e-6, 1e-6, "1 μm"),
        (0.1, 0.02, "20 mm"),
        (1e-5 / 3, 1e-6, "1 μm"),
    ],
)
def test_a_scale_bar_has_a_round_length(width_m, length_m, label):
    assert scale_bar_length(width_m) == (pytest.approx(length_m), label)


def test_scale_bars_stand_on_the_first_image_of_every_row():
    truth = simulate_object("dead_leaves", (60, 80), np.random.default_rng(0)).astype(np.complex128)
    figure = figures.plot_comparison({"truth": truth, "tv": truth}, {}, "dose 1000")
    add_scale_bars(figure, None)
    add_scale_bars(figure, 25e-9)
    figure.canvas.draw()
    bars = [axes for axes in figure.axes for artist in axes.artists if artist.get_gid() == "scale bar"]
    assert [axes.get_title() for axes in bars] == ["truth", "truth", "", ""]
    (bar,) = bars[0].artists
    assert bar.txt_label.get_text() == "500 nm"
    assert bar.size_bar.get_children()[0].get_width() == pytest.approx(20)
