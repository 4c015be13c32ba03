"""What becomes of a measured scan before its study: checked, refused or accepted, converted, its detector kept."""

import bz2
import io
import json

import numpy as np
import pytest
import yaml

from ptycho.data.npz import save_arrays
from ptycho.data.scan import mean_counts, open_scan
from ptycho.workflow.provenance import file_digest
from tests.conftest import write_scan
from tests.faulty_scans import faults, write
from tests.test_measured import CHECKED, CONFIG, DOSE, RESULTS
from tests.workflow import ROOT, jobs, output_of, snakemake

pytestmark = pytest.mark.slow


def test_a_scan_that_is_the_wrong_way_round_stops_before_its_reference_unless_that_is_accepted(tmp_path):
    raw = faults()["mirrored"]
    write(tmp_path / "scan.npz", raw)
    config = tmp_path / "config.yaml"
    target = f"{RESULTS}/data/reference.npz"
    source = {**CONFIG["source"], "scan": "scan.npz"}
    reference = {"epochs": 2, "modes": 1}
    config.write_text(yaml.safe_dump({**CONFIG, "source": source, "reference": reference}), encoding="utf-8")
    run = snakemake(tmp_path, "--cores", "1", "--configfile", config, "--", target, check=False)
    assert run.returncode != 0
    said = (tmp_path / "logs/measured/reference.log").read_text(encoding="utf-8")
    assert f"not fit for a study, see {CHECKED}.html; `source.accept: [orientation]` in the config goes on" in said
    assert "orientation: not the right way round" in said
    assert "Traceback" not in said
    assert "ptycho convert … --flip-x" in (tmp_path / f"{CHECKED}.html").read_text(encoding="utf-8")
    assert not (tmp_path / target).exists()
    source["accept"] = ["orientation"]
    config.write_text(yaml.safe_dump({**CONFIG, "source": source, "reference": reference}), encoding="utf-8")
    snakemake(tmp_path, "--cores", "1", "--configfile", config, "--", target)
    assert (tmp_path / target).exists()


def test_what_a_glance_at_the_scan_shows_stops_a_dry_run(tmp_path):
    write_scan(tmp_path / "scan.npz", columns=4, rows=4)
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump({**CONFIG, "doses": [1000, 15_000]}), encoding="utf-8")
    run = snakemake(tmp_path, "-n", "--configfile", config, check=False)
    assert "doses: 15,000; half of scan.npz holds 10,000 photons per exposure" in output_of(run)
    (tmp_path / "scan.npz").write_text("no scan", encoding="utf-8")
    run = snakemake(tmp_path, "-n", "--configfile", config, check=False)
    assert run.returncode != 0
    assert "scan.npz: not an NPZ, cut short, or damaged" in output_of(run)
    assert "Traceback" not in output_of(run)


def test_the_siemens_star_is_converted_through_its_rule(tmp_path):
    """With a file of its layout in the place of the one that is fetched."""
    n, rng = 128, np.random.default_rng(0)
    positions = np.stack(np.meshgrid(np.arange(0.0, 40, 10), np.arange(0.0, 40, 10)), axis=-1).reshape(-1, 2)
    counts = rng.poisson(2.0, (len(positions), n, n)).astype(np.float32)
    probe = np.exp(-((np.hypot(*np.indices((n, n)) - n / 2) / 10) ** 2)).astype(np.complex64)
    buffer = io.BytesIO()
    np.savez(buffer, data=counts[None], scan=positions[None].astype(np.float32), probe=probe[None, None, None, None])
    data = tmp_path / "results/siemens/data"
    data.mkdir(parents=True)
    fetched, provenance = data / "siemens-star-small.npz.bz2", data / "siemens-star-small.provenance.json"
    fetched.write_bytes(bz2.compress(buffer.getvalue()))
    provenance.write_text("{}", encoding="utf-8")
    options = ("--cores", "1", "--configfile", ROOT / "config/siemens.yaml", "--rerun-triggers", "mtime")
    target = "results/siemens/data/measured.npz"
    assert jobs(snakemake(tmp_path, "-n", *options, "--", target)) == {"convert": 1, "total": 1}
    snakemake(tmp_path, *options, "--", target)
    scan = open_scan(tmp_path / target)
    assert (len(scan), scan.n_pixels) == (16, n)
    np.testing.assert_allclose(np.square(scan.diffraction[:]), np.fft.fftshift(counts, axes=(-2, -1)), rtol=1e-6)
    record = scan.metadata["provenance"]
    assert record["inputs"] == {str(fetched.relative_to(tmp_path)): file_digest(fetched)}


def test_what_is_made_of_a_measured_scan_knows_its_detector(tmp_path):
    """Half scans and lower doses: bad pixels, a background scaled with the photons, the flux of their exposures."""
    rng, bad = np.random.default_rng(0), np.eye(64, dtype=bool)
    background, scale = np.full((64, 64), 0.5, np.float32), rng.uniform(0.8, 1.2, 160)
    write_scan(tmp_path / "plain.npz", columns=8, rows=20)
    with np.load(tmp_path / "plain.npz") as file:
        arrays = dict(file)
    arrays["diffraction"][:, bad] = 2**16
    del arrays["frame_checksums"]
    measurement = {"pixel_size_m": 2e-8, "conversion": ["frames transposed"]}
    metadata = np.array(json.dumps(json.loads(str(arrays.pop("metadata"))) | measurement))
    detector = {"bad_pixels": bad, "background": background, "exposure_scale": scale}
    save_arrays(tmp_path / "scan.npz", **arrays, **detector, metadata=metadata)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(CONFIG), encoding="utf-8")
    data = f"{RESULTS}/data/dose_{DOSE}/seed_0"
    targets = f"{data}/test.npz", f"{data}/halves/test_1.npz"
    snakemake(tmp_path, "--cores", "1", "--configfile", tmp_path / "config.yaml", "--", *targets)
    half = open_scan(tmp_path / RESULTS / "data/half_study.npz")
    scan, second = (open_scan(tmp_path / target) for target in targets)
    chosen, kept = np.load(scan.path)["scan_index"], scan.metadata["kept_fraction"]
    assert kept == pytest.approx(DOSE / mean_counts(half.diffraction))
    for part, fraction, exposures in ((half, 0.5, slice(None)), (scan, 0.5 * kept, chosen), (second, kept / 4, chosen)):
        np.testing.assert_array_equal(part.detector.bad_pixels, bad)
        np.testing.assert_allclose(part.detector.background, np.where(bad, 0, fraction * 0.5), rtol=1e-6)
        np.testing.assert_array_equal(part.detector.exposure_scale, scale[exposures])
        assert part.measurement == measurement
        assert not part.diffraction[:][:, bad].any()
    assert 0.8 * DOSE < mean_counts(scan.diffraction) < 1.25 * DOSE
