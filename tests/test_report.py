"""The report's tables and pictures; that the page opens in a browser is tested with the study of test_workflow.py."""

import jinja2
import numpy as np
import pandas as pd
import pytest
import yaml
from matplotlib.figure import Figure

from ptycho.reporting.figures import save
from ptycho.reporting.page import by_condition, config_text, join_words, pictures, render, warnings_in, without_pictures
from ptycho.reporting.study_tables import costs, metric_tables, pairwise_wins, significant
from ptycho.workflow.paths import label, wildcards_of

CONFIG = {"doses": [1000], "seeds": [0, 1], "views": {"dense": 0.7}, "methods": ["pinn", "tv"]}
CONFIG |= {"splits": ["test"], "inference": {"chunks": 2, "tile_chunks": 1}}


@pytest.mark.parametrize(
    ("path", "place"),
    [
        (
            "results/x/dose_1000/dense/seed_2/test/tv/history.png",
            {"dose": "1000", "view": "dense", "seed": "2", "split": "test", "method": "tv"},
        ),
        (
            "train/dose_1000/a-b/seed_0/pinn.tsv",
            {"dose": "1000", "view": "a-b", "seed": "0", "method": "pinn"},
        ),
        ("results/x/data/dose_10/seed_0/train.npz", {"dose": "10", "seed": "0", "split": "train"}),
        ("results/x/data/sample.png", {}),
        (
            "results/test/dose_1/test/seed_0/train/tv/history.png",
            {"dose": "1", "view": "test", "seed": "0", "split": "train", "method": "tv"},
        ),
        (
            "results/pinn/dose_1/dense/seed_0/test/lsqml/object.npz",
            {"dose": "1", "view": "dense", "seed": "0", "split": "test", "method": "lsqml"},
        ),
        ("results/object_x/dose_1/dense/seed_0/test.npz", {"dose": "1", "view": "dense", "seed": "0", "split": "test"}),
        ("results/x/object_y/data/sample.png", {"object": "y"}),
        (
            "lsqml_half/dose_1/dense/seed_0/test/lsqml_2.tsv",
            {"dose": "1", "view": "dense", "seed": "0", "split": "test", "method": "lsqml"},
        ),
        (
            "results/x/object_b-1/dose_5/dense/seed_0/test.json",
            {"object": "b-1", "dose": "5", "view": "dense", "seed": "0", "split": "test"},
        ),
    ],
)
def test_a_path_says_of_which_condition_it_is(path, place):
    assert wildcards_of(path) == place


def test_a_condition_is_written_out():
    place = {"method": "tv", "dose": "10000", "view": "dense", "seed": "0", "split": "test"}
    assert label(place) == "TV-MAP, dense view, 10,000 photons per exposure, test split, seed 0"
    assert label(place, "dose", "view") == "dense view, 10,000 photons per exposure"


def metrics_of(values):
    """A tidy table of {(view, dose, method, seed): error}."""
    rows = [
        {"dose": dose, "view": view, "split": "test", "method": method, "seed": seed, "metric": "error", "value": value}
        for (view, dose, method, seed), value in values.items()
    ]
    return pd.DataFrame(rows)


def fluence_of(metrics):
    return metrics[["dose", "view", "split", "seed"]].drop_duplicates().assign(fluence_photons_per_px=12.5)


def test_a_matrix_has_mean_deviation_and_the_best():
    metrics = metrics_of(
        {
            ("dense", 10, "pinn", 0): 0.2,
            ("dense", 10, "pinn", 1): 0.4,
            ("dense", 10, "tv", 0): 0.1,
            ("dense", 10, "tv", 1): 0.1,
        }
    )
    (table,) = metric_tables(metrics, fluence_of(metrics), "test")
    assert (table["name"], table["better"], table["methods"]) == ("Relative complex error", "lower", ["PINN", "TV-MAP"])
    assert table["best_counts"] == ["TV-MAP in 1"]
    (row,) = table["rows"]
    assert row["cells"] == [{"text": "0.300 ± 0.141", "best": False}, {"text": "0.100 ± 0.000", "best": True}]
    assert row["fluence"] == 12.5


def test_one_value_has_no_deviation():
    metrics = metrics_of({("dense", 10, "tv", 0): 0.1})
    (table,) = metric_tables(metrics, fluence_of(metrics), "test")
    assert table["rows"][0]["cells"] == [{"text": "0.100", "best": True}]


def test_what_nobody_could_be_scored_for_has_no_best():
    values = {("dense", 10, method, seed): np.nan for method in ("pinn", "tv") for seed in (0, 1)}
    metrics = metrics_of(values)
    (table,) = metric_tables(metrics, fluence_of(metrics), "test")
    assert table["best_counts"] == ["none"]
    assert table["rows"][0]["cells"] == [{"text": "–", "best": False}] * 2
    assert [row["cells"] for row in pairwise_wins(metrics, "test", "error")["rows"]] == [[None, []], [[], None]]


def test_a_duel_is_won_by_paired_differences():
    values = {("dense", 10, "pinn", 0): 0.2, ("dense", 10, "tv", 0): 0.1, ("sparse", 10, "pinn", 0): 0.1}
    values |= {("sparse", 10, "tv", 0): 0.2, ("sparse", 100, "pinn", 0): 0.1, ("sparse", 100, "tv", 0): 0.3}
    table = pairwise_wins(metrics_of(values), "test", "error")
    assert table["conditions"] == 3
    pinn, tv = (row["cells"] for row in table["rows"])
    assert pinn == [None, [{"view": "sparse", "doses": [10, 100], "n": 2}]]
    assert tv == [[{"view": "dense", "doses": [10], "n": 1}], None]


def test_differences_within_their_deviation_win_no_duel():
    steps = {0: 0.3, 1: -0.1, 2: 0.1}
    values = {("dense", 10, "pinn", seed): 0.5 + step for seed, step in steps.items()}
    values |= {("dense", 10, "tv", seed): 0.5 for seed in steps}
    assert pairwise_wins(metrics_of(values), "test", "error")["rows"][1]["cells"][0] == []
    common = {("dense", 10, method, seed): 0.5 + step for method in ("pinn", "tv") for seed, step in steps.items()}
    common = {key: value + 0.01 * (key[2] == "pinn") for key, value in common.items()}
    (won,) = pairwise_wins(metrics_of(common), "test", "error")["rows"][1]["cells"][0]
    assert won["doses"] == [10]  # what the methods share does not blur their difference


def test_costs_are_of_the_jobs_that_the_config_names(tmp_path):
    def job(path, cpu_time):
        path = tmp_path / path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"s\tmax_rss\tcpu_time\n1.0\t100\t{cpu_time}\n")

    job("train/dose_1000/dense/seed_0/pinn.tsv", 3.0)
    job("train/dose_1000/dense/seed_1/pinn.tsv", 5.0)
    job("train/dose_1000/dense/seed_2/pinn.tsv", 99.0)
    job("train/dose_9/dense/seed_0/pinn.tsv", 99.0)
    job("train/dose_1000/gone/seed_0/pinn.tsv", 99.0)
    job("iterate/dose_1000/dense/seed_0/test/lsqml.tsv", 99.0)
    job("infer/dose_1000/dense/seed_0/test/pinn/1of4.tsv", 99.0)  # of another number of chunks
    job("infer/dose_1000/dense/seed_0/train/pinn/1of2.tsv", 99.0)
    job("infer/dose_1000/dense/seed_0/test/pinn/1of2.tsv", 1.0)
    job("merge/dose_1000/dense/seed_0/test/pinn.tsv", "-")
    table = costs(tmp_path, CONFIG).set_index("rule")
    assert list(table.index) == ["train", "infer_network", "merge"]
    assert list(table.loc["train", ["jobs", "cpu_s", "least_s", "most_s", "total_s"]]) == [2, 4.0, 3.0, 5.0, 8.0]
    assert np.isnan(table.loc["merge", "cpu_s"])


@pytest.mark.parametrize(
    ("value", "text"), [(0.01234, "0.0123"), (12.345, "12.3"), (123456.7, "123,457"), (0, "0"), (np.nan, "–")]
)
def test_numbers_have_three_figures(value, text):
    assert significant(value) == text


def test_a_list_reads_like_one():
    assert [join_words(range(n)) for n in (1, 2, 3)] == ["0", "0 and 1", "0, 1 and 2"]


def test_pictures_have_captions_and_words_for_who_cannot_see_them(tmp_path):
    paths = [tmp_path / f"dose_{dose}/dense/seed_0/test/{name}.png" for dose in (100, 20) for name in ("a", "b")]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        save(Figure((1, 1)), path)
    (tmp_path / "caption.rst").write_text("At {{ snakemake.wildcards.dose }} photons, ``tv`` & more.")
    shown = pictures(paths, tmp_path / "caption.rst")
    assert "<p>At 100 photons, " in shown[0].caption
    assert shown[0].alt == "At 100 photons, tv & more. (dense view, 100 photons per exposure, test split, seed 0)"
    assert len({picture.id for picture in shown}) == 4
    conditions = by_condition(shown)
    assert [each["title"] for each in conditions] == [f"dense view, {dose} photons per exposure" for dose in (20, 100)]
    assert [picture.path for picture in conditions[0]["pictures"]] == paths[2:]
    document = f"<img src='data:image/png;base64,{shown[1].encoded()}'>"
    assert without_pictures(document, shown[1:2]) == f"<img src='data:image/png;base64,@@{shown[1].id}@@'>"


def test_a_config_is_shown_as_its_file_says_it_unless_it_was_changed(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("doses: [1000]  # photons\n")
    assert config_text({"doses": [1000]}, [path]) == path.read_text()
    assert yaml.safe_load(config_text({"doses": [10]}, [path])) == {"doses": [10]}


def test_a_page_is_escaped_and_complete(tmp_path):
    (tmp_path / "page.html").write_text("<p>{{ text }}</p>")
    assert render(tmp_path / "page.html", text="a < b") == "<p>a &lt; b</p>"
    with pytest.raises(jinja2.UndefinedError, match="text"):
        render(tmp_path / "page.html")


def test_warnings_are_found_in_a_summary():
    assert warnings_in("a\nWARNING: b, c\nd WARNING: e\n") == ["b, c"]
