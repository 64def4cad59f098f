#!/usr/bin/env python3
"""Train the backbone on CIFAR-10 JPEG, on the CPU. See README.md.

A checkpoint is written after every epoch; the same command run again goes on from the last one, and since each epoch
draws its random numbers from its own seed, an interrupted run sees the same batches as an uninterrupted one.
"""
import argparse
import io
import json
import os
import tarfile
import time

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from model import LABELS, Backbone


def load(archive, work, split):
    """Images (N x 32 x 32 x 3, uint8) and labels in name order, from the archive; kept decoded in work."""
    path = os.path.join(work, f"cifar10_{split}.npz")
    if not os.path.exists(path):
        rows = []
        with tarfile.open(archive) as tar:
            for m in tar:
                part = m.name.split("/")
                if m.isfile() and part[-3:-2] == [split]:
                    rgb = Image.open(io.BytesIO(tar.extractfile(m).read())).convert("RGB")
                    rows.append(("/".join(part[-2:]), np.asarray(rgb)))
        rows.sort(key=lambda r: r[0])
        np.savez(path + ".tmp.npz", x=np.stack([r[1] for r in rows]),
                 y=np.array([LABELS.index(r[0].split("/")[0]) for r in rows]))
        os.replace(path + ".tmp.npz", path)
    data = np.load(path)
    return data["x"], data["y"]


def holdout_split(n, size, seed=20261121):
    """Row numbers of the training part and of the hold-out; a smaller hold-out is a part of a larger one."""
    order = np.random.default_rng(seed).permutation(n)
    return np.sort(order[size:]), np.sort(order[:size])


class Muon(torch.optim.Optimizer):
    """Momentum whose update is orthogonalised by Newton-Schulz steps (K. Jordan 2024), for the 3x3 convolutions."""
    def __init__(self, params, lr, momentum, weight_decay):
        super().__init__(params, dict(lr=lr, momentum=momentum, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                buf = self.state[p].setdefault("momentum", torch.zeros_like(p))
                buf.mul_(group["momentum"]).add_(p.grad)
                g = p.grad.add(buf, alpha=group["momentum"]).flatten(1)
                x = g / (g.norm() + 1e-7)
                for _ in range(3):
                    a = x @ x.T
                    x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_(x.view_as(p), alpha=-group["lr"] * max(1, x.shape[0] / x.shape[1]) ** 0.5)


def batches(x, y, size, mean, std, rng, cutout, flip_offset):
    """Shuffled batches: random crop from 4 reflected pixels, alternating flip, cutout, normalised, channels last."""
    pad = np.pad(x, ((0, 0), (4, 4), (4, 4), (0, 0)), mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(pad, (32, 32), axis=(1, 2))  # N 9 9 3 32 32
    flips = (np.random.default_rng(7).integers(0, 2, len(x)) + flip_offset) % 2
    order = rng.permutation(len(x))
    grid = np.arange(32)
    for start in range(0, len(order) - size + 1, size):
        i = order[start:start + size]
        dy, dx = rng.integers(0, 9, (2, size))
        b = windows[i, dy, dx].transpose(0, 2, 3, 1)  # n 32 32 3
        b = np.where(flips[i][:, None, None, None] == 1, b[:, :, ::-1], b)
        t = (torch.from_numpy(np.ascontiguousarray(b)).float() / 255 - mean) / std
        if cutout:
            cy, cx = rng.integers(0, 32, (2, size, 1))
            h = cutout // 2
            my = (grid >= cy - h) & (grid < cy + h)
            mx = (grid >= cx - h) & (grid < cx + h)
            t[torch.from_numpy(my[:, :, None] & mx[:, None, :])] = 0
        yield t.permute(0, 3, 1, 2), torch.from_numpy(y[i])


@torch.no_grad()
def predict(net, x, mean, std, bf16=True):
    """(features, logits) of uint8 images, without augmentation."""
    net.eval()
    out = []
    for i in range(0, len(x), 500):
        t = ((torch.from_numpy(x[i:i + 500]).float() / 255 - mean) / std).permute(0, 3, 1, 2)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            out.append([o.float() for o in net(t)])
    return torch.cat([o[0] for o in out]).numpy(), torch.cat([o[1] for o in out]).numpy()


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    ap.add_argument("--data", default="../shared/data", help="folder with cifar10_jpeg.tar.gz")
    ap.add_argument("--work", required=True, help="folder for decoded images, checkpoints and the log")
    ap.add_argument("--name", default="final", help="name of this run within --work")
    ap.add_argument("--epochs", type=int, default=40)
    ap.add_argument("--widths", default="32,64,112,144")
    ap.add_argument("--optimizer", choices=["sgd", "muon"], default="muon")
    ap.add_argument("--lr", type=float, default=0.0, help="peak rate of the 3x3 convolutions; 0: the optimizer's default")
    ap.add_argument("--weight-decay", type=float, default=-1.0, help="-1: the optimizer's default")
    ap.add_argument("--smoothing", type=float, default=0.1)
    ap.add_argument("--cutout", type=int, default=12, help="side of the square set to the mean; 0: none")
    ap.add_argument("--batch", type=int, default=500)
    ap.add_argument("--holdout", type=int, default=2000, help="training images kept away, for choices and early looks")
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--threads", type=int, default=2)
    a = ap.parse_args()

    torch.set_num_threads(a.threads)
    torch.manual_seed(a.seed)
    run = os.path.join(a.work, a.name)
    os.makedirs(run, exist_ok=True)
    x, y = load(os.path.join(a.data, "cifar10_jpeg.tar.gz"), a.work, "train")
    keep, held = holdout_split(len(x), a.holdout)
    xh, yh, x, y = x[held], y[held], x[keep], y[keep]
    mean, std = torch.tensor([0.4913, 0.4821, 0.4465]), torch.tensor([0.2452, 0.2428, 0.2606])

    net = Backbone([int(w) for w in a.widths.split(",")]).to(memory_format=torch.channels_last)
    conv = [p for p in net.stages.parameters() if p.ndim == 4]
    rest = [p for p in net.parameters() if all(p is not c for c in conv)]
    other = dict(lr=0.2, momentum=0.9, weight_decay=5e-4, nesterov=True)
    if a.optimizer == "muon":
        opts = [Muon(conv, a.lr or 0.06, 0.9, 0.04 if a.weight_decay < 0 else a.weight_decay),
                torch.optim.SGD(rest, **other)]
    else:
        other["weight_decay"] = 5e-4 if a.weight_decay < 0 else a.weight_decay
        opts = [torch.optim.SGD(conv + rest, **dict(other, lr=a.lr or 0.4))]
    peak = [o.param_groups[0]["lr"] for o in opts]
    steps = len(x) // a.batch
    total = a.epochs * steps

    checkpoint = os.path.join(run, "checkpoint.pt")
    first = 0
    if os.path.exists(checkpoint):
        state = torch.load(checkpoint, weights_only=False)
        free = ("data", "work", "threads", "epochs")  # another number of epochs redraws the rest of the triangle
        if any(state["args"][k] != v for k, v in vars(a).items() if k not in free):
            raise SystemExit(f"{checkpoint} belongs to other options: {state['args']}")
        net.load_state_dict(state["net"])
        for o, s in zip(opts, state["opts"]):
            o.load_state_dict(s)
        first = state["epoch"]
        print(f"resumed after epoch {first}", flush=True)

    for epoch in range(first, a.epochs):
        rng = np.random.default_rng([a.seed, epoch])
        began, losses, right = time.time(), [], 0
        net.train()
        cut = a.cutout if epoch < a.epochs - 3 else 0  # the last epochs see whole images
        for step, (bx, by) in enumerate(batches(x, y, a.batch, mean, std, rng, cut, epoch)):
            at = (epoch * steps + step) / total
            rate = min(at / 0.15, (1 - at) / 0.85)  # one triangle
            for o, p in zip(opts, peak):
                o.param_groups[0]["lr"] = p * rate
            with torch.autocast("cpu", torch.bfloat16):
                logits = net(bx)[1].float()
            loss = F.cross_entropy(logits, by, label_smoothing=a.smoothing)
            for o in opts:
                o.zero_grad()
            loss.backward()
            for o in opts:
                o.step()
            losses.append(loss.item())
            right += (logits.argmax(1) == by).sum().item()
        accuracy = float((predict(net, xh, mean, std)[1].argmax(1) == yh).mean()) if a.holdout else None
        line = dict(epoch=epoch + 1, loss=round(float(np.mean(losses)), 4), train=round(right / (steps * a.batch), 4),
                    holdout=accuracy, seconds=round(time.time() - began, 1))
        torch.save(dict(args=vars(a), epoch=epoch + 1, net=net.state_dict(), opts=[o.state_dict() for o in opts],
                        mean=mean.tolist(), std=std.tolist()), checkpoint + ".tmp")
        os.replace(checkpoint + ".tmp", checkpoint)
        with open(os.path.join(run, "log.jsonl"), "a") as f:
            f.write(json.dumps(line) + "\n")
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
