"""The paper's two networks compute what the released ones do (`golden.py`)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import golden
from panini.models import presets
from panini.models.dafi import DAFI
from panini.models.dre import DegradationEncoder, FixedDegradation
from panini.weights.released import load_released

TOLERANCE = 1e-4
RESOLUTIONS = (4, 8, 16, 32, 64)


@pytest.fixture(autouse=True)
def _no_grad() -> Iterator[None]:
    with torch.no_grad():
        yield


def _assert_weights(dafi: DAFI, v: Tensor, stored: dict) -> None:
    weights = torch.cat([dafi.weights(v)[r] for r in RESOLUTIONS])  # [5, 2, 512]
    assert golden.relative_error(weights[:, 0], stored["mask_prior"]) < TOLERANCE
    assert golden.relative_error(weights[:, 1], stored["mask_image"]) < TOLERANCE


@pytest.mark.parametrize("name", ["mfr", "sr"])
def test_degradation_representation_and_interpolation_weights(name: str) -> None:
    """The quick half of the next test: only what DAFI is told, without the prior and the image features."""
    stored = golden.expected(name)
    if name == "mfr":
        dre: DegradationEncoder | FixedDegradation = DegradationEncoder().eval()
        encoder = golden.released_state(name, "deg_encoder.")
        prefix = "module.encoder_q."
        load_released({"state_dict": {prefix + k.removeprefix("deg_encoder."): v for k, v in encoder.items()}}, dre)
    else:
        dre = FixedDegradation(256)
        dre.load_state_dict({"vector": golden.released_state(name, "choice_vector")["choice_vector"]})
    v = dre(golden.picture(name, 512))
    assert golden.relative_error(v[0], stored["dr"]) < TOLERANCE

    dafi = DAFI(256, dict.fromkeys(RESOLUTIONS, 512), dict.fromkeys(RESOLUTIONS, 512))
    mapping = golden.released_state(name, "AFS_maskGen.mapping.")
    dafi.mlp.load_state_dict({k.removeprefix("AFS_maskGen.mapping."): t for k, t in mapping.items()})
    _assert_weights(dafi, v, stored)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "size"), [("mfr", 512), ("sr", 64)])
def test_every_stored_array(name: str, size: int) -> None:
    network = getattr(presets, f"paper_{name}")().eval()
    released = {f"generator.{k}": v for k, v in golden.released_state(name).items()}
    load_released({"state_dict": released | {"discriminator.convs.0.bias": torch.zeros(1)}}, network)
    assert network.input_size == size
    stored = golden.expected(name)

    encoding = network.encode(golden.picture(name, size))
    assert golden.relative_error(encoding.v[0], stored["dr"]) < TOLERANCE
    _assert_weights(network.dafi, encoding.v, stored)
    output = network.generate(network.fused(encoding), encoding.w)[0]
    assert golden.relative_error(F.avg_pool2d(output, 16), stored["output_mean16"]) < TOLERANCE
    assert golden.relative_error(output[:, 480:544, 480:544], stored["output_patch"]) < TOLERANCE
