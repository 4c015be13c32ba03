"""Examples of groups: photons are split and none is lost, targets lie where the forward model has them."""

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from scipy import fft

from ptycho.data.views import FIT, VALIDATION
from ptycho.loader import open_groups
from ptycho.model import training as training_module
from ptycho.model.early_stopping import split_groups
from ptycho.model.group_examples import HALF_WEIGHT, GroupExamples, transmittance_of
from ptycho.model.losses import canvas_deviance
from ptycho.model.networks import Estimator, NetworkOptions
from ptycho.model.training import TrainingOptions, TrainingRun, train
from ptycho.physics.forward import cut_patches, illumination, mean_transmittance, window_start
from ptycho.reconstruction import gradient_descent as gradient_descent_module
from ptycho.reconstruction.counts import Counts
from tests.conftest import view_of, write_scan

FRACTION = 0.7
GROUP = 5


class Recorder:
    """An estimator that keeps the likelihoods of what a network would see."""

    transmittance = 0.8

    def __init__(self):
        self.seen = []

    def features(self, likelihood, fraction):
        self.seen.append((likelihood, fraction))
        return np.zeros((*likelihood.shape, 3), np.float32)


def examples_of(scan, view=None):
    estimator, container = Recorder(), open_groups(scan, view or view_of(scan))
    return GroupExamples(container=container, estimator=estimator, fit_fraction=FRACTION), estimator


def counts_of(scan, exposures):
    return np.rint(np.square(scan.diffraction[exposures], dtype=np.float64))


def all_frames(counts):
    return counts.frames(np.arange(len(counts)))


def predicted_frames(example):
    return fft.fftshift(example.target["frames"], axes=(-2, -1))


def test_the_counts_of_a_group_are_those_of_its_exposures(scan):
    container = open_groups(scan, view_of(scan))
    members, counts = container.members(GROUP), Counts.of_group(container, GROUP)
    np.testing.assert_array_equal(np.rint(all_frames(counts)), counts_of(scan, members))
    np.testing.assert_allclose(counts.xcoords, scan.xcoords[members])
    np.testing.assert_allclose(counts.ycoords, scan.ycoords[members])
    np.testing.assert_array_equal(counts.frames(np.array([2, 0])), all_frames(counts)[[2, 0]])


def test_photons_seen_and_predicted_add_up_to_the_counts(scan):
    examples, estimator = examples_of(scan)
    example = examples.photons(GROUP, np.random.default_rng(0))
    ((seen, fraction),) = estimator.seen
    whole = counts_of(scan, examples.container.members(GROUP))
    seen_frames, predicted = all_frames(seen.counts), predicted_frames(example)
    np.testing.assert_array_equal(seen_frames + predicted, whole)
    assert min(seen_frames.min(), predicted.min()) == 0
    assert seen_frames.sum() / whole.sum() == pytest.approx(FRACTION, abs=5 * np.sqrt(0.21 / whole.sum()))
    again = examples.photons(GROUP, np.random.default_rng(0))
    np.testing.assert_array_equal(again.target["frames"], example.target["frames"])
    other = examples.photons(GROUP, np.random.default_rng(1))
    assert (other.target["frames"] != example.target["frames"]).any()
    assert fraction == FRACTION


def test_both_parts_are_predicted_by_the_probe_of_their_fraction(scan):
    examples, estimator = examples_of(scan)
    example = examples.photons(GROUP, np.random.default_rng(0))
    ((seen, _),) = estimator.seen
    photons, members = np.sum(np.abs(scan.probe) ** 2), examples.container.members(GROUP)
    assert np.sum(np.abs(seen.probe) ** 2) == pytest.approx(FRACTION * photons, rel=1e-5)
    per_exposure = np.sum(np.abs(example.target["probes"]) ** 2, axis=(1, 2, 3))
    np.testing.assert_allclose(per_exposure, (1 - FRACTION) * photons, rtol=1e-4)
    incident = illumination(scan.probe, scan.xcoords[members], scan.ycoords[members], seen.shape, seen.origin_px)
    np.testing.assert_allclose(seen.illumination(), FRACTION * incident, atol=1e-5 * incident.max())


def test_windows_lie_on_the_canvas_where_the_scan_has_them(scan):
    examples, estimator = examples_of(scan)
    example = examples.photons(GROUP, np.random.default_rng(0))
    top, left = estimator.seen[0][0].origin_px
    members = examples.container.members(GROUP)
    np.testing.assert_array_equal(top + example.target["top"], window_start(scan.ycoords[members], 64))
    np.testing.assert_array_equal(left + example.target["left"], window_start(scan.xcoords[members], 64))
    assert example.target["top"].min() == example.target["left"].min() == 0
    assert example.start.shape == (64 + example.target["top"].max(), 64 + example.target["left"].max())
    assert (example.start == np.complex64(Recorder.transmittance)).all()


def test_some_exposures_of_a_group_can_be_predicted_alone(scan):
    examples, _ = examples_of(scan)
    every = examples.photons(GROUP, np.random.default_rng(0))
    some = examples.photons(GROUP, np.random.default_rng(0), np.array([1, 3]))
    np.testing.assert_array_equal(some.start, every.start)
    for name, array in some.target.items():
        np.testing.assert_array_equal(array, every.target[name][[1, 3]], err_msg=name)


def test_the_true_target_is_the_object_at_the_canvas(scan):
    examples, estimator = examples_of(scan)
    example = examples.truth(GROUP, np.random.default_rng(0))
    ((seen, _),) = estimator.seen
    (height, width), members = seen.shape, examples.container.members(GROUP)
    truth = example.target["truth"][:height, :width]
    patches = cut_patches(truth, scan.xcoords[members], scan.ycoords[members], 64, seen.origin_px)
    whole = cut_patches(scan.object[:], scan.xcoords[members], scan.ycoords[members], 64)
    np.testing.assert_array_equal(patches, whole)
    incident = illumination(scan.probe, scan.xcoords[members], scan.ycoords[members], seen.shape, seen.origin_px)
    half = HALF_WEIGHT * np.sum(np.abs(scan.probe) ** 2, axis=0).max()
    weight = example.target["weight"][:height, :width]
    np.testing.assert_allclose(weight, incident / (incident + half), atol=1e-4)
    photons = examples.photons(GROUP, np.random.default_rng(0))
    assert (seen.counts.frames(np.arange(4)) == all_frames(estimator.seen[1][0].counts)).all()  # as many photons
    assert photons.start.shape == example.start.shape


@pytest.mark.parametrize("method", ["pinn", "baseline"])
def test_validation_examples_predict_validation_exposures_and_training_never_sees_them(scan, monkeypatch, method):
    """What `train` hands to the trainer, for both methods; drawn examples come from groups without any."""
    sets, drawn = [], []

    def keep(network, training_set, options, seed):
        sets.append(training_set)
        raise KeyboardInterrupt

    def remember(make):
        return lambda self, group, rng, *predicted: drawn.append(group) or make(self, group, rng, *predicted)

    monkeypatch.setattr(training_module, "Trainer", keep)
    for name in ("photons", "truth"):
        monkeypatch.setattr(GroupExamples, name, remember(getattr(GroupExamples, name)))
    view = view_of(scan)
    container, validation = open_groups(scan, view), view.of_role(VALIDATION)
    options = TrainingOptions(steps=1, learning_rate=1e-3, fit_fraction=FRACTION, loss="poisson")
    run = TrainingRun(validation=validation, seed=0)
    with pytest.raises(KeyboardInterrupt):
        train(method, container, NetworkOptions(filters=1, physics_iterations=0), options, run)
    (training_set,) = sets
    fit, groups = split_groups(container.nn_indices, validation)
    examples = training_set.validation()
    assert len(examples) == len(groups)
    for example, group in zip(examples, groups.tolist(), strict=True):
        members = container.members(group)
        held = members[np.isin(members, validation)]
        corner = window_start(scan.ycoords[members], 64).min(), window_start(scan.xcoords[members], 64).min()
        np.testing.assert_array_equal(corner[0] + example.target["top"], window_start(scan.ycoords[held], 64))
        np.testing.assert_array_equal(corner[1] + example.target["left"], window_start(scan.xcoords[held], 64))
        predicted, whole = predicted_frames(example), counts_of(scan, held)
        assert (predicted <= whole).all()
        assert predicted.sum() / whole.sum() == pytest.approx(1 - FRACTION, abs=5 * np.sqrt(0.21 / whole.sum()))
    drawn.clear()
    rng = np.random.default_rng(0)
    targets = [set(training_set.draw(rng).target) for _ in range(30)]
    assert set(drawn) <= set(fit.tolist())
    assert len(set(drawn)) > len(fit) / 2
    assert set(np.concatenate([container.members(group) for group in drawn])) <= set(view.of_role(FIT))
    wanted = {"top", "left", "frames", "probes"} if method == "pinn" else {"truth", "weight"}
    assert all(target == wanted for target in targets)


def test_copying_the_noise_does_not_lower_the_validation_deviance(tmp_path, monkeypatch):
    """An object that fits the photons that are seen is worse than the truth: other photons are predicted."""
    monkeypatch.setattr(gradient_descent_module, "SMOOTHNESS", 0.0)
    scan = write_scan(tmp_path / "faint.npz", n=32, dose=500)
    view = view_of(scan)
    estimator = Estimator(physics_iterations=60, transmittance=0.8, n_pixels=32)
    examples = GroupExamples(container=open_groups(scan, view), estimator=estimator, fit_fraction=0.5)
    validation = view.of_role(VALIDATION)
    deviances = []
    for group in split_groups(view.nn_indices, validation)[1].tolist():
        members = examples.container.members(group)
        held = np.flatnonzero(np.isin(members, validation))
        example = examples.photons(group, np.random.default_rng(0), held)
        truth = examples.truth(group, np.random.default_rng(0)).target["truth"]
        height, width = example.start.shape
        fitted = example.start + example.features[..., 0] + 1j * example.features[..., 1]
        whole = counts_of(scan, members[held])
        seen = {**example.target, "frames": np.float32(fft.ifftshift(whole, axes=(-2, -1))) - example.target["frames"]}
        for obj in (truth[:height, :width], fitted):
            canvas = tf.constant(obj, tf.complex64)
            deviances.append([float(canvas_deviance(canvas, **target)) for target in (example.target, seen)])
    truth, fitted = np.array(deviances[::2]).mean(0), np.array(deviances[1::2]).mean(0)
    assert fitted[1] < 0.9 * truth[1]  # of the photons that are seen
    assert fitted[0] > 1.1 * truth[0]  # of the others


def test_all_modes_of_the_probe_count_in_the_loss(tmp_path):
    """At the true object of a scan with three modes, the strongest alone is worse, scaled to all photons or not."""
    scan = write_scan(tmp_path / "modes.npz", n=32, modes=3, dose=1e6)
    assert scan.probe.shape == (3, 32, 32)
    examples, _ = examples_of(scan)
    target = examples.photons(GROUP, np.random.default_rng(0)).target
    truth = tf.constant(examples.truth(GROUP, np.random.default_rng(0)).target["truth"])
    assert target["probes"].shape == (4, 3, 32, 32)
    strongest = target["probes"][:, :1]
    scale = np.sqrt(np.sum(np.abs(target["probes"]) ** 2) / np.sum(np.abs(strongest) ** 2))
    for loss in training_module.LOSSES.values():
        every = float(loss(truth, **target))
        for probes in (strongest, scale * strongest):
            assert every < 0.5 * float(loss(truth, **{**target, "probes": probes.astype(np.complex64)}))


def test_the_transmittance_of_groups_is_that_of_their_exposures(scan):
    view = view_of(scan)
    groups = np.array([2, 5, 9])
    photons = np.square(scan.diffraction[np.ravel(view.nn_indices[groups])], dtype=np.float64).sum()
    value = transmittance_of(open_groups(scan, view), groups)
    assert value == pytest.approx(mean_transmittance(photons, 12, scan.probe))
    assert 0.5 < value < 1


def test_exposures_that_are_not_finite_are_named(scan):
    container = open_groups(scan, view_of(scan))
    frames = np.array(container.frames[:])
    frames[GROUP, 3, 4, 2] = np.nan
    container._X_np = frames
    examples = GroupExamples(container=container, estimator=Recorder(), fit_fraction=FRACTION)
    examples.photons(GROUP + 1, np.random.default_rng(0))
    for make in (examples.photons, examples.truth):
        with pytest.raises(ValueError, match=rf"exposures \[{container.members(GROUP)[2]}\]: .* not finite"):
            make(GROUP, np.random.default_rng(0))


def test_frames_are_read_block_by_block(scan):
    container = open_groups(scan, view_of(scan, gridsize=3))
    read = []

    def gather(exposures):
        read.append(len(exposures))
        return scan.diffraction[exposures]

    container._X_np = replace(container.frames, gather=gather)
    counts = Counts.of_group(container, 0, block_size=4)
    assert not read
    assert [len(counts.frames(np.arange(part.start, part.stop))) for part in counts.parts] == read == [4, 4, 1]
