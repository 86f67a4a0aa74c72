"""What the restorer is trained on."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from skimage import data

from panini.degradation import Degradation, Noise
from panini.models.discriminator import FeatureDiscriminator
from panini.models.lce import LowRankLatentCodeEncoder
from panini.photo.pixels import to_signed
from panini.training.losses import (
    Helpers,
    LatentMemory,
    RestorationObjective,
    Weights,
    lattice,
    seem_real,
    tell_apart,
)
from panini.weights import DEFAULT
from panini.weights.checkpoint import load_weights


def test_from_remembered_faces_the_latent_code_encoder_learns_w_of_others() -> None:
    torch.manual_seed(0)
    to_w = torch.randn(8 * 16, 16) / 8
    faces = torch.randn(500, 8, 4, 4)
    w = 1.0 + faces.flatten(1) @ to_w
    lce = LowRankLatentCodeEncoder(8, hidden=16, width=64, rank=4, latents=3, latent_dim=16)
    memory = LatentMemory(8, 16, size=256, batch=64, noise=0.1)
    optimizer = torch.optim.Adam(lce.parameters(), 3e-3)
    assert memory(lce, 0) == 0  # nothing is remembered yet
    for step in range(400):
        i = torch.arange(step, step + 2) % 400
        memory.remember(faces[i], w[i], torch.tensor([1.0, step % 2]))
        left = memory(lce, step)
        if left.requires_grad:
            optimizer.zero_grad()
            left.backward()
            optimizer.step()
    with torch.no_grad():
        error = (lce(faces[400:]) - w[400:, None]).square().mean()
    assert error / w[400:].var(0).mean() < 0.5
    assert memory.seen == 600


def test_what_the_memory_asks_depends_on_the_step_alone() -> None:
    lce = LowRankLatentCodeEncoder(8, latents=3, latent_dim=16)
    memories = [LatentMemory(8, 16, size=64, batch=8, seed=1) for _ in range(2)]
    for memory in memories:
        memory.remember(
            torch.arange(20 * 128.0).sin().view(20, 8, 4, 4), torch.arange(320.0).cos().view(20, 16), torch.ones(20)
        )
    with torch.no_grad():
        assert memories[0](lce, 5) == memories[1](lce, 5)
        assert memories[0](lce, 5) != memories[0](lce, 6)


def test_a_lattice_is_what_repeats_from_cell_to_cell() -> None:
    torch.manual_seed(0)
    pattern = torch.randn(1, 3, 4, 4)
    pattern -= pattern.mean((2, 3), keepdim=True)
    repeated = pattern.repeat(1, 1, 8, 8)
    torch.testing.assert_close(lattice(repeated, 4), pattern.abs().mean())
    torch.testing.assert_close(lattice(repeated + 5, 4), lattice(repeated, 4))
    flat = torch.randn(1, 3, 2, 2).repeat_interleave(16, 2).repeat_interleave(16, 3)
    assert lattice(flat, 4) < 1e-6
    assert lattice(torch.randn(1, 3, 32, 32), 4) < 0.4 * torch.randn(1, 3, 32, 32).abs().mean()


def test_a_discriminator_of_features_learns_to_tell_them_apart() -> None:
    torch.manual_seed(0)
    judge = FeatureDiscriminator([4, 8], hidden=8)
    optimizer = torch.optim.Adam(judge.parameters(), 1e-2)

    def features(real: bool) -> list[torch.Tensor]:
        """At random, but for one channel of the finer ones."""
        x = [torch.randn(2, 4, 16, 16), torch.randn(2, 8, 8, 8)]
        x[0][:, 0] += 2.0 * real
        return [part / part.norm(dim=1, keepdim=True) for part in x]

    assert judge(features(True)).shape == (2, 2 * 8 * 8)
    for _ in range(60):
        optimizer.zero_grad()
        tell_apart(judge, features(True), features(False)).backward()
        optimizer.step()
    with torch.no_grad():
        real, fake = judge(features(True)), judge(features(False))
    assert real[:, :64].mean() > 0.5 > -0.5 > fake[:, :64].mean(), "the finer head sees it"
    assert real[:, 64:].mean() - fake[:, 64:].mean() < 0.5, "the coarser cannot"
    assert (seem_real(fake) > seem_real(real)).all()
    assert seem_real(torch.zeros(3)).shape == (3,), "one logit a sample will do"


@pytest.mark.parametrize("window", [0, 64])
def test_what_is_made_of_the_moved_picture_is_laid_over_the_result(window: int) -> None:
    network = load_weights(DEFAULT)
    objective = RestorationObjective(network, Helpers(torch.nn.Identity(), network.prior), Weights(), window)
    face = torch.from_numpy(to_signed(np.ascontiguousarray(data.astronaut()))[None])
    place = (40, 24) if window else (0, 0)  # mirrored, it is in another place
    with torch.no_grad():
        own = network.dre(face)
        bands = network.picture_weights(own)
        full, _ = objective._made(network.encode(face, own, own), bands, place)
        seen = set()
        for seed in range(2):
            chance = torch.Generator().manual_seed(seed)
            here, there = objective._moved(face, own, own, bands, full, place, chance)
            side = (4 * window or 512) - 16
            assert here.shape == there.shape == (1, 3, 2 * side, 2 * side)
            near = F.l1_loss(here, there)
            for down, right in ((4, 0), (-4, 0), (0, 4), (0, -4)):
                assert near < 0.7 * F.l1_loss(here, there.roll((down, right), (2, 3)))
            seen.add(float(near))
        assert len(seen) == 2, "each time by other pixels"


def test_what_an_ensemble_would_show_is_what_is_compared() -> None:
    """Where something lies over the picture, the mean of two looks: nearer to the truth than one of them."""
    network = load_weights(DEFAULT)
    weights = Weights(l1=1.0, l1_generated=0.0, perceptual=0.0, feature=0.0, latent=0.0, lattice=0.0)
    helpers = Helpers(torch.nn.Identity(), network.prior)
    truth = np.ascontiguousarray(data.astronaut())
    batch = {
        "truth": torch.from_numpy(to_signed(truth)[None]),
        "given": torch.from_numpy(to_signed(Degradation((Noise(40.0),)).apply(truth, 0))[None]),
        "dial": torch.zeros(1),
        "realism": torch.ones(1),
    }
    for window in (0, 64):
        plain, ensemble = (
            RestorationObjective(network, helpers, weights, window, ensemble=both) for both in (False, True)
        )
        with torch.no_grad():
            apart, together = (float(ensemble(batch | {"adds": torch.full((1,), a)}, 0)["l1"]) for a in (0.0, 1.0))
            whole = float(plain(batch | {"adds": torch.ones(1)}, 0)["l1"])
        assert apart == pytest.approx(whole, rel=0.1), "all but the margins"
        assert together < 0.99 * apart
