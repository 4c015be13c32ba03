"""What must agree with pyproject.toml: the conda environments, the locks, the version, the commands."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import EntryPoint, requires
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import ptycho
from ptycho.cli.main import main

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DEPENDENCIES = {Requirement(line).name: Requirement(line) for line in PROJECT["dependencies"]}
LOCKS = [("requirements.lock", "3.11"), ("requirements-3.12.lock", "3.12"), ("requirements-3.12.lock", "3.13")]


def read_lock(name, python):
    """Packages that a lock installs on Linux with that Python: name -> version."""
    target = {"python_version": python, "python_full_version": f"{python}.0", "sys_platform": "linux"}
    pins = [
        Requirement(line.rstrip("\\ "))
        for line in (ROOT / name).read_text(encoding="utf-8").splitlines()
        if re.match(r"\w", line)
    ]
    wanted = [pin for pin in pins if pin.marker is None or pin.marker.evaluate(target)]
    assert len({pin.name for pin in wanted}) == len(wanted), "a package is pinned twice"
    return {pin.name: re.fullmatch(r"==([^*,]+)", str(pin.specifier))[1] for pin in wanted}


@pytest.mark.parametrize(
    ("env", "left_out"), [("ptycho", {"ptychi", "torch", "torchvision"}), ("ptychi", {"keras", "tensorflow"})]
)
def test_a_conda_environment_has_all_dependencies_except_the_other_framework(env, left_out):
    content = yaml.safe_load((ROOT / f"envs/{env}.yaml").read_text(encoding="utf-8"))
    python, pip, packages = content["dependencies"]
    assert content["name"] == env
    assert python == f"python{PROJECT['requires-python']}"
    assert pip == "pip"
    assert left_out < set(DEPENDENCIES)
    assert packages["pip"] == [line for line in PROJECT["dependencies"] if Requirement(line).name not in left_out]


@pytest.mark.parametrize(("name", "python"), LOCKS)
def test_a_lock_satisfies_every_range(name, python):
    pins = read_lock(name, python)
    build = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["build-system"]["requires"]
    optional = PROJECT["optional-dependencies"]
    extras = [line for name, lines in optional.items() if not name.startswith("gpu") for line in lines]
    lines = [*PROJECT["dependencies"], *extras, *build]
    wanted = {canonicalize_name(r.name): r.specifier for r in map(Requirement, lines) if r.name != "torch"}
    assert sorted(wanted.keys() - pins.keys()) == []
    assert {name: pins[name] for name, allowed in wanted.items() if pins[name] not in allowed} == {}


@pytest.mark.parametrize(("name", "python"), LOCKS)
def test_a_lock_leaves_torch_and_cuda_to_pip(name, python):
    foreign = re.compile(r"torch|triton|nvidia-.*|cuda-.*")
    assert [package for package in read_lock(name, python) if foreign.fullmatch(package)] == []


@pytest.mark.parametrize("name", sorted({name for name, _ in LOCKS}))
def test_a_lock_has_hashes_and_names_no_index_or_folder(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    entries = re.split(r"\n(?=\w)", text)[1:]
    assert len(entries) > 100
    assert [entry.split()[0] for entry in entries if "--hash=sha256:" not in entry] == []
    assert re.findall(r"^--.*|\S*://\S*|file:\S*", text, flags=re.MULTILINE) == []


def torch_locks():
    """Locks of torch by name: pinned version, hashes."""
    (names,) = re.findall(
        r"^TORCH_LOCKS \?= (.+)$", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE
    )
    texts = {name: (ROOT / name).read_text(encoding="utf-8") for name in names.split()}
    entry = r"(?:#.*\n)*torch==(\S+)((?: \\\n    --hash=sha256:[0-9a-f]{64})+)\n"
    found = {name: re.fullmatch(entry, text) for name, text in texts.items()}
    return {name: (match[1], re.findall(r"[0-9a-f]{64}", match[2])) for name, match in found.items()}


def test_the_locks_of_torch_have_the_pinned_version_and_a_hash_for_every_python():
    pinned = str(DEPENDENCIES["torch"].specifier).removeprefix("==")
    assert [version for version, _ in torch_locks().values()] == [f"{pinned}+cpu", pinned]
    hashes = [part for _, part in torch_locks().values()]
    assert [len(part) for part in hashes] == [2 * len(LOCKS)] * 2  # x86_64 and aarch64
    assert len({digest for part in hashes for digest in part}) == 4 * len(LOCKS)


@pytest.mark.parametrize("name", torch_locks())
def test_another_build_of_torch_is_refused_by_its_hash(name, tmp_path, monkeypatch):
    version, _ = torch_locks()[name]
    metadata = f"torch-{version}.dist-info"
    with zipfile.ZipFile(tmp_path / f"torch-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{metadata}/METADATA", f"Metadata-Version: 2.1\nName: torch\nVersion: {version}\n")
        wheel.writestr(f"{metadata}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{metadata}/RECORD", "")
    for key, value in {"NO_INDEX": "1", "FIND_LINKS": str(tmp_path), "CONFIG_FILE": "/dev/null"}.items():
        monkeypatch.setenv(f"PIP_{key}", value)
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--target", str(tmp_path / "nowhere"), "--no-deps"]
    run = subprocess.run([*command, "--require-hashes", "-r", ROOT / name], capture_output=True, encoding="utf-8")
    assert run.returncode
    assert "DO NOT MATCH THE HASHES" in run.stderr


def test_the_torchvision_pin_belongs_to_the_torch_pin():
    needed = next(r for r in map(Requirement, requires("torchvision")) if r.name == "torch")
    assert needed.specifier == DEPENDENCIES["torch"].specifier


def test_the_makefile_has_a_lock_for_every_supported_python():
    chosen = re.findall(r"^LOCK_(\S+) := (\S+)$", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert [(lock, python) for python, lock in chosen] == LOCKS
    oldest, newest = (tuple(map(int, python.split("."))) for python in (LOCKS[0][1], LOCKS[-1][1]))
    assert PROJECT["requires-python"] == f">=3.{oldest[1]},<3.{newest[1] + 1}"


@pytest.mark.parametrize("name", ["with space", "it's", "$HOME"])
def test_a_folder_that_snakemake_cannot_run_a_python_in_is_refused_before_the_set_up(tmp_path, name):
    folder = tmp_path / name
    folder.mkdir()
    for file in ("Makefile", "pyproject.toml", *{lock for lock, _ in LOCKS}):
        shutil.copy(ROOT / file, folder)
    command, environment = ["make", f"PYTHON={sys.executable}", "setup"], {**os.environ, "PIP_NO_INDEX": "1"}
    run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, encoding="utf-8", check=False)
    assert run.returncode != 0
    assert run.stderr.startswith(f"{folder}: a space, a quote or a dollar sign in this path; Snakemake cannot run")
    assert not (folder / ".venv").exists()


def test_the_version_is_the_same_everywhere():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert PROJECT["version"] == ptycho.__version__ == citation["version"]


def test_the_command_is_an_entry_point():
    target = PROJECT["scripts"]["ptycho"]
    assert EntryPoint("ptycho", target, "console_scripts").load() is main
