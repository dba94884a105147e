"""Makes small Keras models that hold an LSTM as ONNX, with golden inputs and outputs.

    pip install numpy keras onnx onnxruntime tensorflow tf2onnx
    python tests/networks/make_keras.py [NAME ...] [--out DIR] [--all]
    pip install numpy keras onnx onnxruntime onnxscript torch
    KERAS_BACKEND=torch python tests/networks/make_keras.py [NAME ...] [--out DIR] [--all]

Without names it remakes what `manifest.json` lists. The first part of a name says who wrote the model:

keras-*       Keras's own exporter, `model.export(path, format="onnx")`.
tf2onnx-*     `tf2onnx.convert.from_keras`, or `from_function` where that fails, as it does for every `keras.Sequential`.
kerastorch-*  Keras's own exporter on PyTorch, which is PyTorch's.

ONNX Runtime's CPU provider computed the outputs; Keras agrees within 1e-4. Two runs give the same weights and outputs, but tf2onnx's names and
order of the nodes inside may differ, and with them the bytes of a model.
"""

import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="", TF_ENABLE_ONEDNN_OPTS="0")

import golden
import keras
import numpy as np
import onnx
import onnxruntime as ort
from golden import fresh, randn, rng, save_golden, session
from keras import layers as L

EXPORT_AGREES = 1e-4  # ONNX Runtime and Keras, both in float32

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf
    import tf2onnx

    tf.config.threading.set_intra_op_parallelism_threads(1)


def masked(n, t, f):
    """Rows end in zeros, as Masking(0.0) wants them: lengths t, t-2, 1, ... A zero row in the middle too."""
    x = randn(n, t, f)
    for b, k in enumerate([t, t - 2, 1, 3][:n]):
        x[b, k:] = 0
    x[0, 2] = 0
    return x


def padded_ids(n, t, high, where="post"):
    x = rng().integers(1, high, (n, t)).astype(np.int32)
    for b, k in enumerate([t, t - 3, 1, 4][:n]):
        if where == "post":
            x[b, k:] = 0
        else:
            x[b, : t - k] = 0
    return x


def seq(*ls):
    return lambda: keras.Sequential(ls_call(ls))


def ls_call(ls):
    return [l() for l in ls]


def inp(*shape, dtype="float32", batch=None):
    return lambda: keras.Input(shape, batch_size=batch, dtype=dtype)


def lstm(units=8, **k):
    return lambda: L.LSTM(units, **k)


def bi(units=8, merge="concat", **k):
    return lambda: L.Bidirectional(L.LSTM(units, **k), merge_mode=merge)


def dense(n, **k):
    return lambda: L.Dense(n, **k)


def with_state():
    x = keras.Input((6, 4))
    y, h, c = L.LSTM(8, return_sequences=True, return_state=True)(x)
    return keras.Model(x, [y, h, c])


def seq2seq():
    src, tgt = keras.Input((None, 3), name="src"), keras.Input((None, 2), name="tgt")
    _, h, c = L.LSTM(10, return_state=True)(src)
    y = L.LSTM(10, return_sequences=True)(tgt, initial_state=[h, c])
    return keras.Model([src, tgt], L.Dense(2)(y))


def state_inputs():
    """Streaming step: states in and out."""
    x, h0, c0 = keras.Input((1, 4), name="x"), keras.Input((8,), name="h0"), keras.Input((8,), name="c0")
    y, h, c = L.LSTM(8, return_state=True)(x, initial_state=[h0, c0])
    return keras.Model([x, h0, c0], [L.Dense(2)(y), h, c])


def conv_lstm():
    return keras.Sequential(
        [
            keras.Input((12, 3)),
            L.Conv1D(6, 3, activation="relu", padding="same"),
            L.MaxPooling1D(2),
            L.BatchNormalization(),
            L.LSTM(8),
            L.Dropout(0.3),
            L.Dense(2, activation="sigmoid"),
        ]
    )


def attention():
    x = keras.Input((6, 4))
    y = L.Bidirectional(L.LSTM(6, return_sequences=True))(x)
    w = L.Softmax(axis=1)(L.Dense(1)(y))
    return keras.Model(x, L.Dense(3)(L.Dot(axes=1)([w, y])))


def residual():
    x = keras.Input((None, 8))
    y = L.LayerNormalization()(L.Add()([L.LSTM(8, return_sequences=True)(x), x]))
    return keras.Model(x, L.GlobalAveragePooling1D()(L.LSTM(8, return_sequences=True)(y)))


# name: (model, test inputs in the order of the model's inputs, description)
CASES = {
    "lstm-last": (seq(inp(6, 4), lstm()), [randn(3, 6, 4)], "LSTM, last output, fixed time"),
    "lstm-seq": (seq(inp(6, 4), lstm(return_sequences=True)), [randn(3, 6, 4)], "LSTM, all outputs, fixed time"),
    "lstm-last-anytime": (seq(inp(None, 4), lstm()), [randn(3, 7, 4)], "LSTM, last output, any time"),
    "lstm-seq-anytime": (seq(inp(None, 4), lstm(return_sequences=True)), [randn(3, 7, 4)], "LSTM, all outputs, any time"),
    "lstm-batch1": (seq(inp(6, 4, batch=1), lstm(), dense(1)), [randn(1, 6, 4)], "batch fixed to 1"),
    "bi-concat": (seq(inp(6, 4), bi(return_sequences=True)), [randn(3, 6, 4)], "Bidirectional, concat, all outputs"),
    "bi-concat-last": (seq(inp(None, 4), bi()), [randn(3, 7, 4)], "Bidirectional, concat, last outputs, any time"),
    "bi-sum": (seq(inp(6, 4), bi(merge="sum", return_sequences=True)), [randn(3, 6, 4)], "Bidirectional, sum"),
    "stacked": (seq(inp(None, 4), lstm(10, return_sequences=True), lstm(6), dense(2)), [randn(3, 7, 4)], "two LSTMs and Dense"),
    "stacked-bi": (
        seq(inp(None, 4), bi(6, return_sequences=True), bi(5), dense(2, activation="softmax")),
        [randn(3, 7, 4)],
        "two Bidirectional and softmax",
    ),
    "stateful": (seq(inp(6, 4, batch=2), lstm(stateful=True), dense(2)), [randn(2, 6, 4)], "stateful=True, state zero"),
    "masking": (seq(inp(6, 4), lambda: L.Masking(0.0), lstm(), dense(2)), [masked(4, 6, 4)], "Masking, last output"),
    "masking-seq": (seq(inp(None, 4), lambda: L.Masking(0.0), lstm(return_sequences=True)), [masked(4, 6, 4)], "Masking, all outputs"),
    "masking-bi": (seq(inp(None, 4), lambda: L.Masking(0.0), bi()), [masked(4, 6, 4)], "Masking, Bidirectional"),
    "embedding-mask": (
        seq(inp(9, dtype="int32"), lambda: L.Embedding(20, 6, mask_zero=True), lstm(), dense(4, activation="softmax")),
        [padded_ids(4, 9, 20)],
        "Embedding(mask_zero), padding after",
    ),
    "embedding-mask-pre": (
        seq(inp(None, dtype="int32"), lambda: L.Embedding(20, 6, mask_zero=True), lstm(), dense(4, activation="softmax")),
        [padded_ids(4, 9, 20, "pre")],
        "Embedding(mask_zero), padding before",
    ),
    "embedding": (
        seq(
            inp(9, dtype="int32"),
            lambda: L.Embedding(20, 6),
            bi(return_sequences=True),
            lambda: L.GlobalMaxPooling1D(),
            dense(1, activation="sigmoid"),
        ),
        [padded_ids(4, 9, 20)],
        "Embedding without mask, Bidirectional, max over time",
    ),
    "return-state": (with_state, [randn(3, 6, 4)], "return_sequences and return_state"),
    "seq2seq": (seq2seq, [randn(3, 6, 3), randn(3, 4, 2, seed=4)], "encoder's states start the decoder"),
    "step": (state_inputs, [randn(2, 1, 4), randn(2, 8, seed=4), randn(2, 8, seed=5)], "one step, states in and out"),
    "backwards": (seq(inp(6, 4), lstm(go_backwards=True, return_sequences=True)), [randn(3, 6, 4)], "go_backwards"),
    "relu": (seq(inp(6, 4), lstm(activation="relu")), [randn(3, 6, 4)], "activation relu"),
    "hard-sigmoid": (
        seq(inp(6, 4), lstm(recurrent_activation="hard_sigmoid")),
        [randn(3, 6, 4)],
        "recurrent_activation hard_sigmoid (Keras 3: slope 1/6)",
    ),
    "unroll": (seq(inp(4, 4), lstm(unroll=True)), [randn(3, 4, 4)], "unroll=True"),
    "no-bias": (seq(inp(6, 4), lstm(use_bias=False)), [randn(3, 6, 4)], "use_bias=False"),
    "time-distributed": (
        seq(inp(6, 4), lstm(return_sequences=True), lambda: L.TimeDistributed(L.Dense(3, activation="relu"))),
        [randn(3, 6, 4)],
        "TimeDistributed(Dense)",
    ),
    "repeat-vector": (
        seq(inp(6, 4), lstm(), lambda: L.RepeatVector(3), lstm(return_sequences=True), dense(2)),
        [randn(3, 6, 4)],
        "autoencoder: LSTM, RepeatVector, LSTM",
    ),
    "cell-rnn": (seq(inp(6, 4), lambda: L.RNN([L.LSTMCell(8), L.LSTMCell(6)])), [randn(3, 6, 4)], "RNN over two LSTMCells"),
    "conv": (conv_lstm, [randn(3, 12, 3)], "Conv1D, MaxPooling, BatchNormalization, LSTM"),
    "attention": (attention, [randn(3, 6, 4)], "Bidirectional with attention"),
    "residual": (residual, [randn(3, 7, 8)], "residual, LayerNormalization, mean over time"),
}


def build(case):
    """The model with every weight set from one stream, biases too."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(1)
    m = case[0]()
    r = rng(17)
    for v in m.weights:
        if "state" in v.path.split("/")[-1] or "seed" in v.path or "int" in str(v.dtype):
            continue
        if "variance" in v.path:
            v.assign(r.uniform(0.5, 1.5, v.shape))
        else:
            v.assign(v + 0.1 * r.standard_normal(v.shape))
    return m


OPSETS = (11, 13, 15, 17, 18)  # tf2onnx, in turn


def export_keras(m, path, opset):
    m.export(path, format="onnx", verbose=False)  # its own choice of opset


def export_tf2onnx(m, path, opset):
    spec = [tf.TensorSpec(i.shape, i.dtype, name=i.name) for i in m.inputs]
    try:
        tf2onnx.convert.from_keras(m, spec, opset=opset, output_path=path)
        return ""
    except Exception as e:
        fn = tf.function(lambda *x: m(list(x) if len(x) > 1 else x[0], training=False))
        tf2onnx.convert.from_function(fn, spec, opset=opset, output_path=path)
        return f" (from_function, as from_keras failed: {' '.join(str(e).split())[:80]})"


def make(out, name, case):
    """Builds the model, exports and runs it; the largest difference of Keras's own outputs from ONNX Runtime's."""
    prefix, short = name.split("-", 1)
    _, arrays, _ = case
    folder = fresh(out, name)
    path = str(folder / "model.onnx")
    model = build(case)
    want = model(arrays if len(arrays) > 1 else arrays[0], training=False)
    want = [keras.ops.convert_to_numpy(value) for value in (want if isinstance(want, (list, tuple)) else [want])]
    for layer in model._flatten_layers():
        if getattr(layer, "stateful", False):
            layer.reset_states()
    # tf2onnx is asked for each of these in turn, Keras chooses by itself
    opset = OPSETS[list(CASES).index(short) % len(OPSETS)]
    note = (export_tf2onnx if prefix == "tf2onnx" else export_keras)(model, path, opset) or ""
    judge = session(path)
    types = {"tensor(float)": np.float32, "tensor(int32)": np.int32, "tensor(int64)": np.int64}
    feeds = {i.name: x.astype(types[i.type]) for i, x in zip(judge.get_inputs(), arrays)}
    outs = dict(zip([o.name for o in judge.get_outputs()], judge.run(None, feeds)))
    save_golden(folder, feeds, outs)
    difference = max(float(np.abs(w - o).max()) if w.shape == o.shape else float("nan") for w, o in zip(want, outs.values()))
    if not difference < EXPORT_AGREES:  # PyTorch traces an open time axis at length 1
        raise ValueError(f"the exported model does not compute what Keras does: difference {difference:.2g}")
    return f"difference {difference:.2g}{note}"


PREFIXES = ("keras", "tf2onnx") if keras.backend.backend() == "tensorflow" else ("kerastorch",)
TABLES = [({f"{prefix}-{short}": case for short, case in CASES.items()}, make) for prefix in PREFIXES]

if __name__ == "__main__":
    versions = {module.__name__: module.__version__ for module in (np, onnx, ort, keras)}
    if keras.backend.backend() == "tensorflow":
        versions |= {module.__name__: module.__version__ for module in (tf, tf2onnx)}
    golden.main(__doc__, TABLES, versions)
