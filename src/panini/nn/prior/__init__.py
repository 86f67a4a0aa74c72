"""GAN priors: networks that know faces."""

from panini.nn.prior.base import Prior, PriorState
from panini.nn.prior.mobile import MobilePrior
from panini.nn.prior.stylegan2 import StyleGAN2Prior

__all__ = ["MobilePrior", "Prior", "PriorState", "StyleGAN2Prior"]
