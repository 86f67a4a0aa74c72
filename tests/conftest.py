"""A network of every part that the default one has, so small that it is exported in seconds: 32 in, 64 out."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import panini  # noqa: F401  before any test imports ONNX Runtime, so that its telemetry is off

# What the base install cannot run.
collect_ignore = [] if find_spec("fastapi") else ["server"]
try:
    import torch  # noqa: F401
except ModuleNotFoundError:
    collect_ignore += ["evaluation", "models", "training", "weights/test_export.py", "weights/test_released.py"]

FAULTS = Path(__file__).parent / "data" / "faults"
"""Small files, each of which was once treated wrong."""


@pytest.fixture(scope="session")
def faults() -> Path:
    return FAULTS


@pytest.fixture(scope="session")
def tiny_state(tmp_path_factory) -> Path:
    """What training writes of the preset `paper_tiny`, which exists for the tests alone."""
    torch = pytest.importorskip("torch")
    from panini.models import presets
    from panini.models.dafi import DAFI, PictureDAFI
    from panini.models.dre import DegradationEncoder
    from panini.models.ife import TrunkExtractor
    from panini.models.lce import OffsetLatentCodeEncoder
    from panini.models.panini_net import PaniniNet
    from panini.models.prior import MobilePrior

    class TinyPrior(MobilePrior):
        size = 64
        channels = {4: 32, 8: 32, 16: 16, 32: 8}  # noqa: RUF012
        latents = 11
        latent_dim = 16

    def tiny() -> PaniniNet:
        prior, fused = TinyPrior(), (4, 8, 16)
        dre = DegradationEncoder((8, 12), (1, 2), input_size=None, unshuffle=4)
        ife = TrunkExtractor({4: 16, 8: 16, 16: 8}, {8: 16, 16: 8}, input_size=32)
        lce = OffsetLatentCodeEncoder(16, 16, 4, prior.latents, prior.latent_dim)
        dafi = DAFI(dre.dim, {r: prior.channels[r] for r in fused}, ife.channels, 8, 1, normalized=True)
        return PaniniNet(prior, ife, lce, dre, dafi, PictureDAFI(dre.dim, levels=2), input_size=32)

    patch = pytest.MonkeyPatch()
    patch.setattr(presets, "paper_tiny", tiny, raising=False)
    torch.manual_seed(0)
    network = tiny()
    for name, tensor in network.state_dict().items():
        if name.endswith(("noise", "running_mean", "mlp.2.weight")):
            torch.nn.init.normal_(tensor, std=0.3)
    path = tmp_path_factory.mktemp("tiny") / "best.pt"
    torch.save(network.state_dict(), path)
    yield path
    patch.undo()


@pytest.fixture(scope="session")
def tiny_weights(tiny_state, tmp_path_factory) -> Path:
    """The same exported: a weights file with its graphs beside it. Read only."""
    from panini.weights.export import export

    return export(tiny_state, tmp_path_factory.mktemp("exported"), "paper_tiny", {"samples": "7"})


@pytest.fixture
def own_weights(tiny_weights, tmp_path) -> Path:
    """A copy of `tiny_weights` and its graphs in the test's own folder, to be changed."""
    for path in tiny_weights.parent.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path / tiny_weights.name


@pytest.fixture
def tiny_faces() -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, (3, 3, 32, 32)).astype(np.float32)
