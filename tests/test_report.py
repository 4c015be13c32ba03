"""Tables and figures of the study page; the page of a whole study is in test_page.py."""

from pathlib import Path

import jinja2
import numpy as np
import pandas as pd
import pytest
import yaml
from matplotlib.figure import Figure

from ptycho.reporting.figures import save
from ptycho.reporting.page import by_condition, config_text, figures, join_words, render, warnings_in, without_figures
from ptycho.reporting.study_tables import costs, design, metric_tables, pairwise_wins, significant
from ptycho.workflow.paths import condition_of, label, wildcards_of

ROOT = Path(__file__).parent.parent
CONFIG = {"doses": [1000], "seeds": [0, 1], "views": {"dense": 0.7}, "methods": ["pinn", "tv"]}
CONFIG |= {"splits": ["test"], "inference": {"chunks": 2}, "tv": {"chunks": 3}}


@pytest.mark.parametrize(
    ("path", "wildcards"),
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
        ("photon_bound/dense/test.tsv", {"view": "dense", "split": "test"}),
        ("results/x/cost/photon_bound/object_y/a-b/train.tsv", {"object": "y", "view": "a-b", "split": "train"}),
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
def test_a_path_gives_its_condition(path, wildcards):
    assert wildcards_of(path) == wildcards


def test_a_condition_is_read_from_a_path_below_it():
    assert condition_of("results/x/object_b/dose_5/dense/seed_2/test/frc.csv") == {
        "object": "b",
        "dose": 5,
        "view": "dense",
        "seed": 2,
    }
    with pytest.raises(ValueError, match=r"data/dose_10/seed_0/test\.npz: wanted a file under"):
        condition_of("results/x/data/dose_10/seed_0/test.npz")


def test_a_condition_has_a_label():
    condition = {"method": "tv", "dose": "10000", "view": "dense", "seed": "0", "split": "test"}
    assert label(condition) == "TV-MAP, dense view, 10,000 photons per exposure, test split, seed 0"
    assert label(condition, "dose", "view") == "dense view, 10,000 photons per exposure"


def metrics_of(values):
    """A tidy table of {(view, dose, method, seed): error}."""
    rows = [
        {"dose": dose, "view": view, "split": "test", "method": method, "seed": seed, "metric": "error", "value": value}
        for (view, dose, method, seed), value in values.items()
    ]
    return pd.DataFrame(rows)


def fluence_of(metrics):
    return metrics[["dose", "view", "split", "seed"]].drop_duplicates().assign(fluence_photons_per_px=12.5)


def test_a_metric_table_has_mean_deviation_and_the_best_method():
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


def test_a_single_repetition_has_no_deviation():
    metrics = metrics_of({("dense", 10, "tv", 0): 0.1})
    (table,) = metric_tables(metrics, fluence_of(metrics), "test")
    assert table["rows"][0]["cells"] == [{"text": "0.100", "best": True}]


def test_a_condition_without_scores_has_no_best_method():
    values = {("dense", 10, method, seed): np.nan for method in ("pinn", "tv") for seed in (0, 1)}
    metrics = metrics_of(values)
    (table,) = metric_tables(metrics, fluence_of(metrics), "test")
    assert table["best_counts"] == ["none"]
    assert table["rows"][0]["cells"] == [{"text": "–", "best": False}] * 2
    assert [row["cells"] for row in pairwise_wins(metrics, "test", "error")["rows"]] == [[None, []], [[], None]]


def test_paired_differences_decide_pairwise_wins():
    values = {("dense", 10, "pinn", 0): 0.2, ("dense", 10, "tv", 0): 0.1, ("sparse", 10, "pinn", 0): 0.1}
    values |= {("sparse", 10, "tv", 0): 0.2, ("sparse", 100, "pinn", 0): 0.1, ("sparse", 100, "tv", 0): 0.3}
    table = pairwise_wins(metrics_of(values), "test", "error")
    assert table["conditions"] == 3
    pinn, tv = (row["cells"] for row in table["rows"])
    assert pinn == [None, [{"view": "sparse", "doses": [10, 100], "n": 2}]]
    assert tv == [[{"view": "dense", "doses": [10], "n": 1}], None]


def test_a_difference_within_its_deviation_is_no_win():
    steps = {0: 0.3, 1: -0.1, 2: 0.1}
    values = {("dense", 10, "pinn", seed): 0.5 + step for seed, step in steps.items()}
    values |= {("dense", 10, "tv", seed): 0.5 for seed in steps}
    assert pairwise_wins(metrics_of(values), "test", "error")["rows"][1]["cells"][0] == []
    common = {("dense", 10, method, seed): 0.5 + step for method in ("pinn", "tv") for seed, step in steps.items()}
    common = {key: value + 0.01 * (key[2] == "pinn") for key, value in common.items()}
    (won,) = pairwise_wins(metrics_of(common), "test", "error")["rows"][1]["cells"][0]
    assert won["doses"] == [10]  # variation common to the methods cancels


def test_the_design_names_tiles_and_redundancy_where_networks_are_applied():
    numbers = {"target_overlap": 0.7, "overlap": {"between_exposures": {"linear": 0.72}}, "spacing_px": {"q50": 8.8}}
    numbers |= {"counts": {"exposures": 80, "holdout": 4}}
    numbers |= {"fluence_photons_per_px": 37.0, "mean_detected_photons": 6.5}
    folder = "results/x/object_b/dose_{}/dense/seed_0"
    views = {f"{folder.format(dose)}/test.json": numbers for dose in (20, 10)}
    tiles = {f"{folder.format(10)}/test_tiles.json": {"tiles": 4, "largest_tile": 30, "redundancy": 1.5}}
    rows = design(views, tiles)
    assert [row["dose"] for row in rows] == [10, 20]
    assert [(row["tiles"], row["redundancy"]) for row in rows] == [(4, 1.5), (None, None)]
    assert rows[0]["exposures"] == 80


def test_costs_count_only_the_jobs_of_the_config(tmp_path):
    def job(path, cpu_time):
        path = tmp_path / path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"s\tmax_rss\tcpu_time\n1.0\t100\t{cpu_time}\n", encoding="utf-8")

    job("train/dose_1000/dense/seed_0/pinn.tsv", 3.0)
    job("train/dose_1000/dense/seed_1/pinn.tsv", 5.0)
    job("train/dose_1000/dense/seed_2/pinn.tsv", 99.0)
    job("train/dose_9/dense/seed_0/pinn.tsv", 99.0)
    job("train/dose_1000/gone/seed_0/pinn.tsv", 99.0)
    job("lsqml/dose_1000/dense/seed_0/test/lsqml.tsv", 99.0)
    job("infer/dose_1000/dense/seed_0/test/pinn/1of4.tsv", 99.0)  # of another number of chunks
    job("infer/dose_1000/dense/seed_0/train/pinn/1of2.tsv", 99.0)
    job("infer/dose_1000/dense/seed_0/test/pinn/1of2.tsv", 1.0)
    job("merge/dose_1000/dense/seed_0/test/pinn.tsv", "-")
    job("view/dose_1000/dense/seed_0/train.tsv", 0.5)
    job("compare/dose_1000/dense/seed_0/train.tsv", 99.0)  # when that split was scored, too
    job("photon_bound/dense/test.tsv", 0.25)
    job("photon_bound/dense/train.tsv", 99.0)
    job("photon_bound/gone/test.tsv", 99.0)
    job("photon_bound/object_gone/dense/test.tsv", 99.0)
    job("tv/dose_1000/dense/seed_0/test/tv.tsv", 99.0)  # before it was divided
    job("tv_start/dose_1000/dense/seed_0/test/tv.tsv", 0.125)
    job("tv_chunk/dose_1000/dense/seed_0/test/tv/1of2.tsv", 99.0)
    for number in (1, 2, 3):
        job(f"tv_chunk/dose_1000/dense/seed_0/test/tv/{number}of3.tsv", 3.0)
    table = costs(tmp_path, CONFIG).set_index("rule")
    assert list(table.index) == ["tv_chunk", "train", "infer", "view", "photon_bound", "tv_start", "merge"]
    assert list(table.loc["tv_chunk", ["method", "jobs", "total_s"]]) == ["tv", 3, 9.0]
    one_job = costs(tmp_path, {**CONFIG, "tv": {"chunks": 1}}).set_index("rule")
    assert list(one_job.index[one_job["method"] == "tv"]) == ["tv"]
    assert list(table.loc["photon_bound", ["jobs", "total_s"]]) == [1, 0.25]
    assert list(table.loc["train", ["jobs", "cpu_s", "least_s", "most_s", "total_s"]]) == [2, 4.0, 3.0, 5.0, 8.0]
    assert np.isnan(table.loc["merge", "cpu_s"])


@pytest.mark.parametrize(
    ("value", "text"), [(0.01234, "0.0123"), (12.345, "12.3"), (123456.7, "123,457"), (0, "0"), (np.nan, "–")]
)
def test_numbers_have_three_significant_digits(value, text):
    assert significant(value) == text


def test_words_are_joined_as_in_a_sentence():
    assert [join_words(range(n)) for n in (1, 2, 3)] == ["0", "0 and 1", "0, 1 and 2"]


def test_figures_have_captions_and_alternative_texts(tmp_path):
    paths = [tmp_path / f"dose_{dose}/dense/seed_0/test/{name}.png" for dose in (100, 20) for name in ("a", "b")]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        save(Figure((1, 1)), path)
    (tmp_path / "caption.rst").write_text("At {{ snakemake.wildcards.dose }} photons, ``tv`` & more.", encoding="utf-8")
    shown = figures(paths, tmp_path / "caption.rst")
    assert "<p>At 100 photons, " in shown[0].caption
    assert shown[0].alt == "At 100 photons, tv & more. (dense view, 100 photons per exposure, test split, seed 0)"
    assert len({picture.id for picture in shown}) == 4
    conditions = by_condition(shown)
    assert [each["title"] for each in conditions] == [f"dense view, {dose} photons per exposure" for dose in (20, 100)]
    assert [picture.path for picture in conditions[0]["figures"]] == paths[2:]
    document = f"<img src='data:image/png;base64,{shown[1].encoded()}'>"
    assert without_figures(document, shown[1:2]) == f"<img src='data:image/png;base64,@@{shown[1].id}@@'>"


def test_a_config_is_shown_in_the_order_of_the_schema():
    probe, views = {"fwhm_px": 11.8, "kind": "gaussian", "n_pixels": 64}, {"sparse": 0.2, "dense": 0.7}
    source = {"probe": probe, "object": {"test_kind": "lines", "kind": "siemens"}, "kind": "simulated"}
    config = {"tv": {"lambda_min": 1}, "source": source, "views": views, "doses": [1000], "study": "x"}
    shown = yaml.safe_load(config_text(config))
    assert shown == config
    assert list(shown) == ["study", "doses", "views", "source", "tv"]
    assert list(shown["views"]) == ["sparse", "dense"]  # names of the user's own
    assert list(shown["source"]) == ["kind", "object", "probe"]
    assert list(shown["source"]["probe"]) == ["kind", "n_pixels", "fwhm_px"]
    assert list(shown["source"]["object"]) == ["kind", "test_kind"]


def test_a_page_is_escaped_and_refuses_missing_content(tmp_path):
    (tmp_path / "page.html").write_text("<p>{{ text }}</p>", encoding="utf-8")
    assert render(tmp_path / "page.html", text="a < b") == "<p>a &lt; b</p>"
    with pytest.raises(jinja2.UndefinedError, match="text"):
        render(tmp_path / "page.html")


def test_warnings_are_found_in_a_summary():
    assert warnings_in("a\nWARNING: b, c\nd WARNING: e\n") == ["b, c"]


@pytest.mark.parametrize("name", ["truth", "reference"])
@pytest.mark.parametrize("caption", ["comparison", "frc", "quality"])
def test_captions_of_a_measured_study_say_reference(name, caption):
    path = "quality_test_error.png" if caption == "quality" else "results/x/dose_10/dense/seed_0/test/comparison.png"
    (picture,) = figures([path], ROOT / f"report/{caption}.rst", name)
    other = {"truth": "reference", "reference": "truth"}[name]
    assert (name in picture.caption) == (caption != "quality")
    assert other not in picture.caption
