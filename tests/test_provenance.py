"""What is recorded of how a result came about: digests of code and files, records, and `ptycho provenance`."""

import hashlib
import json
import re
import shutil
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from snakemake.iocontainers import InputFiles

from ptycho.cli.main import main
from ptycho.data.npz import save_arrays
from ptycho.reporting import figures
from ptycho.workflow import code_digests, provenance
from ptycho.workflow.damage import read_json
from ptycho.workflow.provenance import origin_of, save_record

ROOT = Path(__file__).parent.parent
SCRIPTS = sorted((ROOT / "scripts").glob("*.py"))


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """A copy of the package whose files a test may change."""
    shutil.copytree(ROOT / "ptycho", tmp_path / "ptycho", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(code_digests, "ROOT", tmp_path / "ptycho")
    monkeypatch.setattr(code_digests, "WORKFLOW", tmp_path / "ptycho/workflow")
    yield tmp_path / "ptycho"
    clear_digests()


def clear_digests():
    """Forget the digests of this process, as a new one does."""
    code_digests.module_path.cache_clear()
    code_digests.code_digest.cache_clear()
    code_digests.script_digest.cache_clear()


def digest_after(change, file, module="ptycho.model.training"):
    """Change a file; return the digest of a module, by default one that imports much."""
    text = file.read_text(encoding="utf-8")
    assert change(text) != text
    file.write_text(change(text), encoding="utf-8")
    clear_digests()
    return code_digests.code_digest(module)


def script_digests():
    """Name of every script -> its digest."""
    clear_digests()
    return {script.stem: code_digests.script_digest(script) for script in SCRIPTS}


def test_comments_and_docstrings_do_not_count(copy):
    clear_digests()
    before = code_digests.code_digest("ptycho.model.training")
    forward = copy / "physics/forward.py"
    assert digest_after(lambda text: text + "\n# a remark\n", forward) == before
    assert digest_after(lambda text: text.replace("unitary", "energy-conserving"), forward) == before
    assert digest_after(lambda text: text.replace("\n\n\ndef ", "\n\n\n\ndef "), forward) == before


def test_code_counts_wherever_it_is_imported(copy):
    clear_digests()
    before = code_digests.code_digest("ptycho.model.training")
    assert digest_after(lambda text: text.replace('norm="ortho"', "norm=None"), copy / "physics/forward.py") != before


def test_code_that_is_not_imported_does_not_count(copy):
    clear_digests()
    before = code_digests.code_digest("ptycho.model.training")
    assert digest_after(lambda text: text + "\nX = 1\n", copy / "reconstruction/lsqml.py") == before


def test_no_file_of_the_workflow_package_counts_for_any_script(copy):
    before = script_digests()
    files = sorted((copy / "workflow").glob("*.py"))
    assert {"processes", "job", "files", "config"} <= {path.stem for path in files}
    for path in files:
        with path.open("a", encoding="utf-8") as file:
            file.write("\nCHANGED = True\n")
    assert script_digests() == before


def test_the_forward_model_counts_for_the_scripts_that_import_it(copy):
    before = script_digests()
    forward = copy / "physics/forward.py"
    digest_after(lambda text: text.replace('norm="ortho"', "norm=None"), forward)
    after = script_digests()
    changed = {script for script, digest in before.items() if after[script] != digest}
    assert changed == {script.stem for script in SCRIPTS if forward in code_digests.import_closure(script)}
    assert {"simulate_scan", "train_network", "tv", "lsqml", "compare"} <= changed
    assert not {"fetch", "summarize", "tabulate_ablation", "workflow_report"} & changed


def test_scripts_are_followed_too():
    digests = script_digests()
    assert len(set(digests.values())) == len(digests)
    assert all(len(digest) == 12 for digest in digests.values())
    closure = code_digests.import_closure(ROOT / "scripts/train_network.py")
    assert ROOT / "ptycho/physics/forward.py" in closure
    assert ROOT / "ptycho/reconstruction/lsqml.py" not in closure
    assert ROOT / "ptycho/workflow/job.py" not in closure


def test_a_script_counts_but_its_comments_do_not(tmp_path):
    digests = []
    for number, text in enumerate(
        ["import ptycho.physics.forward\n", "import ptycho.physics.forward  # why\n", "import ptycho.data.npz\n"]
    ):
        script = tmp_path / str(number) / "job.py"
        script.parent.mkdir()
        script.write_text(text, encoding="utf-8")
        digests.append(code_digests.script_digest(script))
    assert digests[0] == digests[1] != digests[2]


def test_every_script_leaves_a_record():
    def leaves_record(path):
        return re.search(r"\b(record_of|make_record)\(", path.read_text(encoding="utf-8"))

    assert [path.stem for path in SCRIPTS if not leaves_record(path)] == ["workflow_report"]  # its output is temporary


def test_a_module_of_another_package_is_refused():
    with pytest.raises(ModuleNotFoundError, match="numpy is not a module of ptycho"):
        code_digests.code_digest("numpy")


def test_the_digest_of_a_file_is_that_of_sha256sum(tmp_path):
    (tmp_path / "a.csv").write_text("a,b\n")
    assert provenance.file_digest(tmp_path / "a.csv") == "sha256:" + hashlib.sha256(b"a,b\n").hexdigest()


def test_an_archive_is_identified_by_its_own_checksums(tmp_path):
    x = np.arange(1000.0)
    save_arrays(tmp_path / "a.npz", x=x, y=x)
    np.savez(tmp_path / "b.npz", y=x, x=x)
    save_arrays(tmp_path / "c.npz", x=x, y=x + 1)
    a, b, c = (provenance.file_digest(tmp_path / f"{name}.npz") for name in "abc")
    assert a == b != c
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[1000] ^= 1
    assert provenance.is_intact(tmp_path / "a.npz")
    (tmp_path / "a.npz").write_bytes(content)
    assert provenance.file_digest(tmp_path / "a.npz") == a  # nothing but the archive's directory is read
    assert not provenance.is_intact(tmp_path / "a.npz")


FILES = ["object.npz", "figure.png", "model.keras", "numbers.json", "table.csv", "words.txt"]


@pytest.fixture
def results(tmp_path, monkeypatch):
    """What a job has made of a scan and a table, with paths as in a study."""
    monkeypatch.chdir(tmp_path)
    Path("results/job").mkdir(parents=True)
    save_arrays("results/scan.npz", diffraction=np.ones((4, 8, 8), np.float32))
    Path("results/in.csv").write_text("x\n1\n", encoding="utf-8")
    outputs = [f"results/job/{name}" for name in FILES]
    inputs = ["results/scan.npz", "results/in.csv"]
    config = {"epochs": 3}
    record = provenance.make_record(
        ROOT / "scripts/merge.py", rule="merge", config=config, seeds={"s": 7}, inputs=inputs, outputs=outputs
    )
    save_arrays(outputs[0], object=np.ones(3), metadata=np.array(json.dumps({"provenance": record})))
    figure = figures.new_figure(1, 1)
    figures.save(figure, outputs[1], record)
    with zipfile.ZipFile(outputs[2], "w") as archive:
        archive.writestr(provenance.CARD, json.dumps({"provenance": record}))
    provenance.save_record(outputs[3], record)
    for path in outputs[4:]:
        Path(path).write_text("a table or a text\n", encoding="utf-8")
    return tmp_path / "results"


@pytest.mark.parametrize("name", FILES)
def test_every_kind_of_file_has_its_record(results, capsys, name):
    assert main(["provenance", str(results / "job" / name)]) == 0
    output = capsys.readouterr().out
    for fact in ("rule: merge", "script: scripts/merge.py", "epochs: 3", "s: 7", "numpy: ", "host: "):
        assert fact in output
    assert output.count("  unchanged  ") == 2
    assert "installed code: the same" in output


LONG = "a" * 300
"""No file has such a name."""


@pytest.mark.parametrize(
    ("script", "state"),
    [(f"scripts/{LONG}.py", f"not compared: there is no scripts/{LONG}.py"), (f"ptycho.{LONG}", "changed")],
)
def test_what_has_too_long_a_name_is_not_there(tmp_path, capsys, script, state):
    record = provenance.make_record("ptycho.cli.convert", config={}, seeds={}, inputs=[], outputs=[])
    record |= {"script": script, "directory": f"/{LONG}", "inputs": {"in.csv": "sha256:0", LONG: "sha256:1"}}
    provenance.save_record(tmp_path / "a.json", record)
    assert main(["provenance", str(tmp_path / "a.json")]) == (state == "changed")
    said = capsys.readouterr().out
    assert "  gone       in.csv  sha256:0" in said
    assert f"  gone       {LONG}  sha256:1" in said
    assert f"installed code: {state}" in said


def test_inputs_are_compared_wherever_the_results_have_been_moved_to(results, tmp_path, capsys):
    moved = tmp_path / "elsewhere" / "results"
    moved.parent.mkdir()
    results.rename(moved)
    assert main(["provenance", str(moved / "job/table.csv")]) == 0
    (moved / "in.csv").unlink()
    assert main(["provenance", str(moved / "job/table.csv")]) == 0  # what is gone cannot be held against anything
    output = capsys.readouterr().out
    assert "  gone       results/in.csv  sha256:" in output
    content = bytearray((moved / "scan.npz").read_bytes())
    content[300] ^= 1  # one bit of one frame
    (moved / "scan.npz").write_bytes(content)
    assert main(["provenance", str(moved / "job/table.csv")]) == 1
    assert "  changed    results/scan.npz  zip:" in capsys.readouterr().out


def test_code_that_has_changed_is_reported(results, capsys):
    path = results / "job/numbers.json"
    record = read_json(path)["provenance"]
    save_record(path, record | {"code": f"0{record['code']}"})
    assert main(["provenance", str(path)]) == 1
    assert "installed code: changed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("scan.npz", "no record of what made it, in it or beside it"),
        ("in.csv", "no record of what made it, in it or beside it"),
        ("none.npz", "no such file"),
        ("broken.npz", "not an NPZ, cut short, or damaged"),
    ],
)
def test_a_file_without_a_record_is_refused(results, capsys, name, message):
    (results / "broken.npz").write_text("no", encoding="utf-8")
    assert main(["provenance", str(results / name)]) == 2
    assert f"{name}: {message}" in capsys.readouterr().err


def test_the_same_work_has_the_same_record(results):
    facts = {"config": {}, "seeds": {}, "inputs": [results / "in.csv"], "outputs": ["x.npz"]}
    assert provenance.make_record("ptycho.data.npz", **facts) == provenance.make_record("ptycho.data.npz", **facts)


def test_a_record_has_the_seed_of_its_object():
    objects = {"a": {"kind": "dead_leaves"}, "b": {"kind": "lines", "seed": 21}}
    study = {"study": "s", "seeds": [0, 1], "source": {"seed": 20}, "objects": objects}
    for name, own in (("a", {}), ("b", {"object": 21})):
        facts = {"wildcards": {"object": name, "seed": "1"}, "params": {}, "input": [], "output": []}
        record = provenance.record_of(SimpleNamespace(config=study, rule="r", **facts), ROOT / "scripts/merge.py")
        assert record["seeds"] == {"sample": 20, **own, "noise_and_training": [1]}
        json.dumps(record)


def test_every_input_of_a_job_belongs_to_its_origin(tmp_path):
    """A training that was cut short must not go on with other positions than it began with."""
    files = {"scan": tmp_path / "scan.npz", "knowledge": tmp_path / "knowledge.npz"}
    for path in files.values():
        path.write_bytes(b"1")
    exact = origin_of(0, {}, "code", InputFiles(fromdict={"scan": str(files["scan"]), "knowledge": []}))
    refined = origin_of(0, {}, "code", InputFiles(fromdict={name: str(path) for name, path in files.items()}))
    assert list(exact["data"]) == ["scan"]
    files["knowledge"].write_bytes(b"2")
    other = origin_of(0, {}, "code", InputFiles(fromdict={name: str(path) for name, path in files.items()}))
    assert exact["data"] != refined["data"] != other["data"]
