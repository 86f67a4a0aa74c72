"""The weights in the package decide by damage, and training can go on from them."""

import pytest
from skimage.data import astronaut

torch = pytest.importorskip("torch")

from panini.errors import PaniniError  # noqa: E402
from panini.photo.pixels import to_signed  # noqa: E402
from panini.weights import DEFAULT  # noqa: E402
from panini.weights.checkpoint import build, load_network, load_weights  # noqa: E402


@torch.no_grad()
def test_the_network_decides_by_damage():
    network = load_weights(DEFAULT)
    smooth = torch.nn.functional.interpolate(torch.rand(1, 3, 16, 16) * 2 - 1, 512, mode="bicubic").clamp(-1, 1)
    clean = (smooth + 0.3 * torch.randn(1, 3, 512, 512)).clamp(-1, 1)
    blurred, noisy = (network.encode(x) for x in (smooth, clean))
    assert (blurred.w - network.lce.mean).abs().mean() > 0.05, "w is a person's, not the mean"
    photo = torch.from_numpy(to_signed(astronaut())[None])
    assert network.picture_share(blurred.v) < 0.1, "it has no detail to keep"
    assert network.picture_share(network.dre(photo)) > 0.9
    shares = [weights[:, 0].mean(1) for weights in network.dafi.weights(torch.cat((blurred.v, noisy.v))).values()]
    assert max((share[0] - share[1]).abs() for share in shares) > 0.05


def test_weights_to_start_from_must_fit():
    with pytest.raises(PaniniError, match="does not match the preset"):
        load_network(DEFAULT, build("toy"), ("ife.", "dafi."))
