"""The environments and the locks hold what pyproject.toml asks for."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def pip_part(name):
    parts = yaml.safe_load((ROOT / "envs" / name).read_text())["dependencies"]
    return next(set(part["pip"]) for part in parts if isinstance(part, dict))


def test_environments_are_the_project_dependencies():
    ours, solver = pip_part("ptycho.yaml"), pip_part("ptychi.yaml")
    assert ours | solver == set(PROJECT["dependencies"])
    assert {name for name in solver if name.startswith("torch")} and not {name for name in ours if "torch" in name}


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-3.12.lock"])
def test_lock_satisfies_the_project(lock):
    text = (ROOT / lock).read_text()
    pinned = dict(re.findall(r"^([a-z0-9.-]+)==([^ \\]+)", text, flags=re.MULTILINE))
    wanted = [Requirement(line) for line in PROJECT["dependencies"] + PROJECT["optional-dependencies"]["test"]]
    for requirement in wanted:
        if requirement.name != "torch":
            assert requirement.specifier.contains(pinned[requirement.name]), requirement
    assert "torch" not in pinned
    assert not [name for name in pinned if re.match("nvidia|cuda|triton", name)]
    assert text.count("--hash=sha256:") >= len(pinned)
