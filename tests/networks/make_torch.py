"""Makes small ONNX models that hold an LSTM, with golden inputs and outputs, by PyTorch and by hand.

    pip install numpy onnx onnxruntime onnxscript onnxconverter_common torch
    python tests/networks/make_torch.py [NAME ...] [--out DIR] [--all]

Without names it remakes what `manifest.json` lists. It is repeatable: the same versions of the packages give the same bytes. What computed
the outputs is the first part of the name:

torch-*   PyTorch's old exporter (with a script where the graph has a loop or a branch); ONNX Runtime on the CPU, nothing optimised.
dynamo-*  PyTorch's new exporter; the same.
onnx-*    Built node by node. `onnx-layout1-*`: the same layer with layout 0, which is all that ONNX Runtime has. `onnx-half-all` and
          `onnx-half-inside`: a float32 copy, results rounded to float16. `onnx-test_lstm_*`: data of the ONNX project's own tests.
quant-*   `quantize_dynamic` of ONNX Runtime. Its LSTM quantises activations while it runs: another implementation agrees within 1e-2.
half-*    float16 by onnxconverter_common; the float32 model with weights rounded to float16.
ort-*     As ONNX Runtime saves a model after optimising it.
"""

import pathlib
import tempfile

import golden
import numpy as np
import onnx
import onnxruntime as ort
import torch
from golden import fresh, run_model, save_golden
from hand_made import FLOAT, HAND, init, make_hand
from onnx import numpy_helper
from torch_exports import TORCH, make_torch

# quantised models

# name: (case of TORCH, weight type, per channel, description)
QUANT = {
    "quant-lstm1-s8": ("torch-lstm1-states-op13", "QInt8", False, "one layer, int8 weights, one scale a tensor"),
    "quant-lstm1-u8": ("torch-lstm1-states-op13", "QUInt8", False, "one layer, uint8 weights"),
    "quant-lstm1-s8-channel": ("torch-lstm1-states-op13", "QInt8", True, "one layer, int8 weights, one scale a channel"),
    "quant-lstm1-u8-channel": ("torch-lstm1-states-op13", "QUInt8", True, "one layer, uint8 weights, one scale a channel"),
    "quant-bilstm2-s8": ("torch-bilstm2-bf-op17", "QInt8", False, "two layers, bidirectional, int8"),
    "quant-bilstm2-s8-channel": ("torch-bilstm2-bf-op17", "QInt8", True, "two layers, bidirectional, int8, a scale a channel"),
    "quant-bilstm2-u8": ("torch-bilstm2-bf-op17", "QUInt8", False, "two layers, bidirectional, uint8"),
    "quant-lm-s8": ("torch-lm-op13", "QInt8", False, "language model: LSTM, Gather and MatMul all quantised"),
    "quant-tagger-u8-channel": ("torch-tagger-op17", "QUInt8", True, "BiLSTM tagger, MatMul too"),
    "quant-packed-s8": ("torch-packed-op11", "QInt8", False, "sequence_lens with quantised weights"),
}


def lstm_to_uint8(m, float_model, channel):
    """quantize_dynamic makes LSTM weights int8 whatever type is asked for: redo them as uint8
    from the float weights. One scale and zero point for each direction, or, with `channel`,
    one scale for each column and zero point 128."""
    floats = {t.name: numpy_helper.to_array(t) for t in float_model.graph.initializer}
    at = {t.name: t for t in m.graph.initializer}
    for n in (n for n in m.graph.node if n.op_type == "DynamicQuantizeLSTM"):
        for q, sc, zp in ((n.input[1], n.input[8], n.input[9]), (n.input[2], n.input[10], n.input[11])):
            w = floats[q.removesuffix("_quantized")].transpose(0, 2, 1)
            if channel:
                scale = (np.abs(w).max(1) / 127).astype(np.float32)
                zero = np.full(scale.shape, 128, np.uint8)
                parts = scale[:, None, :], zero[:, None, :]
            else:
                lo, hi = np.minimum(w.min((1, 2)), 0), np.maximum(w.max((1, 2)), 0)
                scale = ((hi - lo) / 255).astype(np.float32)
                zero = np.clip(np.round(-lo / scale), 0, 255).astype(np.uint8)
                parts = scale[:, None, None], zero[:, None, None]
            at[q].CopyFrom(init(q, np.clip(np.round(w / parts[0]) + parts[1].astype(np.float32), 0, 255).astype(np.uint8)))
            at[sc].CopyFrom(init(sc, scale))
            at[zp].CopyFrom(init(zp, zero))


def make_quant(out, name, case):
    """Return the largest difference from the float model's outputs."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    source, kind, channel, _ = case
    d = fresh(out, name)
    path = d / "model.onnx"
    with tempfile.TemporaryDirectory() as tmp:
        make_torch(pathlib.Path(tmp), source, TORCH[source])
        src = pathlib.Path(tmp) / source / "model.onnx"
        quantize_dynamic(src, path, weight_type=getattr(QuantType, kind), per_channel=channel)
        if kind == "QUInt8":
            m = onnx.load(path)
            lstm_to_uint8(m, onnx.load(src), channel)
            onnx.save(m, path)
        feeds = {k: v.numpy() for k, v in TORCH[source][2].items()}
        want = run_model(src, feeds)
    outs = run_model(path, feeds)
    save_golden(d, feeds, outs)
    difference = max(float(np.abs(want[k] - outs[k]).max()) for k in outs)
    return f"differs from the original by {difference:.2g}"


# converted models

# name: (case of TORCH, keep float32 inputs and outputs, description)
HALF = {
    "half-tagger": ("torch-tagger-op17", False, "BiLSTM tagger, float16 throughout"),
    "half-tagger-io32": ("torch-tagger-op17", True, "the same, Casts at inputs and outputs"),
    "half-lm-io32": ("torch-lm-op13", True, "language model, float16 inside"),
    "half-if-data": ("torch-if-data-neg-op17", False, "an LSTM in each branch, float16 throughout"),
}


def make_half(out, name, case):
    """onnxconverter_common. onnxruntime has no float16 LSTM on the CPU: the answer is the float32
    model's, its weights rounded to float16, so allow for the rounding of the values between."""
    from onnxconverter_common.float16 import convert_float_to_float16

    source, keep, _ = case
    d = fresh(out, name)
    with tempfile.TemporaryDirectory() as tmp:
        make_torch(pathlib.Path(tmp), source, TORCH[source])
        m = onnx.load(pathlib.Path(tmp) / source / "model.onnx")
    half = convert_float_to_float16(onnx.ModelProto.FromString(m.SerializeToString()), keep_io_types=keep)
    onnx.save(half, d / "model.onnx")

    def round_weights(g):
        for t in g.initializer:
            if t.data_type == FLOAT:
                t.CopyFrom(init(t.name, numpy_helper.to_array(t).astype(np.float16).astype(np.float32)))
        for n in g.node:
            for a in n.attribute:
                if a.type == onnx.AttributeProto.TENSOR and a.t.data_type == FLOAT and n.op_type == "Constant":
                    a.t.CopyFrom(init(a.t.name, numpy_helper.to_array(a.t).astype(np.float16).astype(np.float32)))
                elif a.type == onnx.AttributeProto.GRAPH:
                    round_weights(a.g)

    round_weights(m.graph)
    feeds = {k: v.numpy() for k, v in TORCH[source][2].items()}
    if not keep:
        feeds = {k: v.astype(np.float16) if v.dtype == np.float32 else v for k, v in feeds.items()}
    outs = run_model(m.SerializeToString(), {k: v.astype(np.float32) if v.dtype == np.float16 else v for k, v in feeds.items()})
    save_golden(d, feeds, outs if keep else {k: v.astype(np.float16) for k, v in outs.items()})
    return ""


# name: (case of TORCH, level, description)
OPTIMISED = {
    "ort-lm-basic": ("torch-lm-op13", "ORT_ENABLE_BASIC", "language model as onnxruntime rewrites it, basic"),
    "ort-deep-extended": ("torch-deep-op13", "ORT_ENABLE_EXTENDED", "LayerNorm and residual, extended"),
    "ort-bilstm2-extended": ("torch-bilstm2-bf-op17", "ORT_ENABLE_EXTENDED", "two BiLSTM, extended"),
    "ort-cell-step-extended": ("torch-cell-step-op13", "ORT_ENABLE_EXTENDED", "a cell step, extended"),
    "ort-crnn-extended": ("torch-crnn-op11", "ORT_ENABLE_EXTENDED", "OCR, extended (fused convolutions)"),
}


def make_optimised(out, name, case):
    """A model as onnxruntime saves it after its own optimisation."""
    source, level, _ = case
    d = fresh(out, name)
    path = d / "model.onnx"
    with tempfile.TemporaryDirectory() as tmp:
        make_torch(pathlib.Path(tmp), source, TORCH[source])
        src = pathlib.Path(tmp) / source / "model.onnx"
        so = ort.SessionOptions()
        so.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
        so.optimized_model_filepath = str(path)
        so.log_severity_level = 3
        ort.InferenceSession(str(src), so, providers=["CPUExecutionProvider"])
        feeds = {k: v.numpy() for k, v in TORCH[source][2].items()}
        want = run_model(src, feeds)
    outs = run_model(path, feeds)
    save_golden(d, feeds, outs)
    difference = max(float(np.abs(want[k] - outs[k]).max()) for k in outs)
    return f"differs from the original by {difference:.2g}"


def node_cases():
    """The LSTM cases of the ONNX project's own backend tests."""
    from onnx.backend.test.case.node import collect_testcases

    return {f"onnx-{t.name}": (t, "ONNX backend test") for t in collect_testcases("LSTM")}


def make_node(out, name, case):
    t = case[0]
    d = fresh(out, name)
    onnx.save(t.model, d / "model.onnx")
    ((ins, outs),) = t.data_sets
    save_golden(d, {i.name: v for i, v in zip(t.model.graph.input, ins)}, {o.name: v for o, v in zip(t.model.graph.output, outs)})
    return ""


TABLES = (
    (HAND, make_hand),
    (TORCH, make_torch),
    (QUANT, make_quant),
    (HALF, make_half),
    (OPTIMISED, make_optimised),
    (node_cases(), make_node),
)

if __name__ == "__main__":
    golden.main(__doc__, TABLES, {module.__name__: module.__version__ for module in (np, onnx, ort, torch)})
