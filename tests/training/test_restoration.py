"""The restorer: the smoke recipe learns, a stopped run goes on, two processes are one with the double batch, and the
paper's losses on the paper's kind of network."""

import copy
import csv
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from skimage.data import astronaut

from panini.training.config import load
from panini.training.picture import train_picture
from panini.training.restoration import RestorationConfig, RestorationTraining

pytestmark = pytest.mark.slow
SMOKE = Path(__file__).parents[2] / "configs" / "smoke.toml"


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for i in range(3):
        cv2.imwrite(str(folder / f"{i}.jpg"), astronaut()[: 512 - 20 * i, 10 * i :, ::-1])
    return folder


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Aligned faces go to a folder of the test; the wheels stay where they are."""
    from panini.weights.downloads import cache_folder

    wheels, fresh = cache_folder(), tmp_path_factory.mktemp("cache")
    for wheel in wheels.glob("*.whl"):
        (fresh / wheel.name).symlink_to(wheel)
    monkeypatch.setenv("PANINI_CACHE", str(fresh))


def _smoke(photos: Path, output: Path, *overrides: str) -> RestorationConfig:
    return load(RestorationConfig, SMOKE, [f"real={photos}", f"output={output}", *overrides])


def _network(folder: Path) -> dict[str, torch.Tensor]:
    state = torch.load(folder / "last.pt", weights_only=True)["modules"]["network"]
    assert isinstance(state, dict)
    return state


def test_the_smoke_recipe_learns_and_a_stopped_run_goes_on(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    RestorationTraining(_smoke(photos, tmp_path / "whole")).run()
    with (tmp_path / "whole" / "log.csv").open() as file:
        rows = [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]
    first, last = rows[: len(rows) // 3], rows[-len(rows) // 3 :]
    assert np.mean([r["l1_generated"] for r in last]) < np.mean([r["l1_generated"] for r in first])

    training = RestorationTraining(_smoke(photos, tmp_path / "stopped"))
    update = training.update

    def update_until_sixth(batch: dict[str, torch.Tensor]) -> dict[str, float]:
        if training.step == 5:
            raise KeyboardInterrupt
        return update(batch)

    monkeypatch.setattr(training, "update", update_until_sixth)
    with pytest.raises(KeyboardInterrupt):
        training.run()
    RestorationTraining(_smoke(photos, tmp_path / "stopped")).run()
    whole, stopped = _network(tmp_path / "whole"), _network(tmp_path / "stopped")
    assert all(torch.equal(whole[name], stopped[name]) for name in whole)


def test_two_processes_are_one_with_the_double_batch(photos: Path, tmp_path: Path) -> None:
    """After a step of plain gradient descent, the weights tell the gradients."""

    def train(name: str, devices: int, batch: int) -> dict[str, torch.Tensor]:
        settings = ["steps=1", "checkpoint_every=1", "trust_steps=0", f"batch={batch}", "optimizer.name=sgd"]
        settings += ["optimizer.momentum=0.0", "optimizer.lr=0.1", "optimizer.warmup=1", "optimizer.clip=0.0"]
        settings += [f"hardware.devices={devices}", "hardware.accelerator=cpu", "hardware.threads=1"]
        settings += [f"real={photos}", f"output={tmp_path / name}", "dialled=1.0", "train_prior=256"]
        sets = [part for setting in settings for part in ("--set", setting)]
        command = [sys.executable, "-m", "panini.cli", "train", "restorer", "--config", str(SMOKE), *sets]
        # MKL's kernels of a newer CPU round one sample's products otherwise than two's, by 0.1 % of a gradient.
        one_branch = os.environ | {"MKL_CBWR": "COMPATIBLE"}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=one_branch)
        assert done.returncode == 0, done.stderr
        return _network(tmp_path / name)

    start = RestorationTraining(_smoke(photos, tmp_path / "start", "trust_steps=0")).network.state_dict()
    one, two = train("one", 1, 2), train("two", 2, 1)
    moved = 0
    for name, tensor in one.items():
        if tensor.is_floating_point():
            change = (tensor - start[name]).abs().max()
            moved += bool(change > 0)
            assert (tensor - two[name]).abs().max() <= 1e-3 * change + 1e-7, name
    assert moved > 100


def test_two_processes_take_every_kind_of_step(photos: Path, tmp_path: Path) -> None:
    """With sampled faces whose w is known, in half precision: on every other step PictureDAFI decides nothing."""
    from panini.training.sample import sample_faces
    from panini.weights.downloads import PRIOR, fetch
    from panini.weights.prior_wheel import load_prior

    sample_faces(load_prior(fetch(PRIOR))[0], tmp_path / "sampled", 3)
    settings = ["hardware.devices=2", "hardware.accelerator=cpu", "hardware.threads=1"]
    settings += ["hardware.precision=bf16-mixed", "optimizer.name=muon", "steps=5", "trust_steps=0"]
    settings += [f"real={photos}", f"output={tmp_path / 'run'}", f"sampled={tmp_path / 'sampled'}", "prior_share=0.7"]
    sets = [part for setting in settings for part in ("--set", setting)]
    command = [sys.executable, "-m", "panini.cli", "train", "restorer", "--config", str(SMOKE), *sets]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert torch.load(tmp_path / "run" / "last.pt", weights_only=True)["step"] == 5


def test_a_run_from_scratch_learns_to_deblur_first(photos: Path, tmp_path: Path) -> None:
    settings = ["trust_steps=0", "deblur_faces=24", "mixture={sr16=1.0}"]
    training = RestorationTraining(_smoke(photos, tmp_path, *settings))
    network = training.network
    assert network.deblur is not None
    given = training.samples[0]["given"][None]
    for damage in (True, False):  # by the workers; in batches, as on an accelerator
        if not damage:
            network.deblur.mlp[-1].reset_parameters()
            training.samples.damage = damage
            training.begin()
        with torch.no_grad():
            gains = network.deblur.log_gains(network.dre(given))[0]
        assert gains.max() > 0.1, "a picture made small lost something"
        assert gains[-1] < 0.5 * gains.max(), "what is gone altogether is not to be amplified"


@pytest.mark.parametrize("damage", [True, False], ids=["workers", "accelerator"])
def test_the_picture_is_fitted_last_and_alone(photos: Path, tmp_path: Path, damage: bool) -> None:
    settings = ["trust_steps=0", "steps=1", "mixture={sr16=1.0}", "picture_steps=24", "picture_l1=100.0"]
    training = RestorationTraining(_smoke(photos, tmp_path, *settings))
    training.samples.damage = damage
    before = {name: tensor.clone() for name, tensor in training.average.state_dict().items()}
    errors = list(training.fit_picture())[24:]
    assert np.mean(errors[-8:]) < np.mean(errors[:8])
    after = training.average.state_dict()
    changed = {name for name in after if not torch.equal(before[name], after[name])}
    assert changed
    assert all(name.startswith("picture.mlp.") for name in changed)


def test_the_picture_is_fitted_to_what_an_ensemble_shows(photos: Path, tmp_path: Path) -> None:
    training = RestorationTraining(_smoke(photos, tmp_path, "trust_steps=0"))
    sample = {name: value[None] for name, value in training.samples[0].items()}
    objective = training.restoration

    def first_error(adds: float, ensemble: bool) -> float:
        looks = [sample | {"adds": torch.tensor([adds])}]
        network = copy.deepcopy(training.average)
        return list(
            train_picture(
                network, looks, lambda a, b, _: F.l1_loss(a, b), objective.edited, objective.realism, ensemble
            )
        )[1]

    alone = first_error(0.0, True)
    assert alone == first_error(0.0, False) == first_error(1.0, False)
    assert alone != first_error(1.0, True)


def test_the_dial_moves_v_and_weighs_what_is_perceived(photos: Path, tmp_path: Path) -> None:
    training = RestorationTraining(_smoke(photos, tmp_path, "trust_steps=0", "dialled=1.0", "losses.feature=0.0"))
    sample = training.samples[0]
    assert -1 <= sample["dial"] <= 1
    assert sample["dial"] != training.samples[1]["dial"]
    objective, batch = training.restoration.eval(), {name: value[None] for name, value in sample.items()}
    assert objective.helpers.direction is not None
    with torch.no_grad():
        at = {dial: objective(batch | {"dial": torch.tensor([dial])}, 0) for dial in (0.0, 1.0)}
        quarter = objective(batch | {"dial": torch.zeros(1), "realism": torch.tensor([0.25])}, 0)
        objective.helpers.direction.zero_()
        still = objective(batch | {"dial": torch.tensor([1.0])}, 0)
    assert at[1.0]["l1"] != at[0.0]["l1"], "v_DR moved, and so did the result"
    assert still["l1"] == at[0.0]["l1"]
    torch.testing.assert_close(still["perceptual"], objective.DIAL_WEIGHT * at[0.0]["perceptual"])
    torch.testing.assert_close(quarter["perceptual"], 0.25 * at[0.0]["perceptual"])
    assert quarter["l1"] == at[0.0]["l1"]


def test_an_adversary_on_features_learns_alone_and_is_then_heeded(photos: Path, tmp_path: Path) -> None:
    settings = ["adversary=features", "losses.adversarial=1.0", "alone=2", "steps=4", "trust_steps=0"]
    training = RestorationTraining(_smoke(photos, tmp_path, *settings))
    assert training.discriminator is not None
    before = {n: p.clone() for n, p in training.discriminator.named_parameters()}
    terms = []
    update = training.update
    training.update = lambda batch: terms.append(update(batch)) or terms[-1]  # type: ignore[method-assign, func-returns-value]
    training.run()
    assert [t["adversarial"] > 0 for t in terms] == [False, False, True, True]
    assert all(t["discriminator"] > 0 for t in terms)
    assert not any(torch.equal(p, before[n]) for n, p in training.discriminator.named_parameters())


def test_everything_of_the_paper_s_recipe_at_a_small_size(photos: Path, tmp_path: Path, monkeypatch) -> None:
    """Whole results, VGG, discriminator with R1, prior and DRE fine-tuned: all of it moves."""
    from panini.models import presets
    from panini.models.dafi import DAFI
    from panini.models.dre import DegradationEncoder
    from panini.models.ife import RRDBExtractor
    from panini.models.lce import LatentCodeEncoder
    from panini.models.panini_net import PaniniNet
    from panini.models.prior import StyleGAN2Prior
    from panini.training import restoration

    def small() -> PaniniNet:
        prior = StyleGAN2Prior(128, 1024, 32)
        channels = {r: prior.channels[r] for r in (4, 8, 16, 32, 64)}
        ife = RRDBExtractor(channels=4, blocks=1, reduction=2, head=((512, 1),))
        lce, dre = LatentCodeEncoder(512, 8, prior.latents), DegradationEncoder((8, 8), (2, 2), 32)
        return PaniniNet(prior, ife, lce, dre, DAFI(8, channels, dict.fromkeys(channels, 512)), input_size=64)

    monkeypatch.setattr(presets, "paper_small", small, raising=False)
    monkeypatch.setattr(restoration, "load_prior", lambda path: (small().prior, None))
    paper = Path(SMOKE).with_name("paper-mfr.toml")
    changes = {
        "preset": "paper_small",
        "real": photos,
        "photos": "true",
        "output": tmp_path,
        "prior": "any",
        "dre": "''",
    }
    changes |= {"discriminator": "''", "size": 128, "steps": 2, "batch": 2, "validate_every": 0}
    changes |= {"losses.r1": 10, "hardware.workers": 0}
    config = load(RestorationConfig, paper, [f"{key}={value}" for key, value in changes.items()])
    training = RestorationTraining(config)
    before = {n: p.clone() for n, p in training.network.named_parameters()}
    assert training.discriminator is not None
    judge = {n: p.clone() for n, p in training.discriminator.named_parameters()}
    training.run()
    batch = {name: value[None] for name, value in training.samples[0].items()}
    for other in (batch["given"], batch["truth"]):
        near = training.restoration(batch | {"given": other}, 0)["l1"]
        assert (near == training.restoration(batch, 0)["l1"]) == (other is batch["given"]), "damage reaches the network"
    for module, old in ((training.network, before), (training.discriminator, judge)):
        still = [n for n, p in module.named_parameters() if torch.equal(p, old[n])]
        assert all("mapping" in n or "projection" in n or "noise_strength" in n for n in still), still
