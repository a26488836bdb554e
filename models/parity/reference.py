"""COCO AP of detectors with their authors' own pre- and post-processing: what `huiyan models accuracy` is held against.

    python reference.py --models DIR --images DIR --instances FILE [--out reference.json]

Pictures go in as they are in the JPEG files, and as a camera's decoder would hand them over, their chroma at half the size
(`video`); each of them as it is and mirrored. Nothing here is shared with the Rust code: pictures through OpenCV (or Pillow), tensors through numpy, AP through
pycocotools. Each model below says where its authors' steps are to be read.
"""

import argparse
import contextlib
import io
import json
import pathlib

import cv2
import numpy as np
import onnxruntime
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

IMAGENET_MEAN, IMAGENET_DEVIATION = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
# What COCOeval.summarize prints, in its order.
STATS = ["AP", "AP50", "AP75", "AP small", "AP medium", "AP large",
         "AR 1", "AR 10", "AR 100", "AR small", "AR medium", "AR large"]


def scale(bgr, width, height, how):
    if how == "pil":
        return np.asarray(Image.fromarray(bgr).resize((width, height), Image.BILINEAR))
    return cv2.resize(bgr, (width, height), interpolation=how)


def as_video(bgr):
    """The picture after a way through 4:2:0 (BT.601, full range, 8 bits), which is what a camera sends."""
    height, width = bgr.shape[:2]
    b, g, r = np.moveaxis(bgr.astype(np.float32), -1, 0)
    luma = 0.299 * r + 0.587 * g + 0.114 * b

    def halved(chroma):
        chroma = np.pad(chroma, ((0, height % 2), (0, width % 2)), "edge")
        small = chroma.reshape(chroma.shape[0] // 2, 2, -1, 2).mean((1, 3)).round().clip(0, 255)
        return cv2.resize(small, (2 * small.shape[1], 2 * small.shape[0]), interpolation=cv2.INTER_LINEAR)[:height, :width]

    cb, cr = halved(128 + (b - luma) / 1.772) - 128, halved(128 + (r - luma) / 1.402) - 128
    luma = luma.round()
    r, b = luma + 1.402 * cr, luma + 1.772 * cb
    return np.stack([b, (luma - 0.299 * r - 0.114 * b) / 0.587, r], -1).round().clip(0, 255).astype(np.uint8)


def planes(picture):
    return np.ascontiguousarray(picture.transpose(2, 0, 1)[None], np.float32)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def centres(side, strides, middle):
    """x, y and stride of each cell, grid by grid, row by row."""
    parts = []
    for stride in strides:
        n = -(-side // stride)
        rows, columns = np.meshgrid(np.arange(n), np.arange(n), indexing="ij")
        cell = np.stack([columns, rows], -1).reshape(-1, 2)
        parts.append(np.concatenate([(cell + middle) * stride, np.full((n * n, 1), stride)], 1))
    return np.concatenate(parts)


class Yolox:
    """Megvii-BaseDetection/YOLOX: `yolox/data/data_augment.py` (preproc), `yolox/utils/boxes.py` (postprocess), test
    thresholds of `yolox/exp/yolox_base.py`."""

    file, side, interpolation = "yolox_nano_416.onnx", 416, cv2.INTER_LINEAR
    score, nms = 0.01, 0.65

    def before(self, bgr, how):
        ratio = min(self.side / bgr.shape[0], self.side / bgr.shape[1])
        size = int(bgr.shape[1] * ratio), int(bgr.shape[0] * ratio)
        padded = np.full((self.side, self.side, 3), 114, np.uint8)
        padded[: size[1], : size[0]] = scale(bgr, *size, how)
        return planes(padded), (ratio, ratio)

    def after(self, outputs):
        out = outputs[0][0]
        cell = centres(self.side, (8, 16, 32), 0)
        middle, size = out[:, :2] * cell[:, 2:] + cell[:, :2], np.exp(out[:, 2:4]) * cell[:, 2:]
        kind = out[:, 5:].argmax(1)
        scores = out[:, 4] * out[np.arange(len(out)), 5 + kind]
        return np.concatenate([middle - size / 2, middle + size / 2], 1), scores, kind


class Picodet:
    """PaddlePaddle/PaddleDetection, first edition of PicoDet: `configs/picodet/_base_/picodet_416_reader.yml` at 0b51c78
    (EvalReader: Resize with interp 1, ImageNet's mean and deviation), `ppdet/modeling/heads/pico_head.py` (cell_offset 0.5, multi-class suppression at 0.025 and 0.6)."""

    file, side, interpolation = "picodet_s_416_coco_cleaned.onnx", 416, cv2.INTER_LINEAR
    score, nms = 0.025, 0.6

    def before(self, bgr, how):
        rgb = scale(bgr, self.side, self.side, how)[..., ::-1].astype(np.float32)
        ratio = self.side / bgr.shape[1], self.side / bgr.shape[0]
        return planes((rgb - IMAGENET_MEAN) / IMAGENET_DEVIATION), ratio

    def after(self, outputs):
        scores, bins = (np.concatenate([o[0] for o in some]) for some in (outputs[:4], outputs[4:]))
        cell = centres(self.side, (8, 16, 32, 64), 0.5)
        distance = softmax(bins.reshape(-1, 4, 8)) @ np.arange(8) * cell[:, 2:]
        boxes = np.concatenate([cell[:, :2] - distance[:, :2], cell[:, :2] + distance[:, 2:]], 1)
        row, kind = np.nonzero(scores > self.score)
        return boxes[row], scores[row, kind], kind


class FastestDet:
    """dog-qiuqiu/FastestDet: `example/onnx-runtime/runtime.py` (preprocess, detection), `eval.py` for the thresholds."""

    file, side, interpolation = "FastestDet.onnx", 352, cv2.INTER_LINEAR
    score, nms = 0.001, 0.45

    def before(self, bgr, how):
        ratio = self.side / bgr.shape[1], self.side / bgr.shape[0]
        return planes(scale(bgr, self.side, self.side, how).astype(np.float32) / 255), ratio

    def after(self, outputs):
        out = outputs[0][0]
        n = out.shape[1]
        out = out.reshape(len(out), -1).T
        cell = centres(n, (1,), 0)[:, :2]
        middle = (np.tanh(out[:, 1:3]) + cell) / n * self.side
        size = sigmoid(out[:, 3:5]) * self.side
        kind = out[:, 5:].argmax(1)
        scores = out[:, 0] ** 0.6 * out[:, 5:].max(1) ** 0.4
        return np.concatenate([middle - size / 2, middle + size / 2], 1), scores, kind


def suppress(boxes, scores, kinds, limit):
    """Greedy, class by class."""
    keep = []
    for kind in np.unique(kinds):
        order = np.nonzero(kinds == kind)[0]
        order = order[np.argsort(-scores[order], kind="stable")]
        while len(order):
            best, order = order[0], order[1:]
            keep.append(best)
            low, high = np.maximum(boxes[best, :2], boxes[order, :2]), np.minimum(boxes[best, 2:], boxes[order, 2:])
            shared = (high - low).clip(0).prod(1)
            area = (boxes[order, 2:] - boxes[order, :2]).prod(1)
            iou = shared / ((boxes[best, 2:] - boxes[best, :2]).prod() + area - shared)
            order = order[iou <= limit]
    return np.array(sorted(keep, key=lambda i: -scores[i]), int)


def detect(model, session, bgr, how):
    tensor, ratio = model.before(bgr, how)
    boxes, scores, kinds = model.after(session.run(None, {session.get_inputs()[0].name: tensor.astype(np.float32)}))
    high = scores > model.score
    boxes, scores, kinds = boxes[high], scores[high], kinds[high]
    keep = suppress(boxes, scores, kinds, model.nms)[:100]
    boxes = boxes[keep] / [ratio[0], ratio[1], ratio[0], ratio[1]]
    limit = [bgr.shape[1], bgr.shape[0]] * 2
    return boxes.clip(0, limit), scores[keep], kinds[keep]


def with_mirrored(instances):
    """The labels, and those of the mirrored pictures: few pictures say twice as much that way."""
    labels = json.loads(instances.read_text())
    images, annotations = [], []
    for mirrored in (False, True):
        shift = (1 << 40) if mirrored else 0
        width = {picture["id"]: picture["width"] for picture in labels["images"]}
        images += [picture | {"id": picture["id"] + shift, "mirrored": mirrored} for picture in labels["images"]]
        for thing in labels["annotations"]:
            x, y, w, h = thing["bbox"]
            x = width[thing["image_id"]] - x - w if mirrored else x
            annotations.append(thing | {"id": thing["id"] + shift, "image_id": thing["image_id"] + shift, "bbox": [x, y, w, h]})
    truth = COCO()
    truth.dataset = labels | {"images": images, "annotations": annotations}
    truth.createIndex()
    return truth


def evaluate(model, session, truth, images, source, how):
    """The twelve numbers of COCOeval.summarize."""
    numbers = sorted(truth.getCatIds())
    found = []
    for picture in truth.loadImgs(truth.getImgIds()):
        bgr = cv2.imread(str(images / picture["file_name"]))
        bgr = bgr[:, ::-1].copy() if picture["mirrored"] else bgr
        bgr = as_video(bgr) if source == "video" else bgr
        for box, score, kind in zip(*detect(model, session, bgr, how)):
            x0, y0, x1, y1 = map(float, box)
            found.append({"image_id": picture["id"], "category_id": numbers[kind], "score": float(score),
                          "bbox": [x0, y0, x1 - x0, y1 - y0]})
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(truth, truth.loadRes(found), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return {name: round(float(value), 5) for name, value in zip(STATS, evaluation.stats)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=pathlib.Path, required=True)
    parser.add_argument("--images", type=pathlib.Path, required=True)
    parser.add_argument("--instances", type=pathlib.Path, required=True)
    parser.add_argument("--resize", choices=["authors", "pil"], default="authors",
                        help="authors: OpenCV as each of them does; pil: Pillow's bilinear filter for all")
    parser.add_argument("--out", type=pathlib.Path)
    args = parser.parse_args()
    with contextlib.redirect_stdout(io.StringIO()):
        truth = with_mirrored(args.instances)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    result = {}
    for model in (Yolox(), Picodet(), FastestDet()):
        session = onnxruntime.InferenceSession(str(args.models / model.file), options, ["CPUExecutionProvider"])
        how = "pil" if args.resize == "pil" else model.interpolation
        result[model.file] = {"score": model.score, "nms_iou": model.nms}
        for source in ("jpeg", "video"):
            values = evaluate(model, session, truth, args.images, source, how)
            print(f"{model.file:34} {source:6}", "  ".join(f"{name} {values[name]:.4f}" for name in STATS[:6]), flush=True)
            result[model.file][source] = values
    if args.out:
        args.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
