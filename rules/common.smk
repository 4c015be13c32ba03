"""What all rules share: the checked config, names of files, wildcard constraints, input functions. No rules."""

from snakemake.exceptions import WorkflowError

from ptycho.config import ConfigError, check_config, with_numbers
from ptycho.files import WriteError, check_writable
from ptycho.methods import METHODS as KNOWN
from ptycho.parent import take_charge
from ptycho.provenance import script_digest

for key in workflow.config_settings.config:  # --config
    config[key] = with_numbers(config[key])
try:
    check_config(config)
except ConfigError as error:
    raise WorkflowError(str(error))

take_charge()

RESULTS = f"results/{config['study']}"
LOGS = f"logs/{config['study']}"
COST = f"{RESULTS}/cost"
OBJECTS = {"object": list(config["objects"])} if "objects" in config else {}
OBJECT = "object_{object}/" if OBJECTS else ""  # a folder an object, where there are several
DATA = f"{RESULTS}/{OBJECT}data/dose_{{dose}}/seed_{{seed}}"
CONDITION = f"{RESULTS}/{OBJECT}dose_{{dose}}/{{view}}/seed_{{seed}}"

if workflow.is_main_process:  # Snakemake would end in a traceback
    try:
        for folder in (".snakemake", RESULTS, LOGS):
            check_writable(folder)
    except WriteError as error:
        raise WorkflowError(str(error))

DOSES, SEEDS, VIEWS = config["doses"], config["seeds"], list(config["views"])
CONDITIONS = {**OBJECTS, "dose": DOSES, "view": VIEWS, "seed": SEEDS}
LABELS = {name: f"{{{name}}}" for name in (*OBJECTS, "dose", "view", "seed", "split")}  # of a figure in the report
SPLITS, BOTH = config["splits"], ["train", "test"]
METHODS = config["methods"]
TRAINED = "|".join(name for name, method in KNOWN.items() if method.trained)
NETWORKS = [method for method in METHODS if KNOWN[method].trained]
ITERATIVE = [method for method in METHODS if not KNOWN[method].trained]
NETWORK_CURVES = [method for method in NETWORKS if KNOWN[method].curve]
ITERATIVE_CURVES = [method for method in ITERATIVE if KNOWN[method].curve]
HEADLINES = ["ssim_amplitude", "ssim_phase", "error", "heldout_deviance"]
QUALITY = collect(f"{RESULTS}/quality_{{split}}_{{metric}}.png", split=SPLITS, metric=HEADLINES)
PARTS = {
    "unrolled": ["steps", "no-slow-phase", "no-background", "no-sweeps", "prior", "longer", "not-closed"],
    "refined": ["whole", "deals"],
}
INGREDIENTS = {
    name: f"{CONDITION}/{{split}}/{file}"
    for method in METHODS
    if method in ("tv", "unrolled", "refined")
    for name, file in [
        *((f"{method}/{part}", f"{method}/ingredients/{part}.npz") for part in PARTS.get(method, [])),
        (method, f"{method}/object.npz"),
    ]
}
HALVES = config["halves"]
MEASURED = config["source"]["kind"] == "measured"


wildcard_constraints:
    object="|".join(config.get("objects", ["[A-Za-z0-9-]+"])),
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


def grouping_of(split):
    """How exposures of a split are grouped: the other split's number of groups is left out."""
    return {**config["grouping"], "n_groups": config["grouping"]["n_groups"][split]}


def source_of(wildcards):
    """What is simulated, with one of the study's objects."""
    chosen = {"object": config["objects"][wildcards.object]} if OBJECTS else {}
    return {**config["source"], **chosen}


def source_files(wildcards):
    """The user's own files that a simulated sample is made of."""
    source = source_of(wildcards)
    return [part[key] for part in (source["object"], source["probe"]) for key in ("path", "phase_path") if key in part]


def ingredients_of(wildcards):
    """Scores of the parts of methods under all conditions."""
    if not INGREDIENTS:
        raise WorkflowError(f"ingredients: wanted tv, unrolled or refined among the methods; found {METHODS}")
    return collect(f"{CONDITION}/{{split}}/ingredients_metrics.csv", **CONDITIONS, split=SPLITS)


def chunk_files(wildcards):
    """All chunk files of one reconstruction."""
    count = config["inference"]["tile_chunks" if wildcards.method == "unrolled" else "chunks"]
    return collect(
        f"{CONDITION}/{{split}}/{{method}}/chunks/{{i}}of{count}.npz",
        **wildcards,
        i=range(1, count + 1),
    )


def object_files(wildcards):
    """The reconstructions of all methods under one condition."""
    return collect(f"{CONDITION}/{{split}}/{{method}}/object.npz", **wildcards, method=METHODS)
