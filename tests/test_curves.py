"""Curves of convergence mark the epoch that is kept."""

import numpy as np
import pandas as pd
import pytest

from ptycho.reporting import curves
from tests.test_figures import rendered

pytestmark = pytest.mark.filterwarnings("error")


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
