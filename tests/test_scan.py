"""The scan contract: written block by block, read lazily, and refused with the reason where a file breaks it."""

import json
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from ptycho.data.npz import open_member, save_arrays
from ptycho.data.scan import ScanWriter, mean_counts, open_scan, split_rows
from ptycho.data.selection import ViewError
from ptycho.workflow.files import ContractError
from tests.conftest import view_of

N = 8


def fields(count=5, n=N, **changes):
    rng = np.random.default_rng(0)
    return {
        "xcoords": rng.uniform(n, 2 * n, count),
        "ycoords": rng.uniform(n, 2 * n, count),
        "probeGuess": rng.normal(size=(n, n)).astype(np.complex64),
        "objectGuess": rng.normal(size=(3 * n, 3 * n)).astype(np.complex64),
        "metadata": {"dose": 3},
        **changes,
    }


def frames(count=5):
    return np.random.default_rng(1).random((count, N, N)).astype(np.float32)


def write(path, count=5, block=2, **changes):
    data = frames(count)
    with ScanWriter(path, count, N, **fields(count, **changes)) as scan:
        for start in range(0, count, block):
            scan.write(data[start : start + block])
    return data


@pytest.mark.parametrize("block", [1, 2, 5])
def test_numpy_reads_what_is_written_block_by_block(tmp_path, block):
    data = write(tmp_path / "scan.npz", block=block)
    with np.load(tmp_path / "scan.npz", allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["diffraction"], data)
        assert json.loads(str(arrays["metadata"])) == {"dose": 3}
        assert sorted(arrays) == sorted([*fields(), "diffraction", "frame_checksums"])


def test_an_opened_scan_reads_the_frames_that_are_indexed(tmp_path):
    data = write(tmp_path / "scan.npz")
    scan = open_scan(tmp_path / "scan.npz")
    assert len(scan) == 5
    assert scan.probe.shape == (1, N, N)
    np.testing.assert_array_equal(scan.diffraction[[3, 0]], data[[3, 0]])
    np.testing.assert_array_equal(scan.diffraction[1:3], data[1:3])
    np.testing.assert_allclose(mean_counts(scan.diffraction, block_size=2), (data.astype(float) ** 2).sum() / 5)
    part = scan.diffraction[1]
    part[:] = 0  # a copy: the file stays as it is
    np.testing.assert_array_equal(scan.diffraction[1], data[1])


def test_a_scan_written_by_savez_can_be_opened(tmp_path):
    arrays = fields() | {"diffraction": frames()}
    np.savez(tmp_path / "scan.npz", **arrays | {"metadata": json.dumps(arrays["metadata"])})
    np.testing.assert_array_equal(open_scan(tmp_path / "scan.npz").diffraction[:], frames())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"xcoords": np.full(5, 40.0)}, "'xcoords' spans 40"),
        ({"ycoords": np.full(5, np.nan)}, "'ycoords' holds values that are not finite"),
        ({"xcoords": np.zeros(4)}, "5 patterns but 4 x-"),
        ({"xcoords": np.full(5, 9.0, np.float32)}, "'xcoords' is float32"),
        ({"probeGuess": np.ones((N, 6), np.complex64)}, "one even N × N"),
        ({"probeGuess": np.full((N, N), np.nan, np.complex64)}, "'probeGuess' holds 64 values that are not finite"),
        ({"probeGuess": np.zeros((N, N), np.complex64)}, "'probeGuess' is zero everywhere"),
    ],
)
def test_a_breach_of_the_contract_is_named(tmp_path, change, message):
    write(tmp_path / "scan.npz", **change)
    with pytest.raises(ContractError, match=message) as error:
        open_scan(tmp_path / "scan.npz")
    assert "scan.npz" in str(error.value)


def test_other_files_are_refused_with_the_reason(tmp_path):
    np.savez_compressed(
        tmp_path / "small.npz",
        diffraction=frames(),
        **{k: v for k, v in fields().items() if k != "metadata"},
        metadata="{}",
    )
    with pytest.raises(ContractError, match="compressed"):
        open_scan(tmp_path / "small.npz")
    np.savez(tmp_path / "raw.npz", diff3d=frames())
    with pytest.raises(ContractError, match=r"found \['diff3d'\]; `ptycho convert` makes a scan of other files"):
        open_scan(tmp_path / "raw.npz")
    for start, kind in (
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
        (b"MM\0*\0\0", "a TIFF file"),
        (b"\x93NUMPY", "a single array"),
    ):
        (tmp_path / "raw").write_bytes(start)
        with pytest.raises(ContractError, match=f"raw: {kind}; wanted a scan, such as `ptycho convert` makes"):
            open_scan(tmp_path / "raw")
    texts = {"{}": "at least 'dose'", "no JSON": "a JSON object", '{"dose": null}': "a number above 0"}
    for number, (text, wanted) in enumerate(texts.items()):
        arrays = {key: value for key, value in fields().items() if key != "metadata"}
        save_arrays(tmp_path / f"{number}.npz", diffraction=frames(5), metadata=np.array(text), **arrays)
        with pytest.raises(ContractError, match=rf"'metadata' is .*wanted .*{wanted}"):
            open_scan(tmp_path / f"{number}.npz")
    (tmp_path / "text.npz").write_text("no", encoding="utf-8")
    with pytest.raises(ContractError, match="not an NPZ"):
        open_scan(tmp_path / "text.npz")
    with pytest.raises(ContractError, match="no such file"):
        open_scan(tmp_path / "none.npz")


@pytest.mark.parametrize("share", [0.2, 1.0])
def test_exposures_without_photons_are_counted_and_refused_where_there_are_no_others(scan, share):
    dark = np.array(scan.diffraction[:])
    dark[: int(share * len(dark))] = 0
    shuttered = replace(scan, diffraction=dark)
    if share == 1:
        with pytest.raises(ViewError, match="no photon in any of the view's 49 exposures"):
            view_of(shuttered)
    else:
        counts = view_of(shuttered).metadata["counts"]
        assert counts["exposures_without_photons"] == 9
        assert counts["exposures"] == 49


def test_a_writer_that_fails_leaves_nothing(tmp_path):
    with (
        pytest.raises(ContractError, match="2 patterns written, 5 announced"),
        ScanWriter(tmp_path / "a.npz", 5, N, **fields()) as scan,
    ):
        scan.write(frames(2))
    with pytest.raises(RuntimeError, match="stop"), ScanWriter(tmp_path / "b.npz", 5, N, **fields()) as scan:
        raise RuntimeError("stop")
    assert list(tmp_path.iterdir()) == []


def test_a_large_scan_is_opened_without_reading_it_and_read_in_blocks(tmp_path):
    path, count, n = tmp_path / "large.npz", 15_000, 64
    with ScanWriter(path, count, n, **fields(count, n)) as scan:
        for _ in range(count // 1000):
            scan.write(np.zeros((1000, n, n), np.float32))
    code = """
import resource, sys
from ptycho.data.scan import open_scan
def peak_kb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
start = peak_kb()
scan = open_scan(sys.argv[1])
opened = peak_kb()
for first in range(0, len(scan), 1000):
    assert scan.diffraction[first : first + 1000].sum() == 0
print(opened - start, peak_kb() - opened)
"""
    assert path.stat().st_size > 245e6
    run = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    opening_kb, reading_kb = map(int, run.stdout.split())
    assert opening_kb < 20_000  # nothing is read but the archive's directory
    assert reading_kb < 60_000  # three blocks of 16 MB


def test_patches_of_the_truth_are_cut_at_the_positions(tmp_path):
    write(tmp_path / "scan.npz")
    scan = open_scan(tmp_path / "scan.npz")
    obj = scan.object[:]
    for exposure in range(5):
        top = int(np.floor(scan.ycoords[exposure] + 0.5)) - N // 2
        left = int(np.floor(scan.xcoords[exposure] + 0.5)) - N // 2
        np.testing.assert_array_equal(scan.patches([exposure])[0], obj[top : top + N, left : left + N])


def test_train_and_test_rows_are_split_by_a_guard_band():
    y = np.repeat(np.arange(0, 100, 5.0), 3)
    train, test = split_rows(y, 30, 0.5)
    assert y[test].min() - y[train].max() >= 30
    assert (len(train), len(test)) == (21, 24)  # 15 of 20 rows, as the guard band takes 5
    with pytest.raises(ContractError, match="guard band"):
        split_rows(y, 96, 0.5)


def test_a_missing_array_is_named(tmp_path):
    save_arrays(tmp_path / "x.npz", a=np.arange(3))
    with pytest.raises(ContractError, match="no key 'b'"):
        open_member(tmp_path / "x.npz", "b")


def test_a_killed_writer_leaves_no_file_that_looks_complete(tmp_path):
    code = """
import os, signal, sys
import numpy as np
from ptycho.workflow.files import replacing
with replacing(sys.argv[1]) as temporary, temporary.open("wb") as file:
    file.write(bytes(1000))
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""
    path = tmp_path / "1of2.npz"
    killed = subprocess.run([sys.executable, "-c", code, path], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not path.exists()
    assert len(list(tmp_path.iterdir())) == 1  # the half, under a hidden name
    save_arrays(path, sum=np.ones(3))
    assert list(tmp_path.iterdir()) == [path]
