"""Settings of Sphinx for the guide. `nox -s docs` builds it, without the network."""

import sys
from collections.abc import Callable
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

sys.path.insert(0, str(Path(__file__).parent))  # for the extension `machine_page`

project = "jobrt"
author = "The jobrt authors"
copyright = "the jobrt authors, MIT or Apache-2.0"  # noqa: A001 - Sphinx's name
release = version = installed_version("jobrt")

extensions = [
    "machine_page",
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.intersphinx",
    "sphinx.ext.napoleon",
    "sphinx_click",
    "sphinx_copybutton",
]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

# Docstrings name things in single backquotes, as in `drain`.
default_role = "py:obj"
add_module_names = False
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
python_maximum_signature_line_length = 88
python_use_unqualified_type_names = True
napoleon_numpy_docstring = False

# The names that docstrings refer to, in files beside this one: a build needs no network.
intersphinx_mapping = {
    "python": ("https://docs.python.org/3/", "inventories/python.txt"),
    "trio": ("https://trio.readthedocs.io/en/stable/", "inventories/trio.txt"),
}

html_theme = "furo"
html_title = "jobrt"
html_show_sphinx = False
html_theme_options = {"navigation_with_keys": True}
copybutton_prompt_text = "$ "
copybutton_only_copy_prompt_lines = True


def setup(app: Sphinx) -> None:
    """Let docstrings of all modules name what `jobrt` exports without a prefix."""
    app.connect("missing-reference", find_in_jobrt)


def find_in_jobrt(  # noqa: PLR0917 - Sphinx passes four arguments
    app: Sphinx, env: BuildEnvironment, node: Any, contnode: nodes.TextElement
) -> nodes.Node | None:
    """Return a link to `jobrt.NAME` for a reference to `NAME` that leads nowhere."""
    target = str(node.get("reftarget"))
    if node.get("refdomain") != "py" or target.startswith("jobrt."):
        return None
    resolve: Callable[..., nodes.Node | None] = env.domains["py"].resolve_xref
    return resolve(env, node["refdoc"], app.builder, "obj", f"jobrt.{target}", node, contnode)
