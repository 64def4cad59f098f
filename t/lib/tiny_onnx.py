"""Makes the tiny ONNX models that sql/registry_*.sql holds as hexadecimal constants (needs package onnx).

    python3 t/lib/tiny_onnx.py net | two | odd

net: image N x 3 x 4 x 4 -> features N x 4 (1x1 convolution, ReLU, average), logits N x 3
two: a, b N x 2 -> sum N x 2
odd: an operator nobody has
"""
import sys

import numpy as np
from onnx import TensorProto, helper, numpy_helper


def graph(kind):
    F = TensorProto.FLOAT
    if kind == "net":
        w = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [-1, 0.5, 0.5]], np.float32).reshape(4, 3, 1, 1)
        g = np.array([[2, 0, 0], [0, 2, 0], [0, 0, 2], [0, 0, 0]], np.float32)
        return helper.make_graph(
            [helper.make_node("Conv", ["image", "w"], ["c"], kernel_shape=[1, 1]),
             helper.make_node("Relu", ["c"], ["r"]),
             helper.make_node("GlobalAveragePool", ["r"], ["p"]),
             helper.make_node("Flatten", ["p"], ["features"], axis=1),
             helper.make_node("Gemm", ["features", "g", "b"], ["logits"])],
            "net",
            [helper.make_tensor_value_info("image", F, ["N", 3, 4, 4])],
            [helper.make_tensor_value_info("features", F, ["N", 4]),
             helper.make_tensor_value_info("logits", F, ["N", 3])],
            [numpy_helper.from_array(w, "w"), numpy_helper.from_array(g, "g"),
             numpy_helper.from_array(np.array([0.5, 0, -0.5], np.float32), "b")])
    if kind == "two":
        return helper.make_graph(
            [helper.make_node("Add", ["a", "b"], ["sum"])], "two",
            [helper.make_tensor_value_info(n, F, ["N", 2]) for n in "ab"],
            [helper.make_tensor_value_info("sum", F, ["N", 2])])
    return helper.make_graph(
        [helper.make_node("Frobnicate", ["a"], ["y"], name="odd one")], "odd",
        [helper.make_tensor_value_info("a", F, ["N", 2])],
        [helper.make_tensor_value_info("y", F, ["N", 2])])


if __name__ == "__main__":
    model = helper.make_model(graph(sys.argv[1]), opset_imports=[helper.make_opsetid("", 13)], ir_version=7,
                              producer_name="millrace")
    print(model.SerializeToString().hex())
