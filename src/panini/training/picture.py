"""The fit of PictureDAFI: whether the picture is better than the generated face, by v_DR.

The rest of the network is finished and stays as it is. Some hundred degraded faces are compared with their originals,
once as PictureDAFI keeps them and once as generated. PictureDAFI then learns the share with the least expected error,
in a few thousand steps. Mixtures of both pictures are never judged: they cause ghosting.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from panini.errors import PaniniError
from panini.files import make_folder, write_atomically, write_file
from panini.models.dafi import PictureDAFI
from panini.models.panini_net import PaniniNet
from panini.training.batches import Batches
from panini.training.config import RestorerConfig
from panini.training.data import FaceBank, Faces
from panini.training.distances import DETAIL_SIZE, lost_detail, stlpips_of
from panini.training.generate import generate
from panini.training.identity import identity_of
from panini.training.loop import device_of
from panini.training.optim import channels_last
from panini.training.restorer import prior_of, starting_network

_CENTER = 0.344, 0.3125, 0.375, 0.375
"""Top, left, height and width of the crop for the perceptual distance, relative to an aligned face. It shows the eyes,
the nose and the upper lip."""
_STEEPNESS = 3
"""The power of the lost detail, a share in [0, 1], that weights perceptual and identity distance."""
_TRUST = 0.05
"""The share of its error that the picture is forgiven: the distances hardly notice that a lightly damaged face becomes
another person's."""
_FIT_STEPS = 3000
_FIT_BATCH = 64
_WRITE_EVERY = 20
_UNSEEN = 5
"""Every fifth face is not fitted, but reported."""


@dataclass(frozen=True)
class Costs:
    """v_DR of some faces, [N, dr_dim], and the errors of the picture and of the generated face, [N, 2]."""

    v: Tensor
    errors: Tensor


def fit_picture(config: RestorerConfig) -> str:
    """Fits the network of `config.start` on `config.steps` batches of faces. Writes `costs.pt`, from which a stopped
    run continues, and `last.pt` into `config.output`. Returns a table of errors. Raises PaniniError."""
    network = starting_network(config, prior_of(config.prior))
    if network.picture is None:
        raise PaniniError(f"preset {config.preset!r} has no PictureDAFI")
    if config.real_share != 1:
        raise PaniniError("PictureDAFI is fitted on real faces: set real_share=1.0")
    torch.manual_seed(config.seed)
    folder = Path(config.output)
    make_folder(folder)
    text = fit(network.picture, measure(config, network, folder / "costs.pt"))
    write_atomically(folder / "last.pt", partial(torch.save, network.state_dict()))
    write_file(folder / "fit.md", f"{text}\n".encode())
    return text


@torch.no_grad()
def measure(config: RestorerConfig, network: PaniniNet, path: Path | None = None) -> Costs:
    """The costs of `config.steps` batches; those in the file `path` are not measured again.

    The error is a sum of L1, ST-LPIPS and identity distance, with the weights of the config. The weights of the last
    two fall with the detail that the picture has kept: they reward texture, which looks like leather there.
    """
    device = device_of(config.hardware)
    faces = Faces.open(Path(config.real), config.size, config.least)
    bank = FaceBank(faces, device, config.memory, config.face_weights)
    batches = Batches(config, (network.prior.latents, network.prior.latent_dim), None, bank, device)
    network = network.to(device).eval()
    channels_last(network, config.hardware.channels_last)
    error = _Error(config).to(device)
    assert network.picture is not None
    kept: list[tuple[Tensor, ...]] = []
    if path is not None and path.exists():
        kept = list(zip(*(rows.split(config.batch) for rows in torch.load(path, weights_only=True)), strict=True))
    for step in range(len(kept), config.steps):
        batch = batches(step)
        v = network.dre(batch.given)
        with torch.autocast(device.type, torch.bfloat16, enabled=config.hardware.bf16):
            encoding = network.encode(batch.given, v, v)
            state = network.fused(encoding)
        last, ratio = network.dafi.resolutions[-1], network.prior.size // batch.truth.shape[-1]
        generated = generate(network.prior, state, encoding.w, last, ratio, config.hardware.bf16)
        ours, truth = encoding.picture.float(), batch.truth
        lost = lost_detail(*(F.adaptive_avg_pool2d(x, DETAIL_SIZE) for x in (ours, truth)))
        either = torch.tensor([[1.0], [0.0]], device=device)
        errors = []
        for i in range(len(lost)):
            pair = (x[i : i + 1].expand(2, -1, -1, -1) for x in (ours, generated))
            errors.append(error(network.picture(*pair, either), truth[i : i + 1], lost[i] ** _STEEPNESS))
        kept.append((v.cpu(), torch.stack(errors).cpu()))
        if path is not None and (step % _WRITE_EVERY == _WRITE_EVERY - 1 or step == config.steps - 1):
            rows = [torch.cat(each) for each in zip(*kept, strict=True)]
            write_atomically(path, partial(torch.save, rows))
    return Costs(*(torch.cat(each) for each in zip(*kept, strict=True)))


class _Error(nn.Module):
    """The error of versions of a face [N, 3, S, S], compared with its original [1, 3, S, S] -> [N]. looks: a weight of
    the perceptual distance and of the identity distance."""

    def __init__(self, config: RestorerConfig) -> None:
        super().__init__()
        self.losses, self.bf16 = config.losses, config.hardware.bf16
        self.perceptual = stlpips_of(config)
        channels_last(self.perceptual, config.hardware.channels_last)
        self.identity = identity_of(config)

    def forward(self, faces: Tensor, truth: Tensor, looks: Tensor) -> Tensor:
        faces = faces.clamp(-1, 1)
        total = self.losses.l1 * (faces - truth).abs().mean((1, 2, 3))
        side = truth.shape[-1]
        top, left, height, width = (round(part * side) for part in _CENTER)
        ours, theirs = (x[..., top : top + height, left : left + width] for x in (faces, truth))
        with torch.autocast(faces.device.type, torch.bfloat16, enabled=self.bf16):
            of_truth = [f.expand(len(faces), -1, -1, -1) for f in self.perceptual.features(theirs)]
            distance = self.perceptual.distance(self.perceptual.features(ours), of_truth)
        total = total + looks * self.losses.perceptual * distance.float()
        if self.identity is not None:
            likeness = (self.identity(faces) * self.identity(truth)).sum(1)
            total = total + looks * self.losses.identity * (1 - likeness)
        return total


def _regrets(errors: Tensor) -> Tensor:
    """How much worse each choice is than the better one, [N, 2], relative to the mean of both errors. So nearly clean
    faces, whose errors are small, count as much as heavily damaged ones."""
    errors = errors * torch.tensor([1 - _TRUST, 1.0])
    return (errors - errors.min(1, keepdim=True).values) / (errors.mean(1, keepdim=True) + 0.01)


def fit(picture: PictureDAFI, costs: Costs) -> str:
    """Fits `picture` on CPU to minimize the expected regret. Returns a table of mean regrets over the unseen faces."""
    fresh = PictureDAFI(costs.v.shape[1], picture.levels)
    unseen = torch.arange(len(costs.v)) % _UNSEEN == 0
    known = (~unseen).nonzero()[:, 0]
    regrets = _regrets(costs.errors)
    optimizer = torch.optim.AdamW(fresh.parameters(), 2e-3, weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, _FIT_STEPS)

    def expected(rows: Tensor) -> Tensor:
        share = fresh.share(costs.v[rows])
        return (torch.cat((share, 1 - share), 1) * regrets[rows]).sum(1).mean()

    chance = torch.Generator().manual_seed(0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # for products this small, threads only wait for each other
    for _ in range(_FIT_STEPS):
        rows = known[torch.randint(len(known), (_FIT_BATCH,), generator=chance)]
        optimizer.zero_grad()
        expected(rows).backward()
        optimizer.step()
        schedule.step()
    torch.set_num_threads(threads)
    with torch.no_grad():
        after = float(expected(unseen.nonzero()[:, 0]))
    picture.load_state_dict(fresh.state_dict())
    means = regrets[unseen].mean(0).tolist()
    rows_of = zip(("the picture", "the generated face", "by v_DR"), (*means, after), strict=True)
    lines = [f"| {name} | {value:.4f} |" for name, value in rows_of]
    return "\n".join(["| | mean regret |", "| --- | --- |", *lines])
