"""Curves of convergence mark the epoch that is kept."""

import numpy as np
import pandas as pd
import pytest

from ptycho.reporting import curves
from ptycho.workflow.files import ContractError
from tests.test_figures import rendered

pytestmark = pytest.mark.filterwarnings("error")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch,loss,validation_deviance\n1,0.5,\n2,,\n", "no number in the column 'validation_deviance'"),
        (
            "epoch,loss,learning_rate,tile\n1,0.5,1,1/2\n1,,1,2/2\n",
            "no number in the column 'loss'; wanted one at least, of every tile",
        ),
        ("epoch,loss\n", "no rows"),
        ("loss\n1\n", "no column 'epoch'"),
        ("epoch,loss\n,1\n", "line 2: epoch is ''; wanted a finite number"),
    ],
)
def test_a_history_that_has_no_curve_is_refused(text, message, tmp_path):
    (tmp_path / "history.csv").write_text("epoch,loss,validation_deviance\n1,,3\n2,0.5,\n", encoding="utf-8")
    assert len(curves.read_history(tmp_path / "history.csv", "epoch", "loss")) == 2
    lines = "tv_weight,validation_deviance,tile\n8,0.5,\n4,0.4,\n4,,tile 1/1\n"
    (tmp_path / "history.csv").write_text(lines, encoding="utf-8")
    assert len(curves.read_history(tmp_path / "history.csv", "tv_weight")) == 3
    (tmp_path / "history.csv").write_text(text, encoding="utf-8")
    with pytest.raises(ContractError, match=rf"history\.csv.*{message}"):
        curves.read_history(tmp_path / "history.csv", "epoch", "loss")


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
