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
from ptycho.workflow.files import ContractError
from ptycho.workflow.job import show_messages
from tests.conftest import view_of

keras = pytest.importorskip("keras")
tf = pytest.importorskip("tensorflow")

from ptycho.model.card import load_network, make_card, read_card, save_network  # noqa: E402
from ptycho.model.checkpoints import Backup, training_key  # noqa: E402
from ptycho.model.early_stopping import MAX_GROUPS, Patience, TrainingError, ValidationDeviance, split_groups  # noqa: E402
from ptycho.model.inference import probe_warning  # noqa: E402
from ptycho.model.networks import NetworkOptions, build_network  # noqa: E402
from ptycho.model.optimizer import cosine_rate  # noqa: E402
from ptycho.model.training import TrainingOptions, TrainingRun, train  # noqa: E402

TINY = NetworkOptions(filters=1, amplitude_max=1.2)
BRIEF = TrainingOptions(
    epochs=3, batch_size=8, learning_rate=1.0e-3, lr_patience=3, early_stopping_patience=8, trainable_probe=False
)


def trained(method, scan, folder=None, **changes):
    keras.utils.clear_session()  # layers named as in a job: their names decide what TensorFlow's optimizer fuses
    view, backup = view_of(scan), folder and Backup(folder, "key")
    run = TrainingRun(validation=view.of_role(VALIDATION), max_spread_px=48, seed=7, backup=backup)
    return train(method, open_groups(scan, view), TINY, replace(BRIEF, **changes), run)


def assert_same(first, second):
    for a, b in zip(first[0].get_weights(), second[0].get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert first[1].equals(second[1])


def kill_in_the_third_epoch(monkeypatch, kill):
    """Call `kill` at the first evaluation after the second epoch was saved: in the middle of the third."""
    evaluate, save, saved = ValidationDeviance.__call__, Backup.save, []
    monkeypatch.setattr(Backup, "save", lambda self, facts, **arrays: (save(self, facts, **arrays), saved.append(1)))
    monkeypatch.setattr(ValidationDeviance, "__call__", lambda self: kill() if len(saved) == 2 else evaluate(self))


def test_an_interrupted_training_resumes_to_the_same_weights(scan, tmp_path, monkeypatch, log):
    with monkeypatch.context() as patch:
        kill_in_the_third_epoch(patch, Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            trained("pinn", scan, tmp_path / "backup")
    resumed = trained("pinn", scan, tmp_path / "backup")
    assert "resumes after epoch 2 of 3" in log.text
    assert_same(resumed, trained("pinn", scan))


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
        kill_in_the_third_epoch(pytest.MonkeyPatch(), lambda: os.kill(os.getpid(), signal.SIGKILL))
    network, history = trained("baseline", open_scan(scan), Path(folder))
    np.savez(out, *network.get_weights(), history=history.to_numpy())


@pytest.mark.slow
def test_a_killed_process_resumes_to_the_same_weights(scan, tmp_path):
    """As jobs do it, each in a fresh process: within one, oneDNN's kernels differ in the last bit from run to run."""
    call, folder = f"tests.train_and_save({str(scan.path)!r}, {{!r}}, {{!r}}, {{}})", str(tmp_path / "backup")
    in_a_process(call.format(str(tmp_path / "other"), str(tmp_path / "whole.npz"), False))
    in_a_process(call.format(folder, str(tmp_path / "never.npz"), True), wanted=-signal.SIGKILL)
    assert [path.name for path in (tmp_path / "backup").iterdir()] == ["state.npz"]
    assert "resumes after epoch 2 of 3" in in_a_process(call.format(folder, str(tmp_path / "resumed.npz"), False))
    with np.load(tmp_path / "whole.npz") as whole, np.load(tmp_path / "resumed.npz") as resumed:
        assert whole.files == resumed.files
        for name in whole.files:
            np.testing.assert_array_equal(resumed[name], whole[name])


def test_a_backup_comes_back_to_the_bit(tmp_path):
    rng = np.random.default_rng(3)
    arrays = {"weights": [rng.random((2, 3), np.float32), np.float32(1.5)], "optimizer": [np.int64(7)], "best": []}
    facts = {"epoch": 4, "rows": [{"loss": 1 / 3}], "rng": rng.bit_generator.state}
    backup = Backup(tmp_path / "backup", training_key(seed=1, config={"epochs": 3}))
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
    facts = {"seed": 0, "config": {"epochs": 1}, "code": "a", "data": {"scan": "b"}}
    changes = {"seed": 1, "config": {"epochs": 2}, "code": "c", "data": {"scan": "d"}}
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
    patience = Patience(lr_patience=2, early_stopping_patience=5)
    assert [patience.better(value) for value in (3.0, 2.0, 2.5, 2.0, 2.1)] == [True, True, False, False, False]
    assert (patience.best, patience.since, patience.halvings, patience.over) == (2.0, 3, 1, False)
    again = Patience(**patience.state())
    for value in (2.2, 2.3):
        again.better(value)
    assert (again.halvings, again.over) == (2, True)


def test_copying_the_noise_does_not_lower_the_validation_deviance(scan):
    """A network that repeats its input is worse than the truth, as other photons are predicted than it has seen."""
    view = view_of(scan)
    container, validation = open_groups(scan, view), view.of_role(VALIDATION)
    groups = split_groups(container.nn_indices, validation)[1]
    options = {"batch_size": 5, "seed": 0}
    copy = ValidationDeviance(container, groups, validation, lambda x: tf.square(x["diffraction"]), **options)
    exposures = np.asarray(container.nn_indices[groups])
    flat = exposures.ravel()
    mean = predict_intensity(scan.object[:], scan.probe, scan.xcoords[flat], scan.ycoords[flat])
    mean = np.moveaxis(mean.reshape(*exposures.shape, 64, 64), 1, -1).astype(np.float32)
    rows = {row.tobytes(): i for i, row in enumerate(np.asarray(container.offsets[groups], np.float32))}

    def oracle(inputs):
        return tf.constant(mean[[rows[row.tobytes()] for row in inputs["positions"].numpy()]])

    tf.config.run_functions_eagerly(True)
    try:
        truth = ValidationDeviance(container, groups, validation, oracle, **options)
        assert truth() < 0.8 * copy()
    finally:
        tf.config.run_functions_eagerly(False)
    assert truth.counts.shape == (np.isin(exposures, validation).sum(), 64, 64)


def test_early_stopping_keeps_the_best_weights(scan, monkeypatch, log):
    weights, deviances = [], iter([2.0, 1.0, *np.linspace(1.5, 9, 50)])

    def evaluate(self):
        weights.append([np.array(weight) for weight in self.model.weights])
        return next(deviances)

    build = ValidationDeviance.__init__

    def remember(self, container, groups, validation, model, **options):
        build(self, container, groups, validation, model, **options)
        self.model = model

    monkeypatch.setattr(ValidationDeviance, "__init__", remember)
    monkeypatch.setattr(ValidationDeviance, "__call__", evaluate)
    network, history = trained("pinn", scan, epochs=20, lr_patience=1, early_stopping_patience=3)
    assert len(history) == 5  # the second is the best; three more
    assert "early stopping, no improvement in 3 evaluations" in log.text
    assert any((a != b).any() for a, b in zip(weights[1], weights[4], strict=True))
    for weight in network.get_weights():
        assert any(w.shape == weight.shape and (w == weight).all() for w in weights[1])
    planned = [cosine_rate(BRIEF.learning_rate, 20)(int(epoch)) for epoch in history["epoch"]]
    np.testing.assert_allclose(history["learning_rate"] / planned, [1, 1, 1, 0.5, 0.25], rtol=0.05)


def test_exposures_that_are_not_finite_are_named(scan):
    view = view_of(scan)
    container = open_groups(scan, view)
    frames = np.array(container.frames[:])
    frames[5, 3, 4, 2] = np.nan
    container._X_np = frames
    run = TrainingRun(validation=view.of_role(VALIDATION), max_spread_px=48, seed=0)
    with pytest.raises(TrainingError, match=rf"diffraction is not finite in 1 exposures .*: {view.nn_indices[5, 2]}$"):
        train("pinn", container, TINY, BRIEF, run)


def test_a_learning_rate_that_explodes_stops_with_where_and_what_to_do(scan):
    with pytest.raises(
        TrainingError, match=r"became (nan|inf) in epoch \d of 3, step \d of \d, at a learning rate of 1e\+20"
    ):
        trained("pinn", scan, learning_rate=1.0e20)


@pytest.fixture(scope="module")
def saved(scan, tmp_path_factory):
    container = open_groups(scan, view_of(scan))
    network = build_network(64, 4, container.probe_array, TINY, transmittance=0.75)
    path = tmp_path_factory.mktemp("card") / "model.keras"
    facts = {"n_pixels": 64, "channels": 4, "transmittance": 0.75, "kept": {"epoch": 3}, "provenance": {"seed": 3}}
    save_network(path, network, make_card("pinn", container.probe_array, **facts))
    return path, network, container


def test_a_saved_model_carries_its_card_and_loads_in_safe_mode(saved):
    path, network, container = saved
    card = read_card(path)
    assert [card[key] for key in ("method", "n_pixels", "channels", "transmittance")] == ["pinn", 64, 4, 0.75]
    assert (card["kept"], card["provenance"]) == ({"epoch": 3}, {"seed": 3})
    assert len(card["probe"]) == 64
    assert card["probe_photons"] == pytest.approx(20_000, rel=1e-5)
    assert {"ptycho", "tensorflow", "keras", "numpy"} <= set(card["versions"])
    again, frames = load_network(path), container.frames[:2]
    np.testing.assert_array_equal(again(frames).numpy(), network(frames).numpy())
    assert [file.name for file in path.parent.iterdir()] == ["model.keras"]
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None


def test_a_file_without_a_card_is_named(saved, tmp_path):
    saved[1].save(tmp_path / "plain.keras")
    with pytest.raises(ContractError, match=r"plain\.keras: no 'ptycho\.json' in it"):
        read_card(tmp_path / "plain.keras")
    (tmp_path / "text.keras").write_text("no")
    with pytest.raises(ContractError, match=r"text\.keras: not a saved model"):
        read_card(tmp_path / "text.keras")
    assert load_network(tmp_path / "plain.keras").name == "network"  # as Keras itself has saved it


def test_a_model_of_ptycho_0_1_is_refused(saved, tmp_path):
    """Its card says `transmission`."""
    path = tmp_path / "old.keras"
    saved[1].save(path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("ptycho.json", json.dumps({"method": "pinn", "n_pixels": 64, "transmission": 0.75}))
    for read in (read_card, load_network):
        with pytest.raises(ContractError, match=r"old\.keras: a model saved by ptycho 0\.1, .*: train it again"):
            read(path)


def test_another_probe_than_in_training_is_warned_of(saved, scan):
    _, network, _ = saved
    container = open_groups(scan, view_of(scan))
    assert probe_warning(network, container) is None
    probe = container.probe_array
    container._probe_np = probe * np.sqrt(10)
    assert "2e+05 photons, not 2e+04" in probe_warning(network, container)
    container._probe_np = np.roll(probe, 8, axis=0)
    assert "another shape (correlation 0." in probe_warning(network, container)
    container._probe_np = probe * np.exp(1j)  # a global phase cannot be seen
    assert probe_warning(network, container) is None
