"""A plain Python pipeline, to compare with: PyAV, OpenCV, ONNX Runtime, a thread per camera.

It looks at key pictures only, scales and fills them like the model's card says, runs the model with one thread and reads
its output like YOLOX. `huiyan bench node` starts it; the last line it prints says how many looks it made and what
processor time they took, after the time to settle.
"""

import argparse
import json
import threading
import time

import av
import cv2
import numpy as np
import onnxruntime


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--size", required=True, type=lambda text: tuple(map(int, text.split("x"))))
    parser.add_argument("--channels", choices=["rgb", "bgr"], required=True)
    parser.add_argument("--deviation", type=float, required=True)
    parser.add_argument("--resize", choices=["letterbox", "stretch"], required=True)
    parser.add_argument("--settle", type=float, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("urls", nargs="+")
    return parser.parse_args()


class Detector:
    def __init__(self, options):
        session = onnxruntime.SessionOptions()
        session.intra_op_num_threads = 1
        session.inter_op_num_threads = 1
        session.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.session = onnxruntime.InferenceSession(options.model, session, providers=["CPUExecutionProvider"])
        self.input = self.session.get_inputs()[0].name
        self.options = options

    def look(self, image):
        width, height = self.options.size
        if self.options.resize == "letterbox":
            scale = min(width / image.shape[1], height / image.shape[0])
            small = cv2.resize(image, (int(image.shape[1] * scale), int(image.shape[0] * scale)))
            padded = np.full((height, width, 3), 114, np.uint8)
            padded[: small.shape[0], : small.shape[1]] = small
        else:
            padded = cv2.resize(image, (width, height))
        tensor = padded.transpose(2, 0, 1)[None].astype(np.float32) / self.options.deviation
        output = self.session.run(None, {self.input: tensor})[0][0]
        return self.boxes(output)

    @staticmethod
    def boxes(output):
        if output.ndim != 2 or output.shape[1] < 6:
            return []
        scores = output[:, 4:5] * output[:, 5:]
        best = scores.max(axis=1)
        keep = best > 0.25
        if not keep.any():
            return []
        found = output[keep, :4]
        return cv2.dnn.NMSBoxes(found.tolist(), best[keep].tolist(), 0.25, 0.45)


def watch(url, detector, looks, lock):
    container = av.open(url, options={"rtsp_transport": "tcp"})
    stream = container.streams.video[0]
    stream.codec_context.skip_frame = "NONKEY"
    stream.codec_context.thread_count = 1
    form = "rgb24" if detector.options.channels == "rgb" else "bgr24"
    for frame in container.decode(stream):
        detector.look(frame.to_ndarray(format=form))
        with lock:
            looks[0] += 1


def main():
    options = arguments()
    cv2.setNumThreads(1)
    av.logging.set_level(av.logging.PANIC)
    detector, looks, lock = Detector(options), [0], threading.Lock()
    for url in options.urls:
        threading.Thread(target=watch, args=(url, detector, looks, lock), daemon=True).start()
    time.sleep(options.settle)
    with lock:
        before, spent = looks[0], time.process_time()
    time.sleep(options.seconds)
    with lock:
        made, spent = looks[0] - before, time.process_time() - spent
    print(json.dumps({"looks": made, "cpu_seconds": spent}), flush=True)


if __name__ == "__main__":
    main()
