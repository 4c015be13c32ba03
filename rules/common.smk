"""What all rules share: the checked config, names of files, wildcard constraints, input functions. No rules."""

import re
from math import ceil
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger

from ptycho.methods import METHODS as KNOWN
from ptycho.reporting.headlines import HEADLINES
from ptycho.workflow.config import ConfigError, check_config, read_file, with_command_line
from ptycho.workflow.files import ContractError, WriteError, check_writable
from ptycho.workflow.knowledge import flaw_kind, unknown_of
from ptycho.workflow.memory import copies_mb
from ptycho.workflow.processes import install_interrupt_handler
from ptycho.workflow.code_digests import script_digest
from ptycho.workflow.retired import accept_old_kinds

if {"{", "}"} & set(workflow.basedir):  # in names of files, Snakemake takes them for wildcards
    raise WorkflowError(f"{workflow.basedir}: has braces in its name; move the workflow elsewhere")
try:
    for path in dict.fromkeys([*workflow.configfiles, *workflow.overwrite_configfiles]):
        read_file(path)
    config.update(with_command_line(config, workflow.config_settings.config))
    NOTES = accept_old_kinds(config)
    check_config(config)
except ConfigError as error:
    raise WorkflowError(str(error))
if workflow.is_main_process:
    for note in NOTES:
        logger.info(note)

install_interrupt_handler()

RESULTS = f"results/{config['study']}"
LOGS = f"logs/{config['study']}"
COST = f"{RESULTS}/cost"
OBJECTS = {"object": list(config["objects"])} if "objects" in config else {}
OBJECT = "object_{object}/" if OBJECTS else ""  # a folder an object, where there are several
FLAWS = {"flaw": list(config["flaws"])} if "flaws" in config else {}
FLAW = "flaw_{flaw}/" if FLAWS else ""  # a folder a flaw, where methods are told something wrong
# Where files of a data set, of a view and of a condition stand: below results, logs and cost alike.
SCAN = f"{OBJECT}dose_{{dose}}/seed_{{seed}}"
SELECTION = f"{OBJECT}dose_{{dose}}/{{view}}/seed_{{seed}}"  # the same in all flaws, as scans are
UNDER = f"{OBJECT}{FLAW}dose_{{dose}}/{{view}}/seed_{{seed}}"
SAMPLE = f"{RESULTS}/{OBJECT}data/sample.npz"
DATA = f"{RESULTS}/{OBJECT}data/dose_{{dose}}/seed_{{seed}}"
VIEW = f"{RESULTS}/{SELECTION}"
TOLD = f"{RESULTS}/{OBJECT}{FLAW}data/dose_{{dose}}/seed_{{seed}}"
CONDITION = f"{RESULTS}/{UNDER}"
REGION = f"{RESULTS}/{OBJECT}region/{{split}}.json"

if workflow.is_main_process:  # Snakemake would end in a traceback
    try:
        for folder in (".snakemake", RESULTS, LOGS):
            check_writable(folder)
    except WriteError as error:
        raise WorkflowError(str(error))

DOSES, SEEDS, VIEWS = config["doses"], config["seeds"], list(config["views"])
CONDITIONS = {**OBJECTS, **FLAWS, "dose": DOSES, "view": VIEWS, "seed": SEEDS}
LABELS = {name: f"{{{name}}}" for name in (*CONDITIONS, "split")}  # of a figure in the report
VIEW_LABELS = {name: label for name, label in LABELS.items() if name not in FLAWS}
SPLITS, BOTH = config["splits"], ["train", "test"]
METHODS = config["methods"]
TRAINED = "|".join(name for name, method in KNOWN.items() if method.trained)
NETWORKS = [method for method in METHODS if KNOWN[method].trained]
SOLVERS = [method for method in METHODS if not KNOWN[method].trained]
NETWORK_CURVES = [method for method in NETWORKS if KNOWN[method].curve]
SOLVER_CURVES = [method for method in SOLVERS if KNOWN[method].curve]
TILED = SPLITS if NETWORKS else []  # splits whose views are cut into tiles, for trained networks
QUALITY = collect(
    f"{RESULTS}/quality_{{split}}_{{metric}}.png",
    split=SPLITS,
    metric=[name for name, headline in HEADLINES.items() if headline.figure],
)
# What the parts of a method gain is scored beside tv, which unrolled and refined build on.
ABLATION = {
    name: f"{CONDITION}/{{split}}/{file}"
    for method in METHODS
    if KNOWN[method].parts or method == "tv"
    for name, file in [
        *((f"{method}/{part}", f"{method}/ablation/{part}.npz") for part in KNOWN[method].parts),
        (method, f"{method}/object.npz"),
    ]
}
TV = {key: value for key, value in config["tv"].items() if key != "chunks"}  # what results depend on
# GPUs that a job of TV-MAP, of unrolled, or of a refinement has to itself; the same of LSQML, and of the reference.
GPUS_OF_TV = int(config["tv"]["device"] == "gpu")
GPUS_OF_LSQML = int(config["lsqml"]["device"] == "gpu")
# Conditions under which something is refined.
REFINED = {**CONDITIONS, "flaw": [flaw for flaw in FLAWS["flaw"] if unknown_of(config, flaw)]} if FLAWS else CONDITIONS
KNOWLEDGE_FIGURES = collect(
    f"{CONDITION}/{{split}}_knowledge.png", **REFINED, split=SPLITS if FLAWS or unknown_of(config) else []
)
HALVES = config["halves"]
MEASURED = config["source"]["kind"] == "measured"
BOUNDED = SPLITS if not MEASURED else []  # without a truth there is no photon limit
BOUNDS = collect(f"{RESULTS}/{OBJECT}bound/{{view}}/{{split}}.csv", **OBJECTS, view=VIEWS, split=BOUNDED)
MEASURED_SCAN = VERDICT = ""
MISFIT_OF_REFERENCE = []  # and its figures
if MEASURED:
    MEASURED_SCAN = config["source"]["scan"]
    if MEASURED_SCAN == "siemens":
        MEASURED_SCAN = f"{RESULTS}/data/measured.npz"
    VERDICT = f"{RESULTS}/data/check.json"
    MISFIT_OF_REFERENCE = [f"{RESULTS}/data/reference_{name}" for name in ("misfit.json", "misfit.png", "refined.png")]
    is_given = MEASURED_SCAN == config["source"]["scan"]
    if is_given and not Path(MEASURED_SCAN).exists() and not Path(VERDICT).exists():  # it has not been read before
        raise WorkflowError(f"source.scan: {MEASURED_SCAN}: no such file; wanted a scan that `ptycho convert` made")
    if workflow.is_main_process and Path(MEASURED_SCAN).exists():  # what a glance at the file shows, before any job
        from ptycho.data.scan import open_scan
        from ptycho.inspection.support import check_header

        try:
            check_header(open_scan(MEASURED_SCAN), config["doses"])
        except ContractError as error:
            raise WorkflowError(str(error))
elif workflow.is_main_process:
    from ptycho.formats.source_checks import check_source

    try:
        check_source(config["source"], config.get("objects"))
    except ValueError as error:  # also of a limit of memory that is no number
        raise WorkflowError(str(error))
REFERENCE_NAME = "reference" if MEASURED else "truth"  # what figures and tables call it


wildcard_constraints:
    object="|".join(config.get("objects", ["[A-Za-z0-9-]+"])),
    flaw="|".join(map(re.escape, config.get("flaws", ["none"]))),
    dose="|".join(map(str, DOSES)),
    seed="|".join(map(str, SEEDS)),
    view="|".join(VIEWS),
    split="train|test",
    method="|".join(KNOWN),
    metric="[a-z0-9_]+",
    i=r"\d+",
    n=r"\d+",
    half="1|2",


def code(script):
    """Digest of the library code that a script uses: a change there reruns its jobs, a comment does not."""
    return script_digest(f"{workflow.basedir}/scripts/{script}.py")


def per_attempt(amount):
    """Memory [MB] or time [min] of a job, as much again whenever it is tried again."""
    return lambda wildcards, attempt: amount * attempt


def holding_frames(amount):
    """Memory [MB] of a job that holds all frames: so much, and their copies; as much again when it is tried again."""
    return lambda wildcards, input, attempt: (amount + copies_mb(input.size_mb)) * attempt


def keeping_a_tile(amount, times=1):
    """Memory [MB] of a job that keeps counts and shifted probes of a tile, or two parts of its photons: so much, and these.

    Up to five modes have eleven times the bytes of the counts; `ptycho.reconstruction.counts_on_canvas` keeps 1 GiB. A
    refinement keeps that of two parts of its scan, counts and probes each.
    """
    return lambda wildcards, input, attempt: (amount + times * min(ceil(22 * input.size_mb), 2200)) * attempt


def through_frames(amount, per_gb):
    """Time [min] of a job that goes through a scan, or its chunk of one: so much, and more per GB of what it reads."""

    def runtime(wildcards, input, attempt):
        share = input.size_mb / 1000 / int(wildcards.get("n", 1))
        return (amount + int(per_gb * share)) * attempt

    return runtime


def source_of(wildcards):
    """What is simulated, with one of the study's objects."""
    chosen = {"object": config["objects"][wildcards.object]} if OBJECTS else {}
    return {**config["source"], **chosen}


def source_files(wildcards):
    """The user's own files that a simulated sample is made of."""
    source = source_of(wildcards)
    return [part[key] for part in (source["object"], source["probe"]) for key in ("path", "phase_path") if key in part]


def ablation_metrics(wildcards):
    """Scores of the parts of methods under all conditions."""
    if not ABLATION:
        raise WorkflowError(f"ablation: wanted tv, unrolled or refined among the methods; found {METHODS}")
    return collect(f"{CONDITION}/{{split}}/ablation_metrics.csv", **CONDITIONS, split=SPLITS)


def chunk_files(folder):
    """All chunk files of the reconstruction in a folder, of `tv` or of a trained network."""

    def files(wildcards):
        count = config["tv" if wildcards.method == "tv" else "inference"]["chunks"]
        return collect(f"{folder}/chunks/{{i}}of{count}.npz", **wildcards, i=range(1, count + 1))

    return files


def unknown(wildcards, method=None):
    """What is refined under a condition; for one method, if one is named."""
    return unknown_of(config, wildcards.get("flaw"), method)


def told_of(split):
    """What refinements of a split start from: what a flaw tells, or what is recorded of a measured scan."""

    def told(wildcards):
        return f"{TOLD}/{split}_told.npz".format(**wildcards) if FLAWS or (MEASURED and unknown(wildcards)) else []

    return told


def refined_of(split):
    """What is refined of a split before methods see it, if anything is."""
    return lambda wildcards: f"{CONDITION}/{split}_knowledge.npz".format(**wildcards) if unknown(wildcards) else []


def knowledge_of(split, method=None):
    """What a method takes for known of a split: refined, told, or as the scan says it. LSQML refines by itself."""

    def knowledge(wildcards):
        name = method or wildcards.method
        if unknown(wildcards, name):
            return (told_of if KNOWN[name].refines else refined_of)(split)(wildcards)
        return told_of(split)(wildcards) if FLAWS else []

    return knowledge


def knowledge_by_method(methods):
    """The files of what each method takes for known of a split; without an entry for what the scan says."""

    def files(wildcards):
        of = {name: knowledge_of("{split}", name.partition("/")[0])(wildcards) for name in methods}
        return {name: path for name, path in of.items() if path}

    return files


def tile_files(wildcards):
    """The tiles of a view, if networks are applied to it."""
    return f"{VIEW}/{{split}}_tiles.npz".format(**wildcards) if wildcards.split in TILED else []


def object_files(wildcards):
    """The reconstructions of all methods under one condition."""
    return collect(f"{CONDITION}/{{split}}/{{method}}/object.npz", **wildcards, method=METHODS)
