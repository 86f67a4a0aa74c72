"""GAN priors: generators trained on faces."""

from panini.models.prior.base import Prior, PriorState
from panini.models.prior.mobile import MobilePrior, ToyPrior
from panini.models.prior.stylegan2 import StyleGAN2Prior

__all__ = ["MobilePrior", "Prior", "PriorState", "StyleGAN2Prior", "ToyPrior"]
