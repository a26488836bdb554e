"""Writes the models that the tests of `infer` run: `python make.py` (needs onnx 1.19).

Both take BGR 0-255, 64 x 64, and answer like YOLOX with two classes: 84 anchors (strides 8, 16, 32) of
x, y, w, h, objectness, class 0 ("red"), class 1 ("blue"). A cell of the grid is an object where it is bright,
of the class of its stronger colour, and exactly as large as the cell.

- `bright.onnx`: any number of pictures at once.
- `moody.onnx`: exactly one picture; fails at run time where a sample is above 250 (a Gather out of bounds).
"""

import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper, save

# Rows: x, y, w, h, objectness, red, blue. Columns: blue, green, red.
WEIGHTS = np.zeros((7, 3, 1, 1), np.float32)
WEIGHTS[4, :, 0, 0] = 0.05
WEIGHTS[5, :, 0, 0] = [-0.04, 0.0, 0.04]
WEIGHTS[6, :, 0, 0] = [0.04, 0.0, -0.04]
BIAS = np.array([0.5, 0.5, 0.0, 0.0, -5.0, 0.0, 0.0], np.float32)


def constant(name, values, dtype):
    return numpy_helper.from_array(np.array(values, dtype), name)


def model(path, batch, moody):
    nodes, levels = [], []
    constants = [
        numpy_helper.from_array(WEIGHTS, "weights"),
        numpy_helper.from_array(BIAS, "bias"),
        constant("flat", [0, 7, -1], np.int64),
    ]
    for stride in (8, 16, 32):
        pool, conv, flat = f"pool{stride}", f"conv{stride}", f"flat{stride}"
        nodes += [
            helper.make_node("AveragePool", ["images"], [pool], kernel_shape=[stride] * 2, strides=[stride] * 2),
            helper.make_node("Conv", [pool, "weights", "bias"], [conv]),
            helper.make_node("Reshape", [conv, "flat"], [flat]),
        ]
        levels.append(flat)
    nodes += [
        helper.make_node("Concat", levels, ["all"], axis=2),
        helper.make_node("Transpose", ["all"], ["anchors"], perm=[0, 2, 1]),
        helper.make_node("Split", ["anchors", "parts"], ["boxes", "logits"], axis=2),
        helper.make_node("Sigmoid", ["logits"], ["scores"]),
        helper.make_node("Concat", ["boxes", "scores"], ["answer" if moody else "output"], axis=2),
    ]
    constants.append(constant("parts", [4, 3], np.int64))
    if moody:
        constants += [constant("limit", 250.0, np.float32), constant("table", [0.0], np.float32)]
        nodes += [
            helper.make_node("ReduceMax", ["images"], ["brightest"], keepdims=0),
            helper.make_node("Greater", ["brightest", "limit"], ["too_bright"]),
            helper.make_node("Cast", ["too_bright"], ["index"], to=TensorProto.INT64),
            helper.make_node("Gather", ["table", "index"], ["nothing"]),
            helper.make_node("Add", ["answer", "nothing"], ["output"]),
        ]
    graph = helper.make_graph(
        nodes,
        path,
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [batch, 3, 64, 64])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [batch, 84, 7])],
        constants,
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    checker.check_model(made, full_check=True)
    save(made, path)


if __name__ == "__main__":
    model("bright.onnx", "batch", moody=False)
    model("moody.onnx", 1, moody=True)
