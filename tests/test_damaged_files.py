"""Files that are cut short, damaged or hostile: one line that names file and key, and nothing allocated for them."""

import json
import os
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from ptycho.cli.main import main
from ptycho.data.canvas import Canvas
from ptycho.data.npz import Npz, load_arrays, open_member, save_arrays
from ptycho.data.scan import open_scan
from ptycho.data.tables import read_table
from ptycho.data.written import check_unchanged, digests_of
from ptycho.workflow.damage import read_json, sealed
from ptycho.workflow.files import ContractError
from ptycho.workflow.limits import VARIABLE, limited_to, max_bytes
from ptycho.workflow.provenance import save_record
from tests.small_files import COUNT, FILES, N, npy, rewritten, scan_values, write_object, write_scan


@pytest.mark.parametrize("kind", FILES)
def test_a_bit_that_flips_is_refused_or_changes_no_value(tmp_path, kind):
    write, values = FILES[kind]
    path = write(tmp_path / f"{kind}.npz")
    content, before = path.read_bytes(), values(path)
    rng, refusals = np.random.default_rng(0), []
    for place in rng.choice(len(content), 150, replace=False).tolist():
        flipped = bytearray(content)
        flipped[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(flipped)
        try:
            assert values(path) == before  # a time stamp, for example
        except ContractError as error:
            refusals.append(str(error))
    assert len(refusals) > 75
    assert all(refusal.startswith(str(path)) and "\n" not in refusal for refusal in refusals)


@pytest.mark.parametrize("kind", ["scan", "sample"])
def test_a_bit_that_flips_in_a_large_object_is_refused(tmp_path, kind):
    """34 MB, which stay in their file: they are read once for their checksum."""
    write, values = FILES[kind]
    key = {"scan": "objectGuess", "sample": "object"}[kind]
    path = write(tmp_path / f"{kind}.npz", **{key: np.ones((2100, 2000), np.complex64)})
    content = bytearray(path.read_bytes())
    content[content.index(b"objectGuess.npy") + 20_000_000] ^= 1
    path.write_bytes(content)
    with pytest.raises(ContractError, match=rf"{kind}\.npz: 'objectGuess.npy' cannot be read: cut short or damaged"):
        values(path)


@pytest.mark.parametrize("kind", FILES)
def test_a_file_that_is_cut_short_is_refused(tmp_path, kind):
    write, values = FILES[kind]
    path = write(tmp_path / f"{kind}.npz")
    content = path.read_bytes()
    for size in np.linspace(0, len(content) - 1, 20).astype(int).tolist():
        path.write_bytes(content[:size])
        with pytest.raises(ContractError, match=rf"{kind}.npz: not an NPZ, cut short, or damaged"):
            values(path)


@pytest.mark.parametrize("carrier", ["object.npz", "model.keras", "history.provenance.json"])
def test_a_bit_that_flips_in_a_table_or_text_is_refused(tmp_path, carrier):
    """By the digest in a file of the same job; alone, and after a move with it, it is believed."""
    path, text = tmp_path / "history.csv", "epoch,loss\n1,0.25\n2,0.125\n"
    path.write_text(text, encoding="utf-8")
    facts = {"digests": digests_of(path)}
    if carrier.endswith(".npz"):
        save_arrays(tmp_path / carrier, metadata=np.array(json.dumps(facts)))
    elif carrier.endswith(".keras"):
        with zipfile.ZipFile(tmp_path / carrier, "w") as archive:
            archive.writestr("ptycho.json", json.dumps(facts))
    else:
        save_record(tmp_path / carrier, {}, **facts)
    (tmp_path / "other.npz").write_bytes(b"damaged")
    (tmp_path / "moved").mkdir()
    for folder in (tmp_path, tmp_path / "moved"):
        assert len(read_table(folder / "history.csv", "loss")) == 2
        for place, letter in enumerate(text):
            flipped = text[:place] + chr(ord(letter) ^ 1) + text[place + 1 :]
            (folder / "history.csv").write_text(flipped, encoding="utf-8")
            with pytest.raises(ContractError, match=r"history\.csv"):
                read_table(folder / "history.csv", "loss")
        with pytest.raises(ContractError, match=rf"another content than its job .* of {carrier}; wanted that: delete"):
            check_unchanged(folder / "history.csv")
        path.write_text(text, encoding="utf-8")
        for name in ("history.csv", carrier):
            shutil.copy(tmp_path / name, tmp_path / "moved")
    (tmp_path / carrier).unlink()
    path.write_text(text.replace("0.25", "0.75"), encoding="utf-8")
    assert read_table(path)["loss"][0] == 0.75


def test_a_bit_that_flips_in_json_is_refused_or_changes_no_value(tmp_path):
    path, values = tmp_path / "a.json", {"misfit": 1.25, "n": [1, float("inf")], "more": {"é": None, "b": True}}
    written = json.dumps(sealed(values), indent=2).encode()
    refusals = []
    for place in range(len(written)):
        path.write_bytes(written[:place] + bytes([written[place] ^ 4]) + written[place + 1 :])
        try:
            assert {key: value for key, value in read_json(path).items() if key in values} == values
        except ContractError as error:
            refusals.append(str(error))
    assert len(refusals) > 0.8 * len(written)
    assert all(refusal.startswith(str(path)) for refusal in refusals)
    path.write_bytes(written)
    assert read_json(path) == values
    path.write_text(json.dumps(values | {"misfit": 1.5}), encoding="utf-8")
    assert read_json(path)["misfit"] == 1.5  # without a checksum it is believed


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"shape": (COUNT + 1, N, N)}, "1792 bytes; the file has 1536"),  # its last frame would be other members
        ({"shape": (10**6, 10**3, 10**3)}, "the file has 1536"),
        ({"shape": (-COUNT, N, -N)}, r"shape \(-6, 8, -8\)"),
        ({"descr": "|V0"}, r"'diffraction' is \|V0"),
        ({"descr": "<U0"}, "'diffraction' is <U0"),
        ({"descr": "|O"}, "'diffraction' holds objects"),
        ({"fortran_order": True}, "'diffraction' holds Fortran order"),
        ({"shape": "all"}, "'diffraction' cannot be read: cut short or damaged"),
    ],
    ids=str,
)
def test_a_header_that_is_not_that_of_its_member_is_refused(tmp_path, header, message):
    path = write_scan(tmp_path / "scan.npz")
    rewritten(path, "diffraction", npy(open_member(path, "diffraction")[...], **header))
    with pytest.raises(ContractError, match=rf"scan.npz: .*{message}"):
        open_scan(path)


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_every_version_of_the_array_format_is_read(tmp_path, version):
    path = write_scan(tmp_path / "scan.npz")
    before = scan_values(path)
    for key in ("diffraction", "xcoords", "objectGuess"):
        rewritten(path, key, npy(open_member(path, key)[...], version))
    assert scan_values(path) == before
    with pytest.raises(ContractError, match="'xcoords' cannot be read"):
        open_scan(rewritten(path, "xcoords", npy(np.zeros(COUNT), (4, 0))))


def test_an_archive_whose_members_overlap_or_repeat_is_refused(tmp_path):
    path = tmp_path / "twice.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", npy(np.ones(3)))
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("a.npy", npy(np.zeros(3)))
    with pytest.raises(ContractError, match=r"twice.npz: not an NPZ, .*two members of the name 'a.npy'"):
        load_arrays(path, "a")
    save_arrays(path, a=np.ones(3), b=np.zeros(3))
    content = bytearray(path.read_bytes())
    second = content.rindex(b"PK\1\2") + 42  # where the directory says that the last member begins
    content[second : second + 4] = bytes(4)
    path.write_bytes(content)
    with pytest.raises(ContractError, match=r"twice.npz: not an NPZ"):
        load_arrays(path, "a")


def test_what_a_file_declares_is_compared_with_the_limit_before_it_is_allocated(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "bomb.npz", a=np.zeros(3_000_000))
    monkeypatch.setenv(VARIABLE, "0.01")
    message = r"bomb.npz: 'a' would take 0.024 GB of memory; wanted at most 0.01 GB \(--max-gb, or PTYCHO_MAX_GB"
    with pytest.raises(ContractError, match=message):
        load_arrays(tmp_path / "bomb.npz", "a")
    with Npz(tmp_path / "bomb.npz") as file:
        assert file.member("a").shape == (3_000_000,)
    with limited_to(0.03):
        assert load_arrays(tmp_path / "bomb.npz", "a")[0].sum() == 0
    assert os.environ[VARIABLE] == "0.01"
    with pytest.raises(ContractError, match=r"a canvas of 30000 × 30000 px .*: are all positions right"):
        Canvas.around(np.array([0.0, 29_936]), np.array([0.0, 29_936]), 64)
    monkeypatch.setenv(VARIABLE, "much")
    with pytest.raises(ValueError, match="PTYCHO_MAX_GB is much; wanted a number of gigabytes above 0"):
        max_bytes()


def test_the_limit_is_that_of_the_command(tmp_path, capsys):
    path = write_object(tmp_path / "object.npz")
    assert main(["export", str(path), str(tmp_path / "object.tif"), "--max-gb", "1e-7"]) == 2
    assert "'object' would take 1.6e-07 GB of memory; wanted at most 1e-07 GB" in capsys.readouterr().err
    assert main(["export", str(path), str(tmp_path / "object.tif"), "--max-gb", "1"]) == 0
    assert VARIABLE not in os.environ


def test_a_message_is_one_line_whatever_the_file_holds(tmp_path):
    (tmp_path / "table.csv").write_bytes(b"dose,a\x0cb\n1,2\n")
    with pytest.raises(ContractError, match=r"no column 'view'; found dose, a\\x0cb$"):
        read_table(tmp_path / "table.csv", "dose", "view")
    assert str(ContractError("a.csv: no\n\ud800\\ é")) == r"a.csv: no\n\ud800\ é"


def test_a_job_says_in_a_line_what_is_refused(tmp_path):
    (tmp_path / "scan.npz").write_bytes(b"no")
    code = """
import sys
from ptycho.data.scan import open_scan
from ptycho.workflow import job
job.log_to(sys.argv[1])
open_scan(sys.argv[2])
"""
    overlap = code.replace("scan import open_scan", "selection import ViewError")
    overlap = overlap.replace("open_scan(sys.argv[2])", "raise ViewError('no such overlap')")
    for program, message in (
        (code, f"ERROR: {tmp_path / 'scan.npz'}: not an NPZ, cut short, or damaged"),
        (overlap, "ERROR: no such overlap"),
    ):
        command = [sys.executable, "-c", program, tmp_path / "job.log", tmp_path / "scan.npz"]
        assert subprocess.run(command, check=False).returncode == 1
        (line,) = (tmp_path / "job.log").read_text(encoding="utf-8").splitlines()
        assert line.startswith(message)


def test_pipes_and_folders_are_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.npz")
    with pytest.raises(ContractError, match=r"pipe.npz: no file, but a device or pipe"):
        open_scan(tmp_path / "pipe.npz")
    with pytest.raises(ContractError, match="a folder; wanted a file"):
        read_json(tmp_path)


def test_a_scan_that_is_cut_while_it_is_read_is_named(tmp_path):
    """No signal ends the process: no page of the file is mapped."""
    path = write_scan(tmp_path / "scan.npz")
    scan = open_scan(path)
    read = [scan.object[2:5, 3:6]]
    os.truncate(path, 300)
    for key, index in (("diffraction", 5), ("diffraction", slice(4, 6)), ("object", (slice(2, 5), slice(3, 6)))):
        with pytest.raises(ContractError, match=r"scan.npz: '\w+' is cut short: \d+ of its \d+ bytes are missing"):
            read.append(getattr(scan, key)[index])


@pytest.mark.parametrize(
    "index",
    [0, -1, slice(1, 4), slice(None, None, 2), slice(4, 1, -1), slice(3, 3), [3, 1, 1, 2], np.array([-1, 0]), ...,
     np.array([True, False, True, False, True, False]), (slice(1, 3), slice(2, 5), 4), (0, slice(None), slice(1, 2)),
     np.zeros(0, int), [], np.array([[0, 1], [2, 3]]), (slice(1, 5), slice(1, 3)), (slice(4, 2), slice(0, 3)), (2, 3),
     (slice(1, 5), slice(3, 1)), (slice(None, None, 2), slice(1, 6, 2)), (slice(-3, 99), slice(-9, -1)), (), (..., 2),
     (-1, slice(None), [1, 0]), (slice(1, 4), [0, 2], [3, 3]), ([0, 1], [2, 3]), (np.newaxis, 2)],
    ids=str,
)  # fmt: skip
def test_an_array_in_a_file_is_indexed_as_in_memory(tmp_path, index):
    frames = np.random.default_rng(0).random((COUNT, 5, 7)).astype(">f4")
    save_arrays(tmp_path / "a.npz", a=frames)
    array = open_member(tmp_path / "a.npz", "a")
    np.testing.assert_array_equal(array[index], frames[index])
    assert array[index].shape == frames[index].shape
    for wrong in (COUNT, [0, -COUNT - 1], np.ones(COUNT + 1, bool)):
        with pytest.raises(IndexError):
            array[wrong]
