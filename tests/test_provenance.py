import hashlib
import json
import re
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from ptycho.__main__ import main
from ptycho.data.npz import save_arrays
from ptycho.reporting import figures
from ptycho.workflow import provenance

ROOT = Path(__file__).parent.parent


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """A copy of the package whose files a test may change."""
    shutil.copytree(ROOT / "ptycho", tmp_path / "ptycho")
    monkeypatch.setattr(provenance, "ROOT", tmp_path / "ptycho")
    provenance.code_digest.cache_clear()
    yield tmp_path / "ptycho"
    provenance.code_digest.cache_clear()


def digest_after(change, file, module="ptycho.model.training"):
    text = file.read_text()
    file.write_text(change(text))
    provenance.code_digest.cache_clear()
    return provenance.code_digest(module)


def test_comments_and_docstrings_do_not_count(copy):
    before = provenance.code_digest("ptycho.model.training")
    physics = copy / "forward.py"
    assert digest_after(lambda text: text + "\n# a remark\n", physics) == before
    assert digest_after(lambda text: text.replace("unitary", "energy-conserving"), physics) == before
    assert digest_after(lambda text: text.replace("\n\n\ndef ", "\n\n\n\ndef "), physics) == before


def test_code_counts_wherever_it_is_imported(copy):
    before = provenance.code_digest("ptycho.model.training")
    assert digest_after(lambda text: text.replace('norm="ortho"', "norm=None"), copy / "forward.py") != before


def test_code_that_is_not_imported_does_not_count(copy):
    before = provenance.code_digest("ptycho.model.training")
    assert digest_after(lambda text: text + "\nX = 1\n", copy / "iterative.py") == before


def test_scripts_are_followed_too():
    digests = {script.stem: provenance.script_digest(script) for script in sorted((ROOT / "scripts").glob("*.py"))}
    assert digests["train"] != digests["infer_network"]
    assert all(len(digest) == 12 for digest in digests.values())
    closure = provenance.import_closure(ROOT / "scripts" / "train.py")
    assert ROOT / "ptycho" / "forward.py" in closure
    assert ROOT / "ptycho" / "iterative.py" not in closure


def test_the_script_itself_counts_but_its_comments_do_not(tmp_path):
    digests = []
    for number, text in enumerate(
        ["import ptycho.physics.forward\n", "import ptycho.physics.forward  # why\n", "import ptycho.data.npz\n"]
    ):
        script = tmp_path / str(number) / "job.py"
        script.parent.mkdir()
        script.write_text(text)
        digests.append(provenance.script_digest(script))
    assert digests[0] == digests[1] != digests[2]


def test_every_script_leaves_a_record():
    scripts = [path for path in sorted((ROOT / "scripts").glob("*.py")) if path.stem != "workflow_report"]  # a temp
    without = [path.name for path in scripts if not re.search(r"\b(record_of|make_record)\(", path.read_text())]
    assert scripts
    assert not without


def test_a_foreign_module_is_refused():
    with pytest.raises(ModuleNotFoundError, match="numpy is not a module of ptycho"):
        provenance.code_digest("numpy")


def test_a_file_has_the_digest_of_sha256sum(tmp_path):
    (tmp_path / "a.csv").write_text("a,b\n")
    assert provenance.file_digest(tmp_path / "a.csv") == "sha256:" + hashlib.sha256(b"a,b\n").hexdigest()


def test_an_archive_is_known_by_its_own_check_sums(tmp_path):
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


FILES = ["object.npz", "picture.png", "model.keras", "numbers.json", "table.csv", "words.txt"]


@pytest.fixture
def results(tmp_path, monkeypatch):
    """What a job has made of a scan and a table, with paths as in a study."""
    monkeypatch.chdir(tmp_path)
    Path("results/job").mkdir(parents=True)
    save_arrays("results/scan.npz", diffraction=np.ones((4, 8, 8), np.float32))
    Path("results/in.csv").write_text("x\n1\n")
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
        Path(path).write_text("a table or a text\n")
    return tmp_path / "results"


@pytest.mark.parametrize("name", FILES)
def test_every_kind_of_file_says_what_made_it(results, capsys, name):
    assert main(["provenance", str(results / "job" / name)]) == 0
    said = capsys.readouterr().out
    for fact in ("rule: merge", "script: scripts/merge.py", "epochs: 3", "s: 7", "numpy: ", "host: "):
        assert fact in said
    assert said.count("  unchanged  ") == 2
    assert "installed code: the same" in said


def test_what_became_of_the_inputs_is_said_wherever_the_results_are(results, tmp_path, capsys):
    moved = tmp_path / "elsewhere" / "results"
    moved.parent.mkdir()
    results.rename(moved)
    assert main(["provenance", str(moved / "job/table.csv")]) == 0
    (moved / "in.csv").unlink()
    assert main(["provenance", str(moved / "job/table.csv")]) == 0  # what is gone cannot be held against anything
    said = capsys.readouterr().out
    assert "  gone       results/in.csv  sha256:" in said
    content = bytearray((moved / "scan.npz").read_bytes())
    content[300] ^= 1  # one bit of one frame
    (moved / "scan.npz").write_bytes(content)
    assert main(["provenance", str(moved / "job/table.csv")]) == 1
    assert "  changed    results/scan.npz  zip:" in capsys.readouterr().out


def test_other_code_is_said(results, capsys):
    path = results / "job/numbers.json"
    path.write_text(path.read_text().replace('"code": "', '"code": "0'))
    assert main(["provenance", str(path)]) == 1
    assert "installed code: changed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("scan.npz", "no record of what made it, in it or beside it"),
        ("in.csv", "no record of what made it, in it or beside it"),
        ("none.npz", "no such file"),
        ("broken.npz", "cannot be read"),
    ],
)
def test_a_file_without_a_record_is_said(results, capsys, name, says):
    (results / "broken.npz").write_text("no")
    assert main(["provenance", str(results / name)]) == 2
    assert f"{name}: {says}" in capsys.readouterr().err


def test_the_same_work_has_the_same_record(results):
    facts = {"config": {}, "seeds": {}, "inputs": [results / "in.csv"], "outputs": ["x.npz"]}
    assert provenance.make_record("ptycho.data.npz", **facts) == provenance.make_record("ptycho.data.npz", **facts)
