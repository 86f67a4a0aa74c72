"""Published files are read strictly; what does not fit is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import golden
from panini.errors import PaniniError
from panini.models import presets
from panini.models.dre import DegradationEncoder
from panini.models.prior import StyleGAN2Prior
from panini.models.prior.stylegan2 import fir_kernel
from panini.weights.prior_wheel import import_prior, load_prior
from panini.weights.released import load_released, load_stylegan2

State = dict[str, Tensor]


def _moco() -> State:
    encoder = {k.removeprefix("deg_encoder."): v for k, v in golden.released_state("mfr", "deg_encoder.").items()}
    queue = {"module.queue": torch.zeros(256, 8192), "module.queue_ptr": torch.zeros(1, dtype=torch.long)}
    twins = {f"module.encoder_{which}.{k}": v for which in "qk" for k, v in encoder.items()}
    return queue | twins


def _flat(state: State, name: str) -> None:
    state[name] = state[name][:1]


def _rename(state: State, name: str) -> None:
    state[name.replace("E.0", "E.99")] = state.pop(name)


def test_the_query_encoder_of_a_moco_file(tmp_path: Path) -> None:
    path = tmp_path / "moco_checkpoint_0199.pth.tar"
    torch.save({"epoch": 200, "arch": "resnet18", "state_dict": _moco(), "optimizer": {"state": {}}}, path)
    encoder = DegradationEncoder()
    load_released(path, encoder)
    assert torch.equal(encoder.convs[15].weight, golden.released_state("mfr", "deg_encoder.E.15.weight").popitem()[1])
    assert torch.equal(encoder.projection[2].bias, golden.released_state("mfr", "deg_encoder.mlp.2.bias").popitem()[1])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda s: s.pop("module.encoder_q.E.0.weight"), r"missing: E\.0\.weight$"),
        (lambda s: s.update({"module.encoder_q.E.42.bias": torch.zeros(3)}), r"not known: E\.42\.bias$"),
        (lambda s: _flat(s, "module.encoder_q.mlp.0.weight"), r"shape: mlp\.0\.weight 1x256 instead of 256x256$"),
        (lambda s: _rename(s, "module.encoder_q.E.0.bias"), r"missing: E\.0\.bias; not known: E\.99\.bias$"),
        (lambda s: [s.pop(k) for k in list(s) if "encoder_q.E" in k], r"missing: E\.0\.weight, .* and \d+ more$"),
        (lambda s: [s.pop(k) for k in list(s) if "encoder_q" in k], r"no tensors named module\.encoder_q\."),
    ],
)
def test_what_does_not_fit_is_named_in_one_line(damage: Callable[[State], object], message: str) -> None:
    state = _moco()
    damage(state)
    encoder = DegradationEncoder()
    before = encoder.convs[0].weight.clone()
    with pytest.raises(PaniniError, match=message) as error:
        load_released({"state_dict": state}, encoder)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 300
    assert torch.equal(encoder.convs[0].weight, before)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mfr", "sr"])
def test_a_panini_file_round_trip_and_each_way_to_break_it(name: str, tmp_path: Path) -> None:
    state = {f"generator.{k}": v for k, v in golden.released_state(name).items()}
    state["discriminator.convs.0.bias"] = torch.zeros(4)
    path = tmp_path / f"panini_{name}_latest.pth"
    torch.save({"meta": {"iter": 1}, "state_dict": state}, path)
    network = getattr(presets, f"paper_{name}")()
    load_released(path, network)
    assert torch.equal(network.lce.linear.bias, state["generator.encoder.5.3.bias"])
    assert torch.equal(network.prior.blocks["1024"].conv2.noise, state["generator.generator.injected_noise_16"])

    whole = dict(state)
    state.pop("generator.encoder.3.0.bias")
    state["generator.encoder.9.0.bias"] = torch.zeros(1)
    state["generator.fusion_out.2.weight"] = torch.zeros(512, 256, 3, 3)
    state["generator.generator.to_rgbs.1.upsample.kernel"] = torch.ones(4, 4)
    with pytest.raises(PaniniError) as error:
        load_released({"state_dict": state}, network)
    for part in (
        "missing: encoder.3.0.bias",
        "not known: encoder.9.0.bias",
        "fusion_out.2.weight 512x256x3x3 instead of 512x512x3x3",
        "another blur kernel: generator.to_rgbs.1.upsample.kernel",
    ):
        assert part in str(error.value)
    other = "sr" if name == "mfr" else "mfr"
    with pytest.raises(PaniniError, match="missing"):
        load_released({"state_dict": whole}, getattr(presets, f"paper_{other}")())


def _layers(prior: StyleGAN2Prior) -> list[tuple[str, nn.Module]]:
    """The convolutions, then the pictures' layers, as both layouts name and order them."""
    blocks = list(prior.blocks.values())
    convs = [conv for block in blocks for conv in (block.conv1, block.conv2)]
    return [
        ("conv1", prior.conv),
        *((f"convs.{i}", conv) for i, conv in enumerate(convs)),
        ("to_rgb1", prior.to_rgb),
        *((f"to_rgbs.{i}", block.to_rgb) for i, block in enumerate(blocks)),
    ]


ROSINALITY = {
    "constant": "input.input",
    "mapping": "style.{}.weight",
    "mapping bias": "style.{}.bias",
    "weight": "{}.conv.weight",
    "modulation": "{}.conv.modulation.weight",
    "modulation bias": "{}.conv.modulation.bias",
    "noise strength": "{}.noise.weight",
    "noise": "noises.noise_{}",
}
OPENMMLAB = {
    "constant": "constant_input.input",
    "mapping": "style_mapping.{}.linear.weight_orig",
    "mapping bias": "style_mapping.{}.bias",
    "weight": "{}.conv.weight_orig",
    "modulation": "{}.conv.style_modulation.linear.weight_orig",
    "modulation bias": "{}.conv.style_modulation.bias",
    "noise strength": "{}.noise_injector.weight",
    "noise": "injected_noise_{}",
}


def _laid_out(prior: StyleGAN2Prior, names: dict[str, str]) -> State:
    """The prior's tensors as a checkpoint of that layout has them."""
    state = {names["constant"]: prior.constant}
    for i, linear in enumerate(prior.mapping, 1):
        state |= {names["mapping"].format(i): linear.weight, names["mapping bias"].format(i): linear.bias}
    for i, (name, layer) in enumerate(_layers(prior)):
        state[names["weight"].format(name)] = layer.conv.weight[None]
        state[names["modulation"].format(name)] = layer.conv.modulation.weight
        state[names["modulation bias"].format(name)] = layer.conv.modulation.bias
        if "rgb" in name:
            state[f"{name}.bias"] = layer.bias.view(1, 3, 1, 1)
        else:
            state[f"{name}.activate.bias"] = layer.bias
            state[names["noise strength"].format(name)] = layer.noise_strength
            state[names["noise"].format(i)] = layer.noise
        if name.startswith("to_rgbs"):
            state[f"{name}.upsample.kernel"] = fir_kernel()
        elif layer.conv.up:
            state[f"{name}.conv.blur.kernel"] = fir_kernel()
    return {name: tensor.detach().clone() for name, tensor in state.items()}


def _random_prior(size: int) -> StyleGAN2Prior:
    torch.manual_seed(3)
    prior = StyleGAN2Prior(size)
    with torch.no_grad():
        for name, parameter in prior.named_parameters():
            if name.endswith(("bias", "noise_strength")):
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return prior


@torch.no_grad()
def test_both_stylegan2_layouts_give_the_same_picture(tmp_path: Path) -> None:
    prior = _random_prior(16)
    w = prior.map(torch.randn(1, 512))[:, None].expand(-1, prior.latents, -1)
    picture = prior(w)
    assert picture.shape == (1, 3, 16, 16)

    mmlab = _laid_out(prior, OPENMMLAB)
    zeros = {f"generator.{name}": torch.zeros_like(tensor) for name, tensor in mmlab.items()}
    average = {f"generator_ema.{name}": tensor for name, tensor in mmlab.items()}
    files = {
        "rosinality.pt": {"g_ema": _laid_out(prior, ROSINALITY), "latent_avg": torch.zeros(512)},
        "mmlab.pth": {"state_dict": zeros | average | {"discriminator.bias": torch.zeros(1)}},  # the average counts
        "mmlab-only.pth": {"state_dict": {f"generator.{name}": tensor for name, tensor in mmlab.items()}},
        "bare.pth": mmlab,
    }
    for name, content in files.items():
        torch.save(content, tmp_path / name)
        read = load_stylegan2(tmp_path / name)
        assert read.size == 16
        assert torch.equal(read(w), picture), name


def test_another_size_is_refused() -> None:
    with pytest.raises(PaniniError, match=r"missing: convs\.4\.conv\.weight"):
        load_released({"g_ema": _laid_out(_random_prior(16), ROSINALITY)}, StyleGAN2Prior(32))


class _Foreign:
    """What a file must not be able to construct."""


def test_unsafe_broken_and_missing_files(tmp_path: Path) -> None:
    encoder = DegradationEncoder()
    unsafe, broken, text = tmp_path / "unsafe.pth", tmp_path / "broken.pth", tmp_path / "text.pth"
    torch.save({"state_dict": _Foreign()}, unsafe)
    torch.save({"state_dict": _moco()}, broken)
    broken.write_bytes(broken.read_bytes()[:1000])
    text.write_text("hello")
    torch.save([1, 2], tmp_path / "list.pth")
    for path in (unsafe, broken, text):
        with pytest.raises(PaniniError, match="read safely"):
            load_released(path, encoder)
    with pytest.raises(PaniniError, match="cannot read"):
        load_released(tmp_path / "absent.pth", encoder)
    with pytest.raises(PaniniError, match="no named tensors"):
        load_released(tmp_path / "list.pth", encoder)
    with pytest.raises(PaniniError, match="no tensors named"):
        load_released({"epoch": 1}, encoder)


def test_a_stylegan2_checkpoint_becomes_an_imported_prior(tmp_path: Path) -> None:
    source, out = tmp_path / "ffhq.pt", tmp_path / "ffhq.safetensors"
    prior = _random_prior(8)
    torch.save({"g_ema": _laid_out(prior, ROSINALITY)}, source)
    origin = import_prior(source, out)
    again, recorded = load_prior(out)
    assert recorded == origin
    assert origin.name == "ffhq.pt"
    assert again.size == 8
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in prior.state_dict().items())
