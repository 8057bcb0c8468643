"""python -m figures: write images/three_forms.png, the figure of the README."""

from pathlib import Path

import numpy as np

from .forms import three_forms

IMAGES = Path(__file__).resolve().parents[1] / "images"


def main(folder=IMAGES):
    """Write three_forms.png into `folder`."""
    rng = np.random.default_rng(0)
    q, k, v = rng.uniform(0.5, 1.0, (9, 4)), rng.uniform(0.5, 1.0, (9, 4)), rng.uniform(0.0, 1.0, (9, 4))
    picture = three_forms(q, k, v, gamma=0.75, chunk_size=3)
    folder.mkdir(exist_ok=True)
    path = folder / "three_forms.png"
    path.write_bytes(picture.png(dpi=200))
    print(f"{path.name}: largest difference between the forms {picture.difference:.1e}")


if __name__ == "__main__":
    main()
