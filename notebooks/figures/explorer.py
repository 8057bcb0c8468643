"""The widget of the course: controls, the picture that they draw, and its description in words."""

import ipywidgets as widgets


def _look(description):
    """What all controls share; without a tooltip of its own a label shows one that says "null"."""
    style, layout = {"description_width": "150px"}, {"width": "520px", "max_width": "100%"}
    return {"description": description, "tooltip": description, "style": style, "layout": layout}


def slider(description, value, low, high, step=1, *, readout_format=None):
    """A slider: for integers if all numbers are integers, otherwise for floats."""
    numbers = {"value": value, "min": low, "max": high, "step": step}
    whole = all(isinstance(number, int) for number in numbers.values())
    kind = widgets.IntSlider if whole else widgets.FloatSlider
    shown = {} if readout_format is None else {"readout_format": readout_format}
    return kind(**numbers, **shown, **_look(description))


def choice(description, options, value=None):
    """A slider over options, a sequence or {label: value}, that starts at `value` or the first option."""
    pairs = list(options.items()) if isinstance(options, dict) else [(str(option), option) for option in options]
    return widgets.SelectionSlider(options=pairs, value=pairs[0][1] if value is None else value, **_look(description))


class Explorer(widgets.VBox):
    """Controls and the picture `draw(**values)`, which is drawn again whenever a control moves.

    draw: a function that takes the value of each control by its name and returns a `Picture`; controls: name to
    slider. Attributes: `controls`, the `picture`, the `screen` that shows it, and `words`, the description of the
    picture, which a screen reader announces. A slider with the focus follows the arrow keys. A page that cannot show
    widgets shows the picture instead.
    """

    def __init__(self, draw, **controls):
        self.draw, self.controls = draw, controls
        self.screen, self.words = widgets.HTML(), widgets.HTML()
        super().__init__([*controls.values(), self.screen, self.words])
        for control in controls.values():
            control.observe(self.redraw, names="value")
        self.redraw()

    def move(self, **values):
        """Set controls by name, as a reader would by hand; returns the new picture."""
        for name, value in values.items():
            self.controls[name].value = value
        return self.picture

    def redraw(self, change=None):
        """Draw the picture for the values of the controls."""
        self.picture = self.draw(**{name: control.value for name, control in self.controls.items()})
        self.screen.value = self.picture.html()
        self.words.value = f'<span role="status">{self.picture.description}</span>'

    def _repr_mimebundle_(self, **kwargs):
        return self.picture._repr_mimebundle_() | super()._repr_mimebundle_(**kwargs)
