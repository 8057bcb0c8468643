"""The widget of the course: controls above, the picture they draw, the same in words."""

import ipywidgets as widgets


def _look(description):
    """What all controls share; without a tooltip the label has one that reads "null"."""
    style, layout = {"description_width": "150px"}, {"width": "520px", "max_width": "100%"}
    return {"description": description, "tooltip": description, "style": style, "layout": layout}


def slider(description, value, low, high, step=1, *, readout_format=None):
    """A slider for an integer if all numbers are integers, otherwise for a float."""
    numbers = {"value": value, "min": low, "max": high, "step": step}
    whole = all(isinstance(number, int) for number in numbers.values())
    kind = widgets.IntSlider if whole else widgets.FloatSlider
    shown = {} if readout_format is None else {"readout_format": readout_format}
    return kind(**numbers, **shown, **_look(description))


def choice(description, options, value=None):
    """A slider over named options: a sequence, or {label: value}; `value` is the first one shown."""
    pairs = list(options.items()) if isinstance(options, dict) else [(str(option), option) for option in options]
    return widgets.SelectionSlider(options=pairs, value=pairs[0][1] if value is None else value, **_look(description))


class Explorer(widgets.VBox):
    """Controls, and what `draw(**values)` makes of their values: redrawn whenever one of them moves.

    draw: a function that takes the value of each control by its name and returns a `Picture`.
    controls: name to slider. As attributes: `controls`, the drawn `picture`, its `screen`, and
    `words`, the picture's description, which tells a screen reader what changed. A slider takes arrow
    keys when it has the focus. A page that cannot show widgets shows the picture instead.
    """

    def __init__(self, draw, **controls):
        self.draw, self.controls = draw, controls
        self.screen, self.words = widgets.Image(format="png"), widgets.HTML()
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
        self.screen.value, self.screen.width = self.picture.png(), str(self.picture.width)
        self.words.value = f'<span role="status">{self.picture.description}</span>'

    def _repr_mimebundle_(self, **kwargs):
        still, metadata = self.picture._repr_mimebundle_()
        return still | super()._repr_mimebundle_(**kwargs), metadata
