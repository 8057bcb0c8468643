"""What Sphinx is told; `compose.py` starts it on the staged pages and adds what it computes."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

project = html_title = "RetNet, from the recurrence up"
author = "The RetNet reference maintainers"
project_copyright = author
language = "en"
highlight_language = "none"  # of a block that names none: most are commands

extensions = ["myst_nb", "mathematics", "finishing"]
html_math_renderer = "katex"
myst_enable_extensions = ["colon_fence", "dollarmath", "html_image"]
myst_heading_anchors = 4
myst_links_external_new_tab = False
nb_execution_mode = "off"
nb_code_prompt_show = "Show the {type}"
nb_code_prompt_hide = "Hide the {type}"
nb_merge_streams = True
suppress_warnings = ["myst.header"]  # a room's README may skip a level
toc_object_entries_show_parents = "hide"
add_module_names = False

html_theme = "furo"
html_css_files = ["katex/katex.min.css", "explorables.css", "course.css"]
html_js_files = [("symbols.js", {"defer": "defer"}), ("course.js", {"defer": "defer"})]
html_favicon = "static/icon.svg"
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
html_theme_options = {"navigation_with_keys": False}
pygments_style, pygments_dark_style = "a11y-high-contrast-light", "a11y-high-contrast-dark"
