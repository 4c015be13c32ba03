"""The summary of a study: its text, its warnings, and the tables it is made of."""

import numpy as np
import pandas as pd
import pytest

from ptycho.inspection.findings import Finding, Verdict
from ptycho.reporting.measured import reference_notes, reference_warnings, verdict_warnings
from ptycho.reporting.page import warnings_in
from ptycho.reporting.study_tables import read_cost, training_cost
from ptycho.reporting.summary import StudyTables, fluence_table, summary_text, tile_table, tile_warnings, view_warnings
from ptycho.reporting.tables import paired_differences
from ptycho.scoring.price import price_table
from ptycho.workflow import job
from ptycho.workflow.files import ContractError

TILES = {"tiles": 4, "largest_tile": 30, "redundancy": 1.756}


def numbers(**counts):
    """The JSON of a view."""
    counts = {"exposures": 80, "exposures_without_photons": 0, **counts}
    return {
        "overlap": {"between_exposures": {"linear": 0.7}},
        "fluence_photons_per_px": 12.0,
        "mean_detected_photons": 600.0,
        "counts": counts,
    }


def tables_of(errors):
    """A study of two methods: a list of errors for each, one per seed."""
    metrics = pd.DataFrame(
        [
            {"dose": 1000, "view": "dense", "split": "test", "method": method, "seed": seed, "metric": "error"}
            | {"value": value}
            for method, values in errors.items()
            for seed, value in enumerate(values)
        ]
    )
    seeds = metrics["seed"].unique()
    views = {f"results/x/dose_1000/dense/seed_{seed}/test.json": numbers() for seed in seeds}
    training = pd.DataFrame({"method": "pinn", "cpu_s": [5.2, 6.4], "peak_mb": 700.0})
    fluence = fluence_table(views)
    return StudyTables(
        metrics=metrics,
        differences=paired_differences(metrics),
        fluence=fluence,
        training=training,
        bound=metrics.iloc[:0],
        price=price_table(metrics.assign(metric="frc50_phase"), fluence, [0.1, 0.25]),
        tiles=tile_table({path.replace("test.json", "test_tiles.json"): TILES for path in views}),
    )


def test_a_summary_of_one_repetition_has_no_differences():
    text = summary_text("x", tables_of({"pinn": [0.2], "tv": [0.1]}), ["a, b"], results="results/x")
    assert text.startswith("Study 'x': aligned to the truth, ")
    assert "One repetition, no error bars: 1 seed of noise and training." in text
    assert "Higher is better: none; lower is better: error." in text
    assert "paired differences of methods:" not in text
    assert "Training of pinn: 5 to 6 CPU-seconds per condition" in text
    assert warnings_in(text) == ["a, b"]
    lines = [line.split() for line in text.splitlines()]
    assert ["split", "view", "resolution", "PINN", "TV-MAP"] in lines
    assert ["test", "dense", "0.25", "not", "reached", "not", "reached"] in lines
    assert ["test", "dense", "0.1", "≤", "1,000", "≤", "1,000"] in lines
    tiles = "Tiles of trained networks, test split, dense view: 4, redundancy 1.76"
    assert [line.partition(" (")[0] for line in text.splitlines() if line.startswith("Tiles")] == [tiles]
    assert text.endswith("\n")


def test_a_summary_of_repetitions_has_paired_differences():
    text = summary_text("x", tables_of({"pinn": [0.2, 0.4], "tv": [0.1, 0.3]}), [], results="results/x")
    assert "Mean ± standard deviation over 2 seeds" in text
    assert "pinn - tv" in text
    assert "beyond 2 sd" in text


def test_a_measured_study_has_a_reference_and_no_truth():
    tables = tables_of({"pinn": [0.2], "tv": [0.1]})
    text = summary_text("x", tables, [], results="results/x", reference_name="reference")
    assert "aligned to the reference" in text
    assert "truth" not in text


def test_overlap_and_fluence_are_collected_by_condition():
    table = fluence_table({"results/x/object_a/dose_5/dense/seed_2/test.json": numbers()})
    row = {"object": "a", "dose": 5, "view": "dense", "seed": 2, "split": "test", "overlap": 0.7}
    assert table.to_dict("records") == [{**row, "fluence_photons_per_px": 12.0, "mean_detected_photons": 600.0}]


def test_tiles_are_collected_by_split_and_view():
    """All doses, seeds and objects have the same."""
    tiles = {f"results/x/dose_{dose}/dense/seed_{seed}/test_tiles.json": TILES for dose in (5, 6) for seed in (0, 1)}
    tiles["results/x/object_b/dose_5/sparse/seed_0/train_tiles.json"] = {**TILES, "tiles": 1, "redundancy": 1.0}
    assert tile_table(tiles).to_dict("records") == [
        {"split": "test", "view": "dense", "tiles": 4, "redundancy": 1.756},
        {"split": "train", "view": "sparse", "tiles": 1, "redundancy": 1.0},
    ]
    assert tile_table({}).empty


def test_warnings_of_tiles_name_split_and_view_once():
    narrow = {**TILES, "warning": "narrow"}
    tiles = {f"results/x/dose_{dose}/dense/seed_0/test_tiles.json": narrow for dose in (5, 6)}
    tiles["results/x/dose_5/sparse/seed_0/test_tiles.json"] = {**TILES, "warning": None}
    assert tile_warnings(tiles) == ["test, dense: narrow"]


def test_views_that_lack_groups_or_photons_are_warned_of():
    place = "results/x/dose_5/dense/seed_0"
    views = {
        f"{place}/test.json": numbers(exposures_without_photons=3),  # nothing is trained on it: no groups
        f"{place}/train.json": numbers(groups=12, groups_wanted=40),
        "results/x/dose_5/sparse/seed_0/test.json": numbers(),
    }
    assert view_warnings(views) == [
        "test, dense 5: 3 of 80 exposures have no photons; was the shutter open?",
        "train, dense 5: only 12 of 40 requested groups were found",
    ]


@pytest.mark.parametrize("missing", ["-", "NA"])
def test_what_was_not_measured_is_nan(tmp_path, missing):
    path = tmp_path / "train/dose_5/dense/seed_0/pinn.tsv"
    path.parent.mkdir(parents=True)
    path.write_text(f"s\th:m:s\tmax_rss\tcpu_time\n1.5\t0:00:01\t{missing}\t2.5\n", encoding="utf-8")
    values = read_cost(path)
    assert (values["s"], values["cpu_time"]) == (1.5, 2.5)
    assert np.isnan(values["max_rss"])
    assert "h:m:s" not in values
    (row,) = training_cost([path]).to_dict("records")
    assert (row["dose"], row["view"], row["method"], row["cpu_s"]) == (5, "dense", "pinn", 2.5)


def test_a_bit_that_flips_in_what_a_job_took_is_refused_or_changes_no_value(tmp_path, capsys):
    path = tmp_path / "job.tsv"
    job._write_cost(path)
    written, before = path.read_bytes(), read_cost(path)
    assert set(before) == {"s", "cpu_time", "max_rss"}
    refusals = []
    for place in range(len(written)):
        path.write_bytes(written[:place] + bytes([written[place] ^ 1]) + written[place + 1 :])
        try:
            values = read_cost(path)
            assert {name: values.get(name, before[name]) for name in before} == before
        except ContractError as error:
            refusals.append(str(error))
    assert len(refusals) > 0.5 * len(written)
    assert all(refusal.startswith(f"{path}: not a table of what a job took") for refusal in refusals)
    job._write_cost(tmp_path)
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"ERROR: {tmp_path}: a folder, which no file replaces; wanted the name of a file"
    path.write_text("s\tcpu_time\n1\t2\n", encoding="utf-8")
    with pytest.raises(ContractError, match="max_rss is missing; wanted a number, at least 0"):
        read_cost(path)


def test_the_summary_of_a_measured_study_knows_its_reference_and_the_check_of_its_scan():
    numbers = {"misfit": 2.5, "standard_error": 0.01, "explained_by_shot_noise": 1.2, "exceeds_shot_noise": True}
    numbers["over_mean_pattern"] = 0.4
    (note,) = reference_notes(numbers, "misfit.json")
    assert "misfit 2.5 ± 0.01 of photons that it was not made from" in note
    (warning,) = reference_warnings(numbers)
    assert warning.startswith("reference: misfit 2.5; shot noise explains 1.2")
    good = {**numbers, "exceeds_shot_noise": False}
    assert reference_warnings(good) == []
    for ratio in (1.02, float("nan")):
        (warning,) = reference_warnings({**good, "over_mean_pattern": ratio})
        assert warning.startswith("reference, and so scores against it, mean nothing")
        assert f"{ratio:.3g} times its deviance" in warning
    findings = (
        Finding("counts", "fine", "enough"),
        Finding("probe", "warning", "rough"),
        Finding("pixels", "error", "a hot pixel", "mask it"),
    )
    verdict = Verdict(source="scan.npz", status=1, findings=findings)
    assert verdict_warnings(verdict, "check.html") == [
        "check of the scan, pixels, accepted by the config: a hot pixel; mask it (check.html)",
        "check of the scan, probe: rough (check.html)",
    ]
