#!/usr/bin/env python3
"""Trains the demo's detector on rendered street scenes, on a CPU, offline, and writes model.onnx.

    huiyan sim dataset --out target/street/train --count 8000 --seed 1
    huiyan sim dataset --out target/street/val --count 300 --seed 900001
    python models/street-demo/train.py --train target/street/train --val target/street/val --out target/street/model.onnx

README.md beside this file says how the committed model was trained.

A small anchor-free detector in the form of YOLOX (arXiv:2107.08430): three strides, one prediction per cell, output
`N x anchors x (4 + 1 + classes)` with boxes relative to their cell and scores after the sigmoid, so that the `yolox`
head of the pipeline reads it. Unlike YOLOX, cells are assigned to things by size and distance to the middle alone
(as in FCOS, arXiv:1904.01355): rendered scenes need no more.

It is for the demo. It has seen nothing but drawings and is of no use on a real street.
"""

import argparse
import copy
import hashlib
import json
import math
import pathlib
import time

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

WIDTH, HEIGHT, PAD = 416, 256, 114
STRIDES = (8, 16, 32)
# Things that are smaller (square pixels of the 640 x 360 picture), or of which less is visible, are neither asked for nor
# forbidden, in training and in measuring.
LEAST_AREA, LEAST_VISIBLE = 400, 0.5
# A thing belongs to the strides whose range (longest side, pixels) it falls into; ranges overlap.
RANGES = ((0, 56), (40, 128), (96, 1e9))


def conv(inside, outside, size=3, stride=1):
    return nn.Sequential(
        nn.Conv2d(inside, outside, size, stride, size // 2, bias=False),
        nn.BatchNorm2d(outside),
        nn.ReLU(inplace=True),
    )


class Block(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.body = nn.Sequential(conv(channels, channels // 2, 1), conv(channels // 2, channels))

    def forward(self, x):
        return x + self.body(x)


class Detector(nn.Module):
    """Input N x 3 x 256 x 416, RGB, 0..1. Output N x 2184 x (5 + classes)."""

    def __init__(self, classes, neck=48):
        super().__init__()
        self.stem = nn.Sequential(conv(3, 16, stride=2), conv(16, 24, stride=2), Block(24))
        self.stage3 = nn.Sequential(conv(24, 48, stride=2), Block(48), Block(48))
        self.stage4 = nn.Sequential(conv(48, 96, stride=2), Block(96), Block(96))
        self.stage5 = nn.Sequential(conv(96, 128, stride=2), Block(128), Block(128))
        self.lateral = nn.ModuleList(conv(c, neck, 1) for c in (48, 96, 128))
        self.fuse = nn.ModuleList(conv(neck, neck) for _ in range(2))
        self.boxes = nn.ModuleList(nn.Sequential(conv(neck, neck), nn.Conv2d(neck, 5, 1)) for _ in STRIDES)
        self.kinds = nn.ModuleList(nn.Sequential(conv(neck, neck), nn.Conv2d(neck, classes, 1)) for _ in STRIDES)
        for head in self.boxes:
            nn.init.constant_(head[-1].bias[4:], -4.6)  # few cells hold a thing (RetinaNet's prior, arXiv:1708.02002)

    def logits(self, x):
        p3 = self.stage3(self.stem(x))
        p4 = self.stage4(p3)
        p5 = self.stage5(p4)
        p3, p4, p5 = (layer(p) for layer, p in zip(self.lateral, (p3, p4, p5)))
        p4 = self.fuse[0](p4 + F.interpolate(p5, scale_factor=2.0, mode="nearest"))
        p3 = self.fuse[1](p3 + F.interpolate(p4, scale_factor=2.0, mode="nearest"))
        rows = []
        for level, boxes, kinds in zip((p3, p4, p5), self.boxes, self.kinds):
            rows.append(torch.cat([boxes(level), kinds(level)], 1).flatten(2).transpose(1, 2))
        return torch.cat(rows, 1)

    def forward(self, x):
        out = self.logits(x)
        return torch.cat([out[..., :4], out[..., 4:].sigmoid()], -1)


def cells():
    """Column, row and stride of each prediction, in the order of the output."""
    parts = []
    for stride in STRIDES:
        rows, columns = torch.meshgrid(torch.arange(HEIGHT // stride), torch.arange(WIDTH // stride), indexing="ij")
        parts.append(torch.stack([columns, rows, torch.full_like(rows, stride)], -1).reshape(-1, 3))
    return torch.cat(parts).float()


def decode(out, cell):
    """Boxes x0, y0, x1, y1 in input pixels."""
    middle = (out[..., :2] + cell[:, :2]) * cell[:, 2:]
    size = out[..., 2:4].clamp(max=6).exp() * cell[:, 2:]
    return torch.cat([middle - size / 2, middle + size / 2], -1)


def assign(boxes, cell):
    """For each cell the index of its thing, or -1. Where several claim a cell, the smallest wins."""
    if len(boxes) == 0:
        return torch.full((len(cell),), -1)
    centre = (cell[:, :2] + 0.5) * cell[:, 2:]
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    longest = (boxes[:, 2:] - boxes[:, :2]).max(1).values
    level = torch.log2(cell[:, 2] / STRIDES[0]).long()
    low, high = torch.tensor(RANGES)[level].unbind(1)
    near = ((centre[:, None] - middle).abs() <= 1.5 * cell[:, None, 2:]).all(-1)
    inside = ((centre[:, None] > boxes[:, :2]) & (centre[:, None] < boxes[:, 2:])).all(-1)
    # The cell that holds the middle always belongs to a thing, however thin.
    own = ((middle - centre[:, None]).abs() <= 0.5 * cell[:, None, 2:]).all(-1)
    fits = (longest >= low[:, None]) & (longest < high[:, None])
    area = (boxes[:, 2:] - boxes[:, :2]).prod(1).expand(len(cell), -1).clone()
    area[~(fits & (own | (near & inside)))] = math.inf
    best, index = area.min(1)
    return torch.where(best.isfinite(), index, -1)


def giou(a, b):
    low, high = torch.max(a[:, :2], b[:, :2]), torch.min(a[:, 2:], b[:, 2:])
    shared = (high - low).clamp(min=0).prod(1)
    union = (a[:, 2:] - a[:, :2]).prod(1) + (b[:, 2:] - b[:, :2]).prod(1) - shared
    hull = (torch.max(a[:, 2:], b[:, 2:]) - torch.min(a[:, :2], b[:, :2])).prod(1)
    iou = shared / union.clamp(min=1e-6)
    return iou - (hull - union) / hull.clamp(min=1e-6), iou


def loss(out, truths, cell, classes):
    """`truths`: boxes, kinds and whether each thing is large enough to be asked for."""
    wanted, ignored = [], []
    for boxes, kinds, asked in truths:
        index = assign(boxes, cell)
        small = (index >= 0) & ~torch.cat([asked, asked.new_ones(1)])[index]
        ignored.append(small)
        wanted.append((torch.where(small, -1, index), boxes, kinds))
    positive = torch.stack([index for index, _, _ in wanted]) >= 0
    counted = ~torch.stack(ignored)
    count = max(int(positive.sum()), 1)
    objectness = torch.zeros_like(out[..., 4])
    box_loss = kind_loss = out.sum() * 0
    if positive.any():
        want = torch.cat([boxes[t[t >= 0]] for t, boxes, _ in wanted])
        kind = torch.cat([kinds[t[t >= 0]] for t, _, kinds in wanted])
        overlap, iou = giou(decode(out, cell)[positive], want)
        box_loss = (1 - overlap).sum() / count
        objectness[positive] = iou.detach().clamp(0, 1) * 0.5 + 0.5
        kind_loss = F.binary_cross_entropy_with_logits(
            out[..., 5:][positive], F.one_hot(kind, classes).float(), reduction="sum") / count
    object_loss = F.binary_cross_entropy_with_logits(
        out[..., 4][counted], objectness[counted], reduction="sum") / count
    return 2 * box_loss + object_loss + kind_loss


class Scenes:
    """A data set in memory: pictures letterboxed to the model's input (top left), boxes in its pixels."""

    def __init__(self, folder):
        labels = json.loads((folder / "labels.json").read_text())
        self.classes = [c["name"] for c in sorted(labels["categories"], key=lambda c: c["id"])]
        number = {c["id"]: self.classes.index(c["name"]) for c in labels["categories"]}
        pictures = labels["images"]
        position = {p["id"]: i for i, p in enumerate(pictures)}
        self.pixels = np.full((len(pictures), HEIGHT, WIDTH, 3), PAD, np.uint8)
        scales = []
        for i, picture in enumerate(pictures):
            image = Image.open(folder / "images" / pathlib.Path(picture["file_name"]).name).convert("RGB")
            scale = min(WIDTH / image.width, HEIGHT / image.height)
            size = round(image.width * scale), round(image.height * scale)
            self.pixels[i, : size[1], : size[0]] = np.asarray(image.resize(size, Image.BILINEAR))
            scales.append(scale)
        self.scale = scales[0]
        self.boxes, self.kinds, self.asked = ([[] for _ in pictures] for _ in range(3))
        for a in labels["annotations"]:
            i = position[a["image_id"]]
            x, y, w, h = (v * scales[i] for v in a["bbox"])
            self.boxes[i].append([x, y, x + w, y + h])
            self.kinds[i].append(number[a["category_id"]])
            self.asked[i].append(a["area"] >= LEAST_AREA and a["visible"] >= LEAST_VISIBLE)
        self.boxes = [torch.tensor(b, dtype=torch.float32).reshape(-1, 4) for b in self.boxes]
        self.kinds = [torch.tensor(k, dtype=torch.int64) for k in self.kinds]
        self.asked = [torch.tensor(a, dtype=torch.bool) for a in self.asked]

    def __len__(self):
        return len(self.pixels)

    def batch(self, indices, random=None):
        x = torch.from_numpy(self.pixels[indices]).permute(0, 3, 1, 2).float() / 255
        truths = [(self.boxes[i].clone(), self.kinds[i], self.asked[i]) for i in indices]
        return (x, truths) if random is None else augment(x, truths, random)


def augment(x, truths, random):
    """Mirror, zoom and shift the whole picture, change contrast and brightness."""
    out = []
    theta = torch.zeros(len(x), 2, 3)
    for i, (boxes, kinds, asked) in enumerate(truths):
        mirror = -1.0 if random.random() < 0.5 else 1.0
        zoom = math.exp(random.uniform(-0.35, 0.45))
        dx, dy = random.uniform(-0.2, 0.2), random.uniform(-0.2, 0.2)
        theta[i] = torch.tensor([[mirror / zoom, 0, dx], [0, 1 / zoom, dy]])
        if len(boxes):
            middle = torch.tensor([WIDTH / 2, HEIGHT / 2])
            move = torch.tensor([dx * WIDTH / 2, dy * HEIGHT / 2])
            scale = torch.tensor([mirror * zoom, zoom])
            a = (boxes[:, :2] - middle - move) * scale + middle
            b = (boxes[:, 2:] - middle - move) * scale + middle
            whole = torch.cat([torch.min(a, b), torch.max(a, b)], 1)
            cut = whole.clone()
            cut[:, 0::2] = cut[:, 0::2].clamp(0, WIDTH)
            cut[:, 1::2] = cut[:, 1::2].clamp(0, HEIGHT)
            left = (cut[:, 2:] - cut[:, :2]).prod(1) / (whole[:, 2:] - whole[:, :2]).prod(1).clamp(min=1e-6)
            keep = (left > 0.35) & ((cut[:, 2:] - cut[:, :2]).min(1).values > 2)
            boxes, kinds, asked = cut[keep], kinds[keep], asked[keep]
        out.append((boxes, kinds, asked))
    grid = F.affine_grid(theta, x.shape, align_corners=False)
    x = F.grid_sample(x - PAD / 255, grid, align_corners=False) + PAD / 255
    contrast = torch.tensor(random.uniform(0.75, 1.3, (len(x), 1, 1, 1))).float()
    tint = torch.tensor(random.uniform(-0.08, 0.08, (len(x), 3, 1, 1))).float()
    return ((x - 0.45) * contrast + 0.45 + tint).clamp(0, 1), out


def nms(boxes, scores, limit=0.45):
    keep = []
    order = scores.argsort(descending=True)
    while len(order):
        best, order = order[0], order[1:]
        keep.append(int(best))
        low, high = torch.max(boxes[best, :2], boxes[order, :2]), torch.min(boxes[best, 2:], boxes[order, 2:])
        shared = (high - low).clamp(min=0).prod(1)
        areas = (boxes[order, 2:] - boxes[order, :2]).prod(1)
        iou = shared / ((boxes[best, 2:] - boxes[best, :2]).prod() + areas - shared)
        order = order[iou <= limit]
    return keep


def average_precision(found, truth_count):
    """AP at IoU 0.5 with COCO's 101 recall points; `found` is (score, hit) pairs."""
    if truth_count == 0:
        return float("nan")
    hits = np.array([hit for _, hit in sorted(found, key=lambda f: -f[0])], float)
    recall = np.cumsum(hits) / truth_count
    precision = np.maximum.accumulate((np.cumsum(hits) / np.arange(1, len(hits) + 1))[::-1])[::-1]
    return float(np.mean([precision[recall >= r].max(initial=0) for r in np.linspace(0, 1, 101)]))


@torch.no_grad()
def evaluate(model, scenes, cell):
    model.eval()
    found, count = [[] for _ in scenes.classes], [0] * len(scenes.classes)
    for start in range(0, len(scenes), 32):
        x, truths = scenes.batch(range(start, min(start + 32, len(scenes))))
        out = model(x)
        for row, box, (boxes, kinds, asked) in zip(out, decode(out, cell), truths):
            for k in range(len(scenes.classes)):
                score = row[:, 4] * row[:, 5 + k]
                some = score > 0.02
                chosen, scores = box[some], score[some]
                mine, due = boxes[kinds == k], asked[kinds == k]
                count[k] += int(due.sum())
                free = [True] * len(mine)
                for i in nms(chosen, scores):
                    overlaps = giou(chosen[i].expand(len(mine), -1), mine)[1] if len(mine) else torch.zeros(0)
                    best = max((j for j in range(len(mine)) if free[j] and overlaps[j] >= 0.5),
                               key=lambda j: (bool(due[j]), float(overlaps[j])), default=None)
                    if best is not None:
                        free[best] = False
                        if due[best]:
                            found[k].append((float(scores[i]), True))
                    elif float((chosen[i, 2:] - chosen[i, :2]).prod()) >= LEAST_AREA * scenes.scale**2:
                        found[k].append((float(scores[i]), False))
    model.train()
    return {c: average_precision(f, n) for c, f, n in zip(scenes.classes, found, count)}


@torch.no_grad()
def follow(average, model, decay):
    """Moves the averaged weights towards the newest ones; the first steps count for little."""
    for old, new in zip(average.state_dict().values(), model.state_dict().values()):
        old.copy_(decay * old + (1 - decay) * new if old.is_floating_point() else new)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=pathlib.Path, required=True)
    parser.add_argument("--val", type=pathlib.Path, required=True)
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--start", type=pathlib.Path, help="begin with the weights in this .pt file of an earlier run")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent / "model.onnx")
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    random = np.random.default_rng(args.seed)
    train, val = Scenes(args.train), Scenes(args.val)
    assert train.classes == val.classes, "the two data sets have different classes"
    cell = cells()
    model = Detector(len(train.classes)).to(memory_format=torch.channels_last)
    if args.start:
        model.load_state_dict(torch.load(args.start))
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {len(train)} scenes, classes {train.classes}")
    optimiser = torch.optim.AdamW(model.parameters(), lr=args.rate, weight_decay=1e-2)
    steps, done, began = args.steps, 0, time.monotonic()
    average, running = copy.deepcopy(model), None
    order = np.empty(0, int)
    while done < steps:
        if len(order) < args.batch:
            order = random.permutation(len(train))
        indices, order = order[: args.batch], order[args.batch :]
        rate = min(1, (done + 1) / 200) * (0.02 + 0.98 * (1 + math.cos(math.pi * done / steps)) / 2)
        for group in optimiser.param_groups:
            group["lr"] = args.rate * rate
        x, truths = train.batch(indices, random)
        # bfloat16 and channels last: three times as fast on processors with AMX, and no worse.
        with torch.autocast("cpu", torch.bfloat16):
            out = model.logits(x.to(memory_format=torch.channels_last))
        value = loss(out.float(), truths, cell, len(train.classes))
        optimiser.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 10)
        optimiser.step()
        follow(average, model, min(0.998, (1 + done) / (20 + done)))
        running = float(value) if running is None else 0.98 * running + 0.02 * float(value)
        done += 1
        elapsed = time.monotonic() - began
        if done % 100 == 0:
            print(f"step {done}/{steps}  loss {running:.3f}  {done * args.batch / elapsed:.0f} pictures/s  "
                  f"{elapsed / 60:.1f} min", flush=True)
        if done % 500 == 0 or done == steps:
            scores = evaluate(average, val, cell)
            torch.save(average.state_dict(), args.out.with_suffix(".pt"))
            print("AP50", {k: round(v, 3) for k, v in scores.items()}, "mean",
                  round(float(np.nanmean(list(scores.values()))), 4), flush=True)
            export(average, args.out)


def export(model, path):
    model.eval()
    torch.onnx.export(model, torch.zeros(2, 3, HEIGHT, WIDTH), str(path), dynamo=False, opset_version=17,
                      input_names=["images"], output_names=["output"],
                      dynamic_axes={"images": {0: "batch"}, "output": {0: "batch"}})
    model.train()
    data = path.read_bytes()
    print(f"{path.name}: {len(data):,} bytes, sha256 {hashlib.sha256(data).hexdigest()}", flush=True)


if __name__ == "__main__":
    main()
