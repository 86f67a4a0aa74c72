import numpy as np
import pytest
from PIL import Image
from skimage import data

from panini.api import Restorer
from panini.cli import run
from panini.errors import PaniniError
from panini.faces.detect import CenterFace
from panini.inference import BicubicEngine
from panini.photo.upscale import Upscaler

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper  # noqa: E402


@pytest.fixture
def doubling(tmp_path):
    """A network that makes two by two pixels of each, and the picture a little brighter."""

    def make(factor=2, side="s"):
        scales = helper.make_tensor("scales", TensorProto.FLOAT, [4], [1, 1, factor, factor])
        more = helper.make_tensor("more", TensorProto.FLOAT, [1], [10 / 255])
        nodes = [
            helper.make_node("Resize", ["x", "", "scales"], ["large"], mode="nearest"),
            helper.make_node("Add", ["large", "more"], ["y"]),
        ]
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, side, side])
        y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3, None, None])
        graph = helper.make_graph(nodes, "doubling", [x], [y], [scales, more])
        path = tmp_path / f"doubling{factor}{side}.onnx"
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
        return path

    return make


@pytest.mark.parametrize(("factor", "side", "scale"), [(2, "s", 2), (2, 64, 2), (4, "s", 2), (2, "s", 4)])
def test_tiles_leave_no_trace(doubling, factor, side, scale):
    photo = np.clip(data.astronaut()[:300, :411], 0, 240)
    large = Upscaler(doubling(factor, side))(photo, scale)
    assert large.shape == (300 * scale, 411 * scale, 3)
    small = large.reshape(300, scale, 411, scale, 3).mean((1, 3))
    assert np.abs(small - photo - 10).max() <= (0.6 if scale <= factor else 40)
    assert np.abs(small - photo - 10).mean() < 1


def test_the_rest_is_enlarged_by_it_and_the_face_is_not(doubling, tmp_path):
    photo = np.clip(data.astronaut(), 0, 240)
    restorer = Restorer(BicubicEngine(), CenterFace(min_face=60))
    plain = np.asarray(restorer.restore(photo, scale=2).image).astype(int)
    with_it = np.asarray(restorer.restore(photo, scale=2, background=doubling()).image).astype(int)
    assert 9 < (with_it - plain)[700:].mean() < 11
    assert np.abs(with_it - plain)[180:300, 390:500].mean() < 1.5
    Image.fromarray(photo).save(tmp_path / "in.png")
    arguments = [
        "restore",
        str(tmp_path / "in.png"),
        "--background",
        str(doubling()),
        "--network",
        "bicubic",
        "--min-face",
        "60",
    ]
    assert run([*arguments, "--scale", "2"]) == 0
    assert run(arguments) == 2
    # A folder's too: also photos without a face, and again if there is another network.
    (tmp_path / "album").mkdir()
    Image.fromarray(data.brick()[:64, :64]).save(tmp_path / "album/wall.png")
    arguments = [
        "restore",
        str(tmp_path / "album"),
        "-o",
        str(tmp_path / "out"),
        "--network",
        "bicubic",
        "--scale",
        "2",
    ]
    means = []
    for more in ([], ["--background", str(doubling())]):
        assert run([*arguments, *more]) == 0
        means.append(np.asarray(Image.open(tmp_path / "out/wall.png")).mean())
    assert 9 < means[1] - means[0] < 11
    assert run([*arguments[:-1], "1", *more]) == 2


def test_what_is_no_such_network(doubling, tmp_path, capsys):
    (tmp_path / "text.onnx").write_text("not a network")
    for path, words in (
        (tmp_path / "missing.onnx", "not a file"),
        (tmp_path / "text.onnx", "not an ONNX super-resolution"),
        (doubling(1), "by 2, 3, 4 or 8"),
    ):
        with pytest.raises(PaniniError, match=words):
            Upscaler(path)
