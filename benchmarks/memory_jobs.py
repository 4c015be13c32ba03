"""Jobs whose memory `memory.py` measures, each in a process of its own: what rules run, with few iterations."""

from pathlib import Path

import numpy as np

from ptycho.data.scan import open_scan
from ptycho.data.tiles import load_tiles
from ptycho.data.views import VALIDATION, open_view
from ptycho.workflow import job
from ptycho.workflow.config import load_config

CONFIG = load_config(Path(__file__).parent.parent / "config" / "config.yaml")
TRAINED = ("pinn", "baseline")
TILED = ("tv", "unrolled", "refined")
"""Methods that reconstruct large scans tile by tile; a job of `unrolled` trains and reconstructs."""
HELD = ("lsqml", "reference")
"""Jobs that hold all frames."""
TV_WEIGHT = 8.0


def infer(folder: Path) -> None:
    """Apply a trained model to all tiles of a scan, as the rule infer_network does, in one chunk."""
    from ptycho.data.canvas import save_parts
    from ptycho.data.chunks import run_of
    from ptycho.loader import open_tiles
    from ptycho.model.inference import load_model, reconstruct_tiles

    scan, tiles, path = open_scan(folder / "scan.npz"), load_tiles(folder / "tiles.npz"), folder / "model.keras"
    container, model = open_tiles(scan, tiles), load_model(path)
    batch_size = CONFIG["inference"]["batch_size"]
    parts = reconstruct_tiles(model, container, tiles, range(len(container)), batch_size)
    metadata = {"run": run_of(path, folder / "tiles.npz", len(container)), "tiles": [0, len(container)]}
    save_parts(folder / "chunk.npz", parts, lambda: metadata | {"chosen": model.chosen})


def merge(folder: Path) -> None:
    """Merge that chunk to an object."""
    from ptycho.data.chunks import merge_chunks
    from ptycho.data.object_files import save_reconstruction

    save_reconstruction(folder / "object.npz", merge_chunks([folder / "chunk.npz"], folder=folder))


def train_network(method: str, folder: Path) -> None:
    """Train a network of the default size for as many steps as there are rounds."""
    from ptycho.loader import open_groups
    from ptycho.model.networks import NetworkOptions
    from ptycho.model.training import TrainingOptions, TrainingRun, train
    from ptycho.model.unet_training import ROUNDS

    view = open_view(folder / "view.npz")
    container = open_groups(open_scan(folder / "scan.npz"), view)
    options = NetworkOptions(**CONFIG["network"]), TrainingOptions(**CONFIG["training"] | {"steps": ROUNDS})
    train(method, container, *options, TrainingRun(validation=view.of_role(VALIDATION), seed=0))


def reconstruct_tiled(method: str, folder: Path) -> None:
    """Reconstruct a whole scan in tiles, with few iterations and steps: enough to allocate what a job allocates."""
    from ptycho.reconstruction.counts import Counts
    from ptycho.reconstruction.tv import TVOptions

    scan = open_scan(folder / "scan.npz")
    counts, fit_fraction = Counts.of(scan, np.arange(len(scan))), 0.8
    one_weight = {"lambda_max": TV_WEIGHT, "lambda_min": TV_WEIGHT, "iterations": 2, "final_iterations": 2}
    prior = TVOptions(**one_weight, fit_fraction=fit_fraction, tile_px=CONFIG["tv"]["tile_px"])
    unet = {"filters": 8, "steps": 10, "learning_rate": 1e-3, "tile_px": 96, "fit_fraction": fit_fraction}
    if method == "tv":
        run_tv(folder, counts, scan.probe, prior)
    elif method == "refined":
        run_refined(folder, counts, scan.probe, prior, unet)
    else:
        run_unrolled(folder, counts, scan.probe, prior, unet)


def run_tv(folder: Path, counts, probe, prior) -> None:
    """TV-MAP."""
    from ptycho.data.object_files import save_reconstruction
    from ptycho.reconstruction.tv import reconstruct

    save_reconstruction(folder / "tv.npz", reconstruct(counts, probe, prior, seed=0, folder=folder))


def run_refined(folder: Path, counts, probe, prior, unet: dict) -> None:
    """Refine TV-MAP by a network."""
    from ptycho.data.object_files import save_reconstruction
    from ptycho.model.refined import RefinedOptions, RefinedRun, refine

    run = RefinedRun(tv_weight=TV_WEIGHT, prior=prior, options=RefinedOptions(**unet, n_splits=2), seed=0)
    for name, result in refine(counts, probe, run, folder=folder).items():
        save_reconstruction(folder / f"{name}.npz", result)


def run_unrolled(folder: Path, counts, probe, prior, unet: dict) -> None:
    """Train the unrolled network, reconstruct the tiles of the scan, and merge them."""
    from ptycho.model.card import make_card, save_network
    from ptycho.model.unrolled import UnrolledOptions, train_unrolled

    schedule = {"stages": 2, "minibatch_epochs": 2, "iterations": 2, "phase_iterations": 2}
    schedule |= {"final_iterations": 2, "post_iterations": 2}
    model, _ = train_unrolled(counts, probe, UnrolledOptions(**unet, **schedule, tiles=6), prior, seed=0)
    facts = {"n_pixels": probe.shape[-1], "channels": 1, "transmittance": model.schedule.transmittance}
    card = make_card("unrolled", probe, **facts, schedule=model.schedule.as_dict())
    save_network(folder / "model.keras", model.network, card, probe)
    infer(folder)
    merge(folder)


def reconstruct_held(method: str, folder: Path) -> None:
    """Run LSQML, or what makes a reference, with few epochs and iterations."""
    from ptycho.data.views import FIT
    from ptycho.physics.probes import add_modes
    from ptycho.reconstruction import lsqml, reference
    from ptycho.reconstruction.counts import Counts

    scan, of = open_scan(folder / "scan.npz"), lsqml.Exposures.of
    if method == "lsqml":
        view, options = open_view(folder / "view.npz"), lsqml.LSQMLOptions(**CONFIG["lsqml"] | {"epochs": 2})
        parts = (of(scan, view.of_role(role)) for role in (FIT, VALIDATION))
        lsqml.reconstruct(*parts, scan.probe, options, lsqml.LSQMLRun(seed=0))
        return
    everything, probe = np.arange(len(scan)), add_modes(scan.probe, CONFIG["reference"]["modes"])
    options = reference.lsqml_options(epochs=1, batch_size=CONFIG["reference"]["batch_size"])
    run = lsqml.LSQMLRun(seed=0, refine_probe=True, stabilize=True)
    start = lsqml.reconstruct(of(scan, everything), None, probe, options, run)
    reference.maximize_likelihood(Counts.of(scan, everything), start, iterations=2)


def run_task(task: str, folder: Path) -> None:
    """Run one job in this process and print its peak memory [kB]."""
    job.limit_threads(1)
    if task in TRAINED:
        train_network(task, folder)
    elif task in TILED:
        reconstruct_tiled(task, folder)
    elif task in HELD:
        reconstruct_held(task, folder)
    else:
        {"infer": infer, "merge": merge}[task](folder)
    print(Path("/proc/self/status").read_text(encoding="utf-8").partition("VmHWM:")[2].split()[0])
