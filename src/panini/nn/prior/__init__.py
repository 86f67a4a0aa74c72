"""GAN priors: networks that know faces."""

from panini.nn.prior.base import Prior, PriorState
from panini.nn.prior.mobile import MobilePrior

__all__ = ["MobilePrior", "Prior", "PriorState"]
