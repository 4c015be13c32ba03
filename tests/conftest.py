import logging
import os
import shutil
import sys
from collections import Counter
from contextlib import contextmanager, suppress

import numpy as np
import pytest
from filelock import FileLock

from ptycho.data.scan import ScanWriter, open_scan
from ptycho.data.tiles import TilingOptions, cut_view
from ptycho.data.views import FIT, VALIDATION, GroupingOptions, make_view, with_groups
from ptycho.inspection import orientation_search
from ptycho.methods import METHODS
from ptycho.physics.probes import add_modes, scale_to, zone_plate_probe
from ptycho.physics.samples import simulate_object
from ptycho.physics.simulate import RasterOptions, raster_positions, simulate_scan
from ptycho.reconstruction.counts import Counts
from ptycho.reconstruction.tv import TVOptions
from ptycho.scoring.metrics import error
from ptycho.scoring.registration import align
from ptycho.workflow.job import limit_threads
from tests.faulty_scans import faults, write
from tests.fuzz.seed import VARIABLE, fuzz_seed
from tests.raw_scans import measurement
from tests.workflow import CONDITION, config_file, offline

DOSE = 20_000
ONE_TILE = TilingOptions(tile_px=512, halo_px=None)
PRIOR = TVOptions(lambda_max=64, lambda_min=1, iterations=10, final_iterations=20, fit_fraction=0.8, tile_px=512)
# With oneDNN's kernels, two runs in one process may differ in the last bit.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
limit_threads(1)  # before TensorFlow and PyTorch are imported: results repeat, and tests share the machine
# Hundreds of jobs import the package: what one has compiled is kept for all.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def pytest_report_header():
    """Say which damaged files the fuzz tests give to readers."""
    return f"fuzz tests: {VARIABLE}={fuzz_seed()}"


def pytest_collection_modifyitems(items):
    """Run files with the most slow tests first, Slurm's before all, so that no worker is left with one at the end."""
    weights = {"slurm": 100, "slow": 1}
    slow = Counter()
    for item in items:
        slow[item.path] += sum(weights.get(mark.name, 0) for mark in item.iter_markers())
    items.sort(key=lambda item: -slow[item.path])


def write_scan(path, *, n=64, columns=7, rows=7, truth=None, dose=DOSE, slope=0.0, modes=1, detector=None):
    """Write and open a small simulated scan that keeps every convention of the real ones.

    `truth` replaces the object that is stored, not the one that is measured; `slope` is a phase ramp [rad/column];
    each of `modes` after the first has a fifth of all photons; `detector` are arrays of the contract that are stored.
    """
    probe = zone_plate_probe(n, pupil_px=n * 0.2, stop=0.3, defocus_px=n * 0.4, astigmatism_rad=0.6, coma_rad=0.4)
    raster = RasterOptions(columns=columns, train_rows=rows, test_rows=1, spacing_px=n * 0.13, jitter_px=1.0)
    x, y, shape = raster_positions(raster, n, n + 1, np.random.default_rng(0))
    obj = simulate_object("dead_leaves", shape, np.random.default_rng(1))
    obj = (obj * np.exp(1j * slope * np.arange(shape[1]))).astype(np.complex64)
    probe = probe if modes == 1 else add_modes(probe, modes, fraction=0.2)
    x, y, probe = x[: columns * rows], y[: columns * rows], scale_to(probe, dose)
    stored = obj if truth is None else np.full_like(obj, truth)
    fields = {"xcoords": x, "ycoords": y, "probeGuess": probe, "objectGuess": stored, "metadata": {"dose": dose}}
    fields |= detector or {}
    with ScanWriter(path, len(x), n, **fields) as scan:
        for frames in simulate_scan(obj, probe, (x, y), np.random.default_rng(2)):
            scan.write(frames)
    return open_scan(path)


@pytest.fixture
def raw():
    """Arrays of a scan as another program may have them, see `measurement`."""
    return measurement()


@pytest.fixture
def source(tmp_path, raw):
    """A file with the arrays of `raw`."""
    np.savez(tmp_path / "raw.npz", **raw)
    return tmp_path / "raw.npz"


def view_of(scan, gridsize=2, n_groups=24):
    options = GroupingOptions(
        gridsize=gridsize, neighbors=max(7, gridsize**2 + 4), n_groups=n_groups, max_spread=6, holdout_fraction=0.05
    )
    rng = np.random.default_rng(3)
    return with_groups(make_view(scan, 0.7, options.holdout_fraction, rng), scan, options, rng)


def tiles_of(scan, tiling=ONE_TILE):
    """The tiles of `view_of`."""
    return cut_view(scan, view_of(scan).of_role(FIT, VALIDATION), tiling)


def error_of(reconstruction, scan):
    """Error against the truth, and shift [px], of a reconstruction whose windows lie in the scan's object."""
    (top, left), (height, width) = reconstruction.origin_px, reconstruction.object.shape
    truth = scan.object[top : top + height, left : left + width]
    inside = np.s_[30 : height - 30, 30 : width - 30]
    aligned, gauge = align(reconstruction.object, truth, reconstruction.illumination, inside)
    return error(aligned, truth[inside]), gauge.shift_px


@pytest.fixture
def log(caplog, monkeypatch):
    """`caplog` with what the library logs from INFO on, also after a command has sent that to stderr instead."""
    monkeypatch.setattr(logging.getLogger("ptycho"), "propagate", True)
    caplog.set_level(logging.INFO, logger="ptycho")
    return caplog


@pytest.fixture(scope="session")
def scan(tmp_path_factory):
    return write_scan(tmp_path_factory.mktemp("scan") / "scan.npz")


@pytest.fixture(scope="session")
def blind_scan(tmp_path_factory):
    """The same scan with every truth overwritten by NaN."""
    return write_scan(tmp_path_factory.mktemp("scan") / "blind.npz", truth=np.nan)


@pytest.fixture(scope="session")
def counts(scan):
    return Counts.of(scan, np.arange(len(scan)))


@pytest.fixture
def wide(counts):
    """The scan's exposures, six times as far apart from left to right: tiles hold a part of them."""
    return Counts(counts.frames, 6 * counts.xcoords, counts.ycoords)


@pytest.fixture
def interrupted_after(monkeypatch):
    """Return a context, `interrupted_after(n)`, that a training in it leaves by KeyboardInterrupt after n backups."""
    from ptycho.model.checkpoints import Backup

    @contextmanager
    def context(saves):
        save, saved = Backup.save, []

        def save_and_interrupt(self, *args, **arrays):
            save(self, *args, **arrays)
            saved.append(self.path)
            if len(saved) == saves:
                raise KeyboardInterrupt

        with monkeypatch.context() as patch, suppress(KeyboardInterrupt):
            patch.setattr(Backup, "save", save_and_interrupt)
            yield
        assert len(saved) == saves

    return context


def _run_once(tmp_path_factory, worker_id, name, run):
    """Let one worker of a test run fill a folder, once; return a copy for this worker."""
    copy, base = tmp_path_factory.mktemp(name), tmp_path_factory.getbasetemp()
    shared = base if worker_id == "master" else base.parent
    original, complete = shared / f"tiny_{name}", shared / f"tiny_{name}.complete"
    with FileLock(shared / f"tiny_{name}.lock"):
        if not complete.exists():
            original.mkdir(exist_ok=True)
            run(original)
            complete.touch()
    shutil.copytree(original, copy, dirs_exist_ok=True)
    return copy


@pytest.fixture(scope="session")
def study(tmp_path_factory, worker_id):
    """The tiny study: its folder, which is only read, and its config. Run once; every worker of a run has a copy."""

    def run(folder):
        offline(folder, "--cores", "2", "--configfile", config_file(folder))

    folder = _run_once(tmp_path_factory, worker_id, "study", run)
    return folder, folder / "config.yaml"


@pytest.fixture(scope="session")
def every_method(tmp_path_factory, worker_id, study):
    """The tiny study with every method in its condition `CONDITION`, one chunk each; folder and config, as `study`."""

    def run(folder):
        shutil.copytree(study[0], folder, dirs_exist_ok=True)
        config = config_file(folder, methods=list(METHODS), training__probe="trained", inference__chunks=1)
        table = f"{CONDITION}/test/comparison_metrics.csv"
        offline(folder, "--cores", "2", "--configfile", config, "--", table)

    folder = _run_once(tmp_path_factory, worker_id, "every_method", run)
    return folder, folder / "config.yaml"


@pytest.fixture(scope="session")
def scans(tmp_path_factory):
    """A function: name of a fault -> scan that has it."""
    folder, known, written = tmp_path_factory.mktemp("faults"), faults(), {}

    def scan(name):
        if name not in written:
            written[name] = write(folder / f"{name}.npz", known[name])
        return written[name]

    return scan


@pytest.fixture
def quick(monkeypatch):
    """Fewer exposures and iterations of the trials than `ptycho check` takes."""
    monkeypatch.setattr(orientation_search, "QUICK_EXPOSURES", (16, 16))
    monkeypatch.setattr(orientation_search, "LONG_EXPOSURES", (24, 24))
    monkeypatch.setattr(orientation_search, "LONG_ITERATIONS", 25)
