"""Last touches on the HTML of a page: what the theme leaves out for keyboards, screen readers and slow lines.

And what Sphinx would do anew for every page is done once.
"""

import functools

from sphinx.addnodes import toctree
from sphinx.search.en import SearchEnglish

REPLACED = (
    ('role="heading"', 'role="heading" aria-level="2"'),  # captions of the sidebar: a heading says its level
    ("<pre>", '<pre tabindex="0">'),  # what scrolls must take the focus
    ("<img alt", '<img loading="lazy" alt'),
    (' aria-label="Toggle hidden content"', ""),  # a fold is called what is written on it
)
PARTS = ("body", "furo_navigation_tree", "toc")


class Words(SearchEnglish):
    """English, with the stem of a word found once for all pages."""

    def __init__(self, options):
        super().__init__(options)
        self.stem = functools.cache(self.stem)


def setup(app):
    """Let Sphinx finish each page here, after the theme; the theme's sidebar is given what it shows."""
    app.add_search_language(Words)
    app.connect("html-page-context", _short_sidebar, priority=100)
    app.connect("html-page-context", _finish, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _short_sidebar(app, page, template, context, doctree):
    """The sidebar shows titles: for each page Sphinx would copy every heading of all pages, to drop it then."""
    sidebar, whole = context["toctree"], app.env.tocs

    def of_titles(**options):
        app.env.tocs = _titles(app.env)
        try:
            return sidebar(**options)
        finally:
            app.env.tocs = whole

    context["toctree"] = of_titles


@functools.cache
def _titles(env):
    """The contents of each page, of which only its title and its toctrees are left."""
    short = {page: contents.deepcopy() for page, contents in env.tocs.items()}
    for contents in short.values():
        for title in contents:
            if title[1:]:
                title[1][:] = list(title.findall(toctree))
    return short


def _finish(app, page, template, context, doctree):
    for part in PARTS:
        if text := context.get(part):
            for old, new in REPLACED:
                text = text.replace(old, new)
            context[part] = text
