"""What is made again, counted: after a change, a loss, an addition; and nothing else."""

import re
import shutil

import pandas as pd
import pytest

from ptycho.methods import METHODS
from tests.workflow import CONDITION, config_file, copy_of_the_house, jobs, run_in, snakemake

TABLES = {"summarize", "plot_quality", "plot_cost", "all", "total"}
"""What is made of all conditions, and made again with every one that is added."""


def dry(study, config, *arguments):
    """Jobs that the tiny study would run with another config."""
    run = snakemake(study[0], "-n", "--cores", "2", "--configfile", config, *arguments)
    return jobs(run), run.stdout + run.stderr


def without_tables(found):
    return {rule: count for rule, count in found.items() if rule not in TABLES}


@pytest.mark.slow
def test_nothing_is_to_be_done_after_a_run(study):
    folder, config = study
    run = snakemake(folder, "--cores", "2", "--configfile", config)
    assert "Nothing to be done" in run.stdout + run.stderr


@pytest.mark.slow
def test_more_epochs_rerun_training_and_what_depends_on_it(study, tmp_path):
    folder, _ = study
    found = jobs(snakemake(folder, "-n", "--cores", "2", "--configfile", config_file(tmp_path, training__epochs=2)))
    assert found["train_network"] == 4
    assert found["infer_network"] == 8
    assert found["compare"] == 2
    assert not {"sample", "simulate_scan", "view", "lsqml", "region"} & set(found)


@pytest.mark.slow
def test_a_method_appears_by_being_named(study, every_method, tmp_path):
    methods = ["pinn", "baseline", "lsqml", "tv", "unrolled", "refined"]
    config, table = config_file(tmp_path, methods=methods), f"{CONDITION}/test/comparison_metrics.csv"
    found, _ = dry(study, config, "--", table)
    new = ("tv", "train_unrolled", "infer_unrolled", "merge", "refined", "compare")
    assert found == {**dict.fromkeys(new, 1), "total": len(new)}
    errors = pd.read_csv(every_method[0] / table).query("metric == 'error'").set_index("method")["value"]
    assert list(errors.index) == list(METHODS)
    assert set(methods) == set(METHODS)
    assert errors["tv"] < errors["lsqml"]  # five epochs of LSQML
    place = tmp_path / "again"
    shutil.copytree(every_method[0], place)
    parts = f"{CONDITION}/test/ingredients_metrics.csv"
    snakemake(place, "--cores", "2", "--configfile", every_method[1], "--", parts)
    assert set(pd.read_csv(place / parts)["method"]) == {
        *methods[3:],
        *(f"unrolled/{part}" for part in ("steps", "no-slow-phase", "no-background", "no-minibatch-epochs")),
        *(f"unrolled/{part}" for part in ("prior", "longer", "no-post-iterations")),
        *(f"refined/{part}" for part in ("whole", "deals")),
    }


@pytest.mark.slow
def test_a_lost_chunk_is_made_anew_alone(study, tmp_path):
    folder, config = study
    place = tmp_path / "results"
    shutil.copytree(folder / "results", place)
    condition = place / "tiny/dose_100000/dense/seed_0/test/pinn"
    (condition / "chunks/2of2.npz").unlink()
    (condition / "object.npz").unlink()
    target = condition.relative_to(tmp_path) / "object.npz"
    arguments = ("--cores", "2", "--configfile", config, "--rerun-triggers", "mtime", "--", target)
    assert jobs(snakemake(tmp_path, "-n", *arguments)) == {"infer_network": 1, "merge": 1, "total": 2}


@pytest.mark.slow
def test_forcing_a_rule_reruns_one_phase(study):
    folder, config = study
    found = jobs(snakemake(folder, "-n", "--cores", "2", "--configfile", config, "-R", "train"))
    assert found["train_network"] == 4
    assert "lsqml" not in found
    assert "view" not in found


@pytest.mark.slow
def test_code_reruns_what_executes_it_and_comments_nothing(study, tmp_path):
    house, arguments = copy_of_the_house(tmp_path), (study[0], "-n", "--cores", "2", "--configfile", study[1])
    run = run_in(house, *arguments)
    assert "Nothing to be done" in run.stdout + run.stderr
    iterative = house / "ptycho/iterative.py"
    iterative.write_text(iterative.read_text() + "\n# a remark\n")
    run = run_in(house, *arguments)
    assert "Nothing to be done" in run.stdout + run.stderr
    iterative.write_text(iterative.read_text().replace("MARGIN_PX = 2", "MARGIN_PX = 3"))
    found = jobs(run_in(house, *arguments))
    assert found["lsqml"] == 2
    assert found["compare"] == 2
    assert not {"train", "view", "simulate_scan", "infer_network"} & set(found)


MODULE = """
import numpy as np

from ptycho.reconstruction.likelihood import Counts, Likelihood
from ptycho.reconstruction.tv import mean_transmittance


def guess(scan, exposures):
    counts = Counts.of(scan, exposures)
    likelihood = Likelihood(counts, scan.probe)
    flat = np.full(likelihood.shape, mean_transmittance(counts, scan.probe), np.complex64)
    return flat, likelihood.illumination(), likelihood.origin_px
"""
SCRIPT = """
from ptycho.flat import guess
from ptycho.data.grouping import FIT, VALIDATION
from ptycho.data.scan import open_scan
from ptycho.data.object_files import save_object
from ptycho.data.views import open_view

scan, view = open_scan(snakemake.input.scan), open_view(snakemake.input.view)
save_object(snakemake.output[0], *guess(scan, view.of_role(FIT, VALIDATION)), method="flat")
"""
RULE = """

rule flatten:
    input:
        scan=f"{DATA}/{{split}}.npz",
        view=f"{CONDITION}/{{split}}.npz",
    output:
        f"{CONDITION}/{{split}}/{{method}}/object.npz",
    wildcard_constraints:
        method="flat",
    params:
        code=code("flatten"),
    script:
        "../scripts/flatten.py"
"""
LINE = 'METHODS = {\n    "flat": Method("flat", "#000000", "X", ":"),'


@pytest.mark.slow
def test_a_method_is_added_by_a_module_with_its_script_a_rule_and_a_line(study, tmp_path):
    house, place = copy_of_the_house(tmp_path), tmp_path / "study"
    shutil.copytree(study[0], place)
    (house / "ptycho/flat.py").write_text(MODULE)
    (house / "scripts/flatten.py").write_text(SCRIPT)
    with (house / "rules/iterative.smk").open("a") as file:
        file.write(RULE)
    methods = house / "ptycho/methods.py"
    methods.write_text(methods.read_text().replace("METHODS = {", LINE))
    condition = "results/tiny/dose_100000/dense/seed_0/test"
    config = config_file(tmp_path, methods=["pinn", "baseline", "lsqml", "flat"])
    targets = [f"{condition}/comparison_metrics.csv", f"{condition}/comparison.png", f"{condition}/frc.png"]
    triggers = ("--rerun-triggers", "mtime", "input")  # and not code: its name is in the code of all figures
    arguments = ("--cores", "2", "--configfile", config, *triggers, "--", *targets)
    assert jobs(run_in(house, place, "-n", *arguments)) == {
        "flatten": 1,
        "compare": 1,
        "plot_comparison": 1,
        "plot_frc": 1,
        "total": 4,
    }
    everything = run_in(house, place, "-n", "--cores", "2", "--configfile", config, "--", "all", "report")
    assert jobs(everything)["flatten"] == 2  # nothing else is wanted of it
    run_in(house, place, *arguments)
    errors = pd.read_csv(place / targets[0]).query("metric == 'error'").set_index("method")["value"]
    assert list(errors.index) == ["pinn", "baseline", "lsqml", "flat"]
    assert errors["lsqml"] < errors["flat"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "new"),
    [({"doses": [100000, 1000]}, "dose=1000"), ({"seeds": [0, 1]}, "seed=1")],
)
def test_a_dose_or_a_seed_more_computes_what_a_study_of_it_alone_would(study, tmp_path, change, new):
    found, text = dry(study, config_file(tmp_path, **change))
    places = [line for line in re.findall(r"wildcards: (.*)", text) if "dose=" in line]
    assert places
    assert all(re.search(rf"{new}\b", line) for line in places)  # nothing of what is there
    alone = {name: values[1:] for name, values in change.items()}
    wanted = jobs(snakemake(tmp_path, "-n", "--cores", "2", "--configfile", config_file(tmp_path, **alone)))
    of_the_sample = {"sample", "plot_sample", "region", "plot_view"}
    wanted = {rule: count for rule, count in without_tables(wanted).items() if rule not in of_the_sample}
    assert without_tables(found) == wanted


@pytest.mark.slow
def test_a_view_more_computes_its_own_and_scores_all_in_what_is_lit_in_each(study, tmp_path):
    views = {"dense": 0.7, "middle": 0.5, "sparse": 0.2}
    found, text = dry(study, config_file(tmp_path, views=views))
    assert found["region"] == 1
    scored = found["compare"], found["plot_comparison"], found["plot_frc"]
    assert scored == (3, 3, 3)  # the scored rectangle is lit in every view
    again = {"region", "compare", "plot_comparison", "plot_frc", *TABLES}
    for rule, place in re.findall(r"rule (\w+):(?:\n    .*)*?\n    wildcards: (.*)", text):
        assert rule in again or "middle" in place, f"{rule}: {place}"
    assert {rule: found[rule] for rule in ("view", "train", "infer_network", "merge", "lsqml")} == {
        "view": 2,
        "train": 2,
        "infer_network": 4,
        "merge": 2,
        "lsqml": 1,
    }
    assert not {"sample", "simulate_scan"} & set(found)


@pytest.mark.slow
def test_one_condition_is_made_alone(study, tmp_path):
    target = "results/tiny/dose_100000/sparse/seed_0/test/comparison.png"
    arguments = ("-n", "--cores", "2", "--configfile", study[1], "--", target)
    found = jobs(snakemake(tmp_path, *arguments))  # a folder where nothing is yet
    assert {
        rule: found[rule] for rule in ("train", "infer_network", "merge", "lsqml", "compare", "plot_comparison")
    } == {
        "train": 2,
        "infer_network": 4,
        "merge": 2,
        "lsqml": 1,
        "compare": 1,
        "plot_comparison": 1,
    }
    assert not TABLES - {"total"} & set(found)
    assert dry(study, study[1], "--", target)[0] == {}  # and where all is, nothing


@pytest.mark.slow
def test_another_directory_shares_nothing_but_code(study, tmp_path):
    arguments = ("--cores", "2", "--configfile", study[1])
    everything = jobs(snakemake(tmp_path, "-n", *arguments))
    before = {path: path.stat().st_mtime_ns for path in study[0].rglob("*") if path.is_file()}
    assert everything["train"] == 4
    snakemake(tmp_path, *arguments, "--", "results/tiny/data/sample.npz")
    assert {path: path.stat().st_mtime_ns for path in study[0].rglob("*") if path.is_file()} == before
    left = jobs(snakemake(tmp_path, "-n", *arguments))
    assert {rule: everything[rule] - left.get(rule, 0) for rule in everything if rule != "total"} == {
        rule: int(rule == "sample") for rule in everything if rule != "total"
    }


@pytest.mark.slow
def test_the_summary_lists_every_file_and_what_would_become_of_it(study, tmp_path):
    def plans(config):
        lines = snakemake(study[0], "--summary", "--configfile", config).stdout.splitlines()
        columns, *rows = [line.split("\t") for line in lines if "\t" in line]
        return pd.DataFrame(rows, columns=columns).set_index("output_file")

    model = "results/tiny/dose_100000/dense/seed_0/pinn/model.keras"
    now = plans(study[1])
    assert set(now["plan"]) == {"no update"}
    assert now.loc[model, "rule"] == "train"
    assert (now["status"] == "ok").all()
    changed = plans(config_file(tmp_path, training__epochs=2))
    assert changed.loc[model, "plan"] == "update pending"
    assert changed.loc["results/tiny/dose_100000/dense/seed_0/test.npz", "plan"] == "no update"
