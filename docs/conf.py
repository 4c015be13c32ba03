"""How the documentation is built: `make docs`. The built pages open without a network."""

import os
import re
import subprocess
import sys
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx import addnodes

from ptycho import __version__

ROOT = Path(__file__).resolve().parent.parent

project = "ptycho"
author = "the ptycho developers"
project_copyright = author
version = release = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "sphinx-mathjax-offline",  # MathJax from the built pages' own folder
]
exclude_patterns = ["_build"]
default_role = "literal"

myst_enable_extensions = ["attrs_block", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

napoleon_google_docstring = False
napoleon_use_param = False  # what stands behind a colon is shape and unit, no name to link to
napoleon_use_ivar = False
napoleon_use_rtype = False
autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_preserve_defaults = True  # as they are written: a value may hold the builder's environment

html_theme = "furo"
html_title = f"ptycho {version}"
html_static_path = ["_static"]
html_css_files = ["wide.css"]
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False


HIDDEN_COLON = "\ue000"
NAME = re.compile(r"(?<![`:])`([^`]+)`(?![`_])")


def keep_colons(app, what, name, obj, options, lines) -> None:
    """Hide colons in the first line on a constant from Napoleon, which would take what stands before one for a type."""
    if what in ("attribute", "data", "property") and lines:
        lines[0] = lines[0].replace(":", HIDDEN_COLON)


def adapt_docstring(app, what, name, obj, options, lines) -> None:
    """Link `ptycho.…` in docstrings, show other `names` as code, and keep the bars of |P|² from being substitutions."""

    def role(found) -> str:
        return f":py:obj:`{found[1]}`" if found[1].startswith("ptycho.") else f"``{found[1]}``"

    lines[:] = [NAME.sub(role, line.replace(HIDDEN_COLON, ":")).replace("|", r"\|") for line in lines]


def hide_paths(app, domain, kind, content) -> None:
    """Leave out the values of constants that hold a path of the machine on which the pages are built."""
    for signature in content.parent:
        if isinstance(signature, addnodes.desc_signature):
            for value in list(signature.findall(addnodes.desc_annotation)):
                if str(ROOT) in value.astext():
                    signature.remove(value)


MODULE = """
## {name}

```{{eval-rst}}
.. automodule:: {name}
   :members:
   :special-members: __call__
```
"""


def list_modules(app, page, source) -> None:
    """Put all modules of a package, or the named module, in the place of `<!-- modules: name -->` on API pages."""

    def sections(found) -> str:
        top = ROOT.joinpath(*found[1].split("."))
        files = sorted(top.rglob("*.py")) if top.is_dir() else [top.with_suffix(".py")]
        names = (".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for file in files)
        return "".join(MODULE.format(name=name) for name in names if name != found[1] or not top.is_dir())

    if page.startswith("reference/api/"):
        source[0] = re.sub(r"<!-- modules: (\S+) -->", sections, source[0])


OUTSIDE = {"](../../config/README.md)": "](config.md)", "](../../results/README.md)": "](results.md)"}


def link_included_pages(app, page, source) -> None:
    """Link the pages that include files from outside this folder, in place of these files."""
    if page.startswith("reference/"):
        for outside, inside in OUTSIDE.items():
            source[0] = source[0].replace(outside, inside)


class ProgramHelp(Directive):
    """Show what a program prints with --help; the arguments are those of Python."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self):
        """Run it."""
        command = [sys.executable, *self.arguments[0].split(), "--help"]
        environment = {**os.environ, "COLUMNS": "100", "NO_COLOR": "1"}
        shown = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
        return [nodes.literal_block(shown.stdout, shown.stdout, language="none")]


def setup(app) -> None:
    """Register what is above."""
    app.connect("source-read", list_modules)
    app.connect("source-read", link_included_pages)
    app.connect("object-description-transform", hide_paths)
    app.connect("autodoc-process-docstring", keep_colons, priority=400)  # before Napoleon
    app.connect("autodoc-process-docstring", adapt_docstring)
    app.add_directive("program-help", ProgramHelp)
