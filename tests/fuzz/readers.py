"""What reads files, as users and jobs read them: the functions that `entry_points.py` lists."""

import contextlib
import io
import re

import numpy as np

from tests.fuzz import originals as own


class Refused(Exception):
    """A command refused a file; the message is what it printed."""


def command(*arguments):
    """Run `ptycho`; raise `Refused` with what it says where it refuses a file."""
    from ptycho.cli.main import main

    said = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
        code = main(list(map(str, arguments)))
    if code == 2:
        _, *messages = re.split(r"^ptycho: ", said.getvalue(), flags=re.MULTILINE)  # not where a file is quoted
        raise Refused(messages[-1].removesuffix("\n") if messages else "")


def new(path):
    """A file that does not exist yet."""
    path.unlink(missing_ok=True)
    return path


def read_scan(folder):
    from ptycho.data.scan import detected_photons, open_scan

    scan = open_scan(folder / "scan.npz")
    detected_photons(scan.diffraction)
    scan.patches(np.arange(len(scan)))
    return scan.diffraction[:], scan.xcoords, scan.ycoords, scan.probe, scan.metadata, scan.detector.arrays()


def read_sample(folder):
    from ptycho.data.sample_files import open_sample

    sample = open_sample(folder / "sample.npz", measured=True)
    sample.object[...]
    splits = sample.of_split("train"), sample.of_split("test")
    return sample.probe, sample.xcoords, sample.ycoords, splits, sample.scan_index


def read_view(folder):
    from ptycho.data.views import FIT, open_view

    view = open_view(folder / "view.npz")
    view.of_role(FIT)
    return view.exposures, view.role, view.nn_indices, view.metadata


def read_tiles(folder):
    from ptycho.data.tiles import load_tiles

    return [(tile.exposures, tile.core, tile.halo_px) for tile in load_tiles(folder / "tiles.npz")]


def read_object(folder):
    from ptycho.data.object_files import load_reconstruction

    result, metadata = load_reconstruction(folder / "object.npz")
    probe = None if result.refined is None else result.refined.probe
    return result.object, result.illumination, result.origin_px, probe, metadata


def read_chunks(folder):
    from ptycho.data.chunks import merge_chunks

    merged = merge_chunks(sorted(folder.glob("*of2.npz")))
    steps = merged.history.to_dict("records")
    return merged.object, merged.illumination, merged.origin_px, merged.cpu_s, merged.chosen, steps


def read_groups(folder):
    from ptycho.data.grouped_files import open_test_data

    for name in ("groups.npz", "patches.npz"):
        scan, view, tiles = open_test_data(folder / name, n_groups=None, tile_px=20, halo_px=None, seed=0)
        scan.diffraction[view.exposures], scan.patches(tiles[0].exposures)


def read_region(folder):
    from ptycho.scoring.region import Region

    region = Region.load(folder / "region.json")
    np.zeros((40, 40))[region.box]


def read_verdict(folder):
    from ptycho.inspection.findings import Verdict
    from ptycho.reporting.measured import verdict_warnings

    verdict_warnings(Verdict.load(folder / "check.json"), "check.html")


def read_refusal(folder):
    from ptycho.workflow.refusal import refusal

    refusal(folder / "check.json", ["probe"])


def read_card(folder):
    from ptycho.model import card

    return card.read_card(folder / "model.keras"), card.read_probe(folder / "model.keras")


def read_model(folder):
    from ptycho.model.inference import load_model, probe_warning

    model = load_model(folder / "model.keras")
    return probe_warning(folder / "model.keras", own.plane((own.N, own.N))[None]), model.network.get_weights()


def read_state(folder):
    from ptycho.model.checkpoints import Backup

    state = Backup(folder, "key")
    copy = (folder / "state.npz").read_bytes()
    loaded = state.load()
    folder.mkdir(exist_ok=True)  # a damaged state is removed with its folder
    (folder / "state.npz").write_bytes(copy)
    return loaded


def read_config(folder):
    from ptycho.workflow.config import check_config, in_schema_order, load_config

    config = load_config(folder / "study.yaml")
    check_config(config)
    in_schema_order(config)


def read_results(folder):
    command("plan", folder, "--resolution", 0.3)


def read_cost(folder):
    from ptycho.reporting.study_tables import read_cost

    read_cost(folder / "job.tsv")


def read_tables(folder):
    from ptycho.reporting import curves, frc_figures
    from ptycho.scoring.price import read_prices

    curves.read_history(folder / "training.csv", "epoch", "loss", "validation_deviance", "learning_rate")
    curves.read_history(folder / "history.csv", "tv_weight", "validation_deviance")
    frc_figures.read_frc(folder / "frc.csv")
    read_prices(folder / "price.csv", folder / "fluence.csv")


def read_numbers(folder):
    """And say what the summary of a study says of them."""
    from ptycho.data.numbers import read_tile_numbers, read_view_numbers
    from ptycho.reporting import measured, summary

    place = folder / "results/x/dose_5/dense/seed_0"
    view = {place / "test.json": read_view_numbers(place / "test.json")}
    tiles = {place / "test_tiles.json": read_tile_numbers(place / "test_tiles.json")}
    summary.fluence_table(view), summary.view_warnings(view), summary.detector_notes(view)
    summary.tile_table(tiles), summary.tile_warnings(tiles)
    reference = measured.read_reference(path := folder / "misfit.json")
    measured.reference_notes(reference, path), measured.reference_warnings(reference)


def read_comparison(folder):
    from ptycho.data.contract import check_pixel_size
    from ptycho.scoring.evaluate import load_comparison

    arrays, metadata = load_comparison(folder / "comparison.npz")
    check_pixel_size(folder / "comparison.npz", metadata.get("pixel_size_m"))
    return arrays, metadata


def read_images(folder):
    from ptycho.formats.images import read_image_pair

    read_image_pair(folder / "amplitude.png", folder / "phase.tif")


def read_source_object(folder):
    from ptycho.formats.images import read_object, read_probe

    read_object(folder / "sample.npz"), read_probe(folder / "sample.npz")


def judge(*names):
    """Return what judges the objects of some files against an intact scan."""

    def read(folder):
        from ptycho.data.scan import open_scan
        from ptycho.formats.reconstructions import read_candidate

        scan = open_scan(folder / "scan.npz")
        for name in names:
            read_candidate(folder / name, scan).covering()

    return read


def judge_view(folder):
    from argparse import Namespace

    from ptycho.cli.judge import chosen_exposures
    from ptycho.data.scan import open_scan

    scan = open_scan(folder / "scan.npz")
    chosen, _ = chosen_exposures(scan, Namespace(view=folder / "view.npz", scan=folder / "scan.npz", exposures=None))
    scan.diffraction[chosen]


def convert(*names, options=()):
    """Return what converts some files of a folder."""

    def read(folder):
        given = [folder / option if (folder / str(option)).is_file() else option for option in options]
        command("convert", *(folder / name for name in names), new(folder / "out.npz"), *given)

    return read


def export(name, suffix):
    def read(folder):
        scan = ["--scan", folder / "scan.npz"] if (folder / "scan.npz").exists() else []
        options = [*scan, "--pixel-size", 1e-8, "--energy", 8000, "--distance", 1]
        command("export", folder / name, new(folder / f"out{suffix}"), *options)

    return read


def provenance(name):
    return lambda folder: command("provenance", folder / name)


def images_of(name):
    """Return what reads the images of a file, as `ptycho view` does."""

    def read(folder):
        from ptycho.cli import view

        view.images_of(folder / name)

    return read


def show(name):
    def read(folder):
        import matplotlib.pyplot as plt

        try:
            command("view", folder / name, "--output", folder / "out.png")
        finally:
            plt.close("all")

    return read
