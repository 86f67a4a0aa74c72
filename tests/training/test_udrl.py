"""Contrast: views under one damage attract, others do not; what is learned carries over to other faces."""

import cv2
import numpy as np
import pytest
import torch
from skimage.data import astronaut

from panini.models.dafi import PictureDAFI
from panini.models.dre import DegradationEncoder
from panini.training.data import Faces
from panini.training.udrl import UDRL, Canvases, _views


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Faces:
    folder = tmp_path_factory.mktemp("faces")
    for i in range(5):
        cv2.imwrite(str(folder / f"{i}.png"), np.roll(astronaut(), (40 * i, 70 * i), (0, 1))[..., ::-1])
    return Faces.open(folder)


def _encoder() -> DegradationEncoder:
    torch.manual_seed(0)
    return DegradationEncoder((8, 16, 16), (1, 2, 2), input_size=None, unshuffle=4, normalise=True, spectrum=True)


@pytest.mark.parametrize(("tiles", "canvases", "views"), [(1, 2, 2), (2, 1, 4), (4, 1, 16)])
def test_an_item_is_one_damage_on_different_faces(faces: Faces, tiles: int, canvases: int, views: int) -> None:
    samples = Canvases(faces, {"paper": 1.0}, 3, tiles)
    item = samples[5]
    assert item["truth"].shape == item["given"].shape == (canvases, 3, 512, 512)
    again = Canvases(faces, {"paper": 1.0}, 3, tiles, damage=False)[5]
    assert torch.equal(item["truth"], again["truth"])
    assert "given" not in again
    cut = _views(item["truth"][None], tiles)
    assert cut.shape == (1, views, 3, 512 // tiles, 512 // tiles)
    assert torch.equal(cut[0, -1], item["truth"][-1, :, -512 // tiles :, -512 // tiles :])


def test_the_paper_s_loss_is_infonce() -> None:
    """Against a plain reading of MoCo: one positive, the queue's keys as negatives."""
    udrl = UDRL(_encoder(), queue=6, temperature=0.2, batch_negatives=False).train()
    udrl.filled += 6
    v, key = torch.randn(3, 16), torch.randn(3, 16)
    q = torch.nn.functional.normalize(udrl.encoder.projection(v), dim=1)
    k = torch.nn.functional.normalize(udrl.key_encoder.projection(key), dim=1)
    logits = torch.cat(((q * k).sum(1, keepdim=True), q @ udrl.queue.T), 1) / 0.2
    expected = torch.nn.functional.cross_entropy(logits, torch.zeros(3, dtype=torch.long))
    queue = udrl.queue.clone()
    terms = udrl._compare(v, key, torch.zeros(3, 1, 3, 8, 8), torch.zeros(3, 1, 3, 8, 8))
    torch.testing.assert_close(terms["contrast"], expected)
    torch.testing.assert_close(udrl.queue, torch.cat((k, queue[3:])))  # the oldest keys made room


def test_contrast_is_learned_and_the_key_encoder_follows(faces: Faces) -> None:
    samples = Canvases(faces, {"paper": 1.0}, 0, tiles=4)
    udrl = UDRL(_encoder(), PictureDAFI(16, bands=5), queue=64, momentum=0.9, temperature=0.2, tiles=4).train()
    batch = [samples[i] for i in range(6)]
    given, truth = (torch.stack([item[k] for item in batch]) for k in ("given", "truth"))
    optimizer = torch.optim.Adam((p for p in udrl.parameters() if p.requires_grad), 3e-3)
    before = udrl.key_encoder.convs[0].weight.clone()
    losses = []
    for _ in range(12):
        terms = udrl(given, truth)
        optimizer.zero_grad()
        sum(terms.values()).backward()  # type: ignore[union-attr]
        optimizer.step()
        losses.append({name: term.item() for name, term in terms.items()})
    # The queue grows meanwhile, which makes the task harder; it is learned faster than that.
    assert losses[-1]["contrast"] < losses[0]["contrast"] + np.log(54 / 48 + 1) - 0.3
    assert losses[-1]["trust"] < losses[0]["trust"]
    assert not torch.equal(before, udrl.key_encoder.convs[0].weight)
    assert all(p.grad is None for p in udrl.key_encoder.parameters())
