"""Tables, warnings, prices and figures of a study with flaws, which are no repetitions."""

import numpy as np
import pandas as pd
import pytest

from ptycho.cli.main import main
from ptycho.reporting.figures import save
from ptycho.reporting.flaws import COLUMNS, NOTHING, flaw_table, plot_flaws
from ptycho.reporting.quality_figures import plot_quality
from ptycho.reporting.tables import difference_table, paired_differences, spread_table
from ptycho.scoring.metric_tables import of_flaw, warnings_of
from ptycho.scoring.price import price_table
from ptycho.workflow.files import ContractError
from ptycho.workflow.knowledge import EXACT

FLAWS = {"exact": (EXACT, 0.0), "small": ("positions", 1.0), "large": ("positions", 4.0), "mended": ("positions", 4.0)}
ERRORS = {"exact": 0.1, "small": 0.2, "large": 0.8, "mended": 0.3}


def study_metrics(seeds=2):
    """Errors of two methods under four flaws, at two doses; the position errors that belong to them."""
    rows = [
        {"dose": dose, "view": "dense", "split": "test", "method": method, "flaw": flaw, "seed": seed}
        | {"metric": metric, "value": value}
        for flaw, error in ERRORS.items()
        for dose in (1000, 10_000)
        for method, factor in (("tv", 1.0), ("pinn", 1.2))
        for seed in range(seeds)
        for metric, value in {
            "error": factor * error + 0.01 * seed,
            "error_affine": error,
            "frc50_phase": 1 - error - 100 / dose,
            "position_rms_px": FLAWS[flaw][1],
            "probe_error": 0.0,
            "shift_px": error,
            "ramp_rad_per_px": 0.0,
        }.items()
    ]
    return pd.DataFrame(rows)


def table_of_flaws(metrics):
    kinds = {flaw: {"kind": kind, "size": size} for flaw, (kind, size) in FLAWS.items()}
    refined = {flaw: {"tv": ["positions"] * (flaw == "mended"), "pinn": []} for flaw in FLAWS}
    return flaw_table(metrics, kinds, refined)


def fluence():
    rows = [
        {"dose": dose, "view": "dense", "split": "test", "seed": seed} for dose in (1000, 10_000) for seed in (0, 1)
    ]
    table = pd.DataFrame(rows)
    return table.assign(overlap=0.7, fluence_photons_per_px=table["dose"] / 50)


def test_flaws_are_no_repetitions():
    metrics = study_metrics()
    differences = paired_differences(metrics)
    of_large = differences[(differences["flaw"] == "large") & (differences["metric"] == "error")]
    assert of_large["mean"].to_list() == pytest.approx([-0.16, -0.16])
    assert (of_large["n"] == 2).all()
    assert "large" in difference_table(differences)
    text = spread_table(metrics)
    assert len(text.splitlines()) == 1 + 4 * 2 * 2
    assert [line.split()[0] for line in text.splitlines()[1::4]] == list(FLAWS)
    alone = of_flaw(metrics)
    assert len(alone) == len(metrics) / 4
    assert of_flaw(alone) is alone
    figure = plot_quality(metrics, fluence(), metric="error")
    assert figure.get_supxlabel().startswith("flaw exact, test split, n = 2")


def test_every_flaw_has_its_price_and_the_photon_limit_is_that_of_all():
    metrics = study_metrics()
    limit = of_flaw(metrics[metrics["method"] == "tv"]).assign(method="photon limit")
    prices = price_table(pd.concat([metrics, limit]), fluence(), [0.6])
    assert prices.columns[0] == "flaw"
    status = prices.set_index(["flaw", "method"])["status"]
    assert status["exact", "tv"] == status["large", "photon limit"] == "at lowest dose"
    assert status["large", "tv"] == "not reached"


def test_a_plan_is_of_one_flaw(tmp_path, capsys):
    study_metrics().to_csv(tmp_path / "metrics.csv", index=False)
    fluence().to_csv(tmp_path / "fluence.csv", index=False)
    plan = ["plan", str(tmp_path), "--resolution", "0.6"]
    assert main(plan) == main([*plan, "--flaw", "large"]) == 0
    first, large = capsys.readouterr().out.splitlines()
    assert "TV-MAP dense ≤ 1,000 photons per exposure" in first
    assert "no method reaches it" in large
    assert main([*plan, "--flaw", "x"])
    assert f"--flaw x; {tmp_path} has exact, small, large, mended" in capsys.readouterr().err


def test_a_shift_is_no_bug_where_positions_were_wrong():
    warnings = warnings_of(study_metrics())
    assert warnings == []
    exact = study_metrics()
    exact.loc[exact["metric"] == "position_rms_px", "value"] = 0
    assert "tv, exact, dense 1000: shifted by 0.100 px at most" not in " ".join(warnings_of(exact))  # at the limit
    assert any(line.startswith("tv, large, dense 1000: shifted by 0.800 px") for line in warnings_of(exact))


def test_the_table_of_flaws_has_kind_size_and_what_was_refined():
    table = table_of_flaws(study_metrics())
    assert tuple(table.columns) == COLUMNS
    assert list(dict.fromkeys(table["flaw"])) == list(FLAWS)
    row = table[(table["flaw"] == "mended") & (table["metric"] == "error") & (table["dose"] == 1000)]
    row = row.set_index("method")
    assert row["refined"].to_dict() == {"tv": "positions", "pinn": NOTHING}
    assert row.loc["tv", "mean"] == pytest.approx(0.305)
    assert row.loc["tv", "sd"] == pytest.approx(0.01 / np.sqrt(2))
    assert (row["n"] == 2).all()


def test_errors_are_drawn_against_the_size_of_flaws(tmp_path):
    table = table_of_flaws(study_metrics())
    figure = plot_flaws(table, metric="error")
    save(figure, tmp_path / "flaws.png")
    first, second = figure.axes
    assert first.get_title() == "dense view, 1,000 photons per exposure"
    assert first.get_xlabel() == "rms error of positions [px]"
    lines = {
        (line.get_label(), line.get_linestyle()): line.get_xdata().tolist()
        for line in second.get_lines()
        if not line.get_label().startswith("_")
    }
    assert lines == {("TV-MAP", "--"): [0, 1, 4], ("TV-MAP", "-"): [4], ("PINN", "--"): [0, 1, 4, 4]}
    with pytest.raises(ContractError, match="no metric 'error' of a flaw with a size in split 'train'"):
        plot_flaws(table, split="train")
