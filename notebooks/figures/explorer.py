"""The widget of the course: controls above, the picture they draw, the same in words."""

import ipywidgets as widgets

LOOK = {"style": {"description_width": "150px"}, "layout": {"width": "520px"}}


def slider(description, value, low, high, step=1, *, readout_format=None):
    """A slider for an integer if all numbers are integers, otherwise for a float."""
    numbers = {"value": value, "min": low, "max": high, "step": step}
    whole = all(isinstance(number, int) for number in numbers.values())
    kind = widgets.IntSlider if whole else widgets.FloatSlider
    shown = {} if readout_format is None else {"readout_format": readout_format}
    return kind(description=description, **numbers, **shown, **LOOK)


def choice(description, options, value=None):
    """A slider over named options: a sequence, or {label: value}; `value` is the first one shown."""
    pairs = list(options.items()) if isinstance(options, dict) else [(str(option), option) for option in options]
    return widgets.SelectionSlider(
        description=description, options=pairs, value=pairs[0][1] if value is None else value, **LOOK
    )


class Explorer(widgets.VBox):
    """Controls, and what `draw(**values)` makes of their values: redrawn whenever one of them moves.

    draw: a function that takes the value of each control by its name and returns a `Picture`.
    controls: name to slider. As attributes: `controls`, the drawn `picture`, its `screen`, and
    `words`, the picture's description, which tells a screen reader what changed. A slider takes arrow
    keys when it has the focus.
    """

    def __init__(self, draw, **controls):
        self.draw, self.controls = draw, controls
        self.screen, self.words = widgets.Image(format="png", layout={"max_width": "900px"}), widgets.HTML()
        super().__init__([*controls.values(), self.screen, self.words])
        for control in controls.values():
            control.observe(self.redraw, names="value")
        self.redraw()

    def move(self, **values):
        """Set controls by name, as a hand would; returns the picture drawn then."""
        for name, value in values.items():
            self.controls[name].value = value
        return self.picture

    def redraw(self, change=None):
        """Draw what the controls stand at."""
        self.picture = self.draw(**{name: control.value for name, control in self.controls.items()})
        self.screen.value = self.picture.png()
        self.words.value = f'<span role="status">{self.picture.description}</span>'
