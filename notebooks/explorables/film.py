"""A short moving picture of an explorable for pages that run no script, such as README.md."""

import io

from PIL import Image

from .browser import launched
from .node import ask


def film(cls, settings, *, width=760, milliseconds=900):
    """The bytes of an animated PNG: one frame for each setting {control: value}, in the light theme."""
    questions = [
        {"what": "picture", "values": values, "data": cls.course_data(), "options": {"width": width}}
        for values in settings
    ]
    frames = []
    with launched() as browser, browser.new_context(viewport={"width": width, "height": 800}) as window:
        page = window.new_page()
        for drawn in ask(cls.module, questions):
            page.set_content(f'<body style="margin: 0">{drawn["svg"]}</body>')
            shot = Image.open(io.BytesIO(page.locator("svg").screenshot()))
            frames.append(shot.convert("RGB").quantize(64, dither=Image.Dither.NONE))
    file = io.BytesIO()
    frames[0].save(file, "png", save_all=True, append_images=frames[1:], duration=milliseconds, loop=0, optimize=True)
    return file.getvalue()
