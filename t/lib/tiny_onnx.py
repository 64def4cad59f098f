"""Makes the tiny ONNX models that sql/registry_*.sql holds as hexadecimal constants (needs package onnx).

    python3 t/lib/tiny_onnx.py net | open | words | where | two | odd

net: image N x 3 x 4 x 4 -> features N x 4 (1x1 convolution, ReLU, average), logits N x 3
open: image N x 3 x h x w -> features N x 4, map N x 4 x h x w
words: ids, mask batch x seq -> sum of the words' vectors, batch x 2
where: x N x 4 -> at k x 2, the places where x is not 0
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
    if kind == "open":
        w = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [-1, 0.5, 0.5]], np.float32).reshape(4, 3, 1, 1)
        return helper.make_graph(
            [helper.make_node("Conv", ["image", "w"], ["c"], kernel_shape=[1, 1]),
             helper.make_node("Relu", ["c"], ["map"]),
             helper.make_node("GlobalAveragePool", ["map"], ["p"]),
             helper.make_node("Flatten", ["p"], ["features"], axis=1)],
            "open",
            [helper.make_tensor_value_info("image", F, ["N", 3, "h", "w"])],
            [helper.make_tensor_value_info("features", F, ["N", 4]),
             helper.make_tensor_value_info("map", F, ["N", 4, "h", "w"])],
            [numpy_helper.from_array(w, "w")])
    if kind == "words":
        words = np.array([[1, 10], [2, 20], [3, 30], [4, 40], [5, 50]], np.float32)
        return helper.make_graph(
            [helper.make_node("Gather", ["words", "ids"], ["w"]),
             helper.make_node("Cast", ["mask"], ["f"], to=F),
             helper.make_node("Unsqueeze", ["f", "last"], ["m"]),
             helper.make_node("Mul", ["w", "m"], ["wm"]),
             helper.make_node("ReduceSum", ["wm", "seq"], ["sum"], keepdims=0)],
            "words",
            [helper.make_tensor_value_info(n, TensorProto.INT64, ["batch", "seq"]) for n in ("ids", "mask")],
            [helper.make_tensor_value_info("sum", F, ["batch", 2])],
            [numpy_helper.from_array(words, "words"), numpy_helper.from_array(np.array([2]), "last"),
             numpy_helper.from_array(np.array([1]), "seq")])
    if kind == "where":
        return helper.make_graph(
            [helper.make_node("NonZero", ["x"], ["nz"]), helper.make_node("Transpose", ["nz"], ["at"])], "where",
            [helper.make_tensor_value_info("x", F, ["N", 4])],
            [helper.make_tensor_value_info("at", TensorProto.INT64, ["k", 2])])
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
