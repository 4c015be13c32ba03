"""The papers' claims: studies that differ in what is compared alone, and verdicts on made-up numbers."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from matplotlib.figure import Figure
from PIL import Image

from ptycho.workflow.config import CONFIG, check_config, load_config

ROOT = Path(__file__).parent.parent
sys.path.append(str(ROOT / "benchmarks"))  # programs import each other by their names

import claim_figures as figures  # noqa: E402
import claim_verdicts as verdicts  # noqa: E402
import claims  # noqa: E402

VARIANTS = [(claim, variant) for claim, entry in claims.CLAIMS.items() for variant in entry.variants]


def config_of(claim, variant, folder):
    path = folder / "study.yaml"
    study = claims.study_of(claim, variant, claims.CLAIMS[claim].variants[variant])
    path.write_text(yaml.safe_dump(study), encoding="utf-8")
    return load_config(path)


def flat(config, where=""):
    """Every value of a config by its dotted key."""
    if not isinstance(config, dict):
        return {where: config}
    return {path: value for key, part in config.items() for path, value in flat(part, f"{where}.{key}").items()}


def test_every_claim_has_a_study_file():
    assert sorted(path.stem for path in (CONFIG / "claims").glob("*.yaml")) == sorted(claims.CLAIMS)


@pytest.mark.parametrize("claim", claims.CLAIMS)
def test_a_study_file_of_a_claim_is_valid_by_itself(claim):
    config = load_config(CONFIG / f"claims/{claim}.yaml")
    check_config(config)
    assert config["study"] == f"claims-{claim}"


@pytest.mark.parametrize(("claim", "variant"), VARIANTS)
def test_a_variant_is_valid_and_differs_in_what_it_lists(claim, variant, tmp_path):
    config, base = config_of(claim, variant, tmp_path), load_config(CONFIG / f"claims/{claim}.yaml")
    check_config(config)
    assert config["study"] == f"claims-{claim}-{variant}"
    own, plain = flat(config), flat(base)
    different = {path[1:] for path in own.keys() | plain.keys() if own.get(path, ...) != plain.get(path, ...)}
    listed = tuple(claims.CLAIMS[claim].variants[variant])
    assert {path for path in different if not path.startswith(listed)} == {"study"}


@pytest.mark.parametrize(
    ("ours", "published", "word"),
    [
        (0.3, 0.3, "reproduced"),
        (0.15, 0.3, "reproduced"),
        (0.1, 0.3, "reproduced in part"),
        (0.02, 0.3, "not reproduced"),
        (0.0, 0.3, "not reproduced"),
        (-0.1, 0.3, "not reproduced"),
        (np.nan, 0.3, "not measured"),
    ],
)
def test_a_verdict_is_a_share_of_the_published_effect(ours, published, word):
    assert verdicts.verdict(ours, published) == word


def scores_of(claim, value):
    """Made-up scores: `value` is a function of variant, dose, method and metric."""
    rows = []
    for variant, changes in claims.CLAIMS[claim].variants.items():
        study = claims.study_of(claim, variant, changes)
        for dose in study["doses"]:
            for seed in (0, 1):
                for method in study["methods"]:
                    row = {"variant": variant, "dose": dose, "seed": seed, "method": method, "rings": 60}
                    rows += [row | {"metric": name, "value": value(row, name)} for name in claims.METRICS]
    return pd.DataFrame(rows)


def as_published(row, name):
    """What the papers' numbers would score here, where they have one."""
    if "frc50" in name:
        return verdicts.FRC50_PX.get(row["variant"], {}).get(row["dose"], 100) / 200
    if (variant := row["variant"].removeprefix("direct-")) in verdicts.SSIM_AMPLITUDE:
        return verdicts.SSIM_AMPLITUDE[variant]
    sizes = verdicts.SSIM_PHASE[row["method"]] if row["variant"].isdigit() else {}
    return sizes.get(int(row["variant"]), sizes[16_384]) if sizes else 0.5


@pytest.mark.parametrize("claim", claims.CLAIMS)
def test_the_published_numbers_reproduce_themselves(claim):
    sentences = list(claims.CLAIMS[claim].judge(scores_of(claim, as_published)))
    assert len(sentences) >= 3
    assert all(": reproduced, " in sentence for sentence in sentences), sentences


@pytest.mark.parametrize("claim", claims.CLAIMS)
def test_equal_scores_reproduce_nothing(claim):
    sentences = list(claims.CLAIMS[claim].judge(scores_of(claim, lambda row, name: 0.5)))
    claimed = [sentence for sentence in sentences if not sentence.startswith("loss ")]
    assert all(": not reproduced, " in sentence for sentence in claimed), sentences


def test_a_large_loss_with_one_pattern_is_no_small_one():
    def value(row, name):
        return 0.4 if row["variant"] == "single-zone-plate" else as_published(row, name)

    loss, *_ = claims.CLAIMS["overlap"].judge(scores_of("overlap", value))
    assert ": not reproduced, SSIM of the amplitude 0.568 against 0.064" in loss


@pytest.mark.parametrize("claim", claims.CLAIMS)
def test_a_figure_is_small(claim, tmp_path):
    figure = Figure(figsize=(12, 4), layout="constrained")
    claims.CLAIMS[claim].draw(scores_of(claim, as_published), figure)
    figures.save_small(figure, tmp_path / "claim.png")
    assert (tmp_path / "claim.png").stat().st_size < 200_000
    with Image.open(tmp_path / "claim.png") as image:
        assert image.mode == "P"


@pytest.mark.parametrize("claim", claims.CLAIMS)
def test_the_committed_scores_are_of_this_claim(claim):
    scores = pd.read_csv(ROOT / f"docs/results/claims/{claim}.csv", dtype={"variant": str})
    assert set(scores["variant"]) <= set(claims.CLAIMS[claim].variants)
    assert set(scores["metric"]) == set(claims.METRICS)
    sentences = list(claims.CLAIMS[claim].judge(scores))
    assert not [sentence for sentence in sentences if "not measured" in sentence]
