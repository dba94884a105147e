"""Whole networks: cellgate and ONNX Runtime's CPU provider in turns, two threads each.

    cargo bench --bench networks --no-run
    python benches/peers/networks.py target/release/deps/networks-*

takes the bench's program (the newest of those given) and prints one JSON object a line: row, device, n, and the medians and least of both in
milliseconds. `CELLGATE_BENCH=SUBSTRING` chooses cellgate's device, its CPU by default. Needs numpy and onnxruntime.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime

MODELS = Path(__file__).parents[2] / "tests" / "networks" / "models"
THREADS = 2
ROUNDS = 10
ROWS = {  # name: model, rows, steps, calls a round
    "silero-1": ("silero-vad", 1, None, 100),
    "silero-32": ("silero-vad", 32, None, 20),
    "silero-256": ("silero-vad", 256, None, 5),
    "byte-bilstm-64x200": ("byte-bilstm", 64, 200, 2),
}


def repeated(array, axis, length):
    return np.take(array, np.arange(length) % array.shape[axis], axis=axis)


def inputs(session, model, batch, steps):
    given = {}
    for port in session.get_inputs():
        array = np.load(MODELS / model / f"in.{port.name}.npy")
        for axis, name in enumerate(port.shape):
            if name == "batch":
                array = repeated(array, axis, batch)
            if name == "length" and steps:
                array = repeated(array, axis, steps)
        given[port.name] = array
    return given


def main():
    program = max((path for path in sys.argv[1:] if not path.endswith(".d")), key=os.path.getmtime)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = THREADS, 1
    environment = dict(os.environ, RAYON_NUM_THREADS=str(THREADS), CELLGATE_ROUNDS="1")
    environment.setdefault("CELLGATE_BENCH", "CPU")
    ours = subprocess.Popen([program, "--bench"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
    device = ours.stdout.readline().strip().removeprefix("ready ")
    for row, (model, batch, steps, calls) in ROWS.items():
        session = onnxruntime.InferenceSession(str(MODELS / model / "model.onnx"), options, providers=["CPUExecutionProvider"])
        given = inputs(session, model, batch, steps)
        session.run(None, given)
        peer, mine = [], []
        for _ in range(ROUNDS):
            for _ in range(calls):
                start = time.perf_counter()
                session.run(None, given)
                peer.append((time.perf_counter() - start) * 1e3)
            ours.stdin.write(f"{row} {calls}\n")
            ours.stdin.flush()
            mine.extend(float(word) for word in ours.stdout.readline().split())
        report = {
            "row": row,
            "device": device,
            "threads": THREADS,
            "n": len(mine),
            "cellgate_median_ms": round(statistics.median(mine), 4),
            "cellgate_min_ms": round(min(mine), 4),
            "onnxruntime_median_ms": round(statistics.median(peer), 4),
            "onnxruntime_min_ms": round(min(peer), 4),
            "onnxruntime_version": onnxruntime.__version__,
        }
        print(json.dumps(report), flush=True)


if __name__ == "__main__":
    main()
