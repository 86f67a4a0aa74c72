"""The damage model: steps of damage, random sequences of them, the same for tensors, and for whole folders."""

from panini.degradation.recipes import draw
from panini.degradation.steps import ADDING, Blur, Degradation, Downsample, Enlarge, Jpeg, Noise

__all__ = ["ADDING", "Blur", "Degradation", "Downsample", "Enlarge", "Jpeg", "Noise", "draw"]
