"""The workflow as its users call it: dry runs, wrong configs, and a tiny study from end to end."""

import html
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from ptycho.provenance import script_digest
from ptycho.stitch import Canvas
from ptycho.tools.provenance import find_record, root_of, state_of, state_of_code
from tests.browser import find_browser, images_not_shown, opened
from tests.workflow import (
    ROOT,
    SNAKEMAKE,
    command_of,
    config_file,
    environment,
    jobs,
    processes_in,
    snakemake,
    wait_until,
)

METRICS = {
    f"{name}_{part}"
    for name in ("mae", "rmse", "psnr", "ssim", "ms_ssim", "frc50")
    for part in ("amplitude", "phase")
} | {"error", "heldout_deviance", "shift_px", "ramp_rad_per_px", "scale", "cpu_s"}  # fmt: skip


def test_a_dry_run_lists_the_whole_default_study(tmp_path):
    found = jobs(snakemake(tmp_path, "-n", "--cores", "4"))
    conditions = 6
    assert found["train"] == 2 * conditions
    assert found["infer"] == 2 * 2 * conditions
    assert found["merge"] == 3 * conditions
    assert found["train_unrolled"] == found["infer_unrolled"] == found["regularise"] == conditions
    assert found["iterate"] == found["compare"] == found["expose"] == conditions
    assert found["view"] == 2 * conditions
    assert not list(tmp_path.glob("results/**/*.npz"))


def test_methods_named_in_halves_reconstruct_either_half_of_the_photons(tmp_path):
    arguments = ("-n", "--cores", "1", "--configfile", config_file(tmp_path, halves=["lsqml", "tv"]))
    found = jobs(snakemake(tmp_path, *arguments))
    assert found["halve_counts"] == 1
    assert found["half_frc"] == 2
    assert found["iterate_half"] == found["regularise_half"] == 2 * 2


@pytest.mark.parametrize(
    ("target", "last"),
    [
        ("phase_c", "expose"),
        ("phase_d", "view"),
        ("phase_e", "train"),
        ("phase_f", "iterate"),
        ("inference", "merge"),
        ("phase_g", "compare"),
    ],
)
def test_every_phase_can_be_asked_for_alone(tmp_path, target, last):
    found = jobs(snakemake(tmp_path, "-n", "--cores", "1", "--configfile", config_file(tmp_path), "--", target))
    assert last in found
    if target in ("phase_c", "phase_d"):
        assert "train" not in found
    if target == "phase_f":
        assert "infer" not in found


def test_both_splits_are_one_word_away(tmp_path):
    config = config_file(tmp_path, splits=["train", "test"])
    found = jobs(snakemake(tmp_path, "-n", "--cores", "1", "--configfile", config))
    assert found["compare"] == 2 * 2
    assert found["train"] == 2 * 2
    assert found["region"] == 2


def test_several_objects_have_folders_of_their_own(tmp_path):
    run = snakemake(tmp_path, "-n", "--cores", "1", "--configfile", ROOT / "config/seeds.yaml")
    found, conditions = jobs(run), 2 * 3 * 2 * 3
    assert found["sample"] == found["region"] == found["sample_picture"] == 2
    assert found["compare"] == found["train_unrolled"] == found["iterate"] == conditions
    assert found["expose"] == 2 * 3 * 2 * 3
    assert "results/seeds/object_lines/dose_1000/dense/seed_2/test/comparison_metrics.csv" in run.stdout + run.stderr


@pytest.mark.parametrize("both", [True, False])
def test_one_object_or_several_but_not_both_or_none(tmp_path, both):
    objects = {"one": {"kind": "leaves"}}
    changes = {"objects": objects} if both else {"source__object": None}
    run = snakemake(tmp_path, "-n", "--configfile", config_file(tmp_path, **changes), check=False)
    assert "source.object, objects: wanted the one or the other" in run.stdout + run.stderr


def test_the_measured_study_has_its_own_jobs(tmp_path):
    found = jobs(snakemake(tmp_path, "-n", "--cores", "1", "--configfile", ROOT / "config/siemens.yaml"))
    assert {"fetch", "convert", "halve", "reference", "expose", "train", "iterate", "compare"} <= set(found)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"training__epocs": 1}, "epocs"),
        ({"doses": None}, "'doses' is a required property"),
        ({"doses": [-1]}, r"doses\[0\]: -1 .*minimum"),
        ({"views__dense": 1.2}, r"views\.dense: 1\.2"),
        ({"inference__chunks": 0}, r"inference\.chunks: 0"),
    ],
)
def test_a_wrong_config_stops_the_dry_run(tmp_path, change, says):
    run = snakemake(tmp_path, "-n", "--configfile", config_file(tmp_path, **change), check=False)
    assert run.returncode != 0
    assert re.search(says, run.stdout + run.stderr)


@pytest.mark.slow
def test_the_tiny_study_runs_to_its_table_and_pictures(study):
    results = study[0] / "results/tiny"
    table = pd.read_csv(results / "metrics.csv")
    assert list(table.columns) == ["dose", "view", "split", "method", "seed", "metric", "value"]
    assert set(table["metric"]) == METRICS
    assert len(table) == 2 * 3 * len(METRICS)
    lost = table["value"].isna()  # a network of one short epoch may not be registered, which NaN says
    assert set(table.loc[lost, "metric"]) <= {"shift_px"}
    assert not lost[table["method"] == "lsqml"].any()
    assert np.isfinite(table.loc[~lost, "value"]).all()
    for name in (
        "quality_test_error.png",
        "summary.txt",
        "data/sample.png",
        "dose_100000/dense/seed_0/test/comparison.png",
    ):
        assert (results / name).stat().st_size > 500
    lsqml = table[(table["method"] == "lsqml") & (table["view"] == "dense")].set_index("metric")["value"]
    assert lsqml["shift_px"] < 0.1  # the probe is known: nothing to shift
    assert lsqml["error"] < 0.5


@pytest.mark.slow
def test_every_log_holds_what_its_job_said(study):
    logs = study[0] / "logs/tiny"
    assert "epoch 1/1" in (logs / "train/dose_100000/dense/seed_0/pinn.log").read_text()
    assert "kept epoch" in (logs / "iterate/dose_100000/dense/seed_0/test/lsqml.log").read_text()
    assert "photons detected" in (logs / "expose/dose_100000/seed_0/test.log").read_text()


@pytest.mark.slow
def test_every_result_says_what_made_it(study):
    folder = study[0].resolve()
    files = [path for path in folder.glob("results/**/*.*") if path.is_file() and "cost" not in path.parts]
    assert {path.suffix for path in files} >= {".csv", ".json", ".keras", ".npz", ".png", ".txt"}
    for path in files:
        record, carrier = find_record(path)
        assert path in [folder / output for output in record["outputs"]], path
        assert root_of(carrier, record) == folder
        assert record["seeds"] == {"sample": 3, "noise_and_training": [0]}
        assert state_of_code(record) == "the same"
        for name, digest in record["inputs"].items():
            assert state_of(folder / name, digest) == "unchanged", name


@pytest.mark.slow
def test_nothing_is_to_be_done_after_a_run(study):
    folder, config = study
    run = snakemake(folder, "--cores", "2", "--configfile", config)
    assert "Nothing to be done" in run.stdout + run.stderr


@pytest.mark.slow
def test_more_epochs_rerun_training_and_what_depends_on_it(study, tmp_path):
    folder, _ = study
    found = jobs(snakemake(folder, "-n", "--cores", "2", "--configfile", config_file(tmp_path, training__epochs=2)))
    assert found["train"] == 4
    assert found["infer"] == 8
    assert found["compare"] == 2
    assert not {"sample", "expose", "view", "iterate", "region"} & set(found)


@pytest.mark.slow
def test_a_method_appears_by_being_named(study, tmp_path):
    place = tmp_path / "again"
    shutil.copytree(study[0], place)
    methods = ["pinn", "baseline", "lsqml", "tv", "unrolled", "refined"]
    config = config_file(tmp_path, methods=methods)
    table = "results/tiny/dose_100000/dense/seed_0/test/comparison_metrics.csv"
    arguments = ("--cores", "2", "--configfile", config, "--", table)
    found = jobs(snakemake(place, "-n", *arguments))
    new = ("regularise", "train_unrolled", "infer_unrolled", "merge", "refine", "compare")
    assert found == {**dict.fromkeys(new, 1), "total": len(new)}
    snakemake(place, *arguments)
    errors = pd.read_csv(place / table).query("metric == 'error'").set_index("method")["value"]
    assert list(errors.index) == methods
    assert errors["tv"] < errors["lsqml"]  # five epochs of LSQML


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
    assert jobs(snakemake(tmp_path, "-n", *arguments)) == {"infer": 1, "merge": 1, "total": 2}


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds processes in /proc")
@pytest.mark.parametrize("moment", ["it computes", "it writes"])
def test_a_chunk_job_killed_half_way_is_made_anew_alone(study, tmp_path, moment):
    """SIGKILL to a chunk job and its Snakemake: no half-file that looks whole; that chunk alone; the same object."""
    place = tmp_path.resolve() / "killed"
    shutil.copytree(study[0], place)
    target = Path("results/tiny/dose_100000/dense/seed_0/test/pinn/object.npz")
    chunk = (place / target).parent / "chunks/2of2.npz"
    log = place / "logs/tiny/infer/dose_100000/dense/seed_0/test/pinn/2of2.log"
    for path in (place / target, chunk, log):
        path.unlink()
    kept = {path.name: path.read_bytes() for path in chunk.parent.iterdir()}
    arguments = ("--cores", "2", "--configfile", study[1])
    command = command_of(place, *arguments, "--", chunk.relative_to(place))
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT, env=environment()
    ) as run:
        try:
            wait_until(lambda: log.exists() and "groups:" in log.read_text(), run)  # the bar, before the first batch
            killed = processes_in(place)
            assert run.pid in killed
            assert len(killed) > 1
            if moment == "it writes":
                wait_until(lambda: len(os.listdir(chunk.parent)) > len(kept), run, pause_s=1e-4)
            for pid in killed:
                os.kill(pid, signal.SIGSTOP)
            if moment == "it computes":
                assert "100%" not in log.read_text()
                assert not chunk.exists()
        finally:
            for pid in processes_in(place):  # all of them at a stand: nobody sees another die, and cleans up
                os.kill(pid, signal.SIGKILL)
    end = time.monotonic() + 10
    while processes_in(place):
        assert time.monotonic() < end
    if chunk.exists():  # killed after the renaming
        assert Canvas.load(chunk)[1]["groups"][1] == 40
    snakemake(place, *arguments, "--unlock")
    assert jobs(snakemake(place, "-n", *arguments, "--", target)) == {"infer": 1, "merge": 1, "total": 2}
    snakemake(place, *arguments, "--", target)
    assert {path.name for path in chunk.parent.iterdir()} == {*kept, chunk.name}  # nothing is left of the attempt
    assert all((chunk.parent / name).read_bytes() == content for name, content in kept.items())
    with np.load(study[0] / target) as first, np.load(place / target) as second:
        np.testing.assert_array_equal(second["object"], first["object"])
        np.testing.assert_array_equal(second["weight"], first["weight"])


@pytest.mark.slow
def test_the_number_of_chunks_changes_no_object(study, tmp_path):
    """The law of chunks, through the rules, on the models that they trained."""
    folder, _ = study
    for chunks in (1, 7):
        place = tmp_path / str(chunks)
        shutil.copytree(folder / "results", place / "results")
        (place / "results/tiny/dose_100000/dense/seed_0/test/pinn/object.npz").unlink()
        (place / "results/tiny/dose_100000/dense/seed_0/test/baseline/object.npz").unlink()
        config = config_file(place, inference__chunks=chunks, inference__batch_size=8)
        targets = [f"results/tiny/dose_100000/dense/seed_0/test/{method}/object.npz" for method in ("pinn", "baseline")]
        snakemake(place, "--cores", "2", "--configfile", config, "--rerun-triggers", "mtime", "--", *targets)
        for target in targets:
            with np.load(folder / target) as first, np.load(place / target) as second:
                heavy = first["weight"] > 1e-3 * first["weight"].max()
                difference = np.abs(first["object"] - second["object"])[heavy].max()
                assert difference <= 1e-6 * np.abs(first["object"]).max()


@pytest.mark.slow
def test_a_damaged_chunk_stops_the_merge(study, tmp_path):
    folder, config = study
    shutil.copytree(folder / "results", tmp_path / "results")
    condition = tmp_path / "results/tiny/dose_100000/dense/seed_0/test/pinn"
    chunk = condition / "chunks/2of2.npz"
    chunk.write_bytes(chunk.read_bytes()[:-1000])
    (condition / "object.npz").unlink()
    target = condition.relative_to(tmp_path) / "object.npz"
    arguments = ("--cores", "1", "--configfile", config, "--rerun-triggers", "mtime", "--", target)
    run = snakemake(tmp_path, *arguments, check=False)
    assert run.returncode
    assert "2of2.npz: not an NPZ, cut short, or damaged" in run.stdout + run.stderr
    assert not (condition / "object.npz").exists()


@pytest.mark.slow
def test_forcing_a_rule_reruns_one_phase(study):
    folder, config = study
    found = jobs(snakemake(folder, "-n", "--cores", "2", "--configfile", config, "-R", "train"))
    assert found["train"] == 4
    assert "iterate" not in found
    assert "view" not in found


@pytest.mark.slow
def test_code_reruns_what_executes_it_and_comments_nothing(study, tmp_path):
    folder, config = study
    house = tmp_path / "house"
    shutil.copytree(
        ROOT,
        house,
        ignore=shutil.ignore_patterns(".git", ".venv", "results", "logs", ".snakemake", "*.egg-info", ".pytest_cache"),
    )

    def dry():
        command = [
            SNAKEMAKE,
            "--snakefile",
            house / "Snakefile",
            "--directory",
            folder,
            "-n",
            "--cores",
            "2",
            "--configfile",
            config,
        ]
        environment = {"PYTHONPATH": str(house), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
        command = [str(part) for part in command]
        return subprocess.run(command, capture_output=True, text=True, check=True, cwd=house, env=environment)

    run = dry()
    assert "Nothing to be done" in run.stdout + run.stderr
    iterative = house / "ptycho/iterative.py"
    iterative.write_text(iterative.read_text() + "\n# a remark\n")
    run = dry()
    assert "Nothing to be done" in run.stdout + run.stderr
    iterative.write_text(iterative.read_text().replace("MARGIN_PX = 2", "MARGIN_PX = 3"))
    found = jobs(dry())
    assert found["iterate"] == 2
    assert found["compare"] == 2
    assert not {"train", "view", "expose", "infer"} & set(found)


@pytest.mark.slow
def test_truth_reaches_no_method_without_supervision_through_the_rules(study, tmp_path):
    """Overwrite every truth by NaN, make the objects of all methods but the Baseline anew: the same, bit by bit."""
    schema = yaml.safe_load((ROOT / "config/schema/config.schema.yaml").read_text())
    methods = [method for method in schema["properties"]["methods"]["items"]["enum"] if method != "baseline"]
    assert {"pinn", "lsqml", "tv", "unrolled", "refined"} <= set(methods)
    config = config_file(tmp_path, methods=methods)
    condition = "results/tiny/dose_100000/dense/seed_0"
    targets = [f"{condition}/test/{method}/object.npz" for method in methods]
    seen, blind = tmp_path / "seen", tmp_path / "blind"
    for place in (seen, blind):
        shutil.copytree(study[0] / "results/tiny", place / "results/tiny")
    for path in blind.glob("results/tiny/data/dose_*/seed_*/*.npz"):
        with np.load(path) as arrays:
            fields = dict(arrays)
        fields["objectGuess"] = np.full_like(fields["objectGuess"], np.nan)
        np.savez(path, **fields)
    # the views stay: their files name no truth; only what follows from the frames is made anew
    for method in methods:
        shutil.rmtree(blind / condition / method, ignore_errors=True)
        shutil.rmtree(blind / condition / "test" / method, ignore_errors=True)
    for path in [*blind.glob("results/tiny/data/**/*"), *blind.glob("results/tiny/dose_*/*/seed_*/*.npz")]:
        path.touch()
    for place in (seen, blind):
        snakemake(place, "--cores", "2", "--configfile", config, "--rerun-triggers", "mtime", "--", *targets)
    for target in targets:
        with np.load(seen / target) as first, np.load(blind / target) as second:
            np.testing.assert_array_equal(first["object"], second["object"], err_msg=target)
            assert np.isfinite(second["object"]).all()


def test_the_report_runs_what_is_missing_and_is_asked_for_alone(tmp_path):
    arguments = ("-n", "--cores", "1", "--configfile", config_file(tmp_path))
    found = jobs(snakemake(tmp_path, *arguments, "--", "report"))
    assert found["workflow_report"] == found["overview"] == 1
    everything = jobs(snakemake(tmp_path, *arguments))
    assert {"workflow_report", "overview", "report"} == set(found) - set(everything) - {"all"}
    assert everything["train"] == found["train"] == 4


@pytest.fixture(scope="module")
def report(study):
    """The tiny study's report, made once."""
    folder, config = study
    snakemake(folder, "--cores", "2", "--configfile", config, "--", "report")
    return folder / "results/tiny/report.html"


@pytest.mark.slow
def test_the_report_is_one_file_that_tells_how_to_do_it_again(study, report):
    text = report.read_text()
    assert study[1].read_text() in html.unescape(text)
    assert script_digest(ROOT / "scripts/train.py") in text
    assert f"<td>{version('tensorflow')}</td>" in text
    assert not list(report.parent.glob("workflow*"))
    run = snakemake(study[0], "--cores", "2", "--configfile", study[1], "--", "report")
    assert "Nothing to be done" in run.stdout + run.stderr


@pytest.mark.slow
@pytest.mark.skipif(find_browser() is None, reason="no browser: the report was not looked at (needs chromium)")
@pytest.mark.parametrize(("width", "dark"), [(1400, False), (400, True)])
def test_the_report_opens_in_a_browser_and_asks_nobody_for_anything(report, width, dark):
    with opened(report, width=width, dark=dark) as (page, record):
        assert page.title() == "tiny: dose × overlap study"
        assert (
            page.locator("img").count() >= 2 * (1 + 2 + 1) + 3 + 1 + 1
        )  # comparisons, histories, views, quality, cost
        assert images_not_shown(page) == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        for link in page.locator("nav a").all():
            assert page.locator(link.get_attribute("href")).count() == 1
        page.locator("#images .zoom").first.click()
        assert page.evaluate("(i => i.clientWidth >= i.naturalWidth - 1)(document.querySelector('#images .zoom img'))")
        if width > 1000:  # Snakemake's own report is not made for narrow windows
            with page.expect_popup() as popup:
                page.locator("#open-workflow").click()
            inner = popup.value
            inner.get_by_text("G comparison").click()
            inner.get_by_text("side by side").click()
            inner.locator("a", has=inner.locator("svg")).nth(-2).click()
            inner.locator("#app img[src^='data:image/png']").wait_for()
            assert inner.evaluate("[...document.images].every(i => i.naturalWidth)")
        assert record.outside == [report.as_uri()]
        assert record.complaints == []
