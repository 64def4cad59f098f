#!/usr/bin/env python3
"""Checkpoint -> backbone.onnx (batch normalisation folded into the convolutions) and backbone.json, with checks."""
import argparse
import hashlib
import json
import os
import time

import numpy as np
import onnx
import onnxruntime as ort
import torch
from onnx import TensorProto, helper, numpy_helper

from model import LABELS, Backbone
from train import holdout_split, load


def folded(block):
    """Weight and bias of a convolution that does what the convolution and its normalisation did."""
    conv, bn = block[0], block[1]
    scale = bn.weight / torch.sqrt(bn.running_var + bn.eps)
    return (conv.weight * scale[:, None, None, None]).detach().numpy(), (bn.bias - bn.running_mean * scale).detach().numpy()


class Graph:
    def __init__(self):
        self.nodes, self.weights = [], []

    def add(self, op, inputs, output, **attributes):
        self.nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output

    def constant(self, name, array):
        array = np.ascontiguousarray(array, dtype=np.float32)
        self.weights.append(numpy_helper.from_array(array, name))
        return name

    def conv(self, x, block, name):
        w, b = folded(block)
        return self.add("Conv", [x, self.constant(name + ".w", w), self.constant(name + ".b", b)], name,
                        kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[1, 1])


def build(net):
    g = Graph()
    x = g.add("Relu", [g.conv("input", net.stem, "stem")], "stem.relu")
    for i, s in enumerate(net.stages, 1):
        x = g.add("Relu", [g.conv(x, s.c, f"s{i}.c")], f"s{i}.relu")
        x = g.add("MaxPool", [x], f"s{i}.pool", kernel_shape=[2, 2], strides=[2, 2])
        y = g.add("Relu", [g.conv(x, s.r.a, f"s{i}.a")], f"s{i}.a.relu")
        y = g.add("Add", [g.conv(y, s.r.b, f"s{i}.b"), x], f"s{i}.sum")
        x = g.add("Relu", [y], f"s{i}.out")
    x = g.add("GlobalAveragePool", [x], "pool")
    x = g.add("Flatten", [x], "features", axis=1)
    w, b = (p.detach().numpy() for p in (net.fc.weight, net.fc.bias))
    g.add("Gemm", [x, g.constant("fc.w", w), g.constant("fc.b", b)], "logits", transB=1)
    value = helper.make_tensor_value_info
    graph = helper.make_graph(g.nodes, "millrace_cifar10", [value("input", TensorProto.FLOAT, ["N", 3, 32, 32])],
                              [value("features", TensorProto.FLOAT, ["N", net.widths[-1]]),
                               value("logits", TensorProto.FLOAT, ["N", 10])], g.weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8,
                              producer_name="millrace models/cifar10")
    onnx.checker.check_model(model, full_check=True)
    return model


def flops(model):
    """Multiply-adds of Conv and Gemm for one image, times two."""
    dims = {w.name: list(w.dims) for w in model.graph.initializer}
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim]
              for v in onnx.shape_inference.infer_shapes(model).graph.value_info}
    total = 0
    for n in model.graph.node:
        if n.op_type in ("Conv", "Gemm"):
            area = np.prod(shapes[n.output[0]][2:]) if n.op_type == "Conv" else 1
            total += 2 * int(np.prod(dims[n.input[1]])) * int(area)
    return total


def session(path, threads=1):
    o = ort.SessionOptions()
    o.intra_op_num_threads, o.inter_op_num_threads = threads, 1
    return ort.InferenceSession(path, o, providers=["CPUExecutionProvider"])


def normalised(x, spec):
    i = spec["input"]
    t = (x.astype(np.float32) / 255 - np.float32(i["mean"])) / np.float32(i["std"])
    return np.ascontiguousarray(t.transpose(0, 3, 1, 2))


def outputs(s, x, spec, size=250):
    """(features, logits) of uint8 images by ONNX Runtime."""
    parts = [s.run(["features", "logits"], {"input": normalised(x[i:i + size], spec)}) for i in range(0, len(x), size)]
    return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    ap.add_argument("--data", default="../shared/data", help="folder with cifar10_jpeg.tar.gz")
    ap.add_argument("--work", required=True, help="the folder given to train.py")
    ap.add_argument("--name", default="final", help="the run given to train.py")
    ap.add_argument("--out", default=os.path.dirname(os.path.abspath(__file__)), help="folder for the two files")
    ap.add_argument("--test", action="store_true", help="also the accuracy on all test images")
    ap.add_argument("--features", action="store_true", help="also features_{train,test}.npy and labels into --work")
    ap.add_argument("--threads", type=int, default=2, help="threads for accuracy and features")
    a = ap.parse_args()

    torch.set_num_threads(a.threads)
    state = torch.load(os.path.join(a.work, a.name, "checkpoint.pt"), weights_only=False)
    net = Backbone([int(w) for w in state["args"]["widths"].split(",")])
    net.load_state_dict(state["net"])
    net.eval()
    path = os.path.join(a.out, "backbone.onnx")
    model = build(net)
    onnx.save(model, path)
    spec = {"input": {"width": 32, "height": 32, "fit": "cover", "channels": "rgb", "range": [0, 1],
                      "mean": [round(m, 4) for m in state["mean"]], "std": [round(s, 4) for s in state["std"]],
                      "filter": "bilinear"}, "output": "features", "labels": LABELS}
    with open(os.path.join(a.out, "backbone.json"), "w") as f:
        json.dump(spec, f, indent=1)
        f.write("\n")

    archive = os.path.join(a.data, "cifar10_jpeg.tar.gz")
    train, test = load(archive, a.work, "train"), load(archive, a.work, "test")
    one = session(path)
    with torch.no_grad():
        want = [o.numpy() for o in net(torch.from_numpy(normalised(test[0][:64], spec)))]
    worst = max(np.abs(w - g).max() for w, g in zip(want, outputs(one, test[0][:64], spec)))
    print(f"largest difference from PyTorch float32 over 64 images: {worst:.2e}")
    assert worst < 1e-4
    image, times = normalised(test[0][:1], spec), []
    for _ in range(500):
        began = time.perf_counter()
        one.run(None, {"input": image})
        times.append(time.perf_counter() - began)
    with open(path, "rb") as f:
        digest = hashlib.sha256(f.read()).hexdigest()
    print(f"{os.path.getsize(path)} bytes, sha256 {digest}")
    print(f"{sum(p.numel() for p in net.parameters())} parameters in training, "
          f"{sum(int(np.prod(w.dims)) for w in model.graph.initializer)} in the file, {flops(model) / 1e6:.1f} MFLOP an image")
    print(f"ONNX Runtime, one thread, one image: median {np.median(times) * 1e3:.3f} ms, best {min(times) * 1e3:.3f} ms")

    many = session(path, a.threads)
    _, held = holdout_split(len(train[0]), state["args"]["holdout"])
    if len(held):
        right = outputs(many, train[0][held], spec)[1].argmax(1) == train[1][held]
        print(f"hold-out of {len(held)} training images: {right.mean():.4f}")
    if a.test:
        right = outputs(many, test[0], spec)[1].argmax(1) == test[1]
        print(f"CIFAR-10 JPEG test, {len(right)} images: {right.mean():.4f}")
    if a.features:
        for name, (x, y) in (("train", train), ("test", test)):
            f, logits = outputs(many, x, spec)
            for kind, array in (("features", f), ("logits", logits), ("labels", y.astype(np.int32))):
                np.save(os.path.join(a.work, f"{kind}_{name}.npy"), array)


if __name__ == "__main__":
    main()
