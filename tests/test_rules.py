"""What the rules say: which script each runs, and the memory, time and GPU that it asks a cluster for."""

import pytest
import yaml

from tests.workflow import ROOT, config_file, rules_of


@pytest.fixture(scope="module")
def rules(tmp_path_factory):
    """All rules: those of a simulated study, of a measured one, of one with flaws, and of one with TV-MAP in chunks."""
    folder = tmp_path_factory.mktemp("rules")
    studies = [ROOT / f"config/{name}.yaml" for name in ("siemens", "flaws", "config")]
    studies.insert(0, config_file(folder, tv__chunks=2))
    return {name: rule for study in studies for name, rule in rules_of(folder, study).items()}


def test_every_script_is_that_of_a_rule(rules):
    scripts = {path.stem for path in (ROOT / "scripts").glob("*.py")}
    assert {rule["script"] for rule in rules.values()} - {None} == scripts - {"compare_models"}
    for name, rule in rules.items():
        shared = {"half_scans": "split_photons", "score_ablation": "compare", "merge_tv": "merge"}
        assert rule["script"] in (None, shared.get(name.removesuffix("_half"), name.removesuffix("_half")))


def test_every_job_states_memory_and_time_for_each_attempt(rules):
    with_script = {name: rule for name, rule in rules.items() if rule["script"]}
    assert {name for name, rule in rules.items() if not rule["local"]} < set(with_script)
    for name, rule in with_script.items():
        for resource in ("mem_mb", "runtime"):
            first, second = rule[resource]
            assert second == 2 * first > 0, name


def test_jobs_that_go_through_all_frames_ask_for_time_in_proportion_to_their_share(rules):
    of_scans = ("lsqml", "tv", "refined", "refine_knowledge", "reference", "refine_reference", "infer_network")
    that_copy = ("view", "split_photons", "split_measured", "reduce_dose", "half_scans", "compare")
    for name in (*of_scans, *that_copy, "tv_chunk", "tv_chunk_half"):
        first, (whole, quarter) = rules[name]["runtime"][0], rules[name]["runtime_of_shares"]
        assert whole >= 2 * first, name
        assert (quarter - first) * 4 == pytest.approx(whole - first, abs=4), name  # the chunk i of 4
    assert rules["tv_start"]["runtime_of_shares"][0] == rules["tv_start"]["runtime"][0]  # one tile, of any scan


def test_trainings_ask_for_a_gpu(rules):
    assert {name for name, rule in rules.items() if rule["gpu"][0]} == {"train_network", "train_unrolled", "refined"}


def test_jobs_that_are_to_be_computed_on_a_gpu_ask_for_one(tmp_path):
    config = yaml.safe_load((ROOT / "config/siemens.yaml").read_text(encoding="utf-8"))
    path = tmp_path / "gpu.yaml"
    path.write_text(yaml.safe_dump(config | {"tv": {"device": "gpu"}}), encoding="utf-8")
    asking = {name for name, rule in rules_of(tmp_path, path).items() if rule["gpu"][0]}
    assert {"tv", "tv_half", "refine_knowledge", "refine_reference"} <= asking
    assert not asking & {"lsqml", "reference"}


@pytest.mark.parametrize(
    ("target", "alias"),
    [
        ("phase_c", "data"),
        ("phase_d", "views"),
        ("phase_e", "train"),
        ("phase_f", "reconstruct"),
        ("inference", "infer"),
        ("phase_g", "score"),
    ],
)
def test_every_phase_has_an_alias_that_says_what_it_does(rules, target, alias):
    assert rules[alias]["input"] == rules[target]["input"] != []
