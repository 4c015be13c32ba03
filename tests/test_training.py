"""Training: resumed after a kill, stopped by photons that the network does not see, saved with a card."""

import json
import os
import signal
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest

from ptycho.data.scan import open_scan
from ptycho.data.views import VALIDATION
from ptycho.loader import open_groups
from ptycho.physics.forward import predict_intensity
from ptycho.physics.probes import add_modes
from ptycho.workflow.files import ContractError
from ptycho.workflow.job import show_messages
from tests.conftest import view_of, write_scan

keras = pytest.importorskip("keras")
tf = pytest.importorskip("tensorflow")

from ptycho.model.card import load_network, make_card, read_card, read_probe, save_network  # noqa: E402
from ptycho.model.checkpoints import Backup, training_key  # noqa: E402
from ptycho.model.early_stopping import MAX_GROUPS, Patience, TrainingError, split_groups  # noqa: E402
from ptycho.model.inference import load_model, probe_warning  # noqa: E402
from ptycho.model.networks import CanvasModel, Estimator, NetworkOptions, build_network  # noqa: E402
from ptycho.model.optimizer import cosine_rate  # noqa: E402
from ptycho.model.training import TrainingOptions, TrainingRun, train  # noqa: E402
from ptycho.model.unet_training import PATIENCE, ROUNDS, Trainer  # noqa: E402

TINY = NetworkOptions(filters=1, physics_iterations=2)
BRIEF = TrainingOptions(steps=ROUNDS, learning_rate=1.0e-3, fit_fraction=0.8, loss="poisson")


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A scan of 32 px: a step takes milliseconds."""
    return write_scan(tmp_path_factory.mktemp("small") / "scan.npz", n=32)


def trained(method, scan, folder=None, **changes):
    keras.utils.clear_session()  # layers named as in a job: their names decide what TensorFlow's optimizer fuses
    view, backup = view_of(scan), folder and Backup(folder, "key")
    run = TrainingRun(validation=view.of_role(VALIDATION), seed=7, backup=backup)
    model, history = train(method, open_groups(scan, view), TINY, replace(BRIEF, **changes), run)
    return model.network, history


def assert_same(first, second):
    for a, b in zip(first[0].get_weights(), second[0].get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert first[1].equals(second[1])


def kill_in_the_third_round(monkeypatch, kill):
    """Call `kill` at the first validation after the second round was saved: in the middle of the third."""
    validate, save, saved = Trainer.validate, Backup.save, []
    monkeypatch.setattr(Backup, "save", lambda self, facts, **arrays: (save(self, facts, **arrays), saved.append(1)))
    monkeypatch.setattr(Trainer, "validate", lambda self: kill() if len(saved) == 2 else validate(self))


def test_an_interrupted_training_resumes_to_the_same_weights(small, tmp_path, monkeypatch, log):
    with monkeypatch.context() as patch:
        kill_in_the_third_round(patch, Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            trained("pinn", small, tmp_path / "backup")
    resumed = trained("pinn", small, tmp_path / "backup")
    assert "resumes after round 2" in log.text
    assert_same(resumed, trained("pinn", small))
    assert len(resumed[1]) > 2


def in_a_process(code, *, wanted=0):
    """Run code as a job would: in a process of its own, with one thread."""
    root = Path(__file__).parent.parent
    environment = {**os.environ, "PYTHONPATH": str(root), "TF_ENABLE_ONEDNN_OPTS": "1"}
    command = [sys.executable, "-c", f"from tests import test_training as tests; {code}"]
    run = subprocess.run(command, cwd=root, env=environment, capture_output=True, check=False, text=True)
    assert run.returncode == wanted, run.stderr[-2000:]
    return run.stderr


def train_and_save(scan, folder, out, kill=False):
    """Train, in a process that is killed or not, and write the weights; what is logged goes to stderr, as in a job."""
    show_messages()
    if kill:
        kill_in_the_third_round(pytest.MonkeyPatch(), lambda: os.kill(os.getpid(), signal.SIGKILL))
    network, history = trained("baseline", open_scan(scan), Path(folder))
    np.savez(out, *network.get_weights(), history=history.to_numpy())


@pytest.mark.slow
def test_a_killed_process_resumes_to_the_same_weights(small, tmp_path):
    """As jobs do it, each in a fresh process: within one, oneDNN's kernels differ in the last bit from run to run."""
    call, folder = f"tests.train_and_save({str(small.path)!r}, {{!r}}, {{!r}}, {{}})", str(tmp_path / "backup")
    in_a_process(call.format(str(tmp_path / "other"), str(tmp_path / "whole.npz"), False))
    in_a_process(call.format(folder, str(tmp_path / "never.npz"), True), wanted=-signal.SIGKILL)
    assert [path.name for path in (tmp_path / "backup").iterdir()] == ["state.npz"]
    assert "resumes after round 2" in in_a_process(call.format(folder, str(tmp_path / "resumed.npz"), False))
    with np.load(tmp_path / "whole.npz") as whole, np.load(tmp_path / "resumed.npz") as resumed:
        assert whole.files == resumed.files
        for name in whole.files:
            np.testing.assert_array_equal(resumed[name], whole[name])


def test_a_backup_comes_back_to_the_bit(tmp_path):
    rng = np.random.default_rng(3)
    arrays = {"weights": [rng.random((2, 3), np.float32), np.float32(1.5)], "optimizer": [np.int64(7)], "best": []}
    facts = {"epoch": 4, "rows": [{"loss": 1 / 3}], "rng": rng.bit_generator.state}
    backup = Backup(tmp_path / "backup", training_key(seed=1, config={"steps": 3}))
    assert backup.load() is None
    backup.save(facts, **arrays)
    loaded_facts, loaded = backup.load()
    assert loaded_facts == facts
    assert {name: len(group) for name, group in loaded.items()} == {"weights": 2, "optimizer": 1, "best": 0}
    for name, group in arrays.items():
        for saved, read in zip(group, loaded[name], strict=True):
            np.testing.assert_array_equal(saved, read, strict=True)
    again = np.random.default_rng()
    again.bit_generator.state = loaded_facts["rng"]
    assert again.random() == rng.random()


@pytest.mark.parametrize("damage", [False, True])
def test_a_backup_of_another_training_or_damaged_is_removed_with_a_warning(tmp_path, log, damage):
    folder = tmp_path / "backup"
    Backup(folder, training_key(seed=1)).save({"epoch": 1}, weights=[np.arange(1000.0)])
    if damage:
        state = folder / "state.npz"
        state.write_bytes(state.read_bytes()[:-500])
    assert Backup(folder, training_key(seed=1 + (not damage))).load() is None
    assert not folder.exists()
    assert [record.levelname for record in log.records] == ["WARNING"]
    assert "not used and removed, training starts again" in log.text
    assert ("damaged" if damage else "another config, code, data or seed") in log.text


def test_keys_differ_with_anything_that_decides_the_weights():
    facts = {"seed": 0, "config": {"steps": 1}, "code": "a", "data": {"scan": "b"}}
    changes = {"seed": 1, "config": {"steps": 2}, "code": "c", "data": {"scan": "d"}}
    keys = [training_key(**facts)] + [training_key(**facts | {name: value}) for name, value in changes.items()]
    assert len(set(keys)) == 5
    assert training_key(**dict(reversed(facts.items()))) == keys[0]


def test_groups_with_a_validation_exposure_are_not_trained_on():
    groups = np.array([[0, 1], [1, 2], [2, 3], [3, 4], [4, 5], [5, 0]])
    fit, validation_groups = split_groups(groups, [2, 5])
    np.testing.assert_array_equal(fit, [0, 3])
    np.testing.assert_array_equal(validation_groups, [1, 4])  # one for each exposure
    for validation in ([9], range(6)):
        with pytest.raises(TrainingError, match="of 6 groups hold one of the"):
            split_groups(groups, validation)
    many = np.stack([np.arange(1000), np.arange(1000) + 1], axis=1)
    fit, validation_groups = split_groups(many, np.arange(0, 1000, 4))
    assert not set(fit) & set(validation_groups)
    assert len(validation_groups) == MAX_GROUPS
    assert (validation_groups[0], validation_groups[-1]) == (0, 995)  # spread over the scan


def test_patience_halves_the_rate_stops_and_comes_back_from_its_state():
    patience = Patience(early_stopping_patience=3)
    assert [patience.better(value) for value in (3.0, 3.5, 2.0, 2.5, 2.0)] == [True, False, True, False, False]
    assert (patience.best, patience.since, patience.halvings, patience.over) == (2.0, 2, 3, False)
    again = Patience(**patience.state())
    again.better(2.2)
    assert (again.halvings, again.over) == (4, True)


def test_early_stopping_keeps_the_best_weights(small, monkeypatch, log):
    weights, deviances = [], iter([2.0, 1.0, *np.linspace(1.5, 9, 50)])

    def validate(self):
        weights.append(self.network.get_weights())
        return next(deviances)

    monkeypatch.setattr(Trainer, "validate", validate)
    network, history = trained("pinn", small, steps=2 * ROUNDS)
    assert len(history) == 2 + PATIENCE  # the second is the best; three more
    assert "early stopping, no improvement in 3 rounds" in log.text
    assert any((a != b).any() for a, b in zip(weights[1], weights[-1], strict=True))
    for kept, best in zip(network.get_weights(), weights[1], strict=True):
        np.testing.assert_array_equal(kept, best)
    planned = [cosine_rate(BRIEF.learning_rate, 2 * ROUNDS)(2 * number + 1) for number in range(5)]
    np.testing.assert_allclose(history["learning_rate"] / planned, [1, 1, 1, 0.5, 0.25])
    groups = len(split_groups(view_of(small).nn_indices, view_of(small).of_role(VALIDATION))[0])
    np.testing.assert_allclose(history["epoch"], 2 * np.arange(1, 6) / groups)


def test_exposures_that_are_not_finite_are_named(small):
    view = view_of(small)
    container = open_groups(small, view)
    frames = np.array(container.frames[:])
    frames[5, 3, 4, 2] = np.nan
    container._X_np = frames
    run = TrainingRun(validation=view.of_role(VALIDATION), seed=0)
    with pytest.raises(
        ValueError, match=rf"exposures \[{view.nn_indices[5, 2]}\]: counts that are not finite numbers$"
    ):
        train("pinn", container, TINY, BRIEF, run)


def test_a_learning_rate_that_explodes_stops_with_where_and_what_to_do(small):
    message = rf"pinn: the loss became .* in round \d+ of {ROUNDS}, the validation deviance (nan|inf): lower the"
    with pytest.raises(ValueError, match=message):
        trained("pinn", small, learning_rate=1.0e20)


@pytest.mark.parametrize(
    ("method", "changes", "message"),
    [
        ("magic", {}, "method 'magic'; wanted one of .*'pinn', 'baseline'"),
        ("pinn", {"loss": "mse"}, "loss 'mse'; wanted one of .*'poisson', 'mae'"),
        ("baseline", {}, "learns from the truth, but this container has none"),
    ],
)
def test_what_cannot_be_trained_is_named(small, method, changes, message):
    view = view_of(small)
    container = open_groups(small, view)
    container.YY_full = None
    with pytest.raises(TrainingError, match=message):
        train(method, container, TINY, replace(BRIEF, **changes), TrainingRun(validation=np.arange(3), seed=0))


@pytest.fixture(scope="module")
def saved(scan, tmp_path_factory):
    estimator = Estimator(physics_iterations=2, transmittance=0.75, n_pixels=64)
    model = CanvasModel(build_network(estimator, 1), estimator)
    path = tmp_path_factory.mktemp("card") / "model.keras"
    facts = {"n_pixels": 64, "channels": 4, "transmittance": 0.75, "estimator": estimator.as_dict()}
    facts |= {"kept": {"epoch": 3}, "provenance": {"seed": 3}}
    save_network(path, model.network, make_card("pinn", scan.probe, **facts), scan.probe)
    return path, model


def test_a_saved_model_carries_its_card_and_probe_and_loads_in_safe_mode(saved, scan, counts):
    path, model = saved
    card = read_card(path)
    assert [card[key] for key in ("method", "n_pixels", "channels", "transmittance")] == ["pinn", 64, 4, 0.75]
    assert (card["kept"], card["provenance"]) == ({"epoch": 3}, {"seed": 3})
    assert len(card["probe"]) == 64
    assert card["probe_photons"] == pytest.approx(20_000, rel=1e-5)
    assert {"ptycho", "tensorflow", "keras", "numpy"} <= set(card["versions"])
    np.testing.assert_array_equal(read_probe(path), scan.probe)
    again = load_model(path)
    assert again.estimator == model.estimator
    first, second = (each.reconstruct(counts, scan.probe) for each in (model, again))
    np.testing.assert_array_equal(first.object, second.object)
    assert [file.name for file in path.parent.iterdir()] == ["model.keras"]
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
    code = "import sys; from ptycho.model.card import load_network; print(load_network(sys.argv[1]).name)"
    command = [sys.executable, "-c", code, path]  # in a process that has not imported what the network is made of
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "network"


def test_a_file_without_a_card_or_probe_is_named(saved, tmp_path):
    saved[1].network.save(tmp_path / "plain.keras")
    for read in (read_card, load_model):
        with pytest.raises(ContractError, match=r"plain\.keras: no 'ptycho\.json' in it"):
            read(tmp_path / "plain.keras")
    with pytest.raises(ContractError, match=r"plain\.keras: no 'probe\.npy' that can be read"):
        read_probe(tmp_path / "plain.keras")
    (tmp_path / "text.keras").write_text("no")
    with pytest.raises(ContractError, match=r"text\.keras: not a saved model"):
        read_card(tmp_path / "text.keras")
    assert load_network(tmp_path / "plain.keras").name == "network"  # as Keras itself has saved it


@pytest.mark.parametrize(
    ("card", "message"),
    [
        ({"transmission": 0.75}, r"old\.keras: a model saved by ptycho 0\.1, .*: train it again"),
        ({"transmittance": 0.75}, r"old\.keras: a network of one pattern at a time .*: train it again"),
    ],
    ids=["ptycho 0.1", "one pattern"],
)
def test_a_model_of_an_older_version_is_refused(saved, tmp_path, card, message):
    """By what its card says, or does not say."""
    path = tmp_path / "old.keras"
    saved[1].network.save(path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("ptycho.json", json.dumps({"method": "pinn", "n_pixels": 64, **card}))
    with pytest.raises(ContractError, match=message):
        load_model(path)


def test_a_network_with_code_in_it_is_not_loaded(tmp_path):
    """Safe mode: a file from elsewhere executes nothing."""
    inputs = keras.Input((4,))
    path, card = tmp_path / "model.keras", make_card("pinn", np.ones((8, 8)), n_pixels=8, channels=4, transmittance=1.0)
    save_network(path, keras.Model(inputs, keras.layers.Lambda(lambda x: 2 * x)(inputs)), card, np.ones((8, 8)))
    with pytest.raises(ContractError, match=r"model\.keras: not a model that can be loaded"):
        load_network(path)


def test_another_probe_than_in_training_is_warned_of(saved, scan):
    path, probe = saved[0], scan.probe
    assert probe_warning(path, probe) is None
    assert probe_warning(path, probe * np.exp(1j)) is None  # a global phase cannot be seen
    assert "2e+05 photons, not 2e+04" in probe_warning(path, probe * np.sqrt(10))
    shifted = probe_warning(path, np.roll(probe, 8, axis=-2))
    assert "another shape (correlation 0." in shifted
    assert "photons" not in shifted
    modes = add_modes(probe, 2, fraction=0.1)
    warning = probe_warning(path, modes)
    assert "another shape (2 modes, not 1, correlation 0.949)" in warning  # the root of 0.9
    assert "photons" not in warning
    with pytest.raises(ContractError, match="trained on patterns of 64 px; these have 32 px"):
        probe_warning(path, probe[:, ::2, ::2])


def test_modes_that_are_mixed_are_the_same_probe(tmp_path, saved, scan):
    """A unitary mixture has the same density matrix: no detector sees a difference."""
    path, modes = tmp_path / "model.keras", add_modes(scan.probe, 3, fraction=0.1)
    save_network(path, saved[1].network, make_card("pinn", modes, n_pixels=64, channels=4, transmittance=0.75), modes)
    rng = np.random.default_rng(0)
    unitary, _ = np.linalg.qr(rng.normal(size=(4, 4)) + 1j * rng.normal(size=(4, 4)))
    mixed = np.tensordot(unitary[:, :3], modes, 1)  # three modes are also four
    positions = scan.xcoords[:1], scan.ycoords[:1]
    first, second = (predict_intensity(scan.object, probe, *positions) for probe in (modes, mixed))
    np.testing.assert_allclose(second, first, atol=1e-3 * first.max())
    assert probe_warning(path, mixed) is None
    assert np.abs(np.vdot(modes, mixed[:3])) < 0.9 * np.sum(np.abs(modes) ** 2)  # compared one by one they differ
    other = modes[[0, 2, 2]] * np.array([1, 2**-0.5, 2**-0.5])[:, None, None]  # without the second mode
    assert "another shape (correlation 0." in probe_warning(path, other * np.sqrt(1 / 0.9))
