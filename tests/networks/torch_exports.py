"""The modules of `torch_modules.py` as both of PyTorch's exporters write them, the old one and dynamo."""

import warnings

import numpy as np
import onnx
import torch
import torch.nn as nn
from golden import fresh, randn, rng, run_model, save_golden, session
from torch_modules import (
    AttentionPool,
    Bare,
    BareStates,
    CellLoop,
    CellStep,
    CellUnrolled,
    ConvLstm1d,
    Crnn,
    Deep,
    Denoiser,
    EncoderDecoder,
    Forecaster,
    IfData,
    IfLength,
    LanguageModel,
    LanguageModelStep,
    MeanMaxPool,
    Packed,
    PackedLast,
    ProjectedLoop,
    Residual,
    Sentiment,
    Tagger,
)

warnings.filterwarnings("ignore")
torch.set_num_threads(1)

EXPORT_AGREES = 1e-5  # ONNX Runtime and PyTorch, both in float32


def t_randn(*shape, seed=3, scale=1.0):
    """As `randn`, a tensor."""
    return torch.from_numpy(randn(*shape, seed=seed, scale=scale))


def t_ints(high, *shape, seed=3):
    """Integers from 0 to `high - 1`, a tensor."""
    return torch.from_numpy(rng(seed).integers(0, high, shape).astype(np.int64))


def tidy(m):
    """Drop what would tie a file to the machine it was made on."""

    def graph(g):
        for n in g.node:
            n.ClearField("doc_string")
            n.ClearField("metadata_props")
            for a in n.attribute:
                if a.type == onnx.AttributeProto.GRAPH:
                    graph(a.g)

    graph(m.graph)
    for p in list(m.metadata_props):
        if "path" in p.key or "exported_program" in p.key:
            m.metadata_props.remove(p)
    return m


def export(module, example, inputs, outputs, axes, opset, dynamo, path, script=False):
    """axes: {tensor: {axis: name}} for inputs (dynamo) and outputs too (old exporter)."""
    module.eval()
    if dynamo:
        shapes = tuple({k: v for k, v in axes.get(n, {}).items()} for n in inputs) if axes else None
        prog = torch.onnx.export(
            module, example, dynamo=True, opset_version=opset, input_names=inputs, output_names=outputs, dynamic_shapes=shapes, verbose=False
        )
        prog.save(path, external_data=False)
    else:
        m = torch.jit.script(module) if script else module
        torch.onnx.export(m, example, path, dynamo=False, opset_version=opset, input_names=inputs, output_names=outputs, dynamic_axes=axes)
    onnx.save(tidy(onnx.load(path)), path)


def make_torch(out, name, case):
    """Builds the module, exports and runs it; the largest difference of PyTorch's own outputs from ONNX Runtime's."""
    build, example, test, outputs, axes, opset, how, _ = case
    torch.manual_seed(1)
    d = fresh(out, name)
    path = d / "model.onnx"
    inputs = list(example)
    module = build().eval()
    for m in module.modules():  # running statistics that are not 0 and 1
        if isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d)):
            m.running_mean.normal_(0, 0.2)
            m.running_var.uniform_(0.5, 1.5)
    export(module, tuple(example.values()), inputs, outputs, axes, opset, how == "dynamo", path, how == "script")
    have = {i.name for i in session(path).get_inputs()}
    feeds = {k: v.numpy() for k, v in test.items() if k in have}
    outs = run_model(path, feeds)
    save_golden(d, feeds, outs)
    with torch.no_grad():
        want = module(*test.values())
    want = want if isinstance(want, tuple) else (want,)
    difference = max(float(np.abs(w.numpy() - g).max()) for w, g in zip(want, outs.values()))
    if not difference < EXPORT_AGREES:
        raise ValueError(f"the exported model does not compute what the module does: difference {difference:.2g}")
    return f"difference {difference:.2g}"


BT = {0: "batch", 1: "time"}
TB = {0: "time", 1: "batch"}
B1 = {1: "batch"}
B0 = {0: "batch"}
YHC = ["y", "h_n", "c_n"]


def t_states(layers, n, hid):
    return {"h0": t_randn(layers, n, hid, seed=5, scale=0.5), "c0": t_randn(layers, n, hid, seed=6, scale=0.5)}


def x_only(*shape, **k):
    return {"x": t_randn(*shape, **k)}


AX_TB = {"x": TB, "y": TB, "h_n": B1, "c_n": B1}
AX_BT = {"x": BT, "y": BT, "h_n": B1, "c_n": B1}
ST = {"h0": B1, "c0": B1}

# name: (module, example inputs, test inputs, outputs, dynamic axes, opset, exporter, description)
TORCH = {
    # bare layers
    "torch-lstm1-op11": (lambda: Bare(4, 8), x_only(5, 2, 4), x_only(7, 3, 4), YHC, AX_TB, 11, "old", "one layer, time first, zero states"),
    "torch-lstm1-static-op11": (lambda: Bare(4, 8), x_only(5, 2, 4), x_only(5, 2, 4), YHC, None, 11, "old", "one layer, all shapes fixed"),
    "torch-lstm1-nobias-op9": (
        lambda: Bare(4, 8, bias=False),
        x_only(5, 2, 4),
        x_only(6, 3, 4),
        YHC,
        AX_TB,
        9,
        "old",
        "one layer without biases, opset 9",
    ),
    "torch-lstm1-states-op13": (
        lambda: BareStates(4, 8),
        {**x_only(5, 2, 4), **t_states(1, 2, 8)},
        {**x_only(7, 3, 4), **t_states(1, 3, 8)},
        YHC,
        {**AX_TB, **ST},
        13,
        "old",
        "one layer, initial states as inputs",
    ),
    "torch-lstm1-unbatched-op17": (
        lambda: Bare(4, 8),
        x_only(5, 4),
        x_only(7, 4),
        YHC,
        {"x": {0: "time"}, "y": {0: "time"}},
        17,
        "old",
        "two-dimensional input [time, features]",
    ),
    "torch-lstm3-op20": (lambda: Bare(4, 8, num_layers=3), x_only(5, 2, 4), x_only(4, 1, 4), YHC, AX_TB, 20, "old", "three layers, time first"),
    "torch-bilstm2-bf-op17": (
        lambda: Bare(4, 8, num_layers=2, bidirectional=True, batch_first=True),
        x_only(2, 5, 4),
        x_only(3, 7, 4),
        YHC,
        AX_BT,
        17,
        "old",
        "two layers, bidirectional, batch first",
    ),
    "torch-bilstm2-bf-states-op18": (
        lambda: BareStates(4, 8, num_layers=2, bidirectional=True, batch_first=True),
        {**x_only(2, 5, 4), **t_states(4, 2, 8)},
        {**x_only(3, 7, 4), **t_states(4, 3, 8)},
        YHC,
        {**AX_BT, **ST},
        18,
        "old",
        "the same with initial states as inputs",
    ),
    "dynamo-lstm1-op18": (lambda: Bare(4, 8), x_only(5, 2, 4), x_only(7, 3, 4), YHC, AX_TB, 18, "dynamo", "one layer, time first"),
    "dynamo-lstm1-static-op18": (lambda: Bare(4, 8), x_only(5, 2, 4), x_only(5, 2, 4), YHC, None, 18, "dynamo", "one layer, all shapes fixed"),
    "dynamo-lstm1-states-op20": (
        lambda: BareStates(4, 8),
        {**x_only(5, 2, 4), **t_states(1, 2, 8)},
        {**x_only(7, 3, 4), **t_states(1, 3, 8)},
        YHC,
        {**AX_TB, **ST},
        20,
        "dynamo",
        "one layer, initial states as inputs",
    ),
    "dynamo-bilstm2-bf-op20": (
        lambda: Bare(4, 8, num_layers=2, bidirectional=True, batch_first=True),
        x_only(2, 5, 4),
        x_only(3, 7, 4),
        YHC,
        AX_BT,
        20,
        "dynamo",
        "two layers, bidirectional, batch first",
    ),
    # whole models
    "torch-lm-op13": (
        LanguageModel,
        {"ids": t_ints(30, 2, 5)},
        {"ids": t_ints(30, 3, 9)},
        ["logp"],
        {"ids": BT, "logp": BT},
        13,
        "old",
        "language model: Embedding, two layers, Linear, log_softmax",
    ),
    "torch-lm-step-op17": (
        LanguageModelStep,
        {"ids": t_ints(30, 2, 5), **t_states(2, 2, 16)},
        {"ids": t_ints(30, 3, 1), **t_states(2, 3, 16)},
        ["logp", "h_n", "c_n"],
        {"ids": BT, "logp": BT, **ST, "h_n": B1, "c_n": B1},
        17,
        "old",
        "the same, states in and out, one step",
    ),
    "dynamo-lm-op18": (
        LanguageModel,
        {"ids": t_ints(30, 2, 5)},
        {"ids": t_ints(30, 3, 9)},
        ["logp"],
        {"ids": BT, "logp": BT},
        18,
        "dynamo",
        "language model",
    ),
    "torch-forecast-last-op11": (
        lambda: Forecaster("last"),
        x_only(2, 5, 3),
        x_only(3, 8, 3),
        ["out"],
        {"x": BT, "out": B0},
        11,
        "old",
        "y[:, -1] -> Linear",
    ),
    "torch-forecast-hn-op13": (
        lambda: Forecaster("hn"),
        x_only(2, 5, 3),
        x_only(3, 8, 3),
        ["out"],
        {"x": BT, "out": B0},
        13,
        "old",
        "h_n[-1] -> Linear",
    ),
    "dynamo-forecast-last-op20": (
        lambda: Forecaster("last"),
        x_only(2, 5, 3),
        x_only(3, 8, 3),
        ["out"],
        {"x": BT, "out": B0},
        20,
        "dynamo",
        "y[:, -1] -> Linear",
    ),
    "dynamo-forecast-hn-op18": (
        lambda: Forecaster("hn"),
        x_only(2, 5, 3),
        x_only(3, 8, 3),
        ["out"],
        {"x": BT, "out": B0},
        18,
        "dynamo",
        "h_n[-1] -> Linear",
    ),
    "torch-tagger-op17": (Tagger, x_only(2, 5, 6), x_only(3, 8, 6), ["p"], {"x": BT, "p": BT}, 17, "old", "BiLSTM, Linear, softmax"),
    "dynamo-tagger-op18": (Tagger, x_only(2, 5, 6), x_only(3, 8, 6), ["p"], {"x": BT, "p": BT}, 18, "dynamo", "BiLSTM, Linear, softmax"),
    "torch-sentiment-op13": (
        Sentiment,
        {"ids": t_ints(40, 2, 5)},
        {"ids": t_ints(40, 3, 9)},
        ["p"],
        {"ids": BT, "p": B0},
        13,
        "old",
        "Embedding, two BiLSTM, last states of both directions",
    ),
    "dynamo-sentiment-op18": (Sentiment, {"ids": t_ints(40, 2, 5)}, {"ids": t_ints(40, 3, 9)}, ["p"], {"ids": BT, "p": B0}, 18, "dynamo", "the same"),
    "torch-attention-op17": (
        AttentionPool,
        x_only(2, 5, 5),
        x_only(3, 8, 5),
        ["out", "w"],
        {"x": BT, "out": B0, "w": BT},
        17,
        "old",
        "BiLSTM with softmax attention over time",
    ),
    "dynamo-attention-op20": (AttentionPool, x_only(2, 5, 5), x_only(3, 8, 5), ["out", "w"], {"x": BT, "out": B0, "w": BT}, 20, "dynamo", "the same"),
    "torch-pool-op18": (MeanMaxPool, x_only(2, 5, 5), x_only(3, 8, 5), ["out"], {"x": BT, "out": B0}, 18, "old", "BiLSTM, mean and max over time"),
    "torch-crnn-op11": (
        Crnn,
        {"x": t_randn(2, 1, 16, 32)},
        {"x": t_randn(3, 1, 16, 40)},
        ["logp"],
        {"x": {0: "batch", 3: "width"}, "logp": TB},
        11,
        "old",
        "OCR: convolutions, permute, two BiLSTM, log_softmax",
    ),
    "dynamo-crnn-op18": (
        Crnn,
        {"x": t_randn(2, 1, 16, 32)},
        {"x": t_randn(3, 1, 16, 40)},
        ["logp"],
        {"x": {0: "batch", 3: "width"}, "logp": TB},
        18,
        "dynamo",
        "the same",
    ),
    "torch-conv1d-op13": (
        ConvLstm1d,
        x_only(2, 3, 16),
        x_only(3, 3, 24),
        ["out"],
        {"x": {0: "batch", 2: "time"}, "out": B0},
        13,
        "old",
        "Conv1d, BatchNorm, MaxPool, LSTM, mean",
    ),
    "torch-encdec-op17": (
        EncoderDecoder,
        {"src": t_randn(2, 6, 3), "tgt": t_randn(2, 4, 2)},
        {"src": t_randn(3, 8, 3), "tgt": t_randn(3, 5, 2)},
        ["out"],
        {"src": BT, "tgt": {0: "batch", 1: "tgt_time"}, "out": {0: "batch", 1: "tgt_time"}},
        17,
        "old",
        "encoder's last states start the decoder",
    ),
    "dynamo-encdec-op18": (
        EncoderDecoder,
        {"src": t_randn(2, 6, 3), "tgt": t_randn(2, 4, 2)},
        {"src": t_randn(3, 8, 3), "tgt": t_randn(3, 5, 2)},
        ["out"],
        {"src": BT, "tgt": {0: "batch", 1: "tgt_time"}, "out": {0: "batch", 1: "tgt_time"}},
        18,
        "dynamo",
        "the same",
    ),
    "torch-deep-op13": (
        Deep,
        x_only(2, 5, 8),
        x_only(3, 7, 8),
        ["out"],
        {"x": BT, "out": BT},
        13,
        "old",
        "dropout, LayerNorm (decomposed), residual",
    ),
    "torch-deep-op17": (
        Deep,
        x_only(2, 5, 8),
        x_only(3, 7, 8),
        ["out"],
        {"x": BT, "out": BT},
        17,
        "old",
        "the same with the LayerNormalization operator",
    ),
    "dynamo-deep-op18": (Deep, x_only(2, 5, 8), x_only(3, 7, 8), ["out"], {"x": BT, "out": BT}, 18, "dynamo", "the same"),
    "torch-residual-op11": (
        Residual,
        x_only(5, 2, 8),
        x_only(7, 3, 8),
        ["out"],
        {"x": TB, "out": TB},
        11,
        "old",
        "residual around each of two LSTMs",
    ),
    "torch-denoiser-op12": (
        Denoiser,
        {"mag": t_randn(1, 1, 17).abs(), "state": t_randn(2, 1, 12, 2, scale=0.3)},
        {"mag": t_randn(2, 3, 17, seed=9).abs(), "state": t_randn(2, 2, 12, 2, seed=8, scale=0.3)},
        ["out", "new_state"],
        {"mag": BT, "state": B1, "out": BT, "new_state": B1},
        12,
        "old",
        "streaming mask estimator, states packed in one tensor",
    ),
    # cells written out as Gemm and friends
    "torch-cell-unroll3-op11": (
        CellUnrolled,
        x_only(2, 3, 4),
        x_only(5, 3, 4),
        ["y", "c"],
        {"x": B0, "y": B0, "c": B0},
        11,
        "old",
        "LSTMCell unrolled over 3 steps",
    ),
    "torch-cell-step-op13": (
        CellStep,
        {"x": t_randn(2, 4), "h": t_randn(2, 8, seed=5), "c": t_randn(2, 8, seed=6)},
        {"x": t_randn(3, 4), "h": t_randn(3, 8, seed=5), "c": t_randn(3, 8, seed=6)},
        ["out", "h_n", "c_n"],
        {k: B0 for k in ("x", "h", "c", "out", "h_n", "c_n")},
        13,
        "old",
        "one LSTMCell step, states in and out",
    ),
    "torch-cell-step-nobias-op17": (
        lambda: CellStep(False),
        {"x": t_randn(2, 4), "h": t_randn(2, 8, seed=5), "c": t_randn(2, 8, seed=6)},
        {"x": t_randn(3, 4), "h": t_randn(3, 8, seed=5), "c": t_randn(3, 8, seed=6)},
        ["out", "h_n", "c_n"],
        {k: B0 for k in ("x", "h", "c", "out", "h_n", "c_n")},
        17,
        "old",
        "the same without biases (MatMul instead of Gemm)",
    ),
    "dynamo-cell-unroll3-op18": (
        CellUnrolled,
        x_only(2, 3, 4),
        x_only(5, 3, 4),
        ["y", "c"],
        {"x": B0},
        18,
        "dynamo",
        "LSTMCell unrolled over 3 steps",
    ),
    "dynamo-cell-step-op20": (
        CellStep,
        {"x": t_randn(2, 4), "h": t_randn(2, 8, seed=5), "c": t_randn(2, 8, seed=6)},
        {"x": t_randn(3, 4), "h": t_randn(3, 8, seed=5), "c": t_randn(3, 8, seed=6)},
        ["out", "h_n", "c_n"],
        {k: B0 for k in ("x", "h", "c")},
        20,
        "dynamo",
        "one LSTMCell step",
    ),
    "torch-cell-loop-op13": (
        CellLoop,
        x_only(2, 3, 4),
        x_only(3, 6, 4),
        ["h", "c"],
        {"x": BT, "h": B0, "c": B0},
        13,
        "script",
        "LSTMCell in a scripted loop: ONNX Loop",
    ),
    "torch-proj-loop-op17": (
        ProjectedLoop,
        x_only(2, 3, 4),
        x_only(3, 6, 4),
        ["y", "h", "c"],
        {"x": BT, "y": BT, "h": B0, "c": B0},
        17,
        "script",
        "cell with a projection written out in a scripted loop",
    ),
    # lengths
    "torch-packed-op11": (
        Packed,
        {**x_only(3, 6, 4), "lengths": torch.tensor([6, 4, 1])},
        {**x_only(4, 7, 4), "lengths": torch.tensor([7, 7, 3, 1])},
        YHC,
        {**AX_BT, "lengths": B0},
        11,
        "old",
        "pack_padded_sequence, sorted lengths: sequence_lens",
    ),
    "torch-packed-unsorted-op17": (
        lambda: Packed(False),
        {**x_only(3, 6, 4), "lengths": torch.tensor([4, 6, 1])},
        {**x_only(4, 7, 4), "lengths": torch.tensor([3, 7, 1, 5])},
        YHC,
        {**AX_BT, "lengths": B0},
        17,
        "old",
        "the same, lengths in any order",
    ),
    "torch-packed-last-op13": (
        lambda: PackedLast(False),
        {**x_only(3, 6, 4), "lengths": torch.tensor([4, 6, 1])},
        {**x_only(4, 7, 4), "lengths": torch.tensor([3, 7, 1, 5])},
        ["out"],
        {"x": BT, "lengths": B0, "out": B0},
        13,
        "old",
        "packed, last states of both directions and maximum over time",
    ),
    # control flow
    "torch-if-length1-op13": (IfLength, x_only(2, 5, 4), x_only(3, 1, 4), ["out"], {"x": BT, "out": B0}, 13, "script", "if x.size(1) == 1: taken"),
    "torch-if-length4-op13": (
        IfLength,
        x_only(2, 5, 4),
        x_only(3, 4, 4),
        ["out"],
        {"x": BT, "out": B0},
        13,
        "script",
        "if x.size(1) == 1: not taken",
    ),
    "torch-if-data-pos-op17": (
        IfData,
        x_only(2, 5, 4),
        {"x": t_randn(3, 6, 4).abs()},
        YHC,
        AX_BT,
        17,
        "script",
        "a different LSTM in each branch, data decides: first",
    ),
    "torch-if-data-neg-op17": (
        IfData,
        x_only(2, 5, 4),
        {"x": -t_randn(3, 6, 4).abs()},
        YHC,
        AX_BT,
        17,
        "script",
        "a different LSTM in each branch, data decides: second",
    ),
}
