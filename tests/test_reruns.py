"""What is run again, counted: after a change, a loss, an addition; and nothing else."""

import re
import shutil

import pandas as pd
import pytest

from ptycho.methods import METHODS
from tests.workflow import CONDITION, ROOT, config_file, copy_of_code, jobs, output_of, run_in, snakemake

TABLES = {"photon_bound", "summarize", "plot_quality", "plot_price", "plot_cost", "all", "total"}
"""What is made of all conditions, and made again with every one that is added."""
PARTS = {
    "unrolled": {"steps", "no-slow-phase", "no-background", "no-minibatch-epochs"}
    | {"prior", "more-iterations", "no-post-iterations"},
    "refined": {"whole", "splits"},
}
"""Of methods in an ablation."""


def dry_run(study, config, *arguments):
    """Jobs that the tiny study would run with another config, and all that is printed."""
    run = snakemake(study[0], "-n", "--cores", "2", "--configfile", config, *arguments)
    return jobs(run), output_of(run)


def without_tables(counts):
    return {rule: count for rule, count in counts.items() if rule not in TABLES}


@pytest.mark.slow
def test_after_a_run_there_is_nothing_to_do(study):
    folder, config = study
    run = snakemake(folder, "--cores", "2", "--configfile", config)
    assert "Nothing to be done" in output_of(run)


@pytest.mark.slow
def test_more_steps_rerun_training_and_what_depends_on_it(study, tmp_path):
    counts, _ = dry_run(study, config_file(tmp_path, training__steps=30))
    assert {rule: counts[rule] for rule in ("train_network", "infer_network", "merge", "compare")} == {
        "train_network": 1,
        "infer_network": 2,
        "merge": 1,
        "compare": 1,
    }
    assert not {"sample", "simulate_scan", "view", "lsqml", "region"} & set(counts)


@pytest.mark.slow
def test_other_groups_rerun_what_is_trained_on_them_and_nothing_else(study, tmp_path):
    counts, text = dry_run(study, config_file(tmp_path, grouping__n_groups=30))
    assert counts["view"] == counts["train_network"] == counts["merge"] == 1
    assert re.findall(r"rule view:(?:\n    .*)*?\n    wildcards: .*split=(\w+)", text) == ["train"]
    assert not {"sample", "simulate_scan", "tiles", "lsqml", "region"} & set(counts)


@pytest.mark.slow
@pytest.mark.parametrize("change", [{"inference__tile_px": 60}, {"inference__halo_px": 20}])
def test_other_tiles_rerun_inference_and_nothing_before_it(study, tmp_path, change):
    counts, _ = dry_run(study, config_file(tmp_path, **change))
    own = {"tiles": 1, "infer_network": 2, "merge": 1, "compare": 1, "plot_view": 1}
    assert {rule: counts[rule] for rule in own} == own
    assert not {"sample", "simulate_scan", "view", "train_network", "lsqml", "region"} & set(counts)


@pytest.mark.slow
def test_a_method_is_added_by_its_name_and_taken_apart_by_an_ablation(study, every_method, tmp_path):
    config, table = config_file(tmp_path, methods=list(METHODS)), f"{CONDITION}/test/comparison_metrics.csv"
    counts, _ = dry_run(study, config, "--", table)
    new = {"tv": 1, "train_network": 1, "infer_network": 4, "train_unrolled": 1, "refined": 1}
    new |= {"merge": 2, "compare": 1}
    assert counts == {**new, "total": sum(new.values())}
    errors = pd.read_csv(every_method[0] / table).query("metric == 'error'").set_index("method")["value"]
    assert list(errors.index) == list(METHODS)
    assert errors["tv"] < errors["lsqml"]  # five epochs of LSQML
    folder = tmp_path / "ablation"
    shutil.copytree(every_method[0], folder)
    snakemake(folder, "--cores", "2", "--configfile", every_method[1], "--", "ablation")
    scored = pd.read_csv(folder / "results/tiny/ablation.csv")
    assert set(scored["method"]) == {"tv", "unrolled", "refined"} | {
        f"{method}/{part}" for method, parts in PARTS.items() for part in parts
    }
    assert scored.query("metric == 'error'")["value"].notna().all()
    text = (folder / "results/tiny/ablation.txt").read_text(encoding="utf-8")
    assert all(method in text for method in scored["method"])


@pytest.mark.slow
def test_a_lost_chunk_is_inferred_again_alone(study, tmp_path):
    folder, config = study
    shutil.copytree(folder / "results", tmp_path / "results")
    results = tmp_path / CONDITION / "test/pinn"
    (results / "chunks/2of2.npz").unlink()
    (results / "object.npz").unlink()
    target = results.relative_to(tmp_path) / "object.npz"
    arguments = ("--cores", "2", "--configfile", config, "--rerun-triggers", "mtime", "--", target)
    assert jobs(snakemake(tmp_path, "-n", *arguments)) == {"infer_network": 1, "merge": 1, "total": 2}


@pytest.mark.slow
def test_forcing_a_rule_reruns_one_phase(study):
    counts, _ = dry_run(study, study[1], "-R", "train_network")
    assert counts["train_network"] == 1
    assert not {"lsqml", "view"} & set(counts)


@pytest.mark.slow
def test_a_change_of_code_reruns_what_executes_it_and_nothing_else(study, tmp_path):
    code, arguments = copy_of_code(tmp_path), (study[0], "-n", "--cores", "2", "--configfile", study[1])

    def edit(path, old, new):
        text = (code / path).read_text(encoding="utf-8")
        assert old in text
        (code / path).write_text(text.replace(old, new), encoding="utf-8")

    assert "Nothing to be done" in output_of(run_in(code, *arguments))
    edit("ptycho/reconstruction/lsqml.py", "REACH_PX = 14", "REACH_PX = 14  # a remark")
    for path in sorted((code / "ptycho/workflow").glob("*.py")):
        path.write_text(path.read_text(encoding="utf-8") + "\nCHANGED = True\n", encoding="utf-8")
    edit("ptycho/workflow/processes.py", "GRACE_S = 2.0", "GRACE_S = 3.0")
    assert "Nothing to be done" in output_of(run_in(code, *arguments))

    edit("ptycho/reconstruction/lsqml.py", "REACH_PX = 14", "REACH_PX = 15")
    counts = jobs(run_in(code, *arguments))
    assert counts["lsqml"] == counts["compare"] == 1
    assert not {"train_network", "view", "simulate_scan", "infer_network"} & set(counts)

    edit("ptycho/physics/forward.py", 'norm="ortho"', "norm=None")  # from the sample's guard band on
    assert jobs(run_in(code, *arguments)) == jobs(run_in(code, tmp_path / "empty", *arguments[1:]))


def steps_of_the_documentation():
    """Files and blocks of code of docs/how-to/add-method.md: path -> text, in order."""
    text = (ROOT / "docs/how-to/add-method.md").read_text(encoding="utf-8")
    sections = re.findall(r"^## \d\. [^\n]*`([\w/]+\.\w+)`\n(.*?)(?=^## )", text, flags=re.MULTILINE | re.DOTALL)
    return {
        path: re.search(r"^```python\n(.*?)^```", section, re.MULTILINE | re.DOTALL)[1] for path, section in sections
    }


@pytest.mark.slow
def test_a_method_is_added_as_the_documentation_says(study, tmp_path):
    code, folder = copy_of_code(tmp_path), tmp_path / "study"
    shutil.copytree(study[0], folder)
    steps = steps_of_the_documentation()
    assert list(steps)[1:] == ["scripts/ml.py", "rules/reconstruct.smk", "ptycho/methods.py"]
    for path, text in steps.items():
        if not (code / path).exists():
            (code / path).write_text(text, encoding="utf-8")
        elif path == "ptycho/methods.py":
            known = (code / path).read_text(encoding="utf-8")
            (code / path).write_text(known.replace("METHODS = {\n", "METHODS = {\n" + text), encoding="utf-8")
        else:
            with (code / path).open("a", encoding="utf-8") as file:
                file.write("\n\n" + text)
    config = config_file(tmp_path, methods=["pinn", "lsqml", "ml"])
    targets = [f"{CONDITION}/test/{name}" for name in ("comparison_metrics.csv", "comparison.png", "frc.png")]
    triggers = ("--rerun-triggers", "mtime", "input")  # and not code: the list of methods is in that of all figures
    arguments = ("--cores", "2", "--configfile", config, *triggers, "--", *targets)
    new = {"ml": 1, "compare": 1, "plot_comparison": 1, "plot_frc": 1}
    assert jobs(run_in(code, folder, "-n", *arguments)) == {**new, "total": 4}
    everything = run_in(code, folder, "-n", "--cores", "2", "--configfile", config, "--", "all", "report")
    assert jobs(everything)["ml"] == 1  # nothing else is wanted of it
    run_in(code, folder, *arguments)
    errors = pd.read_csv(folder / targets[0]).query("metric == 'error'").set_index("method")["value"]
    assert list(errors.index) == ["pinn", "lsqml", "ml"]
    assert errors["ml"] < errors["pinn"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "new"),
    [({"doses": [100000, 1000]}, "dose=1000"), ({"seeds": [0, 1]}, "seed=1")],
)
def test_another_dose_or_seed_adds_the_jobs_of_a_study_of_it_alone(study, tmp_path, change, new):
    counts, text = dry_run(study, config_file(tmp_path, **change))
    wildcards = [line for line in re.findall(r"wildcards: (.*)", text) if "dose=" in line]
    assert wildcards
    assert all(re.search(rf"{new}\b", line) for line in wildcards)  # nothing of what exists
    alone = {name: values[1:] for name, values in change.items()}
    wanted = jobs(snakemake(tmp_path, "-n", "--cores", "2", "--configfile", config_file(tmp_path, **alone)))
    of_the_sample = {"sample", "plot_sample", "region", "plot_view"}
    wanted = {rule: count for rule, count in without_tables(wanted).items() if rule not in of_the_sample}
    assert without_tables(counts) == wanted


@pytest.mark.slow
def test_another_view_adds_its_own_jobs_and_rescores_all_on_the_area_lit_in_each(study, tmp_path):
    counts, text = dry_run(study, config_file(tmp_path, views={"dense": 0.7, "middle": 0.5}))
    assert counts["region"] == 1
    assert counts["compare"] == counts["plot_comparison"] == counts["plot_frc"] == 2
    again = {"region", "compare", "plot_comparison", "plot_frc", *TABLES}
    for rule, wildcards in re.findall(r"rule (\w+):(?:\n    .*)*?\n    wildcards: (.*)", text):
        assert rule in again or "middle" in wildcards, f"{rule}: {wildcards}"
    own = {"view": 2, "train_network": 1, "infer_network": 2, "merge": 1, "lsqml": 1}
    assert {rule: counts[rule] for rule in own} == own
    assert not {"sample", "simulate_scan"} & set(counts)


@pytest.mark.slow
def test_one_condition_can_be_run_alone(study, tmp_path):
    target = f"{CONDITION}/test/comparison.png"
    config = config_file(tmp_path, views={"dense": 0.7, "sparse": 0.2}, doses=[100000, 1000])
    counts = jobs(snakemake(tmp_path, "-n", "--cores", "2", "--configfile", config, "--", target))  # in an empty folder
    one = {"train_network": 1, "infer_network": 2, "merge": 1, "lsqml": 1, "compare": 1, "plot_comparison": 1}
    assert {rule: counts[rule] for rule in one} == one
    assert not TABLES - {"total"} & set(counts)
    assert dry_run(study, study[1], "--", target)[0] == {}  # and where all is there, nothing


@pytest.mark.slow
def test_another_directory_shares_nothing_but_code(study, tmp_path):
    arguments = ("--cores", "2", "--configfile", study[1])
    before = {path: path.stat().st_mtime_ns for path in study[0].rglob("*") if path.is_file()}
    everything = jobs(snakemake(tmp_path, "-n", *arguments))
    assert everything["train_network"] == 1
    snakemake(tmp_path, *arguments, "--", "results/tiny/data/sample.npz")
    assert {path: path.stat().st_mtime_ns for path in study[0].rglob("*") if path.is_file()} == before
    left = jobs(snakemake(tmp_path, "-n", *arguments))
    assert {rule: everything[rule] - left.get(rule, 0) for rule in everything if rule != "total"} == {
        rule: int(rule == "sample") for rule in everything if rule != "total"
    }


@pytest.mark.slow
def test_the_summary_lists_every_file_and_its_state(study, tmp_path):
    def plans(config):
        lines = snakemake(study[0], "--summary", "--configfile", config).stdout.splitlines()
        columns, *rows = [line.split("\t") for line in lines if "\t" in line]
        return pd.DataFrame(rows, columns=columns).set_index("output_file")

    model = f"{CONDITION}/pinn/model.keras"
    now = plans(study[1])
    assert set(now["plan"]) == {"no update"}
    assert now.loc[model, "rule"] == "train_network"
    assert (now["status"] == "ok").all()
    changed = plans(config_file(tmp_path, training__steps=30))
    assert changed.loc[model, "plan"] == "update pending"
    assert changed.loc[f"{CONDITION}/test.npz", "plan"] == "no update"
