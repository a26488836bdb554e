#!/usr/bin/env python3
"""Trains the demo's confirming model on crops of rendered streets, on a CPU, offline, and writes model.onnx.

    huiyan sim dataset --labels subjects --out target/confirm/train --count 6000 --seed 1
    huiyan sim dataset --labels subjects --out target/confirm/val --count 800 --seed 900001
    python models/street-confirm/train.py --train target/confirm/train --val target/confirm/val --out target/confirm/model.onnx

README.md beside this file says how the committed model was trained.

A crop is what the pipeline cuts out: the box around what a detector groups, widened by a margin, its shorter side grown
until it is square, moved into the picture. Each epoch cuts anew, with another margin and a box that is off by a little, as
a detector's is. Output: `N x classes`, logits.

It is for the demo. It has seen nothing but drawings and is of no use on a real street.
"""

import argparse
import copy
import hashlib
import json
import pathlib
import time

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

SIDE = 96
MARGIN = 0.3  # of `confirm` in the pipeline
MARGINS = (0.15, 0.55)  # in training
WEIGHTS = (1.3, 1.0, 1.0, 1.0, 1.0)  # how often each class is drawn: vendor, then what is none
# Boxes with a shorter longest side (pixels of the picture) are not learned and not measured: nothing can be told of them.
LEAST = 20


def conv(inside, outside, size=3, stride=1, groups=1):
    return nn.Sequential(
        nn.Conv2d(inside, outside, size, stride, size // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outside),
        nn.ReLU(inplace=True),
    )


class Block(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.body = nn.Sequential(conv(channels, channels // 2, 1), conv(channels // 2, channels))

    def forward(self, x):
        return x + self.body(x)


class Classifier(nn.Module):
    """Input N x 3 x 96 x 96, RGB, 0..1. Output N x classes, logits."""

    def __init__(self, classes):
        super().__init__()
        self.body = nn.Sequential(
            conv(3, 12, stride=2),
            conv(12, 24, stride=2),
            Block(24),
            conv(24, 40, stride=2),
            Block(40),
            conv(40, 64, stride=2),
            Block(64),
            conv(64, 80, 1),
        )
        self.last = nn.Sequential(nn.Dropout(0.2), nn.Linear(160, classes))

    def forward(self, x):
        x = self.body(x)
        # What there is at all, and what is strongest somewhere: a small thing in the middle decides.
        return self.last(torch.cat([x.mean((2, 3)), x.amax((2, 3))], 1))


def square(box, margin, size):
    """The part of the picture that the pipeline cuts out: left, top, right, bottom."""
    x, y, w, h = box
    w, h, cx, cy = w * (1 + 2 * margin), h * (1 + 2 * margin), x + w / 2, y + h / 2
    side = max(w, h, 4.0)
    w, h = min(side, size[0]), min(side, size[1])
    left = min(max(cx - w / 2, 0), size[0] - w)
    top = min(max(cy - h / 2, 0), size[1] - h)
    return left, top, left + w, top + h


class Crops:
    """The boxes of a data set, each with as much of its picture around it as training may ask for."""

    AROUND, LARGEST = 1.1, 208

    def __init__(self, folder):
        folder = pathlib.Path(folder)
        labels = json.loads((folder / "labels.json").read_text())
        self.names = [c["name"] for c in labels["categories"]]
        files = {i["id"]: folder / "images" / i["file_name"] for i in labels["images"]}
        self.boxes, last = [], None
        for a in labels["annotations"]:
            if max(a["bbox"][2:]) < LEAST:
                continue
            if a["image_id"] != last:
                last, picture = a["image_id"], Image.open(files[a["image_id"]]).convert("RGB")
            left, top, right, bottom = square(a["bbox"], self.AROUND, picture.size)
            part = (int(left), int(top), int(np.ceil(right)), int(np.ceil(bottom)))
            size, edges = (part[2] - part[0], part[3] - part[1]), picture.size
            # Smaller is not needed finer: what is cut of it has at most 96 pixels a side.
            shrink = min(1.0, self.LARGEST / max(size))
            size = (max(1, round(size[0] * shrink)), max(1, round(size[1] * shrink)))
            view = np.asarray(picture.crop(part).resize(size, Image.BILINEAR))
            self.boxes.append((view, part, edges, a["bbox"], a["category_id"]))

    def cut(self, index, rng=None):
        view, part, edges, (x, y, w, h), category = self.boxes[index]
        margin = MARGIN
        if rng is not None:
            # A detector's box is off by a little, and a part of the group may be missing or something beside it in it.
            off = rng.normal(0, 0.06, 4) * (rng.random() < 0.9) + rng.normal(0, 0.15, 4) * (rng.random() < 0.15)
            x, y, w, h = x + off[0] * w, y + off[1] * h, w * np.exp(off[2]), h * np.exp(off[3])
            margin = rng.uniform(*MARGINS)
        wanted = square((x, y, w, h), margin, edges)
        scale = (view.shape[1] / (part[2] - part[0]), view.shape[0] / (part[3] - part[1]))
        inside = [(value - part[i % 2]) * scale[i % 2] for i, value in enumerate(wanted)]
        inside = [min(max(value, 0), view.shape[1 - i % 2]) for i, value in enumerate(inside)]
        if inside[2] - inside[0] < 1 or inside[3] - inside[1] < 1:
            inside = [0, 0, view.shape[1], view.shape[0]]
        crop = np.asarray(Image.fromarray(view).resize((SIDE, SIDE), Image.BILINEAR, box=inside), np.float32) / 255
        if rng is not None:
            crop = crop[:, ::-1] if rng.random() < 0.5 else crop
            mean = crop.mean()
            crop = ((crop - mean) * rng.uniform(0.7, 1.3) + mean) * rng.uniform(0.75, 1.25) + rng.normal(0, 0.015, (1, 1, 3))
            crop = np.clip(crop, 0, 1).astype(np.float32)
        return crop.transpose(2, 0, 1), category


def batches(crops, size, rng):
    kinds = np.array([box[-1] for box in crops.boxes])
    share = np.array(WEIGHTS)[kinds] / np.bincount(kinds, minlength=len(WEIGHTS))[kinds]
    share /= share.sum()
    while True:
        cut = [crops.cut(i, rng) for i in rng.choice(len(kinds), size, p=share)]
        yield torch.from_numpy(np.stack([c for c, _ in cut])), torch.tensor([k for _, k in cut])


@torch.no_grad()
def measure(model, crops):
    """Rows: what it is; columns: what the model says. Returns also the accuracy of accepting `vendor` at 0.6."""
    model.eval()
    table = np.zeros((len(crops.names),) * 2, int)
    kept, let = [0, 0], [0, 0]
    for start in range(0, len(crops.boxes), 256):
        cut = [crops.cut(i) for i in range(start, min(start + 256, len(crops.boxes)))]
        scores = F.softmax(model(torch.from_numpy(np.stack([c for c, _ in cut]))), 1).numpy()
        for (_, truth), row in zip(cut, scores):
            table[truth, row.argmax()] += 1
            accepted = row.argmax() == 0 and row[0] >= 0.6
            tally = kept if truth == 0 else let
            tally[0] += accepted
            tally[1] += 1
    model.train()
    return table, kept[0] / max(kept[1], 1), 1 - let[0] / max(let[1], 1)


def export(model, classes, path):
    model.eval()
    torch.onnx.export(
        model,
        torch.zeros(1, 3, SIDE, SIDE),
        path,
        input_names=["images"],
        output_names=["logits"],
        dynamic_axes={"images": {0: "batch"}, "logits": {0: "batch"}},
        opset_version=17,
        dynamo=False,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", required=True)
    parser.add_argument("--val", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rate", type=float, default=2.5e-3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--start", help="a model.pt to go on from")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    rng = np.random.default_rng(args.seed)
    train, val = Crops(args.train), Crops(args.val)
    model = Classifier(len(train.names))
    if args.start:
        model.load_state_dict(torch.load(args.start, weights_only=True))
    average = copy.deepcopy(model)
    print(sum(p.numel() for p in model.parameters()), "parameters,", len(train.boxes), "boxes,", train.names)
    optimiser = torch.optim.AdamW(model.parameters(), lr=args.rate, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, args.rate, args.steps, pct_start=0.1)
    began, losses = time.time(), []
    for step, (images, kinds) in enumerate(batches(train, args.batch, rng), 1):
        loss = F.cross_entropy(model(images), kinds, label_smoothing=0.03)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        losses.append(loss.item())
        # The average over the last steps is better than any of them.
        keep = min(0.998, step / (step + 9))
        with torch.no_grad():
            for mine, theirs in zip(average.state_dict().values(), model.state_dict().values()):
                mine.copy_(mine * keep + theirs * (1 - keep) if mine.is_floating_point() else theirs)
        if step % 500 == 0 or step == args.steps:
            table, kept, rejected = measure(average, val)
            right = table.trace() / table.sum()
            print(
                f"step {step} loss {np.mean(losses[-200:]):.4f} accuracy {right:.4f}; vendors kept {kept:.4f}, "
                f"others rejected {rejected:.4f}; {time.time() - began:.0f} s",
                flush=True,
            )
            export(average, train.names, args.out)
            torch.save(average.state_dict(), pathlib.Path(args.out).with_suffix(".pt"))
        if step == args.steps:
            break
    print(train.names)
    print(table)
    print("sha256", hashlib.sha256(pathlib.Path(args.out).read_bytes()).hexdigest())


if __name__ == "__main__":
    main()
