"""`ptycho convert`: what would make a wrong scan without a word is refused, with what mends it."""

import numpy as np
import pytest

from tests.raw_scans import convert, counts_of


def refusal(capsys, *arguments):
    """The one line in which a conversion is refused."""
    convert(*arguments, code=2)
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith("ptycho: ")
    return lines[-1]


@pytest.mark.parametrize("key", ["intensity", "counts"])
def test_roots_of_counts_under_a_name_of_counts_are_asked_to_be_squared(tmp_path, raw, capsys, key):
    counts = raw.pop("intensity")
    np.savez(tmp_path / "roots.npz", **{**raw, key: np.sqrt(counts).astype(np.float32)})
    line = refusal(capsys, tmp_path / "roots.npz", tmp_path / "scan.npz")
    assert "roots of whole numbers alone: --quantity amplitude squares them" in line
    assert "--photons-per-unit" not in line
    scan = convert(tmp_path / "roots.npz", tmp_path / "scan.npz", "--quantity", "amplitude")
    np.testing.assert_array_equal(counts_of(scan), counts)
