"""Config keys of older versions are answered with their present names."""

import copy

import pytest
import yaml

from ptycho.workflow.config import ConfigError, check_config, load_schema
from ptycho.workflow.retired import DROPPED, KEYS, MEANINGS, accept_old_kinds
from tests.test_config import changed
from tests.test_config_files import DEFAULT, TEN_LINES, dry_run
from tests.workflow import output_of


@pytest.mark.parametrize("old", [*KEYS, *DROPPED])
def test_an_old_key_is_answered_with_its_present_name(old):
    config, new = copy.deepcopy(DEFAULT), KEYS.get(old)
    *parents, key = old.split(".")
    part = config
    for parent in parents:
        part[parent] = part[parent] if isinstance(part.get(parent), dict) else {}
        part = part[parent]
    part[key] = 1
    message = f"`{old}` is called `{new}` now" if new else f"`{old}` is gone: {DROPPED[old]}"
    with pytest.raises(ConfigError, match=message):
        check_config(config)


def test_a_key_whose_value_means_something_else_now_is_explained():
    with pytest.raises(ConfigError, match=r"`grouping\.max_spread` now, in units of the median distance"):
        check_config(changed("grouping.max_spread_px", 48))
    with pytest.raises(ConfigError, match=r"`grouping\.n_groups` now, one number: only the train split is grouped"):
        check_config(changed("grouping.n_groups", {"train": 250, "test": 240}))
    with pytest.raises(ConfigError, match=r"`training\.steps` now, steps of one group, not passes"):
        check_config(changed("training.epochs", 2))
    assert set(MEANINGS) <= set(KEYS.values())


def test_every_new_name_is_one_of_the_schema():
    def has(schema, path):
        key, _, rest = path.partition(".")
        return key in schema.get("properties", {}) and (not rest or has(schema["properties"][key], rest))

    assert [new for new in KEYS.values() if not has(load_schema(), new)] == []


def test_an_old_config_stops_the_dry_run_and_names_every_new_key(tmp_path):
    (old,) = (old for old, new in KEYS.items() if new == "grouping.holdout_fraction")
    section, key = old.split(".")
    text = TEN_LINES + f"iterative: {{epochs: 3}}\n{section}: {{{key}: 0.1}}\nnetwork: {{bfloat16: true}}\n"
    run = dry_run(tmp_path, text)
    assert run.returncode
    assert "`iterative` is called `lsqml` now" in output_of(run)
    assert f"`{old}` is called `grouping.holdout_fraction` now" in output_of(run)
    assert "`network.bfloat16` is gone: it was never measured" in output_of(run)
    assert "Traceback" not in output_of(run)


def test_leaves_is_accepted_with_a_note(tmp_path):
    run = dry_run(tmp_path, TEN_LINES.replace("kind: lines", "kind: leaves"), "--", "phase_d", check=True)
    assert output_of(run).count("object kind `leaves` is called `dead_leaves` now") == 1
    study = yaml.safe_load(TEN_LINES)
    study["source"]["object"] = {"kind": "lines", "test_kind": "leaves"}
    study["objects"] = {"a": {"kind": "leaves"}}
    assert len(accept_old_kinds(study)) == 1
    assert study["source"]["object"]["test_kind"] == study["objects"]["a"]["kind"] == "dead_leaves"
