"""Training that people trust: taken up after a kill, stopped by photons held out, with a card in what it saves."""

import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from ptycho.data.grouping import VALIDATION
from ptycho.data.scan import open_scan
from ptycho.loader import open_groups
from ptycho.physics.forward import predict_intensity
from ptycho.workflow.files import ContractError
from tests.conftest import view_of

keras = pytest.importorskip("keras")
tf = pytest.importorskip("tensorflow")

from ptycho.model.card import (  # noqa: E402
    load_network,
    make_card,
    read_card,
    save_network,
)
from ptycho.model.checkpoints import Backup, training_key  # noqa: E402
from ptycho.model.early_stopping import Patience, TrainingError, ValidationDeviance, split_groups  # noqa: E402
from ptycho.model.inference import probe_warning  # noqa: E402
from ptycho.model.networks import NetworkOptions, build_network  # noqa: E402
from ptycho.model.training import TrainingOptions, train  # noqa: E402

TINY = NetworkOptions(filters=1, amplitude_max=1.2)
PLAIN = {"batch_size": 8, "learning_rate": 1.0e-3, "lr_patience": 3, "patience": 8, "trainable_probe": False}
EPOCHS = 3


def trained(method, scan, folder=None, key="a", **changes):
    keras.utils.clear_session()  # layers named as in a job: their names decide what TensorFlow's optimizer fuses
    view = view_of(scan)
    options = {"stop": view.of_role(VALIDATION), "spread": 48, "seed": 7}
    backup = folder and Backup(folder, key)
    training = TrainingOptions(**{"epochs": EPOCHS, **PLAIN} | changes)
    return train(method, open_groups(scan, view), TINY, training, backup=backup, **options)


def assert_same(first, second):
    for a, b in zip(first[0].get_weights(), second[0].get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert first[1].equals(second[1])


def kill_in_the_third_pass(monkeypatch, kill):
    """Call `kill` at the first evaluation after the second pass was saved: in the midst of the third."""
    evaluate, saved = ValidationDeviance.__call__, []
    save = Backup.save
    monkeypatch.setattr(Backup, "save", lambda self, facts, **arrays: (save(self, facts, **arrays), saved.append(1)))
    monkeypatch.setattr(ValidationDeviance, "__call__", lambda self: kill() if len(saved) == 2 else evaluate(self))


def stop_here():
    raise KeyboardInterrupt


def test_a_training_that_was_stopped_goes_on_to_the_same_weights(scan, tmp_path, monkeypatch, capfd):
    with monkeypatch.context() as patch:
        kill_in_the_third_pass(patch, stop_here)
        with pytest.raises(KeyboardInterrupt):
            trained("pinn", scan, tmp_path / "backup")
    resumed = trained("pinn", scan, tmp_path / "backup")
    assert "goes on after epoch 2 of 3" in capfd.readouterr().err
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
    """Train, in a process that is killed or not, and write the weights."""
    if kill:
        kill_in_the_third_pass(pytest.MonkeyPatch(), lambda: os.kill(os.getpid(), signal.SIGKILL))
    network, history = trained("baseline", open_scan(scan), Path(folder))
    np.savez(out, *network.get_weights(), history=history.to_numpy())


def test_a_killed_process_goes_on_to_the_same_weights(scan, tmp_path):
    """As jobs do it, each in a fresh process: within one, oneDNN's kernels differ in the last bit from run to run."""
    call, folder = f"tests.train_and_save({str(scan.path)!r}, {{!r}}, {{!r}}, {{}})", str(tmp_path / "backup")
    in_a_process(call.format(str(tmp_path / "other"), str(tmp_path / "whole.npz"), False))
    in_a_process(call.format(folder, str(tmp_path / "never.npz"), True), wanted=-signal.SIGKILL)
    assert [path.name for path in (tmp_path / "backup").iterdir()] == ["state.npz"]
    assert "goes on after epoch 2 of 3" in in_a_process(call.format(folder, str(tmp_path / "resumed.npz"), False))
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
    found, read = backup.load()
    assert found == facts
    assert {name: len(group) for name, group in read.items()} == {"weights": 2, "optimizer": 1, "best": 0}
    for name, group in arrays.items():
        for mine, its in zip(group, read[name], strict=True):
            np.testing.assert_array_equal(mine, its, strict=True)
    again = np.random.default_rng()
    again.bit_generator.state = found["rng"]
    assert again.random() == rng.random()


@pytest.mark.parametrize("damage", [False, True])
def test_a_backup_of_another_training_or_damaged_is_removed_and_said(tmp_path, capfd, damage):
    folder = tmp_path / "backup"
    Backup(folder, training_key(seed=1)).save({"epoch": 1}, weights=[np.arange(1000.0)])
    if damage:
        state = folder / "state.npz"
        state.write_bytes(state.read_bytes()[:-500])
    assert Backup(folder, training_key(seed=1 + (not damage))).load() is None
    assert not folder.exists()
    said = capfd.readouterr().err
    assert "not used and removed, training starts anew" in said
    assert ("damaged" if damage else "another config, code, data or seed") in said


def test_keys_differ_with_anything_that_decides_the_weights():
    facts = {"seed": 0, "config": {"epochs": 1}, "code": "a", "data": {"scan": "b"}}
    changes = {"seed": 1, "config": {"epochs": 2}, "code": "c", "data": {"scan": "d"}}
    keys = [training_key(**facts)] + [training_key(**facts | {name: value}) for name, value in changes.items()]
    assert len(set(keys)) == 5
    assert training_key(**dict(reversed(facts.items()))) == keys[0]


def test_groups_with_a_stop_exposure_judge_and_the_others_train():
    groups = np.array([[0, 1], [1, 2], [2, 3], [3, 4], [4, 5], [5, 0]])
    fit, judges = split_groups(groups, [2, 5])
    np.testing.assert_array_equal(fit, [0, 3])
    np.testing.assert_array_equal(judges, [1, 4])  # one for each
    for stop in ([9], range(6)):
        with pytest.raises(TrainingError, match="of 6 groups hold one of the"):
            split_groups(groups, stop)


def test_patience_halves_stops_and_comes_back():
    patience = Patience(lr_patience=2, limit=5)
    assert [patience.better(value) for value in (3.0, 2.0, 2.5, 2.0, 2.1)] == [True, True, False, False, False]
    assert (patience.best, patience.since, patience.halvings, patience.over) == (2.0, 3, 1, False)
    again = Patience(**patience.state())
    for value in (2.2, 2.3):
        again.better(value)
    assert (again.halvings, again.over) == (2, True)


def test_to_copy_the_noise_does_not_pay(scan):
    """A network that repeats what it sees is judged worse than the truth; on the photons it has seen it would win."""
    view = view_of(scan)
    container = open_groups(scan, view)
    judges = split_groups(container.nn_indices, view.of_role(VALIDATION))[1]
    options = {"batch_size": 5, "seed": 0}
    copy = ValidationDeviance(
        container, judges, view.of_role(VALIDATION), lambda x: tf.square(x["diffraction"]), **options
    )()
    exposures = np.asarray(container.nn_indices[judges])
    mean = predict_intensity(
        scan.object[:], scan.probe, scan.xcoords[exposures.ravel()], scan.ycoords[exposures.ravel()]
    )
    mean = np.moveaxis(mean.reshape(*exposures.shape, 64, 64), 1, -1).astype(np.float32)
    places = {row.tobytes(): i for i, row in enumerate(np.asarray(container._coords_nominal_np[judges], np.float32))}

    class Oracle:
        def __call__(self, inputs):
            index = [places[row.tobytes()] for row in inputs["positions"].numpy()]
            return tf.constant(mean[index])

    tf.config.run_functions_eagerly(True)
    try:
        heldout = ValidationDeviance(container, judges, view.of_role(VALIDATION), Oracle(), **options)
        truth = heldout()
        assert heldout.counts.shape[1:] == (64, 64)
        assert len(heldout.counts) == np.isin(exposures, view.of_role(VALIDATION)).sum()
    finally:
        tf.config.run_functions_eagerly(False)
    assert truth < 0.8 * copy


def test_no_better_ends_training_and_keeps_the_best(scan, monkeypatch, capfd):
    seen, values = [], iter([2.0, 1.0, *np.linspace(1.5, 9, 50)])

    def evaluate(self):
        seen.append([np.array(weight) for weight in self.model.weights])
        return next(values)

    build = ValidationDeviance.__init__

    def remember(self, container, judges, stop, model, **options):
        build(self, container, judges, stop, model, **options)
        self.model = model

    monkeypatch.setattr(ValidationDeviance, "__init__", remember)
    monkeypatch.setattr(ValidationDeviance, "__call__", evaluate)
    network, history = trained("pinn", scan, epochs=20, lr_patience=1, patience=3)
    assert len(history) == 5  # the best is the second; three more
    assert "no better for 3 evaluations" in capfd.readouterr().err
    assert any((a != b).any() for a, b in zip(seen[1], seen[4], strict=True))
    for weight in network.get_weights():
        assert any(w.shape == weight.shape and (w == weight).all() for w in seen[1])
    planned = [TrainingOptions(epochs=20, **PLAIN).rate(epoch / 20) for epoch in history["epoch"]]
    np.testing.assert_allclose(history["learning_rate"] / planned, [1, 1, 1, 0.5, 0.25], rtol=0.05)


def test_data_that_are_not_finite_are_named(scan):
    view = view_of(scan)
    container = open_groups(scan, view)
    frames = np.array(container._X_np[:])
    frames[5, 3, 4, 2] = np.nan
    container._X_np = frames
    options = {"stop": view.of_role(VALIDATION), "spread": 48, "seed": 0}
    with pytest.raises(TrainingError, match=rf"diffraction is not finite in 1 exposures .*: {view.nn_indices[5, 2]}$"):
        train("pinn", container, TINY, TrainingOptions(epochs=1, **PLAIN), **options)


def test_a_rate_that_explodes_stops_with_where_and_what_to_do(scan):
    with pytest.raises(
        TrainingError, match=r"became (nan|inf) in epoch \d of 3, step \d of \d, at a learning rate of 1e\+20"
    ):
        trained("pinn", scan, learning_rate=1.0e20)


@pytest.fixture(scope="module")
def saved(scan, tmp_path_factory):
    container = open_groups(scan, view_of(scan))
    network = build_network(64, 4, container._probe_np, TINY, transmittance=0.75)
    path = tmp_path_factory.mktemp("card") / "model.keras"
    facts = {"n_pixels": 64, "channels": 4, "transmission": 0.75, "seed": 3, "code": "c0de", "data": {"scan": "5ca1"}}
    save_network(path, network, make_card("pinn", container._probe_np, **facts))
    return path, network, container


def test_a_saved_model_carries_its_card_and_loads_in_safe_mode(saved):
    path, network, container = saved
    card = read_card(path)
    wanted = {"method": "pinn", "n_pixels": 64, "channels": 4, "transmission": 0.75, "seed": 3, "code": "c0de"}
    assert {key: card[key] for key in wanted} == wanted
    assert card["data"] == {"scan": "5ca1"}
    assert len(card["probe"]) == 64
    assert card["probe_photons"] == pytest.approx(20_000, rel=1e-5)
    assert {"tensorflow", "keras", "numpy"} <= set(card["versions"])
    again = load_network(path)
    np.testing.assert_array_equal(again(container._X_np[:2]).numpy(), network(container._X_np[:2]).numpy())
    assert [file.name for file in path.parent.iterdir()] == ["model.keras"]


def test_a_file_without_a_card_is_named(saved, tmp_path):
    saved[1].save(tmp_path / "plain.keras")
    with pytest.raises(ContractError, match=r"plain\.keras: no 'ptycho\.json' in it"):
        read_card(tmp_path / "plain.keras")
    (tmp_path / "text.keras").write_text("no")
    with pytest.raises(ContractError, match=r"text\.keras: not a saved model"):
        read_card(tmp_path / "text.keras")
    with zipfile.ZipFile(saved[0]) as archive:
        assert archive.testzip() is None


def test_another_probe_is_said(saved, scan):
    _, network, _ = saved
    container = open_groups(scan, view_of(scan))
    assert probe_warning(network, container) is None
    probe = container._probe_np
    container._probe_np = probe * np.sqrt(10)
    assert "2e+05 photons, not 2e+04" in probe_warning(network, container)
    container._probe_np = np.roll(probe, 8, axis=0)
    assert "another shape (correlation 0." in probe_warning(network, container)
    container._probe_np = probe * np.exp(1j)  # a global phase cannot be seen
    assert probe_warning(network, container) is None
