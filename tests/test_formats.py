"""Samples as NPZ or images; photons split; files fetched."""

import hashlib
import io
import tarfile

import numpy as np
import pytest
from skimage.io import imsave

from ptycho.formats.images import read_object, read_probe
from ptycho.physics.noise import split_photons, whole_counts
from ptycho.workflow import fetch
from ptycho.workflow.fetch import FetchError, fetch_member
from ptycho.workflow.files import ContractError


def test_split_photons_add_up_and_are_independent():
    rng = np.random.default_rng(0)
    counts = rng.poisson(20.0, (200, 16, 16))
    first, second = split_photons(counts, 0.5, rng)
    np.testing.assert_array_equal(first + second, counts)
    np.testing.assert_allclose([first.mean(), first.var()], 10, rtol=0.03)
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.02


def test_a_sample_is_read_from_an_npz_or_from_images(tmp_path):
    obj = (np.full((5, 6), 0.5) * np.exp(0.3j)).astype(np.complex64)
    np.savez(tmp_path / "o.npz", objectGuess=obj, probeGuess=np.ones((4, 4), np.complex64))
    loaded, probe = read_object(tmp_path / "o.npz")
    np.testing.assert_array_equal(loaded, obj)
    assert probe.shape == (1, 4, 4)
    gray = np.array([[0, 255], [128, 64]], np.uint8)
    for name in ("a.png", "p.tif"):
        imsave(tmp_path / name, gray, check_contrast=False)
    loaded, probe = read_object(tmp_path / "a.png", tmp_path / "p.tif")
    assert probe is None
    np.testing.assert_allclose(np.abs(loaded)[0], [0.5, 1.0], rtol=1e-6)
    np.testing.assert_allclose(np.angle(loaded)[0], [-0.8, 0.8], rtol=1e-5)
    with pytest.raises(ContractError, match="second image"):
        read_object(tmp_path / "a.png")


def test_a_probe_is_read_alone(tmp_path):
    np.savez(tmp_path / "p.npz", probeGuess=np.ones((4, 4), np.complex64))
    assert read_probe(tmp_path / "p.npz").shape == (1, 4, 4)
    np.savez(tmp_path / "q.npz", probeGuess=np.ones((4, 5)))
    with pytest.raises(ContractError, match=r"'probeGuess' is float64 with shape \(4, 5\)"):
        read_probe(tmp_path / "q.npz")


def test_counts_that_are_not_integers_are_refused():
    assert whole_counts(np.sqrt([[3.0, 250_000.0]]).astype(np.float32), "x").tolist() == [[3, 250_000]]
    with pytest.raises(ContractError, match=r"x: 'diffraction' squared is 0\.49"):
        whole_counts(np.array([[0.7, 1.0]], np.float32), "x")


def test_a_failed_fetch_says_how_to_provide_the_file_by_hand(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    with pytest.raises(FetchError, match=r"failed 2 times .*to provide it by hand, put a/b"):
        fetch_member("no-such-package-here==0.0.1", "a/b", tmp_path / "b", sha256="0" * 64, waits_s=(0.0,))
    assert not (tmp_path / "b").exists()


BACKEND = """
from pathlib import Path

def prepare_metadata_for_build_wheel(folder, config_settings=None):
    Path({executed!r}).touch()
    place = Path(folder, "tiny_package-1.0.dist-info")
    place.mkdir()
    (place / "METADATA").write_text("Metadata-Version: 2.1\\nName: tiny-package\\nVersion: 1.0\\n")
    return place.name
"""
"""The least that pip wants of a package to read its metadata, without anything from an index; it leaves a trace."""


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A folder that pip takes for its index; it has a source archive of `tiny-package` with `data/scan.txt` in it.

    Returns the requirement of it, with its hash, and the file that shows that its code has been executed.
    """
    executed = tmp_path / "executed"
    members = {
        "PKG-INFO": "Metadata-Version: 2.1\nName: tiny-package\nVersion: 1.0\n",
        "pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n',
        "backend.py": BACKEND.replace("{executed!r}", repr(str(executed))),
        "data/scan.txt": "abc",
    }
    folder = tmp_path / "index"
    folder.mkdir()
    with tarfile.open(folder / "tiny_package-1.0.tar.gz", "w:gz") as tar:
        for name, text in members.items():
            member = tarfile.TarInfo(f"tiny_package-1.0/{name}")
            member.size = len(text.encode())
            tar.addfile(member, io.BytesIO(text.encode()))
    for name, value in {"NO_INDEX": "1", "FIND_LINKS": str(folder), "CONFIG_FILE": "/dev/null"}.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    digest = hashlib.sha256((folder / "tiny_package-1.0.tar.gz").read_bytes()).hexdigest()
    return f"tiny-package==1.0 --hash=sha256:{digest}", executed


def test_a_file_is_fetched_out_of_a_source_archive_and_checked(tmp_path, index):
    requirement, executed = index
    destination, digest = tmp_path / "results/scan.txt", hashlib.sha256(b"abc")
    fetch_member(requirement, "data/scan.txt", destination, sha256=digest.hexdigest(), waits_s=())
    assert destination.read_bytes() == b"abc"
    with pytest.raises(FetchError, match=rf"has sha256 {digest.hexdigest()}; wanted 000"):
        fetch_member(requirement, "data/scan.txt", tmp_path / "other.txt", sha256="0" * 64, waits_s=())
    with pytest.raises(FetchError, match="no member data/none"):
        fetch_member(requirement, "data/none.txt", tmp_path / "other.txt", sha256="0" * 64, waits_s=())
    assert not (tmp_path / "other.txt").exists()
    assert executed.exists()  # reading the metadata of a source archive is what it takes


def test_a_file_that_is_too_large_is_not_taken_out_of_an_archive(tmp_path, index, monkeypatch):
    monkeypatch.setattr(fetch, "MAX_BYTES", 2)
    with pytest.raises(FetchError, match=r"tiny_package-1\.0\.tar\.gz: data/scan\.txt has 3 bytes; wanted at most 2"):
        fetch_member(index[0], "data/scan.txt", tmp_path / "scan.txt", sha256="0" * 64, waits_s=())


def test_nothing_of_an_archive_with_another_hash_is_executed(tmp_path, index):
    _, executed = index
    for requirement, message in (
        (f"tiny-package==1.0 --hash=sha256:{'0' * 64}", "tiny-package==1.0: the index has another archive"),
        ("tiny-package==1.0", "failed 1 times"),  # no hash at all
    ):
        with pytest.raises(FetchError, match=message):
            fetch_member(requirement, "data/scan.txt", tmp_path / "scan.txt", sha256="0" * 64, waits_s=())
    assert not executed.exists()


def test_an_existing_file_is_not_fetched_again(tmp_path):
    (tmp_path / "b").write_bytes(b"abc")
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    fetch_member("no-such-package-here==0.0.1", "a/b", tmp_path / "b", sha256=digest, waits_s=())
