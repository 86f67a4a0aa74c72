"""The complete Panini-Net: prior, image features, latent code, degradation representation and their interpolation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from panini.models.dafi import DAFI, PictureDAFI
from panini.models.deblur import Deblur
from panini.models.prior import Prior, PriorState
from panini.models.removal import DegradationRemoval


@dataclass(frozen=True)
class Encoding:
    """The outputs of IFE, LCE and DRE, before the prior runs.

    w: w+, [N, latents, latent_dim]; image: IFE's features by resolution; weights: DAFI's [N, 2, C] by resolution
    (a_prior, a_image); v: v_DR [N, dr_dim] or [N, levels + 1, dr_dim] (see `PaniniNet.encode`); picture: the input of
    IFE, [N, 3, S, S], after deblurring and degradation removal where the network has them.
    """

    w: Tensor
    image: dict[int, Tensor]
    weights: dict[int, Tensor]
    v: Tensor
    picture: Tensor


class PaniniNet(nn.Module):
    """Damaged face [N, 3, S, S] in [-1, 1], S = `input_size` -> restored face [N, 3, prior.size, prior.size], about
    [-1, 1], not clipped.

    One class for the paper's MFR and SR networks and the small default: what differs is the parts (`presets.py`).
    Not in the paper: picture, the interpolation with the input itself; deblur and removal, which come before all
    features.
    """

    def __init__(
        self,
        prior: Prior,
        ife: nn.Module,
        lce: nn.Module,
        dre: nn.Module,
        dafi: DAFI,
        picture: PictureDAFI | None = None,
        deblur: Deblur | None = None,
        removal: DegradationRemoval | None = None,
        input_size: int = 512,
    ) -> None:
        super().__init__()
        self.prior = prior
        self.ife = ife
        self.lce = lce
        self.dre = dre
        self.dafi = dafi
        self.picture = picture
        self.deblur = deblur
        self.removal = removal
        self.input_size = input_size

    def encode(self, x: Tensor, v: Tensor | None = None, own: Tensor | None = None) -> Encoding:
        """Everything before the prior. `v` replaces the v_DR of `x` in all interpolations (editable restoration);
        deblurring and degradation removal always use that of `x`. `own`: the v_DR of `x`, if it is known.

        v is one vector [N, dr_dim], or one for each of DAFI's resolutions and a last one for the picture.
        """
        if own is None:
            own = self.dre(x) if v is None or self.deblur is not None or self.removal is not None else v
        v = own if v is None else v
        if self.deblur is not None:
            x = self.deblur(x, own)
        if self.removal is not None:
            x = self.removal(x, own)
        image = self.ife(x)
        weights = self.dafi.weights(v if v.ndim == 2 else v[:, :-1])
        return Encoding(w=self.lce(image[4]), image=image, weights=weights, v=v, picture=x)

    def picture_share(self, v: Tensor) -> Tensor | None:
        """The share of the picture in the result, [N, 1]; None without PictureDAFI."""
        return None if self.picture is None else self.picture.share(v if v.ndim == 2 else v[:, -1])

    def fused(self, encoding: Encoding) -> PriorState:
        """The prior's state after the last interpolation: F_DAFI at the finest resolution of DAFI."""
        image = {r: self.dafi.image_features(r, encoding.image[r]) for r in self.dafi.resolutions}
        return self.fuse(encoding.w, image, encoding.weights)[0]

    def fuse(
        self, w: Tensor, image: Mapping[int, Tensor], weights: Mapping[int, Tensor]
    ) -> tuple[PriorState, dict[int, Tensor]]:
        """The prior's state after the last interpolation, and F_DAFI by resolution.

        image: the output of `DAFI.image_features` by resolution; weights: DAFI's.
        """
        fused: dict[int, Tensor] = {}
        state = self.prior.start(w)
        for r in self.dafi.resolutions:
            if r > 4:
                state = self.prior.block(r, state, w)
            fused[r] = self.dafi(state.features, image[r], weights[r])
            state = state.with_features(fused[r])
        return state, fused

    def generate(self, state: PriorState, w: Tensor) -> Tensor:
        """Generates the picture from a fused state, or from a window of one (`PriorState.crop`)."""
        for resolution in self.prior.resolutions:
            if resolution > self.dafi.resolutions[-1]:
                state = self.prior.block(resolution, state, w)
        return self.prior.finish(state, w)

    def forward(self, x: Tensor, v: Tensor | None = None, own: Tensor | None = None) -> Tensor:
        encoding = self.encode(x, v, own)
        generated = self.generate(self.fused(encoding), encoding.w)
        share = self.picture_share(encoding.v)
        return generated if self.picture is None or share is None else self.picture(encoding.picture, generated, share)
