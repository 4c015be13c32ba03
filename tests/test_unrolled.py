import itertools
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from ptycho.data.canvas import save_parts
from ptycho.data.chunks import chunk_bounds, merge_chunks
from ptycho.data.tiles import cut_tiles
from ptycho.physics.forward import predict_intensity
from ptycho.physics.probes import scale_to
from ptycho.reconstruction.likelihood import Counts, Likelihood
from ptycho.reconstruction.optimize import minimize, total_variation
from ptycho.reconstruction.tv import mean_transmittance
from tests.conftest import PRIOR, error_of

tf = pytest.importorskip("tensorflow")

from ptycho.model import canvas, unrolled  # noqa: E402
from ptycho.model.ablation import VARIANTS, ablate  # noqa: E402
from ptycho.model.card import (  # noqa: E402
    load_network,
    make_card,
    read_card,
    save_network,
)
from ptycho.model.checkpoints import Backup  # noqa: E402

OPTIONS = UnrolledOptions(
    rounds=3,
    iterations=3,
    sweeps=0,
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
CHANNELS = channels_of(OPTIONS.rounds)


@pytest.fixture(scope="module")
def trained(scan, counts):
    return train_unrolled(counts, scan.probe, OPTIONS, PRIOR, seed=0)


def assert_same(first, second):
    for one, other in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_loss_is_the_likelihood_of_the_solvers(scan, counts):
    likelihood = Likelihood(replace(counts, block_size=20), scan.probe)
    obj = minimize(likelihood, np.full(likelihood.shape, 0.8, np.complex64), 0.0, 3)[0]
    judge = canvas.validation_data(likelihood, likelihood.origin_px)
    ours = float(canvas.deviance(tf.constant(obj), **judge))
    assert ours == pytest.approx(2 * likelihood(obj)[0] / judge["frames"].size, rel=1e-4)


def test_a_network_takes_canvases_of_any_size_and_starts_at_nothing():
    network = canvas.build_unet(CHANNELS, 4, "network")
    rng = np.random.default_rng(0)
    for shape in ((16, 24), (41, 9)):
        start = rng.normal(size=shape).astype(np.complex64)
        out = canvas.corrected(network, start, rng.normal(size=(*shape, CHANNELS)).astype(np.float32))
        assert out.shape == shape
        assert np.abs(out - start).max() < 0.1


def test_what_a_turned_and_mirrored_network_says_is_turned_back():
    """A network that copies its first two features: turning and turning back leaves them where they were."""
    features = np.random.default_rng(0).normal(size=(8, 12, CHANNELS)).astype(np.float32)

    def copy(x):
        return x[..., :2]

    for turn, mirror in itertools.product(range(4), (False, True)):
        said = canvas._said(copy, tf.constant(features), tf.constant(turn), tf.constant(mirror))
        np.testing.assert_array_equal(said.numpy(), features[..., 0] + 1j * features[..., 1])


def test_the_same_seed_gives_the_same_network(scan, counts, trained):
    network, history = trained
    again, _ = train_unrolled(counts, scan.probe, OPTIONS, PRIOR, seed=0)
    assert_same(network, again)
    assert list(history) == ["epoch", "loss", "validation_deviance", "learning_rate"]
    assert history["epoch"].is_monotonic_increasing
    assert len(history) == min(history["validation_deviance"].argmin() + 1 + canvas.PATIENCE, canvas.ROUNDS)


@pytest.mark.parametrize("rounds", [1, 4])
def test_a_training_that_was_killed_goes_on_to_the_same_weights(scan, counts, trained, tmp_path, monkeypatch, rounds):
    backup = Backup(tmp_path / "backup", "key")
    save, saved = Backup.save, []

    def save_and_die(self, *args, **arrays):
        save(self, *args, **arrays)
        saved.append(1)
        if len(saved) == rounds:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Backup, "save", save_and_die)
        with pytest.raises(KeyboardInterrupt):
            train_unrolled(counts, scan.probe, OPTIONS, PRIOR, seed=0, backup=backup)
    network, history = train_unrolled(counts, scan.probe, OPTIONS, PRIOR, seed=0, backup=backup)
    assert_same(network, trained[0])
    np.testing.assert_array_equal(history.to_numpy(), trained[1].to_numpy())


def test_one_file_carries_all_that_is_needed_and_loads_in_safe_mode(scan, counts, trained, tmp_path):
    card = make_card("unrolled", scan.probe, n_pixels=64, channels=1, transmittance=0.7)
    save_network(tmp_path / "model.keras", trained[0], card)
    loaded = load_network(tmp_path / "model.keras")
    assert_same(loaded, trained[0])
    assert read_card(tmp_path / "model.keras")["method"] == "unrolled"
    first, second = (apply_unrolled(network, counts, scan.probe)[0] for network in (trained[0], loaded))
    np.testing.assert_array_equal(first, second)
    alone = "import sys; from ptycho.model.inference import load_network; print(load_network(sys.argv[1]).name)"
    command = [sys.executable, "-c", alone, tmp_path / "model.keras"]  # that has not imported what it is made of
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "unrolled"


def test_the_network_spoils_nothing_of_the_steps(scan, counts, trained):
    network = trained[0]
    obj, light, origin = apply_unrolled(network, counts, scan.probe)
    likelihood, steps = Likelihood(counts, scan.probe), network.get_layer("steps")
    without = steps.behind(likelihood, steps.before(likelihood)[-1])
    (error_with, shift), (error_without, _) = (error_of(o, light, origin, scan) for o in (obj, without))
    assert error_with < 1.01 * error_without  # what it buys where it buys anything is in docs/findings.md
    assert shift < 0.2  # of a dozen steps


def test_the_prior_weakens_from_round_to_round_to_what_was_chosen(scan, counts, trained, monkeypatch):
    made, steps, likelihood = [], trained[0].get_layer("steps"), Likelihood(counts, scan.probe)
    monkeypatch.setattr(unrolled, "descend", lambda _, obj, *numbers: made.append(numbers) or (obj, 0.0, 0))
    monkeypatch.setattr(unrolled, "minimize_slow_phase", lambda _, obj, number: made.append(f"phase {number}") or obj)
    ends = steps.before(likelihood, 0.5)
    steps.behind(likelihood, ends[-1])
    chosen = steps.tv_weight
    assert made == [(2 * chosen, 3), "phase 2", (chosen, 3), "phase 2", (chosen / 2, 4), (chosen, 2)]
    assert np.all(ends[0] == np.complex64(steps.transmittance))


def test_the_slow_phase_begins_with_what_the_round_ended_with(scan, counts, trained, monkeypatch):
    asked, made = [], []
    call, evaluate = Likelihood.__call__, Likelihood._evaluate
    monkeypatch.setattr(Likelihood, "__call__", lambda likelihood, obj: asked.append(1) or call(likelihood, obj))
    monkeypatch.setattr(Likelihood, "_evaluate", lambda likelihood, obj: made.append(1) or evaluate(likelihood, obj))
    trained[0].get_layer("steps").before(Likelihood(counts, scan.probe))
    assert len(asked) - len(made) == OPTIONS.rounds - 1


@pytest.mark.parametrize(("beam", "wanted"), [("smooth", 10), ("faint", 0)])
def test_sweeps_are_made_where_photons_set_apart_like_them(scan, beam, wanted):
    """A smooth beam keeps its photons in the middle of the detector; few photons are soon explained, noise and all."""
    square = (np.arange(64) - 32) ** 2
    smooth = np.exp(-(square[:, None] + square) / 100).astype(np.complex64)[None]
    probe = scale_to(smooth, 1e5) if beam == "smooth" else scale_to(scan.probe, 300)
    places = scan.xcoords, scan.ycoords
    frames = np.random.default_rng(0).poisson(predict_intensity(scan.object[:], probe, *places)).astype(float)
    counts = Counts(lambda chosen: frames[chosen], *places)
    numbers = {"rounds": 4, "sweeps": 0, "iterations": 5, "phase_iterations": 3, "final_iterations": 14}
    facts = {"tv_weight": 8.0, "transmission": mean_transmittance(counts, probe), "n_pixels": 64, "photons": 1.0}
    without = Steps(**numbers, post_iterations=8, **facts)
    steps = unrolled._choose_sweeps(counts, probe, without, 10, 0.8, 0)
    assert steps.numbers == without.numbers | {"sweeps": wanted}
    if wanted:
        likelihood = Likelihood(counts, probe)
        ends = [each.before(likelihood) for each in (without, steps)]
        assert len(ends[0]) == len(ends[1])  # as many for the network to see
        light, origin = likelihood.illumination(), likelihood.origin_px
        assert error_of(ends[1][-1], light, origin, scan)[0] < 0.8 * error_of(ends[0][-1], light, origin, scan)[0]


def test_chunks_of_tiles_add_up_to_the_same_object(scan, counts, trained, tmp_path):
    """Also where tiles have other global phases: they are synchronized from tile to tile, whatever the chunks."""
    tiles = cut_tiles(counts.xcoords, counts.ycoords, 20, 16)
    assert len(tiles) >= 6
    turns, made = np.exp(2j * np.arange(len(tiles))), list(reconstruct_tiles(trained[0], counts, scan.probe, tiles))
    made = [replace(part, total=turn * part.total) for part, turn in zip(made, turns, strict=True)]
    for number, chunks in enumerate((1, 2, 3, len(tiles) + 1)):
        paths = [tmp_path / f"{i + 1}of{chunks}.npz" for i in range(chunks)]
        for i, path in enumerate(paths):
            bounds = chunk_bounds(len(tiles), i, chunks)
            told = {"run": {"groups": len(tiles)}, "groups": bounds}
            save_parts(path, iter(made[slice(*bounds)]), lambda told=told: told)
        merged = merge_chunks(paths[::-1])
        if not number:
            whole = merged
            found, _ = error_of(whole.mean(), whole.weight, whole.origin_px, scan)
            plain = apply_unrolled(trained[0], counts, scan.probe)
            assert found < 1.3 * error_of(*plain, scan)[0]
        heavy = whole.weight > 1e-3 * whole.weight.max()
        difference = np.abs(merged.mean() - whole.mean())[heavy].max()
        assert difference <= 1e-6 * np.abs(whole.mean()).max()


def test_patterns_of_another_size_are_refused_and_other_photons_said(scan, counts, trained, capsys):
    with pytest.raises(ValueError, match="trained on patterns of 64 px, but these have 32 px"):
        apply_unrolled(trained[0], counts, scan.probe[..., :32, :32])
    steps = trained[0].get_layer("steps")
    steps.check(scan.probe)
    assert "WARNING" not in capsys.readouterr().err
    steps.check(2 * scan.probe)
    assert (
        "WARNING: a probe of 8e+04 photons; the tv_weight of the prior was chosen for 2e+04" in capsys.readouterr().err
    )


def test_what_the_parts_of_a_network_give_ends_with_the_whole(scan, counts, trained):
    network = trained[0]
    whole = apply_unrolled(network, counts, scan.probe)[0]
    parts = list(ablate(network, counts, scan.probe))
    found, seconds = ({name: row[place] for name, *row in parts} for place in (0, 1))
    assert set(found) == set(VARIANTS)
    assert seconds["no-post-iterations"] > 0.5 * seconds["prior"]  # the rounds before the network count for both
    likelihood, steps = Likelihood(counts, scan.probe), network.get_layer("steps")
    np.testing.assert_allclose(steps.behind(likelihood, found["no-post-iterations"]), whole, atol=1e-5)
    misfit = {name: likelihood(obj)[0] for name, obj in found.items()}
    assert misfit["steps"] < misfit["prior"]
    objective = {name: misfit[name] + steps.tv_weight * total_variation(obj)[0] for name, obj in found.items()}
    assert objective["longer"] < objective["prior"]


def test_the_prior_of_a_large_scan_is_chosen_in_one_tile(scan, wide, monkeypatch):
    """Training holds a tile, not the scan: the tv_weight is that of the tile with the most exposures."""
    seen = []

    def choose(part, *arguments, **options):
        seen.append(len(part))
        raise KeyboardInterrupt

    monkeypatch.setattr(unrolled, "choose_tv_weight", choose)
    prior = replace(PRIOR, tile_px=60)
    with pytest.raises(KeyboardInterrupt):
        train_unrolled(wide, scan.probe, OPTIONS, prior, seed=0)
    tiles = cut_tiles(wide.xcoords, wide.ycoords, prior.tile_px, scan.n_pixels)
    assert seen == [max(len(tile.exposures) for tile in tiles)]
    assert seen[0] < len(wide)


def test_a_loss_that_is_no_number_stops_training_with_a_message(scan, counts):
    with pytest.raises(ValueError, match=r"unrolled: the loss became nan in round \d+ of 10"):
        train_unrolled(counts, scan.probe, replace(OPTIONS, learning_rate=1.0e6), PRIOR, seed=0)
