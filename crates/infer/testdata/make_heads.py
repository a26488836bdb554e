"""Writes a tiny model for each head into `heads/`: `python make_heads.py` (needs onnx 1.19 or later).

Each has the inputs and outputs, by name, type and layout, that the head's own exporter gives, takes any number of 64 x 64
pictures, has three classes, and finds the same in every picture: class 1 with a score of 0.8 at (16, 8)-(48, 24).
What it finds is constant, but goes through the batch dimension; a picture whose first sample is above 250 (as the model
gets it) makes all scores NaN. `broken/` gets files that cannot be used.
"""

import pathlib

import numpy as np
from onnx import TensorProto, checker, helper, load, numpy_helper, save

SIDE, CLASSES = 64, 3
KIND, SCORE, BOX = 1, 0.8, (16.0, 8.0, 48.0, 24.0)
X, Y, W, H = 32.0, 16.0, 32.0, 16.0
FOLDER = pathlib.Path(__file__).parent / "heads"


def logit(p):
    return float(np.log(p / (1 - p)))


def grids(strides, up=False):
    for stride in strides:
        yield stride, -(-SIDE // stride) if up else SIDE // stride


def scores(high, low=0.0):
    row = np.full(CLASSES, low, np.float32)
    row[KIND] = high
    return row


def yolox():
    rows = []
    for stride, n in grids((8, 16, 32)):
        grid = np.zeros((n, n, 5 + CLASSES), np.float32)
        if stride == 16:
            # Column 2, row 1: the middle is (x + 2) * 16, (y + 1) * 16.
            grid[1, 2] = [0, 0, np.log(W / 16), np.log(H / 16), 1.0, *scores(SCORE)]
        rows.append(grid.reshape(-1, 5 + CLASSES))
    return {"output": np.concatenate(rows)}


def yolov5():
    out = np.zeros((3 * 84, 5 + CLASSES), np.float32)
    out[77] = [X, Y, W, H, 1.0, *scores(SCORE)]
    return {"output0": out}


def yolov5_raw():
    outs = {}
    for name, (stride, n) in zip(("output", "327", "328"), grids((8, 16, 32))):
        grid = np.full((3, n, n, 5 + CLASSES), -20, np.float32)
        if stride == 16:
            # Anchor 0 is 30 x 61; the middle of cell (1, 1) is (2 * 0.5 - 0.5 + 1) * 16 = 24 at a sigmoid of 0.5.
            place = [logit((v / 16 - 1 + 0.5) / 2) for v in (X, Y)]
            size = [logit((W / 30) ** 0.5 / 2), logit((H / 61) ** 0.5 / 2)]
            grid[0, 1, 1] = [*place, *size, 20, *scores(logit(SCORE), -20)]
        outs[name] = grid
    return outs


def yolov8():
    out = np.zeros((4 + CLASSES, 84), np.float32)
    out[:, 20] = [X, Y, W, H, *scores(SCORE)]
    return {"output0": out}


def end2end():
    out = np.zeros((30, 6), np.float32)
    out[3] = [*BOX, SCORE, KIND]
    return {"output0": out}


def detr():
    logits, boxes = np.full((30, CLASSES), -9, np.float32), np.full((30, 4), 0.5, np.float32)
    logits[7], boxes[7] = scores(logit(SCORE), -9), np.array([X, Y, W, H]) / SIDE
    return {"logits": logits, "pred_boxes": boxes}


def detr_final():
    # Shares here; the graph multiplies them by `orig_target_sizes`.
    labels, boxes, values = np.zeros(30, np.int64), np.zeros((30, 4), np.float32), np.zeros(30, np.float32)
    labels[7], boxes[7], values[7] = KIND, np.array(BOX) / SIDE, SCORE
    return {"labels": labels, "boxes": boxes, "scores": values}


def gfl(strides, centre):
    """Scores and bins per stride. At stride 16 the point of cell (row 1, column 1)."""
    kinds, bins = [], []
    for stride, n in grids(strides, up=True):
        kind, spread = np.zeros((n * n, CLASSES), np.float32), np.zeros((n * n, 4, 8), np.float32)
        if stride == 16:
            at = n + 1
            kind[at] = scores(SCORE)
            x = y = (1 + centre) * 16
            for side, distance in enumerate((x - BOX[0], y - BOX[1], BOX[2] - x, BOX[3] - y)):
                whole, part = divmod(distance / 16, 1)
                spread[at, side] = -60
                spread[at, side, int(whole)] = np.log(1 - part)
                if part:
                    spread[at, side, int(whole) + 1] = np.log(part)
        kinds.append(kind)
        bins.append(spread.reshape(n * n, 32))
    return kinds, bins


def nanodet():
    kinds, bins = gfl((8, 16, 32, 64), 0)
    return {"output": np.concatenate([np.concatenate(pair, 1) for pair in zip(kinds, bins)])}


def nanodet_m():
    kinds, bins = gfl((8, 16, 32), 0.5)
    names = [f"{what}_pred_stride_{s}" for what in ("cls", "dis") for s in (8, 16, 32)]
    return dict(zip(names, kinds + bins))


def picodet():
    kinds, bins = gfl((8, 16, 32, 64), 0.5)
    return {f"save_infer_model/scale_{i}.tmp_1": out for i, out in enumerate(kinds + bins)}


def rtmdet():
    dets, labels = np.zeros((20, 5), np.float32), np.full(20, -1, np.int64)
    dets[0], labels[0] = [*BOX, SCORE], KIND
    return {"dets": dets, "labels": labels}


def rtmdet_raw():
    kinds, places = {}, {}
    for i, (stride, n) in enumerate(grids((8, 16, 32))):
        kind, place = np.full((CLASSES, n, n), -9, np.float32), np.ones((4, n, n), np.float32)
        if stride == 16:
            kind[:, 1, 1] = scores(logit(SCORE), -9)
            place[:, 1, 1] = [16 - BOX[0], 16 - BOX[1], BOX[2] - 16, BOX[3] - 16]
        kinds[f"cls_{i}"], places[f"bbox_{i}"] = kind, place
    return kinds | places


def ssd():
    boxes, kinds, values = np.zeros((20, 4), np.float32), np.zeros(20, np.float32), np.zeros(20, np.float32)
    boxes[0] = np.array([BOX[1], BOX[0], BOX[3], BOX[2]]) / SIDE
    kinds[0], values[0] = KIND + 1, SCORE
    return {"detection_boxes": boxes, "detection_classes": kinds, "detection_scores": values,
            "num_detections": np.array(1, np.float32)}


def fastestdet():
    n = SIDE // 16
    out = np.zeros((5 + CLASSES, n, n), np.float32)
    # Cell (row 1, column 2): its corner is the middle.
    high = SCORE ** 2.5
    out[:, 1, 2] = [1.0, 0, 0, logit(W / SIDE), logit(H / SIDE), *scores(high)]
    return {"758": out}


def classifier():
    return {"logits": np.log(np.array([0.1, SCORE, 0.1], np.float32))}


MODELS = [yolox, yolov5, yolov5_raw, yolov8, end2end, detr, detr_final, nanodet, nanodet_m, picodet, rtmdet, rtmdet_raw,
          ssd, fastestdet, classifier]
# What a NaN is added to: the parts that hold scores.
SCORES = {"detr": ["logits"], "detr_final": ["scores"], "rtmdet": ["dets"], "ssd": ["detection_scores"]}


def save_model(name, outputs, path):
    bytes_in, nhwc = name == "ssd", name == "ssd"
    shape = ["batch", SIDE, SIDE, 3] if nhwc else ["batch", 3, SIDE, SIDE]
    element = TensorProto.UINT8 if bytes_in else TensorProto.FLOAT
    picture = {"ssd": "image_tensor", "nanodet": "data", "picodet": "image"}.get(name, "images")
    inputs = [helper.make_tensor_value_info(picture, element, shape)]
    constants = [numpy_helper.from_array(np.array(v, t), n) for n, v, t in (
        ("zeros", [0, 0, 0, 0], np.int64), ("ones", [1, 1, 1, 1], np.int64), ("axes", [0, 1, 2, 3], np.int64),
        ("limit", 250.0, np.float32), ("nothing", 0.0, np.float32), ("nan", np.nan, np.float32),
        ("far", [1 << 30, 1, 1, 1], np.int64), ("batch_only", [-1], np.int64), ("first", [0], np.int64))]
    nodes = [
        helper.make_node("Cast", [picture], ["floats"], to=TensorProto.FLOAT),
        # The first sample of each picture.
        helper.make_node("Slice", ["floats", "zeros", "far", "axes"], ["corner"]),
        helper.make_node("Reshape", ["corner", "batch_only"], ["sample"]),
        helper.make_node("Greater", ["sample", "limit"], ["bad"]),
        helper.make_node("Where", ["bad", "nan", "nothing"], ["spoil"]),
        helper.make_node("Shape", ["sample"], ["count"]),
    ]
    results = []
    if name == "detr_final":
        inputs.append(helper.make_tensor_value_info("orig_target_sizes", TensorProto.INT64, ["batch", 2]))
        constants.append(numpy_helper.from_array(np.array([1], np.int64), "middle"))
        nodes += [
            helper.make_node("Cast", ["orig_target_sizes"], ["sizes"], to=TensorProto.FLOAT),
            helper.make_node("Concat", ["sizes", "sizes"], ["four"], axis=1),
            helper.make_node("Unsqueeze", ["four", "middle"], ["scale"]),
        ]
    for output, values in outputs.items():
        safe = "v" + str(len(results))
        whole = values.dtype == np.int64
        constants += [numpy_helper.from_array(values[None] if values.ndim else values.reshape(1), safe),
                      numpy_helper.from_array(np.ones(values.ndim, np.int64), safe + "ones")]
        # Batch x 1 x ..., then as many copies as there are pictures.
        nodes.append(helper.make_node("Concat", ["count", safe + "ones"], [safe + "shape"], axis=0))
        last = output
        spoilt = not whole and output in SCORES.get(name, list(outputs)) and not output.startswith("num")
        scaled = name == "detr_final" and output == "boxes"
        target = safe + "many" if spoilt or scaled else last
        nodes.append(helper.make_node("Expand", [safe, safe + "shape"], [target]))
        if scaled:
            nodes.append(helper.make_node("Mul", [target, "scale"], [last]))
        elif spoilt:
            nodes += [helper.make_node("Reshape", ["spoil", safe + "shape"], [safe + "spoil"]),
                      helper.make_node("Add", [target, safe + "spoil"], [last])]
        kind = TensorProto.INT64 if whole else TensorProto.FLOAT
        results.append(helper.make_tensor_value_info(output, kind, ["batch", *values.shape]))
    graph = helper.make_graph(nodes, name, inputs, results, constants)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8, producer_name="make_heads.py")
    if name in ("yolov8", "yolov5"):
        made.metadata_props.add(key="names", value="{0: 'cart', 1: 'bag', 2: \"driver's cab\"}")
    checker.check_model(made, full_check=True)
    save(made, path)


def save_broken():
    """Files that no card can make good."""
    folder = FOLDER.with_name("broken")
    folder.mkdir(exist_ok=True)
    outputs = yolox()
    save_model("yolox", {"output": outputs["output"] * np.float32(np.nan)}, folder / "nan.onnx")
    made = load(FOLDER / "yolox.onnx")
    made.opset_import[0].version = 999
    save(made, folder / "future.onnx")


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for make in MODELS:
        save_model(make.__name__, make(), FOLDER / f"{make.__name__}.onnx")
    save_broken()
