"""The damage model: steps, the distributions they are drawn from, the same on tensors, and whole folders of it."""

from panini.degradation.recipes import draw
from panini.degradation.steps import ADDING, Blur, Degradation, Downsample, Enlarge, Jpeg, Noise

__all__ = ["ADDING", "Blur", "Degradation", "Downsample", "Enlarge", "Jpeg", "Noise", "draw"]
