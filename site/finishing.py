"""Last touches on the HTML of a page: what the theme leaves out for keyboards, screen readers and slow lines."""

REPLACED = (
    ('role="heading"', 'role="heading" aria-level="2"'),  # captions of the sidebar: a heading says its level
    ("<pre>", '<pre tabindex="0">'),  # what scrolls must take the focus
    ("<img alt", '<img loading="lazy" alt'),
    (' aria-label="Toggle hidden content"', ""),  # a fold is called what is written on it
)
PARTS = ("body", "furo_navigation_tree", "toc")


def setup(app):
    """Let Sphinx finish each page here, after the theme."""
    app.connect("html-page-context", _finish, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _finish(app, page, template, context, doctree):
    for part in PARTS:
        if text := context.get(part):
            for old, new in REPLACED:
                text = text.replace(old, new)
            context[part] = text
