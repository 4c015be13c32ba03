"""Backups of a training: equal to the bit, and only of the same training."""

import numpy as np
import pytest

from ptycho.model.checkpoints import Backup, training_key


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
