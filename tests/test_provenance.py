import shutil
from pathlib import Path

import pytest

from ptycho import provenance

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
    physics = copy / "physics.py"
    assert digest_after(lambda text: text + "\n# a remark\n", physics) == before
    assert digest_after(lambda text: text.replace("unitary", "energy-conserving"), physics) == before
    assert digest_after(lambda text: text.replace("\n\n\ndef ", "\n\n\n\ndef "), physics) == before


def test_code_counts_wherever_it_is_imported(copy):
    before = provenance.code_digest("ptycho.model.training")
    assert digest_after(lambda text: text.replace('norm="ortho"', "norm=None"), copy / "physics.py") != before


def test_code_that_is_not_imported_does_not_count(copy):
    before = provenance.code_digest("ptycho.model.training")
    assert digest_after(lambda text: text + "\nX = 1\n", copy / "iterative.py") == before


def test_scripts_are_followed_too():
    digests = {script.stem: provenance.script_digest(script) for script in sorted((ROOT / "scripts").glob("*.py"))}
    assert digests["train"] != digests["infer"]
    assert all(len(digest) == 12 for digest in digests.values())
    closure = provenance.import_closure(ROOT / "scripts" / "train.py")
    assert ROOT / "ptycho" / "physics.py" in closure
    assert ROOT / "ptycho" / "iterative.py" not in closure


def test_a_foreign_module_is_refused():
    with pytest.raises(ModuleNotFoundError, match="numpy is not a module of ptycho"):
        provenance.code_digest("numpy")
