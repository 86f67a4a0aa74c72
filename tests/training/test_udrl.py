"""Contrast: views under one damage attract, others do not; what is learned carries over to other faces."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from panini.models.deblur import Deblur
from panini.models.dre import DegradationEncoder
from panini.training.config import Hardware, Optimizer, UDRLConfig
from panini.training.data import FaceBank, Faces
from panini.training.udrl import UDRL, Canvases, UDRLTraining, _views, trust


@pytest.fixture(scope="module")
def bank(faces: Path) -> FaceBank:
    return FaceBank(Faces.open(faces), torch.device("cpu"))


def _encoder() -> DegradationEncoder:
    torch.manual_seed(0)
    return DegradationEncoder((8, 16, 16), (1, 2, 2), input_size=None, unshuffle=4, normalize=True, spectrum=True)


@pytest.mark.parametrize(("tiles", "canvases", "views"), [(1, 2, 2), (2, 1, 4), (4, 1, 16)])
def test_a_batch_is_one_damage_on_different_faces(bank: FaceBank, tiles: int, canvases: int, views: int) -> None:
    samples = Canvases(bank, {"paper": 1.0}, 3, tiles)
    given, truth = samples.batch(5, 2)
    assert truth.shape == given.shape == (2, canvases, 3, 512, 512)
    again = Canvases(bank, {"paper": 1.0}, 3, tiles).batch(5, 2)
    assert torch.equal(given, again[0])
    cut = _views(truth, tiles)
    assert cut.shape == (2, views, 3, 512 // tiles, 512 // tiles)
    assert torch.equal(cut[0, -1], truth[0, -1, :, -512 // tiles :, -512 // tiles :])


def test_trust_is_one_where_nothing_happened_and_small_where_detail_is_gone(bank: FaceBank) -> None:
    truth = bank.take([0])
    assert (trust(truth, truth, 5) == 1).all()
    small = torch.nn.functional.interpolate(torch.nn.functional.avg_pool2d(truth, 8), 512, mode="bilinear")
    left = trust(small, truth, 5)[0]
    assert left[0] < 0.1
    assert left[-1] > 0.9


def test_the_paper_s_loss_is_infonce() -> None:
    """Against a plain reading of MoCo: one positive, the queue's keys as negatives."""
    udrl = UDRL(_encoder(), UDRLConfig(queue=6, temperature=0.2, batch_negatives=False, trust=0.0)).train()
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


def test_contrast_is_learned_and_the_key_encoder_follows(bank: FaceBank) -> None:
    samples = Canvases(bank, {"paper": 1.0}, 0, tiles=4)
    config = UDRLConfig(queue=64, key_momentum=0.9, temperature=0.2, tiles=4)
    udrl = UDRL(_encoder(), config, Deblur(16)).train()
    given, truth = samples.batch(0, 6)
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
    assert losses[-1]["deblur"] < losses[0]["deblur"]
    assert not torch.equal(before, udrl.key_encoder.convs[0].weight)
    assert all(p.grad is None for p in udrl.key_encoder.parameters())


@pytest.mark.parametrize("paper", [True, False])
def test_a_run_writes_what_a_restorer_starts_from(faces: Path, tmp_path: Path, paper: bool) -> None:
    config = UDRLConfig(
        output=str(tmp_path / "run"),
        preset="toy",
        real=str(faces),
        steps=2,
        batch=2,
        tiles=1 if paper else 4,
        queue=16,
        batch_negatives=not paper,
        trust=0.0 if paper else 1.0,
        deblur=0.0 if paper else 1.0,
        optimizer=Optimizer("sgd" if paper else "adamw", warmup=0),
        hardware=Hardware(device="cpu"),
    )
    training = UDRLTraining(config)
    training.run()
    parts = {name.split(".")[0] for name in training.result()}
    assert parts == ({"dre"} if paper else {"dre", "deblur"})
    assert UDRLTraining(replace(config, steps=3)).step == 2
