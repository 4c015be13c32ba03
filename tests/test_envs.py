"""What must agree with pyproject.toml: the conda environments, the locks, the version."""

import re
import tomllib
from importlib.metadata import requires
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

import ptycho

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DEPENDENCIES = {Requirement(line).name: Requirement(line) for line in PROJECT["dependencies"]}
LOCKS = [("requirements.lock", "3.11"), ("requirements-3.12.lock", "3.12"), ("requirements-3.12.lock", "3.13")]


def read_lock(name, python):
    """Packages the lock installs on Linux with that Python: name -> version."""
    target = {"python_version": python, "python_full_version": f"{python}.0", "sys_platform": "linux"}
    pins = [Requirement(line.rstrip("\\ ")) for line in (ROOT / name).read_text().splitlines() if re.match(r"\w", line)]
    wanted = [pin for pin in pins if pin.marker is None or pin.marker.evaluate(target)]
    assert len({pin.name for pin in wanted}) == len(wanted), "a package is pinned twice"
    return {pin.name: re.fullmatch(r"==([^*,]+)", str(pin.specifier))[1] for pin in wanted}


@pytest.mark.parametrize(
    ("env", "left_out"), [("ptycho", {"ptychi", "torch", "torchvision"}), ("ptychi", {"keras", "tensorflow"})]
)
def test_an_environment_holds_the_dependencies_but_for_the_other_framework(env, left_out):
    content = yaml.safe_load((ROOT / f"envs/{env}.yaml").read_text())
    python, pip, packages = content["dependencies"]
    assert content["name"] == env
    assert python == f"python{PROJECT['requires-python']}"
    assert pip == "pip"
    assert left_out < set(DEPENDENCIES)
    assert packages["pip"] == [line for line in PROJECT["dependencies"] if Requirement(line).name not in left_out]


@pytest.mark.parametrize(("name", "python"), LOCKS)
def test_a_lock_satisfies_every_range(name, python):
    pins = read_lock(name, python)
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    lines = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["test"], *build]
    wanted = {r.name: r.specifier for r in map(Requirement, lines) if r.name != "torch"}
    assert not wanted.keys() - pins.keys()
    assert {n: pins[n] for n, allowed in wanted.items() if pins[n] not in allowed} == {}


@pytest.mark.parametrize(("name", "python"), LOCKS)
def test_a_lock_leaves_torch_and_its_cuda_to_pip(name, python):
    foreign = re.compile(r"torch|triton|nvidia-.*|cuda-.*")
    assert [package for package in read_lock(name, python) if foreign.fullmatch(package)] == []


@pytest.mark.parametrize("name", sorted({name for name, _ in LOCKS}))
def test_a_lock_is_hashed_and_names_no_machine(name):
    text = (ROOT / name).read_text()
    entries = re.split(r"\n(?=\w)", text)[1:]
    assert len(entries) > 100
    assert [entry.split()[0] for entry in entries if "--hash=sha256:" not in entry] == []
    assert re.findall(r"^--.*|\S*://\S*|file:\S*", text, flags=re.MULTILINE) == []


def test_the_torchvision_pin_is_the_one_made_for_the_torch_pin():
    needed = next(r for r in map(Requirement, requires("torchvision")) if r.name == "torch")
    assert needed.specifier == DEPENDENCIES["torch"].specifier


def test_every_supported_python_has_a_lock_in_the_makefile():
    chosen = re.findall(r"^LOCK_(\S+) := (\S+)$", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    assert [(lock, python) for python, lock in chosen] == LOCKS
    oldest, newest = (tuple(map(int, python.split("."))) for python in (LOCKS[0][1], LOCKS[-1][1]))
    assert PROJECT["requires-python"] == f">=3.{oldest[1]},<3.{newest[1] + 1}"


def test_the_version_is_the_same_everywhere():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert PROJECT["version"] == ptycho.__version__ == citation["version"]
