"""How the documentation site is built: `make docs`, without a network, warnings as errors.

Sphinx with furo, and not mkdocs, because autodoc imports the code that it describes: a name that
is gone, or a broken reference, ends the build. MyST-NB runs the notebooks and keeps what they
show. Nothing is loaded from elsewhere, so the pages also open from a disk.
"""

import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent)]

import circuits

project = "circuits"
author = copyright = "circuits contributors"
release = version = circuits.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "generated",
    "mathml",
]
myst_enable_extensions = ["deflist", "dollarmath"]
myst_heading_anchors = 4
source_suffix = {".md": "myst-nb", ".ipynb": "myst-nb", ".rst": "restructuredtext"}
exclude_patterns = ["_build", "_ext"]

# CIRCUITS_DOCS_RUN=off shows the notebooks without outputs, and builds in seconds.
nb_execution_mode = os.environ.get("CIRCUITS_DOCS_RUN", "force")
nb_execution_timeout = 300
nb_execution_raise_on_error = True
nb_execution_in_temp = True
nb_merge_streams = True

autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True

# Quotes and dashes stay as they are typed: an option is --model.
smartquotes = False
html_math_renderer = "mathml"
html_theme = "furo"
html_title = f"circuits {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_theme_options = {"source_directory": "docs/"}
html_show_sphinx = False
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
