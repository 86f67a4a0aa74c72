"""Deblurring by v_DR: a filter of the cosine transform, and what the shipped one does to real blurs."""

import math

import numpy as np
import pytest
import torch
from skimage.data import astronaut

from panini.degradation import Blur, Degradation, Downsample, Enlarge
from panini.models.deblur import Deblur, cosines
from panini.photo.pixels import to_signed
from panini.weights import DEFAULT
from panini.weights.checkpoint import load_weights


def _deblur(log_gains: list[float]) -> Deblur:
    """One that has these gains whatever v_DR says."""
    deblur = Deblur(4, nodes=len(log_gains))
    last = deblur.mlp[-1]
    assert isinstance(last, torch.nn.Linear)
    with torch.no_grad():
        last.weight.zero_()
        last.bias.copy_(torch.tensor([math.log(math.expm1(g)) + 3.0 if g else -60.0 for g in log_gains]))
    return deblur


@torch.no_grad()
def test_without_gains_the_picture_stays_and_waves_are_orthonormal() -> None:
    waves = cosines(64)
    torch.testing.assert_close(waves @ waves.T, torch.eye(64), atol=1e-5, rtol=0)
    x = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(_deblur([0.0] * 5)(x, torch.zeros(2, 4)), x, atol=1e-5, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("node", [3, 4, 5])
def test_each_frequency_gets_its_node_s_gain(node: int) -> None:
    log_gains = [0.0] * 6
    log_gains[node - 1] = 1.0
    deblur = _deblur(log_gains)
    size = 128
    frequency = deblur.LOWEST * (math.sqrt(2) / deblur.LOWEST) ** (node / deblur.nodes)
    number = round(frequency * size)
    wave = cosines(size)[number].expand(1, 3, size, size)
    expected = torch.exp(deblur.at(torch.tensor(number / size)) @ torch.tensor(log_gains))
    torch.testing.assert_close(deblur(wave, torch.zeros(1, 4)), expected * wave, atol=1e-4, rtol=0)
    assert expected > 2.0
    coarse = cosines(size)[1].expand(1, 3, size, size)
    torch.testing.assert_close(deblur(coarse, torch.zeros(1, 4)), coarse, atol=1e-4, rtol=0)


@torch.no_grad()
def test_no_frequency_is_weakened() -> None:
    deblur = Deblur(8)
    assert (deblur.log_gains(10 * torch.randn(64, 8)) >= 0).all()


@pytest.mark.parametrize(
    ("degradation", "least"),
    [
        (Degradation((Blur(2.2),)), 1.5),
        (Degradation((Blur(4.0),)), 1.0),
        (Degradation((Downsample(8.0, "bicubic-aa"), Enlarge("bicubic"))), 0.2),
        (Degradation(()), -0.5),
    ],
    ids=str,
)
def test_the_shipped_one_brings_a_blurred_face_nearer_to_the_sharp_one(degradation: Degradation, least: float) -> None:
    """In dB. It sees nothing but v_DR, and no blur of these is one it was told of."""
    face = np.ascontiguousarray(astronaut())
    damaged = degradation.apply(face, 0)
    truth, given = (torch.from_numpy(to_signed(picture))[None] for picture in (face, damaged))
    network = load_weights(DEFAULT)
    assert network.deblur is not None
    with torch.no_grad():
        deblurred = network.deblur(given, network.dre(given))
    before, after = ((x - truth).square().mean().clamp_min(1e-5).item() for x in (given, deblurred))
    assert 10 * math.log10(before / after) >= least


@torch.no_grad()
def test_what_a_picture_is_deblurred_by_is_its_own() -> None:
    """The dial, `--like` and single levels of v_DR are about what to believe; a blur is a fact."""
    face = Degradation((Blur(3.0),)).apply(np.ascontiguousarray(astronaut()), 0)
    given = torch.from_numpy(to_signed(face))[None]
    network = load_weights(DEFAULT)
    v = network.dre(given)
    own, moved = network.encode(given), network.encode(given, v.roll(1, 1))
    torch.testing.assert_close(own.picture, moved.picture, atol=0, rtol=0)
    assert (own.picture - given).abs().max() > 0.05
    assert (own.weights[64] - moved.weights[64]).abs().max() > 0.05
    torch.testing.assert_close(own.weights, network.encode(given, v).weights)
