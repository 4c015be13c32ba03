"""Tables of the documentation follow from the CSV files beside them."""

import re
from pathlib import Path

import pandas as pd

from ptycho.data.tables import read_table
from ptycho.methods import METHODS

RESULTS = Path(__file__).parent.parent / "docs/results"


def cells(page, *heading):
    """Rows of the first table of a page with these columns, without leading zeros and bold: first cells -> others."""
    lines = (RESULTS / page).read_text(encoding="utf-8").splitlines()
    head = next(number for number, line in enumerate(lines) if all(word in line for word in ("|", *heading)))
    rows = {}
    for line in lines[head + 2 :]:
        if not line.startswith("|"):
            break
        plain = re.sub(r"(?<![\d.])0\.", ".", line.replace("*", ""))
        first, *others = [cell.strip() for cell in plain.strip("|").split("|")]
        rows[first] = others
    return rows


def number(value, digits=3):
    return f"{value:.{digits}f}".removeprefix("0") if abs(value) < 1 else f"{value:.{digits}f}"


def mean_and_sd(values, digits=3):
    return f"{number(values.mean(), digits)} ± {number(values.std(), digits)}"


def chosen(table, **labels):
    for name, value in labels.items():
        table = table[table[name].astype(str) == str(value)]
    assert len(table), labels
    return table["value"]


def pair(table, digits=2, **labels):
    """SSIM of amplitude / phase."""
    return " / ".join(
        number(chosen(table, metric=f"ssim_{part}", **labels).mean(), digits) for part in ("amplitude", "phase")
    )


def test_six_methods():
    table, rows = read_table(RESULTS / "six-methods.csv"), cells("six-methods.md", "PINN: error", "Baseline: error")
    assert len(rows) == 6
    for label, row in rows.items():
        view, dose = label.replace(",", "", 1).replace(",", "").split()
        for method, part in (("pinn", row[:3]), ("baseline", row[3:])):
            labels = {"view": view, "dose": dose, "method": method}
            errors, cost = (chosen(table, metric=metric, **labels) for metric in ("error", "cpu_s"))
            assert part == [mean_and_sd(errors), pair(table, **labels), number(cost.mean(), 1)], (label, method)


def test_optimizing_methods():
    """Tables of error and CPU time have the same columns: the first is of errors, the last of CPU times."""
    table, methods = read_table(RESULTS / "six-methods.csv"), ("unrolled", "lsqml", "tv", "refined")
    text = (RESULTS / "six-methods.md").read_text(encoding="utf-8").replace("*", "")
    conditions = [(view, dose) for view in ("dense", "sparse") for dose in (1000, 10_000, 100_000)]
    for view, dose in conditions:
        of = [{"view": view, "dose": dose, "method": method} for method in methods]
        errors = [chosen(table, metric="error", **labels) for labels in of]
        costs = [chosen(table, metric="cpu_s", **labels).mean() for labels in of]
        rows = [
            [f"{values.mean():.3f} ± {values.std():.3f}" for values in errors],
            [pair(table, **labels) for labels in of],
            [f"{cost:.1f}" if cost < 10 else f"{cost:.0f}" for cost in costs],
        ]
        for row in rows:
            assert f"| {view}, {dose:,} | {' | '.join(row)} |" in text


def test_the_readme_has_the_errors_of_six_methods():
    table = read_table(RESULTS / "six-methods.csv")
    text = (RESULTS.parent.parent / "README.md").read_text(encoding="utf-8").replace("*", "")
    for method, name in METHODS.items():
        errors = [
            chosen(table, metric="error", view=view, dose=dose, method=method).mean()
            for view in ("dense", "sparse")
            for dose in (1000, 10_000, 100_000)
        ]
        row = " | ".join(f"{error:.3f}" for error in errors)
        assert re.search(rf"^\| {re.escape(name.label)} \| [^|]* \| {re.escape(row)} \|", text, re.MULTILINE), (
            name.label
        )


def test_ablation():
    table = read_table(RESULTS / "ablation.csv")
    for first in ("`steps`", "TV-MAP"):
        rows = cells("ablation.md", f"| view, dose | {first} |")
        names = [
            name.strip("` ")
            for name in next(
                line
                for line in (RESULTS / "ablation.md").read_text(encoding="utf-8").splitlines()
                if line.startswith(f"| view, dose | {first}")
            )
            .strip("|")
            .split("|")[1:]
        ]
        assert len(rows) == 6
        for label, row in rows.items():
            view, dose = label.replace(",", "", 1).replace(",", "").split()
            for name, cell in zip(names, row, strict=True):
                parts = {"TV-MAP": "tv", "unrolled": "unrolled"}
                method = parts.get(name, name if name.startswith("refined") else f"unrolled/{name}")
                digits = len(cell.split()[0].lstrip("."))
                assert cell == mean_and_sd(chosen(table, view=view, dose=dose, method=method, metric="error"), digits)


def test_default_study():
    table = read_table(RESULTS / "default-study.csv")
    text = (RESULTS / "default-study.md").read_text(encoding="utf-8")
    for view in ("dense", "sparse"):
        for dose in (1000, 10_000, 100_000):
            for method in table["method"].unique():
                labels = {"view": view, "dose": dose, "method": method}
                of = {metric: chosen(table, metric=metric, **labels).item() for metric in table["metric"].unique()}
                cells_of_row = [
                    f"{of['ssim_amplitude']:.3f} / {of['ssim_phase']:.3f}",
                    f"{of['error']:.3f}",
                    f"{of['frc50_amplitude']:.2f} / {of['frc50_phase']:.2f}",
                    f"{of['heldout_deviance']:.3f}",
                    f"{of['cpu_s']:.1f}",
                ]
                assert f"| {view}, {dose:,} | {METHODS[method].label} | {' | '.join(cells_of_row)} |" in text


def test_refinement():
    table = pd.read_csv(RESULTS / "refinement.csv")
    flaws = {
        "positions, 2 px": "positions-2",
        "positions, 5 px": "positions-5",
        "defocus, 30 %": "defocus-30",
        "both, 2 px and 30 %": "positions-2-defocus-30",
        "nothing, both refined": "none",
    }
    positions, objects = cells("refinement.md", "LSQML: probe"), cells("refinement.md", "held-out deviance", "cost")
    assert len(positions) == len(objects) == 9
    for label in positions:
        flaw, condition = label.split("; ")
        view, dose = condition.split(", ")
        rows = table[(table["flaw"] == flaws[flaw]) & (table["view"] == view)]
        rows = rows[rows["dose"] == int(dose.replace(",", ""))]
        own, exact, refined = (rows[rows["knowledge"] == which].reset_index() for which in ("own", "exact", "refined"))
        assert len(own) == len(exact) == len(refined) == 3
        if "positions" in flaws[flaw]:
            assert positions[label][1] == mean_and_sd(refined["position_rms_affine_px"])
            assert positions[label][2].startswith(number(own["position_rms_affine_px"].mean(), 2))
        ratio = (refined["error_affine"] / exact["error"]).mean()
        assert objects[label][2] == f"{mean_and_sd(refined['error_affine'])} ({ratio:.2f})".replace("(0.", "(.")
        cost = ((refined["refinement_cpu_s"] + refined["cpu_s"]) / exact["cpu_s"]).mean()
        assert objects[label][5] == f"{cost:.1f}"


def test_flaws():
    table = pd.read_csv(RESULTS / "flaws.csv", dtype={"dose": str})
    table = table[table["metric"] == "error_affine"]
    flaws = {
        "nothing": ("exact", "exact-positions-refined"),
        "positions, .5 px": ("positions-0.5", "positions-0.5-refined"),
        "positions, 2 px": ("positions-2", "positions-2-refined"),
        "positions, 5 px": ("positions-5", "positions-5-refined"),
        "drift, 2 px": ("drift-2", "drift-2-refined"),
        "defocus, 10 %": ("defocus-10", "defocus-10-refined"),
        "defocus, 30 %": ("defocus-30", "defocus-30-refined"),
    }
    for view in ("dense", "sparse"):
        rows = cells("flaws.md", f"| {view}, told wrong | PINN")
        assert list(rows) == list(flaws)
        for label, row in rows.items():
            pairs = [(method, flaw) for method in ("pinn", "unrolled", "tv", "lsqml") for flaw in flaws[label]]
            for (method, flaw), cell in zip(pairs, row, strict=True):
                here = table[(table["flaw"] == flaw) & (table["view"] == view) & (table["method"] == method)]
                assert cell == (number(here["value"].item()) if len(here) else "–"), (view, label, method)


def test_full_scale():
    table = read_table(RESULTS / "full-scale.csv")
    lines = [
        line for line in (RESULTS / "full-scale.md").read_text(encoding="utf-8").splitlines() if "| PINN |" in line
    ]
    lines += [line.replace("PINN", "Baseline") for line in lines] + [line.replace("PINN", "LSQML") for line in lines]
    text = (RESULTS / "full-scale.md").read_text(encoding="utf-8")
    assert len(lines) == 18
    for where, method in ([cell.strip() for cell in line.strip("|").split("|")][:2] for line in lines):
        view, dose = where.replace(",", "", 1).replace(",", "").split()
        labels = {"dose": dose, "view": view, "method": method.lower()}
        error, deviance = (chosen(table, metric=metric, **labels).mean() for metric in ("error", "heldout_deviance"))
        ssim = " / ".join(
            f"{chosen(table, metric=f'ssim_{part}', **labels).mean():.3f}" for part in ("amplitude", "phase")
        )
        frc = chosen(table, metric="frc50_phase", **labels).mean()
        assert f"| {where} | {method} | {ssim} | {error:.3f} | {frc:.2f} | {deviance:.3f} |" in text


def test_measured_scan():
    table = read_table(RESULTS / "siemens.csv")
    text = (RESULTS / "other-conditions.md").read_text(encoding="utf-8").partition("## A measured scan")[2]
    lines = [line for line in text.splitlines() if line.startswith(("| dense, 10", "| sparse, 10"))]
    assert len(lines) == 20
    for line in lines:
        where, method, *row = [cell.strip() for cell in line.strip("|").split("|")]
        view, dose = where.replace(",", "", 1).replace(",", "").split()
        labels = {"dose": dose, "view": view, "method": {"TV-MAP": "tv"}.get(method, method.lower())}
        deviance, misfit, error = (
            chosen(table, metric=metric, **labels).mean() for metric in ("heldout_deviance", "heldout_misfit", "error")
        )
        assert row[:4] == [f"{deviance:.3f}", f"{misfit:.2f}", pair(table, **labels), f"{error:.3f}"], line


def test_claim_of_the_dose():
    table = read_table(RESULTS / "claims/dose.csv")
    names = {"Poisson": "poisson-all", "MAE": "mae-all", "Poisson, unseen": "poisson-unseen"}
    lines = [
        line
        for line in (RESULTS / "claims/dose.md").read_text(encoding="utf-8").splitlines()
        if re.match(r"\| 1[0,]+ \|", line)
    ]
    assert len(lines) == 15
    for line in lines:
        dose, loss, *values = [cell.strip() for cell in line.strip("|").split("|")]
        labels = {"dose": dose.replace(",", ""), "variant": names[loss]}
        for metric, value in zip(("frc50_amplitude", "frc50_phase"), values, strict=False):
            assert value == mean_and_sd(chosen(table, metric=metric, **labels)), line
        assert values[3:] == [pair(table, **labels), mean_and_sd(chosen(table, metric="error", **labels))], line


def test_claim_of_the_training_size():
    table, rows = read_table(RESULTS / "claims/training-size.csv"), cells("claims/training-size.md", "SSIM phase, PINN")
    assert len(rows) == 6
    for size, row in rows.items():
        values = [
            mean_and_sd(chosen(table, variant=size.replace(",", ""), metric=metric, method=method))
            for metric in ("ssim_phase", "ms_ssim_phase", "error")
            for method in ("pinn", "baseline")
        ]
        assert row == values, size


def test_claim_of_the_overlap():
    table, text = (
        read_table(RESULTS / "claims/overlap.csv"),
        (RESULTS / "claims/overlap.md").read_text(encoding="utf-8"),
    )
    inputs = {"30 iterations": "", "inverse diffraction": "direct-"}
    probes, patterns = {"ideal": "gaussian", "structured": "zone-plate"}, {"one": "single", "overlap": "several"}
    lines = [line for line in text.splitlines() if line.startswith(tuple(f"| {name} | " for name in inputs))]
    assert len(lines) == 8
    for line in lines:
        kind, probe, pattern, *values = [cell.strip() for cell in line.strip("|").split("|")]
        variant = f"{inputs[kind]}{patterns[pattern]}-{probes[probe]}"
        metrics = "ssim_amplitude", "ssim_phase", "error"
        assert values[:3] == [mean_and_sd(chosen(table, variant=variant, metric=metric)) for metric in metrics], line


def test_peers():
    table, text = pd.read_csv(RESULTS / "peers.csv"), (RESULTS / "speed.md").read_text(encoding="utf-8")

    def seconds(value):
        return f"{value:.2f}" if value < 10 else f"{value:.1f}"

    for row in table.itertuples():
        rate, deviance, error = f"{row.patterns_per_s:,.0f}", f"{row.best_deviance:.3f}", f"{row.best_error:.3f}"
        cells_of_row = [rate, deviance, seconds(row.best_s), error, seconds(row.near_s)]
        reached = "–"
        if row.to_lsqml_s > 0:
            reached = f"{seconds(row.to_lsqml_s)} ({row.faster_than_lsqml:.1f})"
        assert f"| {' | '.join([*cells_of_row, reached])} |" in text, (row.view, row.method)
