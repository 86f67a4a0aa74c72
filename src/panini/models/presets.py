"""The networks by name: a preset is a choice of parts and sizes, nothing else."""

from __future__ import annotations

from panini.models.dafi import DAFI, PictureDAFI
from panini.models.deblur import Deblur
from panini.models.dre import DegradationEncoder, FixedDegradation
from panini.models.ife import RRDBExtractor, TrunkExtractor
from panini.models.lce import LatentCodeEncoder, OffsetLatentCodeEncoder
from panini.models.panini_net import PaniniNet
from panini.models.prior import MobilePrior, StyleGAN2Prior, ToyPrior
from panini.models.removal import DegradationRemoval

_PAPER_FUSED = (4, 8, 16, 32, 64)
_DAFI_KERNELS = {64: 3}
"""At 64 the extractor's 96 channels would span 85% of the variance of the prior's 512 by a 1x1 convolution."""


def default() -> PaniniNet:
    """The small network that ships: 512 in, 1024 out, 35 M parameters, MFR and SR in one.

    Beyond the paper: a trunk at low resolution, image features in units of the prior's, a low-rank latent head, DAFI on
    the picture, deblurring and degradation removal by v_DR.
    """
    prior, ife, dre = MobilePrior(), TrunkExtractor(), _degradation_encoder()
    fused = {r: prior.channels[r] for r in _PAPER_FUSED}
    return PaniniNet(
        prior=prior,
        ife=ife,
        lce=OffsetLatentCodeEncoder(ife.channels[4], latents=prior.latents, latent_dim=prior.latent_dim),
        dre=dre,
        dafi=DAFI(dre.dim, fused, ife.channels, 128, _DAFI_KERNELS, prior_share=0.9, normalized=True),
        picture=PictureDAFI(dre.dim),
        deblur=Deblur(dre.dim),
        removal=DegradationRemoval(dre.dim),
    )


def toy() -> PaniniNet:
    """A tiny `default` for tests of training, 128 in, 256 out; its prior is random."""
    prior = ToyPrior()
    ife = TrunkExtractor({4: 32, 8: 32, 16: 16, 32: 16, 64: 16}, {8: 32, 16: 16, 32: 16, 64: 16}, input_size=128)
    dre = DegradationEncoder((16, 32), (2, 2), input_size=None, unshuffle=4, normalize=True, spectrum=True)
    fused = {r: prior.channels[r] for r in _PAPER_FUSED}
    return PaniniNet(
        prior=prior,
        ife=ife,
        lce=OffsetLatentCodeEncoder(ife.channels[4], 64, 8, prior.latents, prior.latent_dim),
        dre=dre,
        dafi=DAFI(dre.dim, fused, ife.channels, hidden=32, kernel_size=1, prior_share=0.9, normalized=True),
        picture=PictureDAFI(dre.dim, levels=3),
        deblur=Deblur(dre.dim),
        removal=DegradationRemoval(dre.dim, {4: 16, 8: 16}, {4: 1, 8: 1}, {4: 1}),
        input_size=128,
    )


def _degradation_encoder() -> DegradationEncoder:
    return DegradationEncoder(
        widths=(32, 32, 64, 64, 128, 256),
        strides=(2, 1, 2, 1, 2, 1),
        input_size=None,
        unshuffle=4,
        normalize=True,
        spectrum=True,
    )


def paper_mfr() -> PaniniNet:
    """The paper's multi-degradation face restoration: 512 in, 1024 out, the degradation encoded from the picture."""
    ife = RRDBExtractor(channels=8, blocks=2, reduction=2, head=((32, 1), (64, 2), (128, 2), (512, 2)))
    return _paper(ife, DegradationEncoder(), input_size=512)


def paper_sr() -> PaniniNet:
    """The paper's 16x face super-resolution: 64 in, 1024 out, with a single, learned v_DR."""
    ife = RRDBExtractor(channels=64, blocks=23, reduction=8, head=((512, 1),))
    return _paper(ife, FixedDegradation(256), input_size=64)


def _paper(ife: RRDBExtractor, dre: DegradationEncoder | FixedDegradation, input_size: int) -> PaniniNet:
    prior = StyleGAN2Prior(1024)
    channels = {r: prior.channels[r] for r in _PAPER_FUSED}
    return PaniniNet(
        prior=prior,
        ife=ife,
        lce=LatentCodeEncoder(latents=prior.latents, latent_dim=prior.latent_dim),
        dre=dre,
        dafi=DAFI(dre.dim, channels, channels),
        input_size=input_size,
    )
