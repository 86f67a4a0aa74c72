"""The identity network against the values that its weights' author's code gives."""

from pathlib import Path

import pytest
import torch

from panini.errors import PaniniError
from panini.training.identity import MobileFaceNet


@pytest.fixture(scope="module")
def network(identity_file: Path | None) -> MobileFaceNet:
    if identity_file is None:
        pytest.skip("the identity network's weights are not here")
    return MobileFaceNet(identity_file)


def test_embeddings_are_those_of_the_released_network(network: MobileFaceNet) -> None:
    embedding = network.embed(torch.linspace(-1, 1, 3 * 112 * 112).view(1, 3, 112, 112))[0]
    expected = torch.tensor([-0.1700, -0.0170, -0.0244, 0.0079, -0.0381, 0.1308])
    torch.testing.assert_close(embedding[:6], expected, atol=1e-4, rtol=0)
    assert embedding.norm() == pytest.approx(1)


def test_the_crop_is_the_template_s_and_of_any_size(network: MobileFaceNet) -> None:
    across = torch.linspace(-1, 1, 512).expand(1, 3, 512, 512)
    crop = network.crop(across)
    left, right = ((x + 18.928) / 0.29209 / 512 * 2 - 1 for x in (0.5, 111.5))
    assert crop[0, 0, 50, 0] == pytest.approx(left, abs=0.01)
    assert crop[0, 0, 50, -1] == pytest.approx(right, abs=0.01)
    face = torch.rand(1, 3, 256, 256, requires_grad=True)
    (1 - network(face).sum()).backward()
    assert face.grad is not None
    assert face.grad.abs().sum() > 0


def test_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(b"nothing")
    with pytest.raises(PaniniError, match="cannot read the identity network"):
        MobileFaceNet(tmp_path / "x.safetensors")
