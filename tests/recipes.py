"""A made-up study of rates and warm-ups, of known answer."""

USUAL = {"initialisation": "default", "precision": "bfloat16"}
LOSSES = {  # (warm-up, rate): the mean; None where the second seed failed
    (0, 1e-3): 1.50, (0, 2e-3): 1.30, (0, 4e-3): 2.00, (0, 8e-3): None,
    (60, 1e-3): 1.40, (60, 2e-3): 1.22, (60, 4e-3): 1.20, (60, 8e-3): 1.24,
}  # fmt: skip
OTHERS = [({"initialisation": "depth"}, 2e-3, 1.12), ({"precision": "float32"}, 2e-3, 1.2205), ({"initialisation": "normal"}, 8e-3, None)]  # fmt: skip
FAILED = "stopped: the loss is nan at step 70"
HALF = 0.002 * 2**-0.5  # two seeds at this distance from their mean have the deviation 0.002


def row_of(variant, warmup, rate, change, mean):
    """A row of study.json, of two seeds."""
    fine = {"steps": 600, "first": 5.0, "largest_rise": 0.1, "spikes": 1, "largest_gradient_norm": 2.0}
    failed = {
        "steps": 69,
        "first": 5.0,
        "largest_rise": 3.0,
        "spikes": 4,
        "largest_gradient_norm": 99.0,
        "failed": FAILED,
    }
    losses = [1.9, None] if mean is None else [mean - HALF, mean + HALF]
    return {
        "variant": variant, "settings": USUAL | {"learning_rate": rate, "warmup": warmup} | change, "held_out": losses,
        "mean": 1.9 if mean is None else mean, "deviation": None if mean is None else 0.002, "lowest": mean,
        "training": [fine, failed if mean is None else fine],
    }  # fmt: skip


def recipe_results():
    """The study, as `python -m gpu study` writes it."""
    rows = [
        row_of(f"rate {rate:g}, warm-up {warmup}", warmup, rate, {}, mean) for (warmup, rate), mean in LOSSES.items()
    ]
    rows += [row_of(f"other {n}", 60, rate, change, mean) for n, (change, rate, mean) in enumerate(OTHERS)]
    return {
        "rows": rows, "settings": {"steps": 600}, "seeds": [0, 1], "device": "a device", "versions": {"torch": "2"},
        "command": "as typed",
    }  # fmt: skip
