"""Saved models: their card and probe, what is refused, and another probe than that of the training."""

import json
import shutil
import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest

from ptycho.model.card import load_network, make_card, read_card, read_probe, save_network
from ptycho.model.inference import load_model, probe_warning
from ptycho.model.networks import CanvasModel, Estimator, build_network
from ptycho.physics.forward import predict_intensity
from ptycho.physics.probes import add_modes
from ptycho.workflow.files import ContractError


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


def test_a_trained_probe_is_loaded_with_its_network_and_takes_the_place_of_the_datas(saved, scan, counts, tmp_path):
    path, own = tmp_path / "trained.keras", np.roll(scan.probe, 5, axis=-1)
    for trained in (True, 1):
        facts = {"n_pixels": 64, "channels": 4, "transmittance": 0.75, "estimator": saved[1].estimator.as_dict()}
        save_network(path, saved[1].network, make_card("pinn", own, **facts, probe_trained=trained), own)
        if trained is True:
            model = load_model(path)
            np.testing.assert_array_equal(model.probe, own)
            expected = saved[1].reconstruct(counts, own).object
            np.testing.assert_allclose(model.reconstruct(counts, scan.probe).object, expected, atol=1e-5)
            assert probe_warning(path, scan.probe) is None
            assert "8e+04 photons, not 2e+04" in probe_warning(path, 2 * scan.probe)
    with pytest.raises(ContractError, match=r"trained\.keras: its card: 'probe_trained' is 1; wanted"):
        load_model(path)


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


def rewrite(path, **members):
    """Replace members of a saved model; "" removes one."""
    with zipfile.ZipFile(path) as archive:
        content = {info.filename: archive.read(info) for info in archive.infolist()} | members
    with zipfile.ZipFile(path, "w") as archive:
        for name, part in content.items():
            if part:
                archive.writestr(name, part)


def test_a_layer_that_is_larger_than_its_weights_is_not_allocated(tmp_path):
    """20,000 × 20,000 weights would take 1.6 GB, the file has 64 byte of them."""
    path, card = tmp_path / "model.keras", make_card("pinn", np.ones((8, 8)), n_pixels=8, channels=4, transmittance=1.0)
    inputs = keras.Input((4,))
    save_network(path, keras.Model(inputs, keras.layers.Dense(4, use_bias=False)(inputs)), card, np.ones((8, 8)))
    assert load_network(path).count_params() == 16
    with zipfile.ZipFile(path) as archive:
        config = json.loads(archive.read("config.json"))
    first, dense = config["config"]["layers"]
    first["config"]["batch_shape"] = [None, 20_000]
    dense["config"]["units"], dense["build_config"]["input_shape"] = 20_000, [None, 20_000]
    for node in dense["inbound_nodes"]:
        node["args"][0]["config"]["shape"] = [None, 20_000]
    rewrite(path, **{"config.json": json.dumps(config)})
    with pytest.raises(
        ContractError, match=r"model\.keras: its layers have 1600000000 bytes of weights, .*weights\.h5"
    ):
        load_network(path)


@pytest.mark.parametrize(
    ("card", "message"),
    [
        ("[]", r"'ptycho\.json' is '\[\]'; wanted a JSON object"),
        ('{"transmittance": NaN, "n_pixels": 8}', r"'transmittance' is nan; wanted a finite number"),
        ('{"transmittance": 1, "n_pixels": 8, "estimator": 3}', "'estimator' is 3; wanted an object"),
        (
            '{"transmittance": 1, "n_pixels": 8, "estimator": '
            '{"physics_iterations": 1000000000000, "transmittance": 1, "n_pixels": 8}}',
            "'physics_iterations' is 1000000000000; wanted 0 to",
        ),
        (
            '{"transmittance": 1, "n_pixels": 8, "estimator": '
            '{"physics_iterations": "1", "transmittance": 1, "n_pixels": 8}}',
            "'physics_iterations' is '1'; wanted an integer",
        ),
    ],
    ids=["list", "NaN", "no options", "too much", "text"],
)
def test_a_card_that_says_something_else_is_refused(tmp_path, card, message):
    path = tmp_path / "model.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("ptycho.json", card)
        archive.writestr("probe.npy", b"no array")
    with pytest.raises(ContractError, match=rf"model\.keras: .*{message}"):
        load_model(path)
    with pytest.raises(ContractError, match=r"model\.keras: no 'probe\.npy' that can be read"):
        read_probe(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"estimator": {"physics_iterations": 20}}, "input .*None, 5.*; its card describes one canvas of 7"),
        ({"estimator": {"n_pixels": 32}}, "its card says 'n_pixels' twice, 64 and 32; wanted the same"),
        ({"estimator": {"transmittance": 0.7}}, r"its card says 'transmittance' twice, 0\.75 and 0\.7"),
        ({"n_pixels": 32, "estimator": {"n_pixels": 32}}, "patterns of 32 px, its probe has 64 px"),
    ],
    ids=["features", "pixels", "transmittance", "probe"],
)
def test_a_card_that_is_not_that_of_the_network_or_probe_is_refused(saved, tmp_path, changes, message):
    """As when a card is copied from another file: whatever it says was believed."""
    path = tmp_path / "model.keras"
    shutil.copy(saved[0], path)
    card = read_card(path)
    card |= changes | {"estimator": card["estimator"] | changes["estimator"]}
    rewrite(path, **{"ptycho.json": json.dumps(card)})
    with pytest.raises(ContractError, match=rf"model\.keras: .*{message}"):
        load_model(path)


@pytest.mark.parametrize(
    ("side", "layers", "message"),
    [
        (None, [keras.layers.Conv2D(3, 1)], "output .*None, 3"),
        (8, [keras.layers.Conv2D(2, 1)], "input .*8, 8, 5"),
        (None, [keras.layers.GlobalMaxPool2D(), keras.layers.Dense(2)], "output .*None, 2"),
    ],
    ids=["channels", "one size", "no canvas"],
)
def test_a_network_that_takes_or_returns_no_canvas_is_refused(saved, tmp_path, side, layers, message):
    inputs = output = keras.Input((side, side, 5))
    for layer in layers:
        output = layer(output)
    path = tmp_path / "model.keras"
    save_network(path, keras.Model(inputs, output), read_card(saved[0]), read_probe(saved[0]))
    with pytest.raises(ContractError, match=rf"model\.keras: its network has the {message}.*; its card describes one"):
        load_model(path)


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
