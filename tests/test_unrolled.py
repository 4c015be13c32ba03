"""The unrolled network: its schedule, its training without truth, its application tile by tile, its ablation."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from ptycho.data.object_files import Reconstruction
from ptycho.data.tiles import cut_tiles
from ptycho.methods import METHODS
from ptycho.model import unet, unet_training, unrolled
from ptycho.model.ablation import ablate
from ptycho.model.card import make_card, read_card, read_probe, save_network
from ptycho.model.checkpoints import Backup
from ptycho.model.inference import load_model, probe_warning
from ptycho.model.losses import canvas_deviance
from ptycho.model.unrolled import UnrolledModel, UnrolledOptions, train_unrolled
from ptycho.physics.forward import predict_intensity
from ptycho.physics.probes import scale_to
from ptycho.reconstruction import schedule as schedule_module
from ptycho.reconstruction.counts import Counts
from ptycho.reconstruction.likelihood import Likelihood
from ptycho.reconstruction.optimize import minimize, total_variation
from ptycho.reconstruction.schedule import Schedule
from tests.conftest import PRIOR, error_of

OPTIONS = UnrolledOptions(
    stages=3,
    minibatch_epochs=0,
    iterations=3,
    phase_iterations=2,
    final_iterations=4,
    post_iterations=2,
    filters=8,
    tile_px=30,
    tiles=4,
    steps=30,
    learning_rate=2.0e-3,
    fit_fraction=0.8,
)
FEATURES = 2 * (OPTIONS.stages + 1) + 1


@pytest.fixture(scope="module")
def trained(scan, counts):
    return train_unrolled(counts, scan.probe, OPTIONS, PRIOR, seed=0)


@pytest.fixture(scope="module")
def model(trained):
    return trained[0]


@pytest.fixture
def likelihood(scan, counts):
    return Likelihood(counts, scan.probe)


def assert_same_weights(first, second):
    for ours, theirs in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def on_canvas(obj, likelihood):
    return Reconstruction(object=obj, illumination=likelihood.illumination(), origin_px=likelihood.origin_px)


def test_the_training_loss_is_the_likelihood_that_the_stages_minimize(scan, counts):
    likelihood = Likelihood(replace(counts, block_size=20), scan.probe)
    obj = minimize(likelihood, np.full(likelihood.shape, 0.8, np.complex64), 0.0, 3)[0]
    target = unet_training.target_of(likelihood, likelihood.origin_px)
    loss = float(canvas_deviance(tf.constant(obj), **target))
    assert loss == pytest.approx(2 * likelihood(obj)[0] / target["frames"].size, rel=1e-4)


def test_the_unet_takes_canvases_of_any_size_and_adds_almost_nothing_untrained():
    network = unet.build_unet(FEATURES, 4, "network")
    rng = np.random.default_rng(0)
    for shape in ((16, 24), (41, 9)):
        start = rng.normal(size=shape).astype(np.complex64)
        corrected = unet.correct(network, start, rng.normal(size=(*shape, FEATURES)).astype(np.float32))
        assert corrected.shape == shape
        assert 0 < np.abs(corrected - start).max() < 0.1


def test_augmentation_turns_the_output_back():
    """A network that copies its first two features: turned, mirrored and turned back, they are where they were."""
    features = np.random.default_rng(0).normal(size=(8, 12, FEATURES)).astype(np.float32)

    def copy(x):
        return x[..., :2]

    for turn, mirror in itertools.product(range(4), (False, True)):
        output = unet_training._augmented(copy, tf.constant(features), tf.constant(turn), tf.constant(mirror))
        np.testing.assert_array_equal(output.numpy(), features[..., 0] + 1j * features[..., 1])


def test_the_same_seed_gives_the_same_network(scan, counts, trained):
    model, history = trained
    again, _ = train_unrolled(counts, scan.probe, OPTIONS, PRIOR, seed=0)
    assert_same_weights(model.network, again.network)
    assert model.schedule == again.schedule
    assert list(history) == ["epoch", "loss", "validation_deviance", "learning_rate"]
    assert history["epoch"].is_monotonic_increasing
    assert len(history) == min(
        history["validation_deviance"].argmin() + 1 + unet_training.PATIENCE, unet_training.ROUNDS
    )


@pytest.mark.parametrize("rounds", [1, 4])
def test_an_interrupted_training_resumes_to_the_same_weights(
    scan, counts, trained, tmp_path, interrupted_after, log, rounds
):
    backup = Backup(tmp_path / "backup", "key")
    with interrupted_after(rounds):
        train_unrolled(counts, scan.probe, OPTIONS, PRIOR, seed=0, backup=backup)
    resumed, history = train_unrolled(counts, scan.probe, OPTIONS, PRIOR, seed=0, backup=backup)
    assert f"resumes after round {rounds}" in log.text
    assert_same_weights(resumed.network, trained[0].network)
    np.testing.assert_array_equal(history.to_numpy(), trained[1].to_numpy())


def test_one_file_holds_network_and_schedule(scan, counts, model, tmp_path):
    path, schedule = tmp_path / "model.keras", model.schedule.as_dict()
    facts = {"n_pixels": 64, "channels": 1, "transmittance": schedule["transmittance"]}
    card = make_card("unrolled", scan.probe, **facts, schedule=schedule)
    save_network(path, model.network, card, scan.probe)
    loaded = load_model(path)
    assert isinstance(loaded, UnrolledModel)
    assert loaded.schedule == model.schedule
    assert_same_weights(loaded.network, model.network)
    assert read_card(path)["method"] == "unrolled"
    np.testing.assert_array_equal(read_probe(path), scan.probe)
    first, second = (each.reconstruct(counts, scan.probe) for each in (model, loaded))
    np.testing.assert_array_equal(first.object, second.object)
    assert first.chosen == loaded.chosen == {"tv_weight": model.schedule.tv_weight}


def test_the_network_does_no_harm(scan, counts, model, likelihood):
    with_network, schedule = model.reconstruct(counts, scan.probe), model.schedule
    without = schedule.after(likelihood, schedule.before(likelihood)[-1])
    error_with, shift = error_of(with_network, scan)
    assert error_with < 1.01 * error_of(on_canvas(without, likelihood), scan)[0]  # its gain is in the study's results
    assert shift < 0.2  # after a dozen iterations


def test_the_tv_weight_halves_from_stage_to_stage_down_to_the_chosen_one(model, likelihood, monkeypatch):
    calls, schedule, backgrounds = [], model.schedule, []

    def record(smoothed, obj, *numbers):
        calls.append(numbers)
        backgrounds.append(smoothed.background)
        return obj, 0.0, 0

    monkeypatch.setattr(schedule_module, "minimize", record)
    monkeypatch.setattr(
        schedule_module, "minimize_slow_phase", lambda _, obj, number: calls.append(f"phase {number}") or obj
    )
    ends = schedule.before(likelihood, 0.5)
    schedule.after(likelihood, ends[-1])
    chosen = schedule.tv_weight
    assert calls == [(2 * chosen, 3), "phase 2", (chosen, 3), "phase 2", (chosen / 2, 4), (chosen, 2)]
    assert all(later < earlier for earlier, later in itertools.pairwise(backgrounds))
    assert len(ends) == OPTIONS.stages
    assert np.all(ends[0] == np.complex64(schedule.transmittance))


def test_features_are_finite_and_as_many_as_the_network_expects(model, likelihood):
    ends = model.schedule.before(likelihood)
    features = model.schedule.features(likelihood, ends)
    assert features.shape == (*likelihood.shape, model.schedule.n_features)
    assert model.schedule.n_features == FEATURES == model.network.input_shape[-1]
    assert np.abs(features).max() <= 3
    np.testing.assert_allclose(features[..., 0], (ends[-1] - model.schedule.transmittance).real, atol=1e-6)


def test_slow_phase_steps_reuse_the_last_evaluation_of_their_stage(model, likelihood, monkeypatch):
    asked, computed = [], []
    call, evaluate = Likelihood.__call__, Likelihood.evaluate
    monkeypatch.setattr(Likelihood, "__call__", lambda self, obj: asked.append(1) or call(self, obj))
    monkeypatch.setattr(Likelihood, "evaluate", lambda self, obj: computed.append(1) or evaluate(self, obj))
    model.schedule.before(likelihood)
    assert len(asked) - len(computed) == OPTIONS.stages - 1


@pytest.mark.parametrize(("beam", "chosen"), [("smooth", 10), ("faint", 0)])
def test_minibatch_epochs_are_used_only_where_they_lower_the_validation_deviance(scan, beam, chosen):
    """They do for a smooth beam, whose photons stay in the middle of the detector; few photons are soon overfitted."""
    square = (np.arange(64) - 32) ** 2
    smooth = np.exp(-(square[:, None] + square) / 100).astype(np.complex64)[None]
    probe = scale_to(smooth, 1e5) if beam == "smooth" else scale_to(scan.probe, 300)
    positions = scan.xcoords, scan.ycoords
    frames = np.random.default_rng(0).poisson(predict_intensity(scan.object[:], probe, *positions)).astype(float)
    counts = Counts(lambda exposures: frames[exposures], *positions)
    numbers = {"minibatch_epochs": 0, "iterations": 5, "phase_iterations": 3, "final_iterations": 14}
    facts = {"tv_weight": 8.0, "transmittance": counts.mean_transmittance(probe), "n_pixels": 64, "photons": 1.0}
    without = Schedule(stages=4, **numbers, post_iterations=8, **facts)
    schedule = unrolled._choose_minibatch_epochs(counts, probe, without, 10, 0.8, 0)
    assert schedule == replace(without, minibatch_epochs=chosen)
    if chosen:
        likelihood = Likelihood(counts, probe)
        ends_without, ends_with = (each.before(likelihood) for each in (without, schedule))
        assert len(ends_with) == len(ends_without)  # the network has as many features
        error_without, error_with = (
            error_of(on_canvas(ends[-1], likelihood), scan)[0] for ends in (ends_without, ends_with)
        )
        assert error_with < 0.8 * error_without


def test_patterns_of_another_size_are_refused(scan, counts, model):
    with pytest.raises(ValueError, match="trained on patterns of 64 px, but these have 32 px"):
        model.reconstruct(counts, scan.probe[..., :32, :32])


def test_other_photons_are_warned_of_once(scan, model, tmp_path, log):
    """When the model is loaded for a scan, not in every tile."""
    path, facts = tmp_path / "model.keras", {"schedule": model.schedule.as_dict(), "transmittance": 1.0}
    save_network(path, model.network, make_card("unrolled", scan.probe, n_pixels=64, channels=1, **facts), scan.probe)
    assert "8e+04 photons, not 2e+04" in probe_warning(path, 2 * scan.probe)
    model.reconstruct(Counts.of(scan, np.arange(4)), 2 * scan.probe)
    assert not log.records


def test_an_ablation_leaves_out_one_part_at_a_time(scan, counts, model, likelihood):
    whole, schedule = model.reconstruct(counts, scan.probe).object, model.schedule
    parts = dict(ablate(model, counts, scan.probe))
    assert set(parts) == set(METHODS["unrolled"].parts)
    assert all(part.origin_px == likelihood.origin_px for part in parts.values())
    # what is before the network takes most of the time, and counts for both
    assert parts["no-post-iterations"].cpu_s > 0.5 * parts["prior"].cpu_s
    np.testing.assert_allclose(schedule.after(likelihood, parts["no-post-iterations"].object), whole, atol=1e-5)
    deviance = {name: likelihood(part.object)[0] for name, part in parts.items()}
    assert deviance["steps"] < deviance["prior"]
    objective = {
        name: deviance[name] + schedule.tv_weight * total_variation(part.object)[0] for name, part in parts.items()
    }
    assert objective["more-iterations"] < objective["prior"]
    for name in ("no-slow-phase", "no-background"):
        assert np.abs(parts[name].object - parts["prior"].object).max() > 1e-3
    # this schedule has no mini-batch epochs to leave out
    np.testing.assert_array_equal(parts["no-minibatch-epochs"].object, parts["prior"].object)


def test_the_tv_weight_of_a_large_scan_is_chosen_in_its_fullest_tile(scan, wide, monkeypatch):
    """Training holds a tile, not the scan."""
    sizes = []

    def choose(part, *arguments, **options):
        sizes.append(len(part))
        raise KeyboardInterrupt

    monkeypatch.setattr(unrolled, "choose_tv_weight", choose)
    prior = replace(PRIOR, tile_px=60)
    with pytest.raises(KeyboardInterrupt):
        train_unrolled(wide, scan.probe, OPTIONS, prior, seed=0)
    tiles = cut_tiles(wide.xcoords, wide.ycoords, prior.tile_px, scan.n_pixels)
    assert sizes == [max(len(tile.exposures) for tile in tiles)]
    assert sizes[0] < len(wide)


def test_a_loss_that_is_not_finite_stops_training_with_a_message(scan, counts):
    with pytest.raises(ValueError, match=r"unrolled: the loss became nan in round \d+ of 10"):
        train_unrolled(counts, scan.probe, replace(OPTIONS, learning_rate=1.0e6), PRIOR, seed=0)
