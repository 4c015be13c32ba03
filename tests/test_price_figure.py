"""The price of resolution as a figure, in words and as rows of a table."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from ptycho.methods import METHODS
from ptycho.reporting.price_figure import plot_price
from ptycho.reporting.prices import price_rows, price_words
from ptycho.scoring.price import read_prices
from ptycho.workflow.files import ContractError, save_table
from tests.test_figures import rendered

pytestmark = pytest.mark.filterwarnings("error")


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


def test_prices_that_cannot_be_drawn_are_named(prices, tmp_path):
    fluence = pd.DataFrame({"split": "test", "view": ["dense", "sparse"], "dose": 1000, "fluence_photons_per_px": 1.0})
    paths = tmp_path / "price.csv", tmp_path / "fluence.csv"
    for path, table in zip(paths, (prices, fluence), strict=True):
        save_table(path, table)
    read, _ = read_prices(*paths)
    pd.testing.assert_frame_equal(read, prices)
    for wrong, message in (
        (prices.assign(status="reached", dose_photons=np.nan), "price.csv, line 2: status is 'reached' without dose"),
        (pd.concat([prices, prices[:1]]), r"price.csv: 1 rows twice, split test, view dense, method pinn"),
        (prices.assign(view="middle", resolution=np.arange(1, 8) / 10), "fluence.csv: no fluence of view middle"),
    ):
        save_table(paths[0], wrong)
        with pytest.raises(ContractError, match=message):
            read_prices(*paths)


def test_the_price_has_a_panel_per_view_and_says_what_is_not_reached(prices, tmp_path):
    fluence = pd.DataFrame(
        {"dose": dose, "view": view, "split": "test", "fluence_photons_per_px": dose * share}
        for view, share in (("dense", 0.01), ("sparse", 0.001))
        for dose in (1000, 10000)
    )
    figure = plot_price(prices, fluence)
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


def test_prices_have_a_row_for_each_view_and_resolution(prices):
    rows = price_rows(prices, "test")
    conditions = [("dense", 0.25), ("dense", 0.5), ("sparse", 0.25), ("sparse", 0.5)]
    assert [(row["view"], row["resolution"]) for row in rows] == conditions
    assert rows[1]["cells"] == {
        "PINN": {"text": "4,100 ×/÷ 1.25", "fluence": "41"},
        "TV-MAP": {"text": "not reached", "fluence": ""},
    }
    assert price_rows(prices, "train") == []
