"""Tables in files: names are text whatever they look like, nobody is lost where tables are joined."""

import numpy as np
import pandas as pd
import pytest

from ptycho.cli.main import main
from ptycho.data.tables import read_table, read_tables
from ptycho.reporting.page import study_content
from ptycho.reporting.quality_figures import plot_cost, plot_quality
from ptycho.reporting.summary import fluence_table
from ptycho.reporting.tables import paired_differences, summary_table
from ptycho.scoring.metric_tables import read_metrics, read_scores, read_study_metrics, with_condition
from ptycho.scoring.price import price_table
from ptycho.workflow.files import ContractError, save_table
from ptycho.workflow.paths import wildcards_of
from tests.test_config import DEFAULT
from tests.workflow import TINY, config_file, output_of, snakemake

NAMES = ["70", "01", "NA", "null", "nan", "1e5", "None", "true"]
"""Names of views and objects that a reader of tables may take for something else."""
METHODS = ("lsqml", "tv")


def test_names_come_back_as_text_and_numbers_as_numbers(tmp_path):
    table = pd.DataFrame({"view": NAMES, "object": NAMES[::-1], "dose": range(1, len(NAMES) + 1)})
    table["value"] = [0.1 + 0.2, np.nan, np.inf, -np.inf, 1e-300, *range(len(NAMES) - 5)]
    table["upper_limit"] = table["dose"] > 3
    save_table(tmp_path / "table.csv", table)
    again = read_table(tmp_path / "table.csv", "view", "value")
    pd.testing.assert_frame_equal(again, table, check_exact=True)


def test_a_table_without_rows_has_its_columns(tmp_path):
    save_table(tmp_path / "empty.csv", pd.DataFrame({"view": [], "value": []}))
    assert list(read_table(tmp_path / "empty.csv", may_be_empty=True)) == ["view", "value"]
    with pytest.raises(ContractError, match=r"empty\.csv: no rows; wanted a line of view, value at least"):
        read_table(tmp_path / "empty.csv")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "is empty; wanted a line with the names of columns"),
        (b"view,value\ndense\n", "line 2: 1 cells; wanted 2"),
        (b"view,value\ndense,1\nsparse,2,3\n", "line 3: 3 cells; wanted 2"),
        (b"view,value\ndense,1\nsparse,high\n", "line 3: value is 'high'; wanted a number"),
        (b"view,view\n", "'view,view'; wanted a name for each column"),
        (b"view,dose\n", "no column 'value'; found view, dose"),
        (b'view,value\n"dense,1\n', "not a table (unexpected end of data)"),
        (b"view,value\n\xff,1\n", "not a table ('utf-8' codec"),
    ],
)
def test_what_is_no_table_is_refused_in_one_line_with_file_and_place(tmp_path, text, message):
    path = tmp_path / "table.csv"
    path.write_bytes(text)
    with pytest.raises(ContractError) as error:
        read_table(path, "value")
    assert str(error.value).startswith(str(path))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("column", "good", "wrong"),
    [
        ("dose", ["1", "1e5"], ["0", "-1", "1.5", "", "inf", "True", "1e999"]),
        ("seed", ["0", "7"], ["-1", "0.5", "nan"]),
        ("fluence_photons_per_px", ["0.1", ""], ["0", "-1", "inf"]),
        ("resolution", ["0.5", "1"], ["0", "1.01", ""]),
        ("n_reached", ["0", "3"], ["-1", "0.5", ""]),
        ("status", ["reached", "none"], ["", "x"]),
        ("part", ["phase"], ["", "Phase"]),
        ("epoch", ["0.05", "3"], ["", "-2", "inf", "1e999"]),
        ("validation_deviance", ["0.05", "", "inf"], ["-inf", "True"]),
        ("frc", ["-1", "1", ""], ["1.1", "inf"]),
        ("ssnr", ["inf", "-0.2", ""], ["-inf"]),
    ],
)
def test_a_column_holds_what_its_name_says_in_every_table(tmp_path, column, good, wrong):
    path = tmp_path / "table.csv"
    for cell in good:
        path.write_text(f"view,{column}\na,{cell}\n", encoding="utf-8")
        assert len(read_table(path, column)) == 1
    for cell in wrong:
        path.write_text(f"view,{column}\na,{good[0]}\nb,{cell}\n", encoding="utf-8")
        if cell == "True":
            path.write_text(f"view,{column}\na,True\nb,True\n", encoding="utf-8")
        with pytest.raises(ContractError, match=rf"table\.csv, line [23]: {column} is '{cell}'; wanted (an?|one of) "):
            read_table(path, column)


def test_a_missing_table_and_tables_of_other_columns_are_named(tmp_path):
    with pytest.raises(ContractError, match=r"none\.csv: no such file"):
        read_table(tmp_path / "none.csv")
    for name, column in (("a", "value"), ("b", "score")):
        save_table(tmp_path / f"{name}.csv", pd.DataFrame({"view": ["x"], column: [1]}))
    with pytest.raises(ContractError, match=r"b\.csv: columns view, score; wanted those of .*a\.csv, view, value"):
        read_tables([tmp_path / "a.csv", tmp_path / "b.csv"])


def scored(folder, views=NAMES, objects=("01", "null"), doses=(100, 1000)):
    """Paths of a study's metrics, and its fluence: scores of two methods under every condition."""
    paths, numbers = [], {}
    for index, (name, view, dose, seed) in enumerate(
        (name, view, dose, seed) for name in objects for view in views for dose in doses for seed in (0, 1)
    ):
        place = folder / f"results/x/object_{name}/dose_{dose}/{view}/seed_{seed}"
        rows = pd.DataFrame(
            {"method": method, "metric": metric, "value": 0.3 + 1e-3 * index + 1e-4 * dose + 0.01 * (method == "tv")}
            for method in METHODS
            for metric in ("error", "frc50_phase", "ssim_phase", "cpu_s")
        )
        condition = {"object": name, "dose": dose, "view": view, "seed": seed, "split": "test"}
        paths.append(place / "test/comparison_metrics.csv")
        save_table(paths[-1], with_condition(rows, **condition))
        overlap = {"between_exposures": {"linear": 0.5}}
        numbers[place / "test.json"] = {
            "overlap": overlap,
            "fluence_photons_per_px": 0.01 * dose,
            "mean_detected_photons": 0.9 * dose,
        }
    return paths, fluence_table(numbers)


@pytest.fixture(scope="module")
def study_of_names(tmp_path_factory):
    """Metrics and fluence of a study, as they are read from the tables of its results; the folder of these."""
    folder = tmp_path_factory.mktemp("names")
    paths, fluence = scored(folder)
    save_table(folder / "metrics.csv", read_metrics(paths))
    save_table(folder / "fluence.csv", fluence)
    return *read_scores(folder / "metrics.csv", folder / "fluence.csv"), folder


def test_every_view_has_its_rows_in_metrics_summary_differences_and_price(study_of_names):
    metrics, fluence, _ = study_of_names
    assert len(metrics) == 2 * len(NAMES) * 2 * 2 * len(METHODS) * 4
    assert set(metrics["view"]) == set(NAMES)
    assert set(metrics["object"]) == {"01", "null"}
    lines = [line.split() for line in summary_table(metrics, fluence).splitlines()[1:]]
    assert {(line[1], line[3], line[5]) for line in lines} == {
        (view, dose, method) for view in NAMES for dose in ("100", "1000") for method in METHODS
    }
    differences = paired_differences(metrics)
    assert set(differences["view"]) == set(NAMES)
    assert (differences["n"] == 4).all()
    price = price_table(metrics, fluence, [0.4])
    assert set(price["view"]) == set(NAMES)
    assert (price["n"] == 4).all()


def test_every_view_is_on_the_page_and_in_the_figures(study_of_names):
    metrics, fluence, _ = study_of_names
    config = {**DEFAULT, "views": dict.fromkeys(NAMES, 0.5), "splits": ["test"], "objects": {}}
    content = study_content(config, metrics, fluence, "ssim_phase")
    for table in content["numbers"]["test"]:
        assert {row["view"] for row in table["rows"]} == set(NAMES)
        assert all(cell["text"] != "–" for row in table["rows"] for cell in row["cells"])
    wins = content["pairwise_wins"]["test"]
    assert wins["conditions"] == 2 * len(NAMES)
    assert {cell["view"] for cell in wins["rows"][1]["cells"][0]} == set(NAMES)
    for figure in (plot_quality(metrics, fluence), plot_cost(metrics)):
        assert {f"{view} view" for view in NAMES} <= {axes.get_title() for axes in figure.axes}


@pytest.mark.parametrize("view", NAMES)
def test_a_plan_and_a_path_know_every_view(study_of_names, capsys, view):
    folder = study_of_names[2]
    assert main(["plan", str(folder), "--resolution", "0.4", f"--view={view}"]) == 0
    assert f"TV-MAP {view} " in capsys.readouterr().out
    path = f"results/x/object_{view}/dose_5/{view}/seed_0/test/tv/object.npz"
    wanted = {"object": view, "dose": "5", "view": view, "seed": "0", "split": "test", "method": "tv"}
    assert wildcards_of(path) == wanted


def test_metrics_of_another_condition_or_twice_are_refused(tmp_path):
    paths, _ = scored(tmp_path, views=["70", "dense"])
    table = read_table(paths[0])
    for wrong, message in (
        (table.assign(view="71"), "has rows of .*'71'.*; wanted those of .*'70'"),
        (table.drop(columns="seed"), "no column 'seed'"),
        (pd.concat([table, table.iloc[:1]]), "metrics: 1 rows twice, split test, view 70, dose 100, object 01, seed 0"),
    ):
        save_table(paths[0], wrong)
        with pytest.raises(ContractError, match=message):
            read_metrics(paths)


def test_a_condition_without_a_fluence_or_with_two_is_refused(study_of_names, tmp_path):
    metrics, fluence, folder = study_of_names
    for wrong, message in (
        (
            fluence[fluence["view"] != "NA"],
            r"fluence\.csv: no fluence for 8 conditions of .*metrics\.csv, split test, view NA",
        ),
        (
            pd.concat([fluence, fluence.iloc[:1]]),
            r"fluence\.csv: 1 rows twice, split test, view 70, dose 100, object 01",
        ),
    ):
        save_table(tmp_path / "fluence.csv", wrong)
        with pytest.raises(ContractError, match=message):
            read_scores(folder / "metrics.csv", tmp_path / "fluence.csv")
    with pytest.raises(ValueError, match="32 lines of metrics, 28 of them with"):
        summary_table(metrics, fluence[fluence["view"] != "null"])


@pytest.mark.parametrize(
    ("column", "text", "message"),
    [
        ("split", "tent", "1 rows of split tent, view 70, dose 100, object 01, seed 0; wanted 8"),
        ("metric", "errbr", "8 rows of split test, view .*; wanted 9, one for each method and metric"),
    ],
)
def test_a_condition_that_lacks_a_row_is_refused(study_of_names, tmp_path, column, text, message):
    """As when a letter has changed: the row was left out of every figure."""
    metrics, path = study_of_names[0].copy(), tmp_path / "metrics.csv"
    metrics.loc[0, column] = text
    save_table(path, metrics)
    with pytest.raises(ContractError, match=rf"metrics\.csv: {message}"):
        read_study_metrics(path)
    save_table(path, study_of_names[0])
    assert len(read_study_metrics(path)) == len(metrics)


def test_such_views_are_planned_by_name(tmp_path):
    config = config_file(tmp_path, views=dict.fromkeys(NAMES, 0.6), methods=["tv"])
    run = snakemake(tmp_path, "-n", "--configfile", config, "--", f"results/{TINY.stem}/metrics.csv")
    for view in NAMES:
        assert f"results/tiny/dose_100000/{view}/seed_0/test/comparison_metrics.csv" in output_of(run)
