"""StyleGAN2 as a prior, in small sizes; that it equals the released one is shown by `test_paper.py`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from panini.models.prior import MobilePrior, Prior, StyleGAN2Prior


@pytest.fixture(autouse=True)
def _fixed() -> Iterator[None]:
    torch.manual_seed(0)
    with torch.no_grad():
        yield


@pytest.mark.parametrize("size", [8, 32, 128])
def test_shapes(size: int) -> None:
    prior = StyleGAN2Prior(size, channel_base=512, channel_max=32, latent_dim=16)
    assert prior.resolutions[-1] == prior.size == size
    assert prior.channels[size] == min(32, 512 // size)
    w = torch.randn(2, prior.latents, 16)
    for resolution, state in prior.features(w).items():
        assert state.features.shape == (2, prior.channels[resolution], resolution, resolution)
        assert state.image is not None
        assert state.image.shape == (2, 3, resolution, resolution)
    assert prior(w).shape == (2, 3, size, size)
    assert prior.map(torch.randn(5, 16)).shape == (5, 16)


def test_configuration_f() -> None:
    with torch.device("meta"):
        prior = StyleGAN2Prior(1024)
    assert prior.latents == 18
    assert list(prior.channels.values()) == [512, 512, 512, 512, 512, 256, 128, 64, 32]
    assert sum(p.numel() for p in prior.parameters()) == 30_370_060  # the published number


@pytest.mark.parametrize("size", [4, 48, 2048])
def test_other_sizes_are_refused(size: int) -> None:
    with pytest.raises(ValueError, match="power of two"):
        StyleGAN2Prior(size)


def test_a_constant_picture_stays_constant_when_doubled() -> None:
    """Away from the border: the low-pass filter's phases weigh alike."""
    to_rgb = StyleGAN2Prior(8, channel_max=4, latent_dim=4).blocks["8"].to_rgb
    doubled = to_rgb(torch.zeros(1, 4, 16, 16), torch.randn(1, 4), torch.ones(1, 3, 8, 8))
    torch.testing.assert_close(doubled[..., 1:-1, 1:-1], torch.ones(1, 3, 14, 14))


@pytest.mark.parametrize(
    ("prior", "row", "column"),
    [(StyleGAN2Prior(128, channel_base=1024, channel_max=16, latent_dim=16), 8, 4), (MobilePrior(), 12, 20)],
    ids=["stylegan2", "mobile"],
)
def test_a_window_is_the_window_of_the_whole(prior: Prior, row: int, column: int) -> None:
    """Away from the window's border, where the zeros that pad it reach."""
    for name, tensor in prior.state_dict().items():
        if name.endswith(("noise", "noise_strength")):
            tensor.copy_(torch.randn_like(tensor) * 0.1)
    w = torch.randn(1, prior.latents, prior.latent_dim)
    start, side, last = 32, 12, 128
    states = prior.features(w, last=last)
    window = states[start].crop(row, column, side)
    for resolution in (64, 128):
        window = prior.block(resolution, window, w)
    scale, margin = last // start, 16
    assert window.origin == (row * scale, column * scale)
    inner = slice(margin, side * scale - margin)
    whole = states[last].crop(row * scale, column * scale, side * scale)
    assert window.features.shape == whole.features.shape
    torch.testing.assert_close(window.features[..., inner, inner], whole.features[..., inner, inner])
    assert not torch.allclose(window.features, whole.features)
    if whole.image is not None:
        assert window.image is not None
        torch.testing.assert_close(window.image[..., inner, inner], whole.image[..., inner, inner])
