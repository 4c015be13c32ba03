"""Training: resumed after a kill, stopped by photons that the network does not see."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import keras
import numpy as np
import pytest

from ptycho.data.scan import open_scan
from ptycho.data.views import VALIDATION
from ptycho.loader import open_groups
from ptycho.model.checkpoints import Backup
from ptycho.model.early_stopping import MAX_GROUPS, Patience, TrainingError, split_groups
from ptycho.model.networks import NetworkOptions
from ptycho.model.optimizer import cosine_rate
from ptycho.model.training import TrainingOptions, TrainingRun, train
from ptycho.model.unet_training import PATIENCE, ROUNDS, Trainer
from ptycho.workflow.job import show_messages
from tests.conftest import view_of, write_scan

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
    return model.network, history, model.probe


def assert_same(first, second):
    for a, b in zip(first[0].get_weights(), second[0].get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert first[1].equals(second[1])
    np.testing.assert_array_equal(first[2], second[2])  # None twice, if the probe is fixed


def kill_in_the_third_round(monkeypatch, kill):
    """Call `kill` at the first validation after the second round was saved: in the middle of the third."""
    validate, save, saved = Trainer.validate, Backup.save, []
    monkeypatch.setattr(Backup, "save", lambda self, facts, **arrays: (save(self, facts, **arrays), saved.append(1)))
    monkeypatch.setattr(Trainer, "validate", lambda self: kill() if len(saved) == 2 else validate(self))


@pytest.mark.parametrize("probe", ["fixed", "trained"])
def test_an_interrupted_training_resumes_to_the_same_weights_and_probe(small, tmp_path, monkeypatch, log, probe):
    with monkeypatch.context() as patch:
        kill_in_the_third_round(patch, Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            trained("pinn", small, tmp_path / "backup", probe=probe)
    resumed = trained("pinn", small, tmp_path / "backup", probe=probe)
    assert "resumes after round 2" in log.text
    assert_same(resumed, trained("pinn", small, probe=probe))
    assert len(resumed[1]) > 2
    assert (resumed[2] is None) == (probe == "fixed")


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
    network, history, _ = trained("baseline", open_scan(scan), Path(folder))
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
    network, history, _ = trained("pinn", small, steps=2 * ROUNDS)
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
        ValueError, match=rf"exposures \[{view.nn_indices[5, 2]}\]: counts that are not finite numbers, or above"
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
        ("pinn", {"probe": "free"}, "probe 'free'; wanted one of .*'fixed', 'trained'"),
        ("pinn", {"probe": "trained", "loss": "mae"}, "probe 'trained' with loss 'mae'; wanted loss 'poisson'"),
        ("baseline", {}, "learns from the truth, but this container has none"),
    ],
)
def test_what_cannot_be_trained_is_named(small, method, changes, message):
    view = view_of(small)
    container = open_groups(small, view)
    container.YY_full = None
    with pytest.raises(TrainingError, match=message):
        train(method, container, TINY, replace(BRIEF, **changes), TrainingRun(validation=np.arange(3), seed=0))
