"""Makes docs/figures/explained.jpg: the README's picture, of scikit-image's astronaut (NASA, public domain).

python tools/make_explained.py
"""

from pathlib import Path

import numpy as np
from PIL import Image
from skimage import data

from panini import Restorer
from panini.degradation import Blur, Degradation, Downsample, Enlarge, Jpeg, Noise
from panini.report.explanation import explanation

DAMAGE = Degradation((Blur(0.8), Downsample(1.5), Noise(10.0), Jpeg(55), Enlarge()))
TARGET = Path(__file__).parent.parent / "docs/figures/explained.jpg"

if __name__ == "__main__":
    bad = DAMAGE.apply(np.asarray(data.astronaut()), 1)
    TARGET.parent.mkdir(exist_ok=True)
    page: Image.Image = explanation(Restorer().restore(bad).faces[:1])
    page.save(TARGET, quality=85)
    print(f"{TARGET}: {DAMAGE}")
