"""The boxes of the network one by one, in small sizes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F

from panini.models import presets
from panini.models.dafi import DAFI, PictureDAFI, enlarge
from panini.models.dre import DegradationEncoder, FixedDegradation
from panini.models.ife import RRDBExtractor
from panini.models.lce import LatentCodeEncoder, OffsetLatentCodeEncoder
from panini.models.prior import MobilePrior, Prior, StyleGAN2Prior
from panini.weights.checkpoint import inference_tensors


@pytest.fixture(autouse=True)
def _fixed() -> Iterator[None]:
    torch.manual_seed(0)
    with torch.no_grad():
        yield


def test_dafi_weights_are_a_pair_that_sums_to_one() -> None:
    dafi = DAFI(16, {8: 5, 4: 7}, {4: 3, 8: 2}, hidden=8)
    weights = dafi.weights(torch.randn(3, 16))
    assert {r: tuple(w.shape) for r, w in weights.items()} == {4: (3, 2, 7), 8: (3, 2, 5)}
    for pair in weights.values():
        assert pair.min() >= 0
        torch.testing.assert_close(pair.sum(1), torch.ones_like(pair[:, 0]))


def test_constant_weights_are_learned_but_the_same_for_every_picture() -> None:
    dafi = DAFI(16, {4: 7}, {4: 3}, hidden=8, rule="constant")
    one, other = dafi.weights(torch.randn(2, 16))[4]
    assert torch.equal(one, other)
    with torch.enable_grad():
        dafi.weights(torch.randn(2, 16))[4][:, 0].sum().backward()
    assert dafi.mlp[2].bias.grad.abs().max() > 0
    dafi.rule = "interpolate"
    one, other = dafi.weights(torch.randn(2, 16))[4]
    assert not torch.equal(one, other)


@pytest.mark.parametrize("a_prior", [0.0, 0.25, 1.0])
def test_dafi_interpolates_between_prior_and_picture(a_prior: float) -> None:
    dafi = DAFI(16, {4: 7}, {4: 3})
    prior, image = torch.randn(2, 7, 4, 4), torch.randn(2, 3, 4, 4)
    weights = torch.tensor([a_prior, 1 - a_prior])[None, :, None].expand(2, 2, 7)
    fused = dafi(prior, dafi.image_features(4, image), weights)
    torch.testing.assert_close(fused, a_prior * prior + (1 - a_prior) * dafi.convs["4"](image))
    if a_prior == 1:
        assert torch.equal(fused, prior)


@pytest.mark.parametrize("shape", [(1, 1, 4, 4), (2, 3, 8, 6)])
def test_enlarge_keeps_the_mean_of_each_pixel(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape)
    larger = enlarge(x)
    assert larger.shape == (*shape[:2], 2 * shape[2], 2 * shape[3])
    torch.testing.assert_close(F.avg_pool2d(larger, 2), x)


@pytest.mark.parametrize("ratio", [1, 2])
def test_picture_dafi_gives_the_picture_or_the_generated_face(ratio: int) -> None:
    x, generated = torch.randn(2, 3, 32, 32), torch.randn(2, 3, 32 * ratio, 32 * ratio)
    result = PictureDAFI(8, levels=3)(x, generated, torch.tensor([[1.0], [0.0]]))
    assert result.shape == generated.shape
    torch.testing.assert_close(F.avg_pool2d(result[:1], ratio), x[:1], atol=1e-5, rtol=0)
    detail = result[1:] - generated[1:]
    torch.testing.assert_close(
        F.avg_pool2d(result[1:], 8 * ratio), F.avg_pool2d(x[1:], 8), atol=1e-5, rtol=0, msg="color and light"
    )
    assert detail.diff(dim=3).abs().max() < 0.5, "nothing else"


def test_picture_dafi_adds_no_finer_detail_to_the_picture() -> None:
    x, generated = torch.randn(2, 3, 32, 32), torch.randn(2, 3, 64, 64)
    result = PictureDAFI(8, levels=3)(x, generated, torch.ones(2, 1))
    torch.testing.assert_close(result, enlarge(x), atol=1e-5, rtol=0)


def test_picture_dafi_takes_half_of_each_before_training() -> None:
    torch.testing.assert_close(PictureDAFI(8).share(torch.randn(2, 8)), torch.full((2, 1), 0.5))


def test_dre_averages_down_and_folds_pixels() -> None:
    encoder = DegradationEncoder((8, 16), (1, 2), input_size=32).eval()
    x = torch.randn(2, 3, 64, 64)
    assert encoder(x).shape == (2, 16)
    assert encoder.dim == 16
    torch.testing.assert_close(encoder(x), encoder(F.avg_pool2d(x, 2)))
    folded = DegradationEncoder((8, 16), (1, 2), input_size=None, unshuffle=4)
    assert folded(torch.randn(2, 3, 64, 48)).shape == (2, 16)
    assert encoder.projection(encoder(x)).shape == (2, 16)


def test_fixed_degradation_does_not_look_at_the_picture() -> None:
    fixed = FixedDegradation(16)
    assert torch.equal(fixed(torch.randn(3, 3, 8, 8)), fixed.vector.expand(3, 16))


def test_latent_encoders_give_w_plus() -> None:
    paper = LatentCodeEncoder(c_in=6, hidden=4, latents=5, latent_dim=8)
    assert paper(torch.randn(2, 6, 4, 4)).shape == (2, 5, 8)
    low_rank = OffsetLatentCodeEncoder(8, width=16, rank=3, latents=5, latent_dim=8)
    torch.nn.init.normal_(low_rank.coefficients.weight)
    w = low_rank(torch.randn(2, 8, 4, 4))
    assert w.shape == (2, 5, 8)
    differences = (w - w.mean(1, keepdim=True)).flatten(0, 1)
    assert torch.linalg.matrix_rank(differences, tol=1e-5) <= 3


def test_paper_extractor_shapes() -> None:
    extractor = RRDBExtractor(
        channels=8, blocks=1, reduction=2, head=((12, 1), (16, 2)), resolutions=(16, 8, 4), growth=4
    )
    features = extractor(torch.randn(2, 3, 32, 32))
    assert {r: tuple(f.shape) for r, f in features.items()} == {r: (2, 16, r, r) for r in (16, 8, 4)}


def test_default_network_shapes_and_size() -> None:
    network = presets.default().eval()
    assert sum(tensor.numel() for tensor in inference_tensors(network).values()) < 35e6  # 70 MB in half precision
    x = torch.randn(1, 3, 512, 512).clamp(-1, 1)
    encoding = network.encode(x)
    assert encoding.v.shape == (1, 256)
    assert encoding.w.shape == (1, 23, 512)
    assert sorted(encoding.image) == [4, 8, 16, 32, 64]
    for r, pair in encoding.weights.items():
        assert pair.shape == (1, 2, network.prior.channels[r])
    assert network.fused(encoding).features.shape == (1, 512, 64, 64)
    assert network(x).shape == (1, 3, 1024, 1024)
    v = torch.randn(1, 256)
    assert torch.equal(network.encode(x, v).v, v)


@pytest.mark.parametrize("prior", [MobilePrior(), StyleGAN2Prior(64, 256, 8)], ids=["mobile", "stylegan2"])
def test_a_prior_s_parameters_from_a_resolution_are_what_makes_finer_features(prior: Prior) -> None:
    mapping = {id(p) for p in prior.mapping.parameters()}
    assert {id(p) for p in prior.parameters_from(4)} == {id(p) for p in prior.parameters()} - mapping
    with torch.enable_grad():
        w = torch.randn(1, prior.latents, prior.latent_dim)
        prior.features(w, 32)[32].features.sum().backward()
    coarse = {id(p) for p in prior.parameters() if p.grad is not None}
    finer = {id(p) for p in prior.parameters_from(64)}
    assert finer
    assert not finer & coarse
    assert coarse <= {id(p) for p in prior.parameters_from(4)}
