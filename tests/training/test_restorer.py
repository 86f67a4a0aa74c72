"""The stages of the restorer at toy size: every term learns, what is to stay stays; the paper's recipe."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from skimage.data import astronaut

from panini.errors import PaniniError
from panini.faces.align import ffhq_transform
from panini.models import presets
from panini.models.dafi import DAFI
from panini.models.dre import DegradationEncoder
from panini.models.ife import RRDBExtractor
from panini.models.lce import LatentCodeEncoder
from panini.models.panini_net import PaniniNet
from panini.models.prior import StyleGAN2Prior
from panini.training.config import Hardware, Losses, RestorerConfig, load
from panini.training.objective import PARTS
from panini.training.restorer import RestorerTraining

Toy = Callable[..., RestorerConfig]
CONFIGS = Path(__file__).parents[2] / "configs"
STAGES = {
    "r": {"view": "picture", "real_share": 1.0},
    "a1": {},
    "a2": {},
    "b": {"view": "full", "real_share": 0.5},
    "p": {"view": "full", "window": 32, "parts_share": 0.7},
    "c": {"view": "full", "real_share": 0.5, "window": 32, "train_prior": 128},
}


def _stage(name: str, toy: Toy, identity: Path | None) -> RestorerConfig:
    """The stage's own config, but for the network's size and where its files are."""
    own = load(RestorerConfig, CONFIGS / f"{name}.toml")
    small = toy(steps=2)
    kept = ("output", "preset", "prior", "real", "size", "steps", "batch", "depth", "compare", "hardware")
    changes = {field: getattr(small, field) for field in kept}
    losses = own.losses if identity else replace(own.losses, identity=0.0)
    return replace(
        own,
        **changes,
        losses=losses,
        window=32 if own.window else 0,  # the discriminator needs 64 pixels
        minutes=0.0,
        start="",
        encoder="",
        least=0,
        identity=str(identity or ""),
        optimizer=small.optimizer,
    )


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_trains_what_it_says(name: str, toy_config: Toy, identity_file: Path | None) -> None:
    config = _stage(name, toy_config, identity_file)
    assert all(getattr(config, field) == value for field, value in STAGES[name].items())
    training = RestorerTraining(config)
    before = {n: p.detach().clone() for n, p in training.network.named_parameters()}
    terms: dict[str, torch.Tensor] = {}
    for _ in range(2):
        terms = dict(training.update())
        training.step += 1
    assert all(value.isfinite() for value in terms.values())
    wanted = {field for field, weight in vars(config.losses).items() if weight and field != "r1"}
    there = {"adversarial_features" if key.startswith("adversarial_") else key for key in terms}
    assert wanted <= there
    learning = (*config.train, *(["prior.blocks.128", "prior.head"] if config.train_prior else []))
    for parameter_name, parameter in training.network.named_parameters():
        moved = not torch.equal(parameter, before[parameter_name])
        assert not moved or f"{parameter_name}.".startswith(
            tuple(f"{part}." for part in (*learning, "prior.head_modulation"))
        )
    moved_parts = {n.split(".")[0] for n, p in training.network.named_parameters() if not torch.equal(p, before[n])}
    assert {part.split(".")[0] for part in config.train} - {"lce" if name == "c" else ""} <= moved_parts
    training.read()


def test_windows_of_parts_show_eyes_and_mouth() -> None:
    left, right, mouth = (-45.0, 0.0), (45.0, 0.0), 100.0  # an upright face, 90 between the eyes, 100 down to the mouth
    landmarks = np.array([left, right, (0, 50), (-30, mouth), (30, mouth)])
    crop = ffhq_transform(landmarks, 8)
    places = [crop[:, :2] @ point + crop[:, 2] for point in (left, right, (0.0, mouth))]
    for (row, column), (x, y) in zip(PARTS, places, strict=True):
        assert abs(x - (column + 1)) < 0.3, "the window has a side of two eighths, and this is its center"
        assert abs(y - (row + 1)) < 0.3


def test_the_loss_falls(toy_config: Toy) -> None:
    training = RestorerTraining(toy_config(steps=60, style_mixing=0.0))
    totals = []
    for _ in range(60):
        totals.append(float(training.update()["total"]))
        training.step += 1
    assert np.mean(totals[-10:]) < 0.9 * np.mean(totals[:10])


def test_removal_is_compared_perceptually_only_if_detail_is_left(toy_config: Toy) -> None:
    losses = Losses(removal=1.0, perceptual=1.0)
    training = RestorerTraining(toy_config(view="picture", real_share=1.0, losses=losses))
    batch = training.batches(0)
    small = F.avg_pool2d(batch.truth, 16)
    lost = replace(batch, given=F.interpolate(small, batch.truth.shape[-1], mode="bicubic").clamp(-1, 1))
    noisy = replace(batch, given=batch.truth + 0.1 * torch.randn_like(batch.truth))
    with torch.no_grad():
        of_lost, of_noisy = (training.objective(each, 0)[0] for each in (lost, noisy))
    assert of_lost["perceptual"] < 0.1 * of_noisy["perceptual"]
    assert of_noisy["perceptual"] > 0.01


def test_the_fused_state_is_the_network_s(toy_config: Toy) -> None:
    losses = Losses(l1=1.0)
    config = toy_config(view="full", compare=128, losses=losses, hardware=Hardware(device="cpu", bf16=False))
    training = RestorerTraining(config)
    batch = training.batches(0)
    network = training.network.eval()
    with torch.no_grad():
        terms, _ = training.objective(batch, 0)
        encoding = network.encode(batch.given)
        generated = F.avg_pool2d(network.generate(network.fused(encoding), encoding.w), 2)
    torch.testing.assert_close(terms["l1"], F.l1_loss(generated, batch.truth), atol=1e-4, rtol=1e-3)


def test_the_dial_moves_v_and_weighs_what_is_perceived(toy_config: Toy) -> None:
    losses = Losses(perceptual=1.0, l1=1.0)
    hardware = Hardware(device="cpu", bf16=False)
    config = toy_config(view="full", dial_share=1.0, real_share=0.5, losses=losses, batch=2, hardware=hardware)
    training = RestorerTraining(config)
    batch = training.batches(0)
    assert (batch.dial.abs() <= 1).all()
    assert (batch.dial != 0).all()
    at = {}
    with torch.no_grad():
        for dial in (0.0, 1.0):
            at[dial], _ = training.objective(replace(batch, dial=torch.full((2,), dial)), 0)
    assert at[1.0]["l1"] != at[0.0]["l1"], "v_DR moved, and so did the result"
    assert 2.5 < at[1.0]["perceptual"] / at[0.0]["perceptual"] < 5.5


def test_what_a_config_lacks_is_said(toy_config: Toy) -> None:
    for changes, message in (
        ({"losses": Losses(identity=1.0)}, "identity=…"),
        ({"train": ("nose",)}, "no module 'nose'"),
        ({"dial_share": 0.5}, "dial_share needs real faces"),
        ({"losses": Losses(adversarial=0.3)}, "relative to losses.perceptual"),
    ):
        with pytest.raises(PaniniError, match=message):
            RestorerTraining(toy_config(**changes))


@pytest.mark.slow
def test_validation_is_a_table_and_chooses_by_what_is_not_trained_on(toy_config: Toy, tmp_path: Path) -> None:
    truth = cv2.resize(np.ascontiguousarray(astronaut()[..., ::-1]), (512, 512))
    val = tmp_path / "val"
    for folder in ("gt", "mfr", "sr16", "heavy"):
        (val / folder).mkdir(parents=True)
    for name in ("000", "001", "002"):
        cv2.imwrite(str(val / f"gt/{name}.webp"), truth)
        small = cv2.resize(truth, (64, 64), interpolation=cv2.INTER_AREA)
        cv2.imwrite(str(val / f"sr16/{name}.png"), small)
        for task in ("mfr", "heavy"):
            cv2.imwrite(str(val / f"{task}/{name}.png"), cv2.resize(small, (512, 512)))
    rows = [{"name": name, "mfr": {"kind": "blur"}} for name in ("000", "001", "002")]
    (val / "manifest.json").write_text(json.dumps(rows))
    config = toy_config(steps=1, batch=1, validate_every=100.0, validation=str(val))
    RestorerTraining(config).run()
    text = (tmp_path / "run/validation.md").read_text()
    assert all(f"| {task} | 2 |" in text for task in ("mfr", "sr16", "heavy")), "even names alone"
    assert (tmp_path / "run/best.pt").exists()
    assert (tmp_path / "run/grid-000001.jpg").exists()
    assert RestorerTraining(config).best < float("inf")


def test_everything_of_the_paper_s_recipe_at_a_small_size(
    toy_config: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole results, VGG, discriminator with R1, prior and DRE fine-tuned: all of it moves."""

    def small() -> PaniniNet:
        prior = StyleGAN2Prior(128, 1024, 32)
        channels = {r: prior.channels[r] for r in (4, 8, 16, 32, 64)}
        ife = RRDBExtractor(channels=4, blocks=1, reduction=2, head=((512, 1),))
        lce, dre = LatentCodeEncoder(512, 8, prior.latents), DegradationEncoder((8, 8), (2, 2), 32)
        return PaniniNet(prior, ife, lce, dre, DAFI(8, channels, dict.fromkeys(channels, 512)), input_size=64)

    from panini.training import restorer

    monkeypatch.setattr(presets, "paper_small", small, raising=False)
    monkeypatch.setattr(restorer, "load_prior", lambda path: (small().prior, None))
    toy = toy_config()
    for recipe in ("paper-mfr", "paper-sr"):
        config = replace(
            load(RestorerConfig, CONFIGS / f"{recipe}.toml"),
            output=str(tmp_path / recipe),
            preset="paper_small",
            real=toy.real,
            encoder="",
            discriminator_weights="",
            size=128,
            compare=128,
            steps=2,
            batch=2,
            hardware=toy.hardware,
        )
        training = RestorerTraining(replace(config, losses=replace(config.losses, r1=10.0)))
        before = {n: p.detach().clone() for n, p in training.network.named_parameters()}
        (adversary,) = training.adversaries
        discriminator = {n: p.detach().clone() for n, p in adversary.module.named_parameters()}
        for _ in range(2):
            training.update()
            training.step += 1
        for module, old in ((training.network, before), (adversary.module, discriminator)):
            still = [n for n, p in module.named_parameters() if torch.equal(p, old[n])]
            assert all("mapping" in n or "projection" in n or "noise_strength" in n for n in still), still
