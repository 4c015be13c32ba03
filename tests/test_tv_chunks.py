"""TV-MAP in several jobs: the object of one job, whatever their number; a tile at a time; chunks that do not fit."""

import json
import shutil
import weakref
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from ptycho.cli.provenance import find_record
from ptycho.data.canvas import save_parts
from ptycho.data.chunks import chunk_bounds, merge_chunks, run_of
from ptycho.data.object_files import load_reconstruction, save_reconstruction
from ptycho.data.tiles import TilingOptions, cut_view, load_tiles, save_tiles
from ptycho.reconstruction import tv
from ptycho.reconstruction.counts import Counts
from ptycho.reconstruction.tv import TiledView, TVOptions, reconstruct
from ptycho.workflow.files import ContractError
from tests.conftest import write_scan
from tests.workflow import CONDITION, config_file, jobs, rules_of, snakemake

OPTIONS = TVOptions(lambda_max=64, lambda_min=4, iterations=3, final_iterations=4, fit_fraction=0.8, tile_px=70)


@pytest.fixture(scope="module")
def long_scan(tmp_path_factory):
    """A scan of three tiles, its middle one the fullest, with a ramp: their phases differ."""
    return write_scan(tmp_path_factory.mktemp("long") / "scan.npz", columns=24, rows=2, slope=0.01)


def used(scan):
    """All exposures but a few, as in a view with holdout exposures."""
    return np.flatnonzero(np.arange(len(scan)) % 11)


def start_in(folder, scan, options=OPTIONS, seed=0):
    """Write tiles and start as the rule tv_start does."""
    folder.mkdir()
    tiles = cut_view(scan, used(scan), TilingOptions(tile_px=options.tile_px, halo_px=None))
    steps = []
    start = TiledView(Counts.of(scan, np.arange(len(scan))), scan.probe, tiles, options).choose_start(seed, steps)
    save_tiles(folder / "tiles.npz", tiles)
    save_reconstruction(folder / "start.npz", start, method="tv", steps=steps)
    return folder


def chunk_in(folder, scan, index, count, options=OPTIONS):
    """Write a chunk as the rule tv_chunk does."""
    tiles, (start, known) = load_tiles(folder / "tiles.npz", scan), load_reconstruction(folder / "start.npz")
    view = TiledView(Counts.of(scan, np.arange(len(scan))), scan.probe, tiles, options)
    first, stop = chunk_bounds(len(tiles), index, count)
    steps = [] if index else known["steps"]
    metadata = {"run": run_in(folder, scan), "tiles": [first, stop], "steps": steps, "cpu_s": 1.0}
    parts = (view.reconstruct(number, start, steps) for number in range(first, stop))
    path = folder / f"{index + 1}of{count}.npz"
    save_parts(path, parts, lambda: metadata)
    return path


def run_in(folder, scan):
    n_tiles = len(load_tiles(folder / "tiles.npz", scan))
    return run_of(folder / "start.npz", folder / "tiles.npz", n_tiles, "start")


@pytest.fixture(scope="module")
def started(long_scan, tmp_path_factory):
    return start_in(tmp_path_factory.mktemp("started") / "run", long_scan)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_the_number_of_jobs_changes_no_object_and_no_history(long_scan, started, count):
    """To the bit, also with more chunks than tiles."""
    one = reconstruct(Counts.of(long_scan, used(long_scan)), long_scan.probe, OPTIONS, seed=0)
    tiles = load_tiles(started / "tiles.npz", long_scan)
    assert [len(tile.exposures) < len(used(long_scan)) for tile in tiles] == [True] * 3
    assert not set(np.concatenate([tile.exposures for tile in tiles])) & set(range(0, len(long_scan), 11))
    paths = [chunk_in(started, long_scan, index, count) for index in range(count)]
    merged = merge_chunks(paths[::-1], run_in(started, long_scan))
    np.testing.assert_array_equal(merged.object, one.object)
    np.testing.assert_array_equal(merged.illumination, one.illumination)
    assert merged.origin_px == one.origin_px
    assert merged.cpu_s == count
    pd.testing.assert_frame_equal(merged.history, one.history, check_exact=True)
    assert list(merged.history["tile"].dropna().unique()) == [f"tile {number}/3" for number in (1, 2, 3)]


def test_the_counts_of_one_tile_at_a_time_are_in_memory(long_scan, started, monkeypatch):
    alive, most = weakref.WeakSet(), []

    def counted(*arguments, original=tv.Likelihood, **options):
        most.append(len(alive))
        alive.add(made := original(*arguments, **options))
        return made

    monkeypatch.setattr(tv, "Likelihood", counted)
    chunk_in(started, long_scan, 0, 1)
    assert most == [0, 0, 0]


def test_a_chunk_of_another_start_or_one_that_is_missing_stops_the_merge(long_scan, started, tmp_path):
    other = start_in(tmp_path / "other", long_scan, seed=1)
    paths = [chunk_in(started, long_scan, index, 2) for index in range(2)]
    strange = chunk_in(other, long_scan, 1, 2)
    with pytest.raises(ContractError, match=r"other/2of2\.npz: a chunk of another start .*delete it and run again"):
        merge_chunks([paths[0], strange], run_in(started, long_scan))
    with pytest.raises(ContractError, match="tiles 1 to 3 are in no chunk: one is missing after"):
        merge_chunks(paths[:1], run_in(started, long_scan))
    paths[1].write_bytes(paths[1].read_bytes()[:-1000])
    with pytest.raises(ContractError, match=r"2of2\.npz: .*(cut short|damaged)"):
        merge_chunks(paths, run_in(started, long_scan))


def test_a_start_of_other_tiles_is_refused(long_scan, started, tmp_path):
    whole = replace(OPTIONS, tile_px=512)
    other = start_in(tmp_path / "other", long_scan, whole)
    shutil.copy(started / "start.npz", other / "start.npz")
    with pytest.raises(ContractError, match=r"TV-MAP's start is of .* px from .*; wanted that of tile 1, \("):
        chunk_in(other, long_scan, 0, 1, whole)


@pytest.mark.parametrize("steps", ["x", [1], [{"tile": None}], [{"objective": float("nan")}], [{"a": [1]}]])
def test_steps_that_are_no_rows_of_a_history_are_refused(long_scan, started, tmp_path, steps):
    save_parts(tmp_path / "1of1.npz", [], lambda: {"run": {"tiles": 0}, "tiles": [0, 0], "steps": steps})
    with pytest.raises(ContractError, match=r"1of1\.npz: 'metadata': 'steps' is .*; wanted a list of objects"):
        merge_chunks([tmp_path / "1of1.npz"])


def dry_run(folder, **changes):
    """Jobs of a tiny study with TV-MAP in chunks."""
    return jobs(snakemake(folder, "-n", "--cores", "2", "--configfile", config_file(folder, **changes)))


def test_jobs_of_chunks_take_the_place_of_one_job(tmp_path):
    views = {"dense": 0.7, "sparse": 0.2}
    counts = dry_run(tmp_path, methods=["tv"], halves=["tv"], tv__chunks=3, views=views)
    assert counts["tv_start"] == counts["merge_tv"] == 2
    assert counts["tv_chunk"] == 2 * 3
    assert counts["tv_start_half"] == counts["merge_tv_half"] == 2 * 2
    assert counts["tv_chunk_half"] == 2 * 2 * 3
    assert not {"tv", "tv_half", "merge", "tiles"} & set(counts)


def test_the_light_jobs_are_local(tmp_path):
    rules = rules_of(tmp_path, config_file(tmp_path, tv__chunks=2))
    local = {name for name, rule in rules.items() if rule["local"]}
    assert {"merge", "merge_tv", "merge_tv_half"} <= local
    assert not {"tv_start", "tv_chunk", "tv_start_half", "tv_chunk_half"} & local


def test_flaws_have_chunks_of_their_own_and_a_network_is_put_on_top_of_them(tmp_path):
    counts = dry_run(tmp_path, methods=["refined"], tv__chunks=2, flaws={"exact": {}, "wrong": {"positions_px": 1}})
    assert counts["tv_chunk"] == 2 * counts["merge_tv"] == 2 * counts["refined"] == 4


@pytest.mark.slow
def test_a_study_in_chunks_has_the_object_of_one_job(study, tmp_path):
    """Through the rules, half scans included: three chunks of two tiles."""
    quick = {"methods": ["tv"], "tv__tile_px": 70, "tv__iterations": 3, "tv__final_iterations": 4}
    targets = [f"{CONDITION}/test/tv/{name}" for name in ("object.npz", "half_1/history.csv")]
    folders = [tmp_path / name for name in ("one", "divided")]
    for folder, chunks in zip(folders, (1, 3), strict=True):
        shutil.copytree(study[0] / "results", folder / "results")
        config = config_file(folder, halves=["tv"], tv__chunks=chunks, **quick)
        wanted = targets[:chunks]  # halves in chunks alone
        snakemake(folder, "--cores", "2", "--configfile", config, "--rerun-triggers", "mtime", "--", *wanted)
    one, divided = (folder / CONDITION / "test/tv" for folder in folders)
    with np.load(one / "object.npz") as first, np.load(divided / "object.npz") as second:
        for key in ("object", "illumination", "origin_px"):
            np.testing.assert_array_equal(first[key], second[key], err_msg=key)
        known = [json.loads(str(arrays["metadata"])) for arrays in (first, second)]
    assert known[0]["chosen"] == known[1]["chosen"]
    pd.testing.assert_frame_equal(*(pd.read_csv(folder / "history.csv") for folder in (one, divided)))
    parts = [json.loads(str(np.load(divided / f"chunks/{i}of3.npz")["metadata"])) for i in (1, 2, 3)]
    assert [part["tiles"] for part in parts] == [[0, 0], [0, 1], [1, 2]]
    assert known[1]["cpu_s"] == pytest.approx(sum(part["cpu_s"] for part in parts))
    assert parts[0]["cpu_s"] >= json.loads(str(np.load(divided / "start.npz")["metadata"]))["cpu_s"] > 0
    files = [path for path in divided.rglob("*.*") if path.is_file()]
    assert {path.name for path in files} >= {"tiles.json", "start.npz", "1of3.npz", "history.csv"}
    for path in files:
        record, _ = find_record(path)
        assert str(path.relative_to(folders[1])) in record["outputs"], path
