"""One HTML page with explorables in it, complete in one file: it opens from a disk, without a network or a kernel."""

import json
from html import escape

from .explorable import HERE, bundle

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ margin: 0 auto; padding: 8px 12px 60px; max-width: 980px; font: 16px/1.5 system-ui, sans-serif; background: #ffffff; color: #1b1f24; }}
@media (prefers-color-scheme: dark) {{ body {{ background: #111418; color: #e8eaed; }} a {{ color: #6cb6f5; }} }}
h2 {{ margin: 48px 0 4px; font-size: 1.25em; }}
{css}
</style>
</head>
<body>
<main>
<h1>{title}</h1>
{sections}
</main>
{scripts}
</body>
</html>
"""
SECTION = """<section>
<h2 id="{module}">{title}</h2>
<p>{lead}</p>
<div id="{module}-here">{still}</div>
</section>
"""
SCRIPT = """<script type="module">
{code}
explorable_here.render({{ model: standalone({{}}, {data}), el: document.getElementById("{module}-here") }});
</script>
"""


def page(explorables, title="Retention, moved by hand"):
    """The page as a text. explorables: classes; the docstring of each is what stands above its picture."""
    sections, scripts = [], []
    for cls in explorables:
        lead = escape(" ".join((cls.__doc__ or "").split("\n\n")[0].split()))
        sections.append(
            SECTION.format(module=cls.module, title=escape(title_of(cls)), lead=lead, still=cls.still_html())
        )
        code = bundle(cls.module).replace("export default ", "const explorable_here = ")
        data = json.dumps(cls.course_data(), allow_nan=False).replace("</", "<\\/")
        scripts.append(SCRIPT.format(code=code.replace("</script", "<\\/script"), data=data, module=cls.module))
    css = (HERE / "shared.css").read_text(encoding="utf-8")
    return PAGE.format(title=escape(title), css=css, sections="\n".join(sections), scripts="\n".join(scripts))


def title_of(cls):
    """The title of an explorable, from the words of its still: they begin with it in the SVG."""
    svg, words = cls.still()
    return svg.split('aria-label="', 1)[1].split(f": {escape(words)[:10]}", 1)[0]
