"""Models built node by node: what no exporter at hand writes, but the format allows."""

import numpy as np
import onnx
from golden import fresh, randn, run_model, save_golden
from onnx import TensorProto, helper, numpy_helper

FLOAT, FLOAT16, INT32, INT64 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT32, TensorProto.INT64
I, H = 4, 8  # input and hidden size of the hand-made layers


def vi(name, shape, kind=FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


def init(name, a):
    return numpy_helper.from_array(np.ascontiguousarray(a), name)


def weights(dirs=1, seed=11, i=I, h=H):
    return {
        "W": randn(dirs, 4 * h, i, seed=seed, scale=0.4),
        "R": randn(dirs, 4 * h, h, seed=seed + 1, scale=0.4),
        "B": randn(dirs, 8 * h, seed=seed + 2, scale=0.2),
    }


def model(nodes, inputs, outputs, inits=(), opset=17, ir=8, functions=(), domains=()):
    g = helper.make_graph(nodes, "g", inputs, outputs, initializer=list(inits))
    m = helper.make_model(
        g,
        opset_imports=[helper.make_opsetid("", opset), *[helper.make_opsetid(d, 1) for d in domains]],
        functions=list(functions),
        producer_name="make_torch.py",
    )
    m.ir_version = ir
    return m


def plain(
    opset=17,
    ir=8,
    direction="forward",
    dirs=1,
    lens=False,
    states=False,
    peep=False,
    outputs=("Y", "Y_h", "Y_c"),
    as_inputs=False,
    runtime=False,
    bias=True,
    t=6,
    n=3,
    **attrs,
):
    """One LSTM node, every optional part at will. Returns model and feeds."""
    w = weights(dirs)
    feeds = {"X": randn(t, n, I)}
    ins = ["X", "W", "R", "B" if bias else ""]
    gi = [vi("X", ["T", "N", I])]
    if not bias:
        del w["B"]
    if lens or states or peep:
        ins.append("lens" if lens else "")
    if lens:
        gi.append(vi("lens", ["N"], INT32))
        feeds["lens"] = np.array([t, 2, 4, 1, 3][:n], np.int32)
    if states or peep:
        ins += ["h0", "c0"] if states else ["", ""]
    if states:
        gi += [vi("h0", [dirs, "N", H]), vi("c0", [dirs, "N", H])]
        feeds |= {"h0": randn(dirs, n, H, seed=5, scale=0.5), "c0": randn(dirs, n, H, seed=6, scale=0.5)}
    if peep:
        ins.append("P")
        w["P"] = randn(dirs, 3 * H, seed=14, scale=0.3)
    while not ins[-1]:
        ins.pop()
    if as_inputs or runtime:
        gi += [vi(k, v.shape) for k, v in w.items()]
    if runtime:
        feeds |= w
    shape = {"Y": ["T", dirs, "N", H], "Y_h": [dirs, "N", H], "Y_c": [dirs, "N", H]}
    node = helper.make_node("LSTM", ins, list(outputs), name="lstm", hidden_size=H, direction=direction, **attrs)
    return model([node], gi, [vi(o, shape[o]) for o in outputs if o], [] if runtime else [init(k, v) for k, v in w.items()], opset, ir), feeds


def batchwise():
    """layout=1, which onnxruntime does not run: the answer comes from the same layer with layout=0."""
    m, f = plain(opset=14, ir=7, direction="bidirectional", dirs=2, states=True)
    outs = run_model(m.SerializeToString(), f)
    m.graph.node[0].attribute.append(helper.make_attribute("layout", 1))
    for v, shape in zip([*m.graph.input, *m.graph.output], [["N", "T", I], ["N", 2, H], ["N", 2, H], ["N", "T", 2, H], ["N", 2, H], ["N", 2, H]]):
        v.CopyFrom(vi(v.name, shape))
    f = {k: v.swapaxes(0, 1).copy() for k, v in f.items()}
    outs = {"Y": outs["Y"].transpose(2, 0, 1, 3).copy(), "Y_h": outs["Y_h"].swapaxes(0, 1).copy(), "Y_c": outs["Y_c"].swapaxes(0, 1).copy()}
    return m, f, outs


def half_weights():
    """float32 model whose weights are stored as float16 and cast in the graph."""
    w = weights(2)
    nodes = [helper.make_node("Cast", [k + "16"], [k], to=FLOAT) for k in w]
    nodes += [helper.make_node("LSTM", ["X", "W", "R", "B"], ["Y", "Y_h", "Y_c"], hidden_size=H, direction="bidirectional")]
    nodes += [
        helper.make_node("Transpose", ["Y"], ["Yt"], perm=[0, 2, 1, 3]),
        helper.make_node("Reshape", ["Yt", "shape"], ["Yr"]),
        helper.make_node("Cast", ["D16"], ["D"], to=FLOAT),
        helper.make_node("MatMul", ["Yr", "D"], ["out"]),
    ]
    inits = [init(k + "16", v.astype(np.float16)) for k, v in w.items()]
    inits += [init("D16", randn(2 * H, 3, seed=20, scale=0.4).astype(np.float16)), init("shape", np.array([0, 0, -1], np.int64))]
    return model(nodes, [vi("X", ["T", "N", I])], [vi("out", ["T", "N", 3]), vi("Y_h", [2, "N", H])], inits, 13, 7), {"X": randn(6, 3, I)}


def half_all():
    """Inputs, weights and outputs all float16. The answer is that of a float32 copy, rounded to float16."""
    m, f = plain(opset=17, ir=8, states=True)
    for t in m.graph.initializer:
        t.CopyFrom(init(t.name, numpy_helper.to_array(t).astype(np.float16)))
    f16 = {k: v.astype(np.float16) for k, v in f.items()}
    full = onnx.ModelProto()
    full.CopyFrom(m)
    for t in full.graph.initializer:
        t.CopyFrom(init(t.name, numpy_helper.to_array(t).astype(np.float32)))
    for v in [*m.graph.input, *m.graph.output]:
        v.type.tensor_type.elem_type = FLOAT16
    outs = run_model(full.SerializeToString(), {k: v.astype(np.float32) for k, v in f16.items()})
    return m, f16, {k: v.astype(np.float16) for k, v in outs.items()}


def half_cast_out():
    """Inputs and outputs float32, the whole inside float16. Same origin of the answer."""
    m, f, outs = half_all()
    pre, post = [], []
    for v in m.graph.input:
        pre.append(helper.make_node("Cast", [v.name], [v.name + "_16"], to=FLOAT16))
        v.type.tensor_type.elem_type = FLOAT
    node = m.graph.node[0]
    for k, x in enumerate(node.input):
        if x in f:
            node.input[k] = x + "_16"
    for k, y in enumerate(list(node.output)):
        post.append(helper.make_node("Cast", [y + "_16"], [y], to=FLOAT))
        node.output[k] = y + "_16"
    for v in m.graph.output:
        v.type.tensor_type.elem_type = FLOAT
    nodes = [*pre, node, *post]
    g = onnx.GraphProto()
    g.CopyFrom(m.graph)
    del g.node[:]
    g.node.extend(nodes)
    m.graph.CopyFrom(g)
    return m, {k: v.astype(np.float32) for k, v in f.items()}, {k: v.astype(np.float32) for k, v in outs.items()}


def if_shared():
    """Both branches of an If use one LSTM's weights from the outer graph, one of them backwards."""
    w = weights()

    def branch(direction):
        return helper.make_graph(
            [helper.make_node("LSTM", ["X", "W", "R", "B"], ["Yi" + direction, "Hi" + direction], hidden_size=H, direction=direction)],
            direction,
            [],
            [vi("Yi" + direction, ["T", 1, "N", H]), vi("Hi" + direction, [1, "N", H])],
        )

    node = helper.make_node("If", ["flag"], ["Y", "Y_h"], then_branch=branch("forward"), else_branch=branch("reverse"))
    return model(
        [node],
        [vi("X", ["T", "N", I]), vi("flag", [], TensorProto.BOOL)],
        [vi("Y", ["T", 1, "N", H]), vi("Y_h", [1, "N", H])],
        [init(k, v) for k, v in w.items()],
    ), {"X": randn(6, 3, I), "flag": np.array(False)}


def scan_cell():
    """A cell written out (Gemm, Split, Sigmoid, Tanh) inside a Scan over time. Gate order i, f, g, o as in torch."""
    wx, wh, b = randn(4 * H, I, seed=31, scale=0.4), randn(4 * H, H, seed=32, scale=0.4), randn(4 * H, seed=33, scale=0.2)
    n = helper.make_node
    body = helper.make_graph(
        [
            n("Gemm", ["x", "wx", "b"], ["gx"], transB=1),
            n("Gemm", ["h", "wh"], ["gh"], transB=1),
            n("Add", ["gx", "gh"], ["gates"]),
            n("Split", ["gates"], ["gi", "gf", "gg", "go"], axis=1),
            n("Sigmoid", ["gi"], ["si"]),
            n("Sigmoid", ["gf"], ["sf"]),
            n("Tanh", ["gg"], ["tg"]),
            n("Sigmoid", ["go"], ["so"]),
            n("Mul", ["sf", "c"], ["keep"]),
            n("Mul", ["si", "tg"], ["new"]),
            n("Add", ["keep", "new"], ["c1"]),
            n("Tanh", ["c1"], ["tc"]),
            n("Mul", ["so", "tc"], ["h1"]),
            n("Identity", ["h1"], ["y"]),
        ],
        "body",
        [vi("h", ["N", H]), vi("c", ["N", H]), vi("x", ["N", I])],
        [vi("h1", ["N", H]), vi("c1", ["N", H]), vi("y", ["N", H])],
    )
    node = n("Scan", ["h0", "c0", "X"], ["h_n", "c_n", "Y"], num_scan_inputs=1, body=body)
    return model(
        [node],
        [vi("X", ["T", "N", I]), vi("h0", ["N", H]), vi("c0", ["N", H])],
        [vi("Y", ["T", "N", H]), vi("h_n", ["N", H]), vi("c_n", ["N", H])],
        [init("wx", wx), init("wh", wh), init("b", b)],
        13,
        7,
    ), {"X": randn(6, 3, I), "h0": randn(3, H, seed=5), "c0": randn(3, H, seed=6)}


def local_function():
    """The LSTM and the squeeze of its direction axis sit in a model-local function, called twice."""
    w1, w2 = weights(), weights(seed=41, i=H)
    fn = helper.make_function(
        "local",
        "Layer",
        ["x", "w", "r", "b"],
        ["y"],
        [
            helper.make_node("LSTM", ["x", "w", "r", "b"], ["y4"], hidden_size=H),
            helper.make_node("Constant", [], ["one"], value=init("one", np.array([1], np.int64))),
            helper.make_node("Squeeze", ["y4", "one"], ["y"]),
        ],
        [helper.make_opsetid("", 17)],
    )
    nodes = [
        helper.make_node("Layer", ["X", "W1", "R1", "B1"], ["m"], domain="local"),
        helper.make_node("Layer", ["m", "W2", "R2", "B2"], ["Y"], domain="local"),
    ]
    inits = [init(k + "1", v) for k, v in w1.items()] + [init(k + "2", v) for k, v in w2.items()]
    return model(nodes, [vi("X", ["T", "N", I])], [vi("Y", ["T", "N", H])], inits, 17, 8, [fn], ["local"]), {"X": randn(6, 3, I)}


def constant_nodes():
    """Weights come from Constant, Transpose, Concat, Unsqueeze and Identity nodes instead of initialisers."""
    w = weights()
    n, k = helper.make_node, lambda name, a: helper.make_node("Constant", [], [name], value=init(name, a))
    nodes = [
        k("Wt", w["W"][0].T),
        n("Transpose", ["Wt"], ["W2"], perm=[1, 0]),
        n("Unsqueeze", ["W2"], ["W"], axes=[0]),
        k("Rio", w["R"][0, : 2 * H]),
        k("Rfc", w["R"][0, 2 * H :]),
        n("Concat", ["Rio", "Rfc"], ["R2"], axis=0),
        n("Unsqueeze", ["R2"], ["R"], axes=[0]),
        k("B0", w["B"]),
        n("Identity", ["B0"], ["B"]),
        n("LSTM", ["X", "W", "R", "B"], ["", "Y_h"], hidden_size=H),
    ]
    return model(nodes, [vi("X", ["T", "N", I])], [vi("Y_h", [1, "N", H])], [], 11, 6), {"X": randn(6, 3, I)}


# name: (function giving model and feeds [and outputs], description)
HAND = {
    "onnx-op7-ir3": (lambda: plain(7, 3, as_inputs=True), "opset 7, IR 3: initialisers are graph inputs too"),
    "onnx-op8-ir3-states": (lambda: plain(8, 3, as_inputs=True, states=True), "opset 8, IR 3, initial states"),
    "onnx-op9-ir4": (lambda: plain(9, 4), "opset 9, IR 4"),
    "onnx-op14-ir7": (lambda: plain(14, 7), "opset 14, IR 7 (LSTM-14)"),
    "onnx-op21-ir9": (lambda: plain(21, 9, states=True), "opset 21, IR 9"),
    "onnx-op22-ir10": (lambda: plain(22, 10, direction="bidirectional", dirs=2), "opset 22, IR 10 (LSTM-22), bidirectional"),
    "onnx-layout1-op14": (batchwise, "layout=1, bidirectional, initial states (answer from layout=0)"),
    "onnx-reverse": (lambda: plain(direction="reverse"), "direction reverse"),
    "onnx-lens": (lambda: plain(lens=True, t=6, n=4), "sequence_lens, forward"),
    "onnx-lens-reverse": (lambda: plain(lens=True, n=4, direction="reverse"), "sequence_lens, reverse"),
    "onnx-lens-bi-states": (
        lambda: plain(lens=True, n=4, direction="bidirectional", dirs=2, states=True),
        "sequence_lens, bidirectional, initial states",
    ),
    "onnx-peephole": (lambda: plain(peep=True), "peepholes"),
    "onnx-peephole-bi-all": (
        lambda: plain(peep=True, states=True, lens=True, n=4, direction="bidirectional", dirs=2),
        "peepholes, lengths, states, bidirectional",
    ),
    "onnx-clip": (lambda: plain(clip=0.3), "clip"),
    "onnx-input-forget": (lambda: plain(input_forget=1), "input_forget = 1 (coupled gates)"),
    "onnx-act-relu": (lambda: plain(activations=["Sigmoid", "Relu", "Relu"]), "activations Sigmoid, Relu, Relu"),
    "onnx-act-hardsigmoid": (
        lambda: plain(activations=["HardSigmoid", "Tanh", "Tanh"], activation_alpha=[0.2], activation_beta=[0.5]),
        "HardSigmoid gates, alpha 0.2, beta 0.5 (Keras 2)",
    ),
    "onnx-act-hardsigmoid-default": (lambda: plain(activations=["HardSigmoid", "Tanh", "Tanh"]), "HardSigmoid gates without alpha and beta"),
    "onnx-act-mixed-bi": (
        lambda: plain(
            direction="bidirectional",
            dirs=2,
            activations=["Sigmoid", "Tanh", "Tanh", "HardSigmoid", "Softsign", "Relu"],
            activation_alpha=[0.25],
            activation_beta=[0.4],
        ),
        "different activations for each direction",
    ),
    "onnx-act-affine-leaky": (
        lambda: plain(activations=["Affine", "LeakyRelu", "ScaledTanh"], activation_alpha=[0.3, 0.05, 1.2], activation_beta=[0.1, 0.7]),
        "Affine, LeakyRelu, ScaledTanh with alphas and betas",
    ),
    "onnx-act-elu-threshold": (lambda: plain(activations=["Sigmoid", "Elu", "ThresholdedRelu"], activation_alpha=[0.5, 0.1]), "Elu, ThresholdedRelu"),
    "onnx-act-softplus": (lambda: plain(activations=["Sigmoid", "Softplus", "Softsign"]), "Softplus, Softsign"),
    "onnx-no-bias": (lambda: plain(bias=False, states=True), "B left out by an empty name, states given"),
    "onnx-only-yh": (lambda: plain(outputs=("", "Y_h")), "Y left out by an empty name, no Y_c"),
    "onnx-only-yc": (lambda: plain(outputs=("", "", "Y_c")), "only Y_c"),
    "onnx-only-y": (lambda: plain(outputs=("Y",)), "only Y"),
    "onnx-t1-n1": (lambda: plain(t=1, n=1, states=True), "one step, batch 1"),
    "onnx-long": (lambda: plain(t=200, n=2, direction="bidirectional", dirs=2), "200 steps"),
    "onnx-runtime-weights": (lambda: plain(runtime=True), "W, R and B are graph inputs"),
    "onnx-runtime-weights-bi": (lambda: plain(runtime=True, direction="bidirectional", dirs=2, states=True), "the same, bidirectional with states"),
    "onnx-external-one": (lambda: plain(states=True), "external data, one file"),
    "onnx-external-each": (lambda: plain(states=True), "external data, one file a tensor"),
    "onnx-half-weights": (half_weights, "float16 initialisers cast to float in the graph"),
    "onnx-half-all": (half_all, "all float16 (answer from float32)"),
    "onnx-half-inside": (half_cast_out, "float32 outside, float16 inside (answer from float32)"),
    "onnx-constant-nodes": (constant_nodes, "weights computed by constant nodes, opset 11"),
    "onnx-if-shared": (if_shared, "If: both branches capture the outer weights"),
    "onnx-scan-cell": (scan_cell, "decomposed cell in a Scan"),
    "onnx-local-function": (local_function, "LSTM in a model-local function, called twice"),
}


def make_hand(out, name, case):
    m, feeds, *outs = case[0]()
    d = fresh(out, name)
    path = d / "model.onnx"
    onnx.checker.check_model(m)
    if "external" in name:
        onnx.save(
            m,
            path,
            save_as_external_data=True,
            all_tensors_to_one_file="one" in name,
            location="model.onnx.data" if "one" in name else None,
            size_threshold=0,
        )
    else:
        onnx.save(m, path)
    save_golden(d, feeds, outs[0] if outs else run_model(path, feeds))
    return ""
