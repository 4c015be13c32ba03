"""Text files are UTF-8 whatever the locale: digests, configs, results and the report do not depend on it."""

import ast
import json
import subprocess
import sys

import pytest

from ptycho.workflow.code_digests import script_digest
from ptycho.workflow.files import save_text
from tests.workflow import ASCII, ROOT, config_file, environment, jobs, snakemake

SCRIPTS = sorted((ROOT / "scripts").glob("*.py"))
FILES = sorted([*(ROOT / "ptycho").rglob("*.py"), *SCRIPTS])
NOT_FILES = ("Image", "tarfile", "archive", "os", "self", "self._archive", "self._zip")
"""Whose `open` is not that of a text file."""


def run_python(code, *arguments):
    """Run a program under a locale that knows ASCII alone; return what it prints, decoded as ASCII."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    run = subprocess.run(command, capture_output=True, encoding="ascii", check=False, env=environment() | ASCII)
    assert run.returncode == 0, run.stderr
    return run.stdout


def without_encoding(path):
    """Calls of a file that read or write text in the encoding of the locale."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        name, _, function = ast.unparse(node.func).rpartition(".")
        keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        modes = [ast.unparse(argument) for argument in node.args] + [keywords.get("mode", "")]
        text = (
            (function == "read_text" and not node.args)
            or (function == "write_text" and len(node.args) < 2)
            or (function in ("open", "fdopen") and name not in NOT_FILES and not any("b'" in mode for mode in modes))
            or keywords.get("text") == "True"
        )  # fmt: skip
        if text and "encoding" not in keywords:
            yield f"{path.relative_to(ROOT)}:{node.lineno}: {ast.unparse(node)[:80]}"


@pytest.mark.parametrize(
    ("code", "lacks"),
    [
        ("path.read_text()", True),
        ("path.write_text(text)", True),
        ("open(path, 'w')", True),
        ("path.open()", True),
        ("subprocess.run(command, text=True)", True),
        ("path.read_text(encoding='utf-8')", False),
        ("path.open('rb')", False),
        ("Image.open(path)", False),
    ],
)
def test_a_call_without_an_encoding_would_be_found(tmp_path, monkeypatch, code, lacks):
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    (tmp_path / "x.py").write_text(code, encoding="utf-8")
    assert bool(list(without_encoding(tmp_path / "x.py"))) == lacks


def test_every_text_file_is_read_and_written_with_an_encoding():
    assert [call for path in FILES for call in without_encoding(path)] == []


def test_the_locale_of_these_tests_knows_ascii_alone():
    assert run_python("import locale; print(locale.getpreferredencoding(False))").strip() != "UTF-8"


def test_digests_do_not_depend_on_the_locale():
    code = """
import json, sys
from ptycho.workflow.code_digests import library_digest, script_digest
print(json.dumps({path: script_digest(path) for path in sys.argv[1:]}))
"""
    expected = {str(path): script_digest(path) for path in SCRIPTS}
    assert json.loads(run_python(code, *SCRIPTS)) == expected


def test_texts_and_configs_do_not_depend_on_the_locale(tmp_path):
    save_text(tmp_path / "here.yaml", "# 10⁴ photons × pixel\nstudy: x\n")
    code = """
import sys
from pathlib import Path
from ptycho.workflow.config import read_file
from ptycho.workflow.files import save_text
path = Path(sys.argv[1])
assert read_file(path) == {"study": "x"}
save_text(path.with_name("there.yaml"), "# 10\\u2074 photons \\u00d7 pixel\\nstudy: x\\n")
"""
    run_python(code, tmp_path / "here.yaml")
    assert (tmp_path / "there.yaml").read_bytes() == (tmp_path / "here.yaml").read_bytes()


def test_a_dry_run_does_not_depend_on_the_locale(tmp_path):
    config = config_file(tmp_path)
    text = config.read_text(encoding="utf-8")
    config.write_text(f"# dose × overlap\n{text}", encoding="utf-8")
    arguments = ("-n", "--cores", "1", "--configfile", config)
    counts, expected = (jobs(snakemake(tmp_path, *arguments, **variables)) for variables in (ASCII, {}))
    assert counts == expected != {}
