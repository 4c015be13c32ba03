"""The dose × overlap study: at which dose and overlap does which method win? Everything there is to ask for."""

import logging
import os
from pathlib import Path
from time import time

from ptycho.workflow.scheduler import EtaHandler, limit_gpus, visible_gpus

START = time()
if workflow.is_main_process and not workflow.output_settings.quiet:
    logging.getLogger("snakemake.logging").addHandler(EtaHandler())


configfile: f"{workflow.basedir}/config/defaults.yaml"  # every method's settings; a study file is laid over them


if not workflow.overwrite_configfiles:  # without --configfile: the default study

    configfile: f"{workflow.basedir}/config/config.yaml"


report: "report/workflow.rst"


include: "rules/common.smk"
include: "rules/generate.smk"
include: "rules/views.smk"
include: "rules/flaws.smk"
include: "rules/knowledge.smk"
include: "rules/train.smk"
include: "rules/infer.smk"
include: "rules/reconstruct.smk"
include: "rules/compare.smk"
include: "rules/halves.smk"
include: "rules/ablation.smk"
include: "rules/report.smk"


localrules:  # targets and light work: a cluster gets none of these
    all,
    phase_c,
    phase_d,
    phase_e,
    phase_f,
    inference,
    phase_g,
    data,
    views,
    train,
    reconstruct,
    infer,
    score,
    tiles,
    region,
    merge,
    plot_sample,
    plot_view,
    plot_knowledge,
    plot_history,
    plot_comparison,
    summarize,
    tabulate_ablation,
    plot_frc,
    half_frc,
    plot_quality,
    plot_price,
    plot_cost,
    ablation,
    workflow_report,
    study_page,
    report,


rule all:
    default_target: True
    input:
        f"{RESULTS}/metrics.csv",
        f"{RESULTS}/summary.txt",
        QUALITY,
        FLAW_FIGURES,
        f"{RESULTS}/price.png",
        collect(f"{RESULTS}/cost_{{split}}.png", split=SPLITS),
        collect(f"{CONDITION}/{{split}}/comparison.png", **CONDITIONS, split=SPLITS),
        collect(f"{CONDITION}/{{split}}/frc.png", **CONDITIONS, split=SPLITS),
        collect(f"{CONDITION}/{{split}}/half_frc.png", **CONDITIONS, split=SPLITS) if HALVES else [],
        collect(f"{CONDITION}/{{method}}/history.png", **CONDITIONS, method=NETWORK_CURVES),
        collect(f"{CONDITION}/{{split}}/{{method}}/history.png", **CONDITIONS, split=SPLITS, method=SOLVER_CURVES),
        collect(f"{VIEW}/{{split}}.png", **OBJECTS, dose=DOSES[0], view=VIEWS, seed=SEEDS[0], split=BOTH),
        collect(f"{RESULTS}/{OBJECT}data/sample.png", **OBJECTS),
        KNOWLEDGE_FIGURES,
        MISFIT_OF_REFERENCE,


rule phase_c:
    input:
        collect(f"{DATA}/{{split}}.npz", **OBJECTS, dose=DOSES, seed=SEEDS, split=BOTH),
        collect(f"{RESULTS}/{OBJECT}data/sample.png", **OBJECTS),
        MISFIT_OF_REFERENCE,


rule phase_d:
    input:
        collect(f"{VIEW}/{{split}}.npz", **CONDITIONS, split=BOTH),
        collect(f"{VIEW}/{{split}}_tiles.npz", **CONDITIONS, split=TILED),
        collect(f"{VIEW}/{{split}}.png", **OBJECTS, dose=DOSES[0], view=VIEWS, seed=SEEDS[0], split=BOTH),
        collect(f"{RESULTS}/{OBJECT}region/{{split}}.json", **OBJECTS, split=SPLITS),
        KNOWLEDGE_FIGURES,


rule phase_e:
    input:
        collect(f"{CONDITION}/{{method}}/model.keras", **CONDITIONS, method=NETWORKS),
        collect(f"{CONDITION}/{{method}}/history.png", **CONDITIONS, method=NETWORK_CURVES),


rule phase_f:
    input:
        collect(f"{CONDITION}/{{split}}/{{method}}/object.npz", **CONDITIONS, split=SPLITS, method=SOLVERS),
        collect(f"{CONDITION}/{{split}}/{{method}}/history.png", **CONDITIONS, split=SPLITS, method=SOLVER_CURVES),


rule inference:
    input:
        collect(f"{CONDITION}/{{split}}/{{method}}/object.npz", **CONDITIONS, split=SPLITS, method=NETWORKS),


rule phase_g:
    input:
        collect(f"{CONDITION}/{{split}}/comparison_metrics.csv", **CONDITIONS, split=SPLITS),
        collect(f"{CONDITION}/{{split}}/comparison.png", **CONDITIONS, split=SPLITS),
        collect(f"{CONDITION}/{{split}}/frc.png", **CONDITIONS, split=SPLITS),
        collect(f"{CONDITION}/{{split}}/half_frc.png", **CONDITIONS, split=SPLITS) if HALVES else [],
        f"{RESULTS}/metrics.csv",
        f"{RESULTS}/summary.txt",
        QUALITY,
        FLAW_FIGURES,
        f"{RESULTS}/price.png",
        collect(f"{RESULTS}/cost_{{split}}.png", split=SPLITS),


rule ablation:
    input:
        f"{RESULTS}/ablation.csv",
        f"{RESULTS}/ablation.txt",


# The phases by what they do.
use rule phase_c as data


use rule phase_d as views


use rule phase_e as train


use rule inference as infer


use rule phase_f as reconstruct


use rule phase_g as score


rule report:
    input:
        f"{RESULTS}/report.html",


# Snakemake 9.27 looks for jobs again a second after it has looked, for the sake of its limit of jobs a second: with every
# job that ends there is one such loop more, a hundred at the end of a study, which cost a quarter of a core. A machine's
# own jobs need no such limit, a cluster's keep it.
onstart:
    if workflow.local_exec:
        workflow.scheduler.job_rate_limiter = None
        limit_gpus(workflow.scheduler, visible_gpus())


onsuccess:
    summary, page = Path(RESULTS) / "summary.txt", Path(RESULTS) / "report.html"
    new = {path: path.exists() and path.stat().st_mtime >= START for path in (summary, page)}
    if (
        new[summary] and "MAKELEVEL" not in os.environ
    ):  # make prints it itself, also when there was nothing to be done
        print(summary.read_text(encoding="utf-8"))
    if new[page]:
        print(f"The report is at {page.resolve()}")
