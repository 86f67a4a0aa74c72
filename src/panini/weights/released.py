"""Reads published weights. Only this file contains the tensor names of other projects.

- Panini-Net by its authors (arXiv 2203.08444): `panini_mfr_latest.pth`, `panini_sr_latest.pth` into a `PaniniNet`,
  `moco_checkpoint_0199.pth.tar` into a `DegradationEncoder`.
- StyleGAN2 into a `StyleGAN2Prior`: rosinality's layout (`g_ema`) and OpenMMLab's (`generator_ema`, `generator`); its
  discriminator from rosinality's (`d`) into a `Discriminator`.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from panini.errors import PaniniError
from panini.models.discriminator import Discriminator
from panini.models.dre import DegradationEncoder, FixedDegradation
from panini.models.ife.rrdb import RRDBExtractor
from panini.models.panini_net import PaniniNet
from panini.models.prior.stylegan2 import StyleGAN2Prior, fir_kernel

Names = Iterator[tuple[str, str]]  # (ours, theirs); either a tensor or a module, whose tensors then bear equal names


def load_released(source: str | Path | Mapping[str, Any], network: nn.Module) -> None:
    """Loads published weights into `network`, every tensor exactly once.

    source: a file written by `torch.save`, or its content. network: a `PaniniNet` of preset `paper_mfr` or
    `paper_sr`, a `DegradationEncoder`, a `StyleGAN2Prior` or its `Discriminator` (rosinality's layout), of the sizes
    that the file has.

    Raises PaniniError if the file cannot be read safely, or a tensor is missing, unknown or of another shape, or a blur
    kernel differs from that of the network; `network` is then unchanged.
    """
    content, where = _open(source)
    theirs = _select(content, where, type(network))
    ours = network.state_dict()
    names = dict(_expand(_names(network, theirs), ours))
    kernels = {name for name in theirs if name.endswith(".kernel")}

    missing = [name for name in names.values() if name not in theirs]
    extra = theirs.keys() - names.values() - kernels
    # Axes of length one are ignored, because their positions differ between the layouts.
    misshapen = [
        f"{name} {_shape(theirs[name])} instead of {_shape(ours[own])}"
        for own, name in names.items()
        if name in theirs and _squeezed(theirs[name]) != _squeezed(ours[own])
    ]
    foreign_kernels = [name for name in kernels if not _is_fir_kernel(theirs[name], network)]
    problems = [
        f"{what}: {_shortened(which)}"
        for what, which in (
            ("missing", missing),
            ("not known", sorted(extra)),
            ("of another shape", misshapen),
            ("another blur kernel", sorted(foreign_kernels)),
        )
        if which
    ]
    if problems:
        raise PaniniError(f"{type(network).__name__} cannot take {where}: {'; '.join(problems)}")
    network.load_state_dict({own: theirs[name].reshape(ours[own].shape) for own, name in names.items()})


def load_stylegan2(source: str | Path | Mapping[str, Any]) -> StyleGAN2Prior:
    """A prior of the size that a published StyleGAN2 checkpoint has, with its weights; errors as `load_released`."""
    theirs = _select(*_open(source), StyleGAN2Prior)
    blocks = {name.split(".")[1] for name in theirs if name.startswith("to_rgbs.")}
    prior = StyleGAN2Prior(4 << min(max(len(blocks), 1), 8))  # load_released reports mismatches
    load_released(source, prior)
    return prior


def _open(source: str | Path | Mapping[str, Any]) -> tuple[Mapping[str, Any], str]:
    """The content of a checkpoint, and its name in error messages."""
    if isinstance(source, Mapping):
        return source, "the given weights"
    try:
        content = torch.load(source, map_location="cpu", weights_only=True)
    except OSError as error:
        raise PaniniError(f"cannot read {source}: {error.strerror or error}") from error
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise PaniniError(f"{source} is not a file of weights that can be read safely") from error
    if not isinstance(content, Mapping):
        raise PaniniError(f"{source} has no named tensors")
    return content, str(source)


# Prefixes of the tensor names by network; the first one that occurs is used.
_PREFIXES: dict[type[nn.Module], tuple[str, ...]] = {
    PaniniNet: ("generator.",),
    DegradationEncoder: ("module.encoder_q.",),
    StyleGAN2Prior: ("generator_ema.", "generator.", ""),
    Discriminator: ("discriminator.", ""),
}


def _select(content: Mapping[str, Any], where: str, kind: type[nn.Module]) -> dict[str, Tensor]:
    """The part of a checkpoint that is for a network of this kind, without the prefix of its names."""
    keys = ("d",) if kind is Discriminator else ("state_dict", "g_ema")
    state = next((content[key] for key in keys if isinstance(content.get(key), Mapping)), content)
    tensors = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    for prefix in _PREFIXES[kind]:
        chosen = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
        if chosen:
            return chosen
    raise PaniniError(f"no tensors named {_PREFIXES[kind][0]}… in {where}, as those of {kind.__name__} are")


def _expand(pairs: Names, ours: Mapping[str, Tensor]) -> Names:
    """Pairs of modules replaced by pairs of their tensors."""
    for own, name in pairs:
        if own in ours:
            yield own, name
        else:
            yield from ((full, name + full[len(own) :]) for full in ours if full.startswith(f"{own}."))


def _names(network: nn.Module, theirs: Mapping[str, Tensor]) -> Names:
    match network:
        case PaniniNet():
            yield from _panini_names(network)
        case DegradationEncoder():
            yield from _dre_names("", "")
        case Discriminator():
            yield from _discriminator_names(network)
        case StyleGAN2Prior():
            yield from (_rosinality_names if "style.1.weight" in theirs else _openmmlab_names)(network, "", "")


def _panini_names(network: PaniniNet) -> Names:
    assert isinstance(network.prior, StyleGAN2Prior)
    assert isinstance(network.ife, RRDBExtractor)
    yield from _openmmlab_names(network.prior, "prior.", "generator.")
    if isinstance(network.dre, FixedDegradation):
        yield "dre.vector", "choice_vector"
    else:
        yield from _dre_names("dre.", "deg_encoder.")
    yield from _rrdb_names(network.ife)
    yield "lce.conv", "encoder.5.0"
    yield "lce.linear", "encoder.5.3"
    yield "dafi.mlp", "AFS_maskGen.mapping"
    for i, resolution in enumerate(network.dafi.resolutions):
        yield f"dafi.convs.{resolution}", f"fusion_out.{i}"


def _dre_names(ours: str, theirs: str) -> Names:
    yield f"{ours}convs", f"{theirs}E"
    yield f"{ours}projection", f"{theirs}mlp"


def _rrdb_names(ife: RRDBExtractor) -> Names:
    yield "ife.stem", "encoder.0.0.conv_first"
    *blocks, last = range(len(ife.body))
    for i in blocks:
        for j in range(3):
            for k in range(5):
                yield f"ife.body.{i}.dense.{j}.convs.{k}", f"encoder.0.0.body.{i}.rdb{j + 1}.conv{k + 1}"
    yield f"ife.body.{last}", "encoder.0.0.conv_body"
    yield "ife.attention.conv", "encoder.0.1.fea_preprocess"
    yield "ife.attention.channel_mlp.0", "encoder.0.1.ChannelGate.mlp.1"
    yield "ife.attention.channel_mlp.2", "encoder.0.1.ChannelGate.mlp.3"
    yield "ife.attention.spatial_conv", "encoder.0.1.SpatialGate.spatial.conv"
    yield "ife.attention.spatial_norm", "encoder.0.1.SpatialGate.spatial.bn"
    for i in range(len(ife.head)):
        yield f"ife.head.{i}.0", f"encoder.0.{2 * i + 2}"
    for i, resolution in enumerate(ife.down):
        yield f"ife.down.{resolution}.0", f"encoder.{i + 1}.0"


def _openmmlab_names(prior: StyleGAN2Prior, ours: str, theirs: str) -> Names:
    for i in range(len(prior.mapping)):
        yield f"{ours}mapping.{i}.weight", f"{theirs}style_mapping.{i + 1}.linear.weight_orig"
        yield f"{ours}mapping.{i}.bias", f"{theirs}style_mapping.{i + 1}.bias"
    yield f"{ours}constant", f"{theirs}constant_input.input"
    for i, (own, name, is_rgb) in enumerate(_stylegan2_layers(prior)):
        yield f"{ours}{own}.conv.weight", f"{theirs}{name}.conv.weight_orig"
        yield f"{ours}{own}.conv.modulation.weight", f"{theirs}{name}.conv.style_modulation.linear.weight_orig"
        yield f"{ours}{own}.conv.modulation.bias", f"{theirs}{name}.conv.style_modulation.bias"
        yield f"{ours}{own}.bias", f"{theirs}{name}.bias" if is_rgb else f"{theirs}{name}.activate.bias"
        if not is_rgb:
            yield f"{ours}{own}.noise_strength", f"{theirs}{name}.noise_injector.weight"
            yield f"{ours}{own}.noise", f"{theirs}injected_noise_{i}"


def _rosinality_names(prior: StyleGAN2Prior, ours: str, theirs: str) -> Names:
    for i in range(len(prior.mapping)):
        yield f"{ours}mapping.{i}", f"{theirs}style.{i + 1}"
    yield f"{ours}constant", f"{theirs}input.input"
    for i, (own, name, is_rgb) in enumerate(_stylegan2_layers(prior)):
        yield f"{ours}{own}.conv", f"{theirs}{name}.conv"
        yield f"{ours}{own}.bias", f"{theirs}{name}.bias" if is_rgb else f"{theirs}{name}.activate.bias"
        if not is_rgb:
            yield f"{ours}{own}.noise_strength", f"{theirs}{name}.noise.weight"
            yield f"{ours}{own}.noise", f"{theirs}noises.noise_{i}"


def _discriminator_names(network: Discriminator) -> Names:
    def activated(ours: str, theirs: str, first: int = 0) -> Names:  # a low-pass filter may precede the convolution
        yield f"{ours}.weight", f"{theirs}.{first}.weight"
        yield f"{ours}.bias", f"{theirs}.{first + 1}.bias"

    yield from activated("from_rgb", "convs.0")
    for i in range(len(network.blocks)):
        ours, theirs = f"blocks.{i}", f"convs.{i + 1}"
        yield from activated(f"{ours}.conv1", f"{theirs}.conv1")
        yield from activated(f"{ours}.conv2", f"{theirs}.conv2", 1)
        yield f"{ours}.skip.weight", f"{theirs}.skip.1.weight"
    yield from activated("conv", "final_conv")
    yield "linear1", "final_linear.0"
    yield "linear2", "final_linear.1"


def _stylegan2_layers(prior: StyleGAN2Prior) -> Iterator[tuple[str, str, bool]]:
    """(ours, theirs, whether it makes a picture), with the same names in both public layouts; convolutions first, in
    order."""
    yield "conv", "conv1", False
    for i, resolution in enumerate(prior.blocks):
        yield f"blocks.{resolution}.conv1", f"convs.{2 * i}", False
        yield f"blocks.{resolution}.conv2", f"convs.{2 * i + 1}", False
    yield "to_rgb", "to_rgb1", True
    for i, resolution in enumerate(prior.blocks):
        yield f"blocks.{resolution}.to_rgb", f"to_rgbs.{i}", True


def _squeezed(tensor: Tensor) -> list[int]:
    return [n for n in tensor.shape if n != 1]


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"


def _is_fir_kernel(kernel: Tensor, network: nn.Module) -> bool:
    ours = fir_kernel() / (4 if isinstance(network, Discriminator) else 1)  # no zeros between pixels in downsampling
    return kernel.shape == ours.shape and torch.allclose(kernel.float(), ours, atol=1e-5)


def _shortened(items: Iterable[str], shown: int = 4) -> str:
    items = list(items)
    more = f" and {len(items) - shown} more" if len(items) > shown else ""
    return ", ".join(items[:shown]) + more
