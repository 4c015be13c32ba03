"""One code on two devices: on a pretended GPU it gives what NumPy gives, and no array moves unnoticed."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize as scipy_minimize

from ptycho.data.object_files import Reconstruction
from ptycho.reconstruction import devices, optimize, tv, tv_weight
from ptycho.reconstruction.counts import Counts
from ptycho.reconstruction.devices import CPU, choose_device
from ptycho.reconstruction.lbfgs import Minimum, minimize_lbfgs
from ptycho.reconstruction.likelihood import Likelihood
from ptycho.reconstruction.minibatches import minibatch_epochs
from ptycho.reconstruction.optimize import minimize, minimize_slow_phase
from ptycho.reconstruction.schedule import Schedule
from ptycho.reconstruction.tv import TVOptions, reconstruct
from tests.conftest import write_scan
from tests.strict_device import StrictDevice
from tests.test_detector import bad_pixels

N = 32
OPTIONS = TVOptions(lambda_max=64, lambda_min=4, iterations=10, final_iterations=20, fit_fraction=0.8, tile_px=512)


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    """Two modes, a mask, a background and changing flux."""
    detector = {"bad_pixels": bad_pixels(N), "background": np.full((N, N), 0.2, np.float32)}
    detector |= {"exposure_scale": np.random.default_rng(0).uniform(0.8, 1.2, 25)}
    return write_scan(tmp_path_factory.mktemp("scan") / "scan.npz", n=N, columns=5, rows=5, modes=2, detector=detector)


@pytest.fixture
def counts(scan):
    return replace(Counts.of(scan, np.arange(len(scan))), block_size=8)


@pytest.fixture
def pair(scan, counts):
    """The likelihood on the CPU and on the pretended GPU, which computes other blocks at once."""
    return [Likelihood(counts, scan.probe, device=device) for device in (CPU, StrictDevice(block_size=16))]


def start_of(likelihood):
    """A start that is not flat, on the likelihood's device."""
    noise = np.random.default_rng(1).normal(size=(2, *likelihood.shape))
    return likelihood.device.to_device((0.8 + 0.1 * noise[0] + 0.1j * noise[1]).astype(np.complex64))


def relative(array, expected):
    return np.linalg.norm(array - expected) / np.linalg.norm(expected)


def both(pair, function):
    """What a function of the likelihood gives on either device, on the host."""
    on_cpu, on_gpu = (function(likelihood) for likelihood in pair)
    return pair[1].device.to_host(on_gpu), on_cpu


@pytest.mark.parametrize(
    "function",
    [
        lambda likelihood: likelihood(start_of(likelihood))[1],
        lambda likelihood: likelihood.gradient(start_of(likelihood)),
        lambda likelihood: likelihood.amplitude_update(start_of(likelihood)),
        lambda likelihood: likelihood.illumination(),
        lambda likelihood: minibatch_epochs(likelihood, start_of(likelihood), 2),
    ],
)
def test_an_evaluation_is_the_same_on_both_devices(pair, function):
    on_gpu, on_cpu = both(pair, function)
    assert on_gpu.dtype == on_cpu.dtype
    assert relative(on_gpu, on_cpu) < 1e-5


def test_values_are_the_same_on_both_devices(pair):
    (value, _), (expected, _) = (likelihood(start_of(likelihood)) for likelihood in pair)
    assert value == pytest.approx(expected, rel=1e-6)
    assert pair[0].noise_level() == pytest.approx(pair[1].noise_level(), rel=1e-6)


@pytest.mark.parametrize("minimizer", [lambda *at: minimize(*at, 8.0, 15), lambda *at: (minimize_slow_phase(*at, 6),)])
def test_nothing_but_numbers_moves_within_a_stage(pair, minimizer):
    likelihood = pair[1]
    start = start_of(likelihood)
    likelihood(start)  # reads the blocks
    likelihood.illumination()
    likelihood.device.moved.clear()
    minimizer(likelihood, start)
    moved = [size for size in likelihood.device.moved if size not in gains_of(likelihood)]
    assert max(moved) <= 2 * optimize.LBFGS_MEMORY


def gains_of(likelihood):
    """Sizes of the filters that a stage makes once."""
    height, width = optimize.padded_shape(likelihood.shape)
    return height * width, height * (width // 2 + 1)


def search_of_scipy(evaluate, start, *, iterations, memory, ftol, device):
    """SciPy's L-BFGS-B in place of `minimize_lbfgs`."""
    options = {"maxiter": iterations, "maxcor": memory, "maxfun": 2 * iterations, "ftol": ftol}
    found = scipy_minimize(evaluate, start, jac=True, method="L-BFGS-B", options=options)
    return Minimum(found.x, float(found.fun), int(found.nit), int(found.nfev))


@pytest.mark.parametrize("tv_weight", [0.0, 8.0])
def test_the_search_reaches_the_objective_of_scipys(pair, tv_weight, monkeypatch):
    found = [minimize(likelihood, start_of(likelihood), tv_weight, 60)[1] for likelihood in pair]
    monkeypatch.setattr(optimize, "minimize_lbfgs", search_of_scipy)
    expected = minimize(pair[0], start_of(pair[0]), tv_weight, 60)[1]
    assert max(found) <= expected * (1 + 1e-3)


def test_the_slow_phase_is_found_on_both_devices(pair):
    values = []
    for likelihood in pair:
        start = start_of(likelihood)
        values += [likelihood(start)[0] - likelihood(minimize_slow_phase(likelihood, start, 8))[0]]
    assert values[0] > 0
    assert values[1] == pytest.approx(values[0], rel=0.1)


def test_a_whole_reconstruction_agrees(scan, counts, monkeypatch):
    options = replace(OPTIONS, iterations=40, final_iterations=200, lambda_min=8, lambda_max=32)
    results: list[Reconstruction] = []
    for device in (CPU, StrictDevice(block_size=16)):
        for module in (tv, tv_weight):
            monkeypatch.setattr(module, "choose_device", lambda *choice, device=device: device)
        results.append(reconstruct(counts, scan.probe, options, seed=0))
    on_cpu, on_gpu = results
    assert on_gpu.chosen == on_cpu.chosen
    assert type(on_gpu.object) is np.ndarray
    lit = on_cpu.illumination > 0.3 * on_cpu.illumination.max()
    turn = np.vdot(on_gpu.object[lit], on_cpu.object[lit])
    assert relative((on_gpu.object * turn / abs(turn))[lit], on_cpu.object[lit]) < 0.01


def test_the_stages_of_unrolled_run_on_the_device(pair):
    numbers = {"stages": 2, "minibatch_epochs": 1, "iterations": 3, "phase_iterations": 2, "final_iterations": 4}
    schedule = Schedule(**numbers, post_iterations=3, tv_weight=4.0, transmittance=0.8, n_pixels=N, photons=1.0)
    features = [schedule.features(likelihood, schedule.before(likelihood)) for likelihood in pair]
    assert type(features[1]) is np.ndarray
    assert features[1].shape == (*pair[0].shape, schedule.n_features)
    assert np.abs(features[1] - features[0]).mean() < 0.05
    assert schedule.after(pair[1], start_of(pair[1])).shape == pair[0].shape


def rosenbrock(z):
    """A curved valley; minimum 0 at ones."""
    even, odd = z[0::2], z[1::2]
    gradient = np.empty_like(z)
    gradient[0::2], gradient[1::2] = -400 * even * (odd - even**2) - 2 * (1 - even), 200 * (odd - even**2)
    return float(np.sum(100 * (odd - even**2) ** 2 + (1 - even) ** 2)), gradient


def test_the_search_finds_the_end_of_a_curved_valley():
    found = minimize_lbfgs(rosenbrock, np.zeros(10), iterations=200, memory=6, ftol=1e-14)
    np.testing.assert_allclose(found.x, 1, atol=1e-4)
    assert found.nit <= found.nfev < 120


def test_the_search_keeps_to_its_number_of_iterations_and_stays_at_a_minimum():
    assert minimize_lbfgs(rosenbrock, np.zeros(10), iterations=3, memory=6, ftol=0.0).nit == 3
    found = minimize_lbfgs(rosenbrock, np.ones(10), iterations=9, memory=6, ftol=1e-9)
    assert (found.fun, found.nit, found.nfev) == (0, 0, 1)


def test_without_a_gpu_the_cpu_is_taken_without_a_word(monkeypatch, log):
    monkeypatch.setattr(devices, "visible_gpus", lambda: 0)
    assert choose_device.__wrapped__("auto") is CPU
    assert choose_device.__wrapped__("cpu") is CPU
    assert not log.records


def test_tv_needs_numpy_scipy_pandas_and_tqdm_alone():
    """As on a machine with a GPU on which only these and CuPy are installed."""
    others = ("docutils", "h5py", "jinja2", "jsonschema", "keras", "matplotlib", "ptychi", "rich", "skimage")
    others += ("snakemake", "tensorflow", "threadpoolctl", "tifffile", "torch", "yaml")
    code = f"import sys; sys.modules.update(dict.fromkeys({others})); import ptycho.reconstruction.tv"
    code += "; import ptycho.reconstruction.schedule; assert 'cupy' not in sys.modules"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


def without_cupy():
    raise ImportError("No module named 'cupy'")


def test_a_gpu_without_cupy_is_worth_a_line(monkeypatch, log):
    monkeypatch.setattr(devices, "visible_gpus", lambda: 1)
    monkeypatch.setattr(devices, "gpu", without_cupy)
    assert choose_device.__wrapped__("auto") is CPU
    (line,) = log.messages
    assert "There is a GPU, but the CPU is used" in line
    assert "pip install 'ptycho[gpu13]'" in line
    with pytest.raises(ValueError, match=r"device: gpu cannot be used .*No module named 'cupy'"):
        choose_device.__wrapped__("gpu")
    with pytest.raises(ValueError, match="device: 'cuda'; wanted one of auto, cpu, gpu"):
        choose_device.__wrapped__("cuda")


def test_a_silent_transfer_fails_on_the_pretended_gpu():
    """What the other tests rely on."""
    array = StrictDevice().to_device(np.ones(3))
    for transfer in (np.asarray, lambda a: a + np.ones(3), lambda a: np.ones(3) + a, list):
        with pytest.raises(TypeError):
            transfer(array)
