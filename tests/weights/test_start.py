"""The weights that training can start from: in eight bits, without the parts that never change."""

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from panini.errors import PaniniError  # noqa: E402
from panini.weights import DEFAULT  # noqa: E402
from panini.weights.checkpoint import build, load_network  # noqa: E402

START = Path(__file__).parents[2] / "configs/start/prior-led.pt"


@torch.no_grad()
def test_the_start_decides_by_damage():
    network = build("prior_led").eval()
    prior = network.prior.constant.clone()
    load_network(DEFAULT, network, ("dre.", "deblur."))
    load_network(START, network, ("prior.", "ife.", "lce.", "dafi.", "picture.", "removal."))
    assert torch.equal(network.prior.constant, prior), "the file has no prior"
    assert network.removal is not None
    assert network.removal.head.weight.abs().max() > 0.01, "degradation removal is trained"
    assert all(tensor.isfinite().all() for tensor in network.state_dict().values())
    smooth = torch.nn.functional.interpolate(torch.rand(1, 3, 16, 16) * 2 - 1, 512, mode="bicubic").clamp(-1, 1)
    clean = (smooth + 0.3 * torch.randn(1, 3, 512, 512)).clamp(-1, 1)
    blurred, sharp = (network.encode(x) for x in (smooth, clean))
    assert (blurred.w - network.lce.mean).abs().mean() > 0.05, "w is a person's, not the mean"
    finest = network.picture_weights(torch.cat((blurred.v, sharp.v)))[:, :2]
    assert finest.max() < 0.5, "neither has detail to keep"
    shares = [weights[:, 0].mean(1) for weights in network.dafi.weights(torch.cat((blurred.v, sharp.v))).values()]
    assert max((share[0] - share[1]).abs() for share in shares) > 0.05


def test_a_start_must_fit():
    with pytest.raises(PaniniError, match="does not match the preset"):
        load_network(START, build("default"), ("ife.", "dafi."))
