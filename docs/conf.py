"""Sphinx's configuration."""

import sys
from pathlib import Path
from typing import Any

import django
from django.conf import settings
from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

# Channels reads the settings when its consumers are imported.
settings.configure(INSTALLED_APPS=["panther_channels"])
django.setup()

from panther_channels import __version__  # noqa: E402 - the path is set above

project = "panther_channels"
author = "the authors of panther_channels"
copyright = author  # noqa: A001 - Sphinx's name
release = version = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
exclude_patterns = ["_build", "README.md"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 80

html_theme = "furo"
html_title = f"panther_channels {release}"
html_show_copyright = False
html_copy_source = False
html_use_index = False
html_static_path = ["_static"]
html_css_files = ["narrow.css"]
html_js_files = ["narrow.js"]

# Prompts and output are not what somebody wants to paste.
copybutton_exclude = ".linenos, .gp, .go"

# Names of other projects: a build needs no network, so none of theirs is looked up.
nitpick_ignore_regex = [
    (r"py:.*", r"(_?asyncio|collections|abc|asgiref|channels|datetime|django|os|redis|typing)\..*"),
    (r"py:.*", r"(Any|Awaitable|Callable|Iterable|Mapping|AsyncIterator|URLPattern)"),
    (r"py:exc", r"(ChannelFull|ImproperlyConfigured|SynchronousOnlyOperation|TimeoutError)"),
]


def _find_by_last_name(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.TextElement
) -> nodes.Node | None:
    """Docstrings name the classes of this package without their module; no two share a name."""
    domain: Any = env.get_domain("py")
    target = node.get("reftarget", "")
    found = [name for name in domain.objects if name.rpartition(".")[2] == target]
    if node.get("refdomain") != "py" or len(found) != 1:
        return None
    entry = domain.objects[found[0]]
    return nodes.reference(
        "",
        "",
        content,
        internal=True,
        refuri=app.builder.get_relative_uri(node["refdoc"], entry.docname) + f"#{entry.node_id}",
        reftitle=found[0],
    )


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("missing-reference", _find_by_last_name)
