"""The degradation model: single steps, random sequences of them, versions for tensors, and degraded copies of
folders."""

from panini.degradation.recipes import draw
from panini.degradation.steps import ADDING, Blur, Degradation, Downsample, Enlarge, Jpeg, Noise

__all__ = ["ADDING", "Blur", "Degradation", "Downsample", "Enlarge", "Jpeg", "Noise", "draw"]
