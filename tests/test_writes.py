"""Results take the place of regular files only, complete and checked, and are on the disk when their job ends."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from ptycho.cli.main import main
from ptycho.data.object_files import Reconstruction, save_reconstruction
from ptycho.formats.writers import cxi, tiff
from ptycho.reporting.figures import save
from ptycho.workflow.files import ContractError, WriteError, replacing, save_text
from ptycho.workflow.processes import run_reported


@pytest.fixture
def obj(tmp_path):
    shape = (4, 5)
    result = Reconstruction(object=np.ones(shape, np.complex64), illumination=np.ones(shape), origin_px=(2, 3))
    save_reconstruction(tmp_path / "object.npz", result, pixel_size_m=1e-8)
    return tmp_path / "object.npz"


def test_nothing_but_a_file_is_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe.txt")
    with pytest.raises(WriteError, match=r"pipe\.txt: a device, pipe or socket, which no file replaces"):
        save_text(tmp_path / "pipe.txt", "text")
    assert (tmp_path / "pipe.txt").is_fifo()
    (tmp_path / "folder.txt").mkdir()
    with pytest.raises(WriteError, match=r"folder\.txt: a folder, which no file replaces"):
        save_text(tmp_path / "folder.txt", "text")
    (tmp_path / "link.txt").symlink_to("pipe.txt")
    with pytest.raises(WriteError, match="no file replaces"):
        save_text(tmp_path / "link.txt", "text")
    (tmp_path / "new.txt").symlink_to("nowhere.txt")
    save_text(tmp_path / "new.txt", "text")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder.txt", "link.txt", "new.txt", "pipe.txt"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks /proc")
def test_file_and_folder_are_on_the_disk_before_and_after_the_renaming(tmp_path, monkeypatch):
    events = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: events.append(Path(f"/proc/self/fd/{descriptor}").resolve()))
    rename = Path.replace
    monkeypatch.setattr(Path, "replace", lambda path, target: events.append("rename") or rename(path, target))
    with replacing(tmp_path / "a.txt") as temporary:
        temporary.write_text("a", encoding="utf-8")
    assert events == [temporary.resolve(), "rename", tmp_path.resolve()]


def test_a_figure_that_is_not_complete_replaces_nothing(tmp_path, monkeypatch):
    figure = Figure((1, 1))
    for suffix in ("png", "pdf", "svg"):
        path = tmp_path / f"a.{suffix}"
        save(figure, path)
        before = path.read_bytes()
        for content in (before[: len(before) // 2], bytes([before[0] ^ 1]) + before[1:-40]):
            with monkeypatch.context() as patch:
                patch.setattr(Figure, "savefig", lambda self, to, content=content, **_: Path(to).write_bytes(content))
                with pytest.raises(WriteError, match=rf"a\.{suffix}: what was written is not complete"):
                    save(figure, path)
        assert path.read_bytes() == before
    with pytest.raises(ContractError, match=r"figure: wanted a name that ends in \.png, \.pdf, \.svg"):
        save(figure, tmp_path / "figure")


@pytest.mark.parametrize(("module", "suffix"), [(tiff, "tif"), (cxi, "cxi")])
def test_an_export_that_reads_differently_is_no_file(obj, tmp_path, monkeypatch, capsys, module, suffix):
    write = module.write

    def altered(exported, path):
        exported.object[1, 2] = 3
        write(exported, path)
        exported.object[1, 2] = 1

    def halved(exported, path):
        write(exported, path)
        os.truncate(path, path.stat().st_size // 2)

    for writer, message in ((altered, "what was written reads differently"), (halved, "cannot be read: cut short")):
        monkeypatch.setattr(module, "write", writer)
        assert main(["export", str(obj), str(tmp_path / f"o.{suffix}")]) == 2
        assert message in capsys.readouterr().err
        assert [path.name for path in tmp_path.iterdir()] == ["object.npz"]
    monkeypatch.setattr(module, "write", write)
    assert main(["export", str(obj), str(tmp_path / f"o.{suffix}")]) == 0


def test_a_command_does_not_replace_a_pipe(obj, tmp_path, capsys):
    for command, name in (("view", "pipe.png"), ("export", "pipe.tif")):
        os.mkfifo(tmp_path / name)
        output = ["--output", str(tmp_path / name)] if command == "view" else [str(tmp_path / name)]
        assert main([command, str(obj), *output]) == 2
        assert name in capsys.readouterr().err
        assert (tmp_path / name).is_fifo()


def test_a_file_beyond_the_limit_of_size_is_reported_as_that(tmp_path):
    """As under `ulimit -f`: of arrays, an HDF5 file, a table, and a temporary file."""
    code = """
import resource, sys, tempfile
from pathlib import Path
import h5py, numpy as np, pandas as pd
from ptycho.data.mapped import scratch_zeros
from ptycho.data.npz import save_arrays
from ptycho.workflow.damage import reading
from ptycho.workflow.files import WriteError, replacing, save_table, temporary_folder
folder, values = Path(sys.argv[1]), np.random.default_rng(0).random(100_000)
tempfile.tempdir = str(folder)

def write_hdf5():
    with replacing(folder / "a.h5") as path, h5py.File(path, "w") as file:
        file["a"] = values

def write_temporary():
    with temporary_folder() as inside:
        (inside / "a").write_bytes(values.tobytes())

def write_while_reading():
    with reading(folder / "b.npz"):
        save_arrays(folder / "a.npz", a=values)

writers = [lambda: save_arrays(folder / "a.npz", a=values), write_hdf5, write_while_reading, write_temporary]
writers += [lambda: save_table(folder / "a.csv", pd.DataFrame({"a": values}))]
writers += [lambda: scratch_zeros(values.shape, float, folder)]
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
for write in writers:
    try:
        write()
    except WriteError as error:
        print(error)
"""
    run = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, encoding="utf-8", check=True)
    lines = run.stdout.splitlines()
    names = ["a.npz", "a.h5", "a.npz", "", "a.csv", "scratch file of 1 MB"]
    assert len(lines) == len(names)
    for name, line in zip(names, lines, strict=True):
        assert line.startswith(f"{tmp_path / name}: larger than a file may be (`ulimit -f`, or what")
        assert "; allow larger files, " in line
    assert not list(tmp_path.iterdir())


def test_a_program_that_ends_on_a_full_disk_is_reported_as_that(tmp_path, capfd):
    def python(code):
        return [sys.executable, "-c", code]

    with pytest.raises(
        WriteError, match=r"report\.html: its disk is full .*make room, then run the same command again"
    ):
        run_reported(python("raise OSError(28, 'No space left on device')"), tmp_path / "report.html")
    with pytest.raises(WriteError, match=r"report\.html: larger than a file may be .*; allow larger files, then run"):
        run_reported(python("raise OSError(27, 'File too large')"), tmp_path / "report.html")
    with pytest.raises(subprocess.CalledProcessError):
        run_reported(python("raise SystemExit('another reason')"), tmp_path / "report.html")
    run_reported(python("print('done')"), tmp_path / "report.html")
    assert capfd.readouterr().out.split("\n") == ["another reason", "", "done", "", ""]
