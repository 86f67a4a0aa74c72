"""Stores the weights of an ONNX graph in half precision, for `make_detector.py` and `make_aligner.py`."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def halve_weights(graph: onnx.GraphProto) -> None:
    """Each weight gets a cast to float32, which ONNX Runtime folds away when it loads the graph; unused ones are
    removed. The arithmetic stays float32."""
    used = {name for node in graph.node for name in node.input}
    casts, weights = [], []
    for tensor in graph.initializer:
        values = numpy_helper.to_array(tensor)
        if tensor.name not in used:
            continue
        if values.dtype == np.float32:
            weights.append(numpy_helper.from_array(values.astype(np.float16), tensor.name + ".half"))
            casts.append(helper.make_node("Cast", [tensor.name + ".half"], [tensor.name], to=TensorProto.FLOAT))
        else:
            weights.append(tensor)
    nodes = [*casts, *graph.node]
    del graph.initializer[:], graph.node[:]
    graph.initializer.extend(weights)
    graph.node.extend(nodes)
