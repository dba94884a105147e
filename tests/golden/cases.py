"""The golden cases as data: what each exercises, its sizes and options. `make_cases.py` turns them into files.

T time steps, N rows, I inputs, H units; every other size or option of a stack has the name that it has in a model file's `lstm` entry.
A call may set: `states` (all initial states, or the names of those given), `lens` (the length of each row), `x_scale` and
`weight_scale` (factors, 1 if absent); for ONNX also `opset` (14 if absent), `layout`, `outputs` (those the node names; all if absent) and
`runtime_weights` (W, R, B are inputs of the graph).
"""

# An ONNX activation with its own parameters: the Rust side must read alpha and beta in the order in which they are consumed.
AFFINE = {"name": "Affine", "alpha": 0.4, "beta": 0.1}
ELU = {"name": "Elu", "alpha": 0.8}
HARD_SIGMOID = {"name": "HardSigmoid", "alpha": 0.3, "beta": 0.4}
LEAKY_RELU = {"name": "LeakyRelu", "alpha": 0.05}
SCALED_TANH = {"name": "ScaledTanh", "alpha": 1.2, "beta": 0.7}
THRESHOLDED_RELU = {"name": "ThresholdedRelu", "alpha": 0.3}

# name: (what it exercises, sizes T, N, I, H and options of the stack, options of the call)
TORCH = {
    "h1": ("the smallest network there is", dict(T=1, N=1, I=1, H=1), {}),
    "h5": ("a hidden size that divides nothing", dict(T=7, N=2, I=3, H=5), {}),
    "h33-states": ("initial states; one unit more than a warp", dict(T=6, N=3, I=7, H=33), dict(states=True)),
    "h64": ("a hidden size that fits every workgroup", dict(T=5, N=4, I=6, H=64), {}),
    "h65-batch-first": ("batch first; one unit more than a workgroup", dict(T=4, N=3, I=2, H=65, batch_first=True), dict(states=True)),
    "h100": ("a hidden size between the powers of two", dict(T=3, N=2, I=4, H=100), {}),
    "one-step": ("T = 1 with states, as a stream calls it", dict(T=1, N=3, I=5, H=33), dict(states=True)),
    "one-row": ("N = 1", dict(T=9, N=1, I=4, H=33), {}),
    "17-rows": ("a batch that fills no tile", dict(T=3, N=17, I=4, H=5), dict(states=True)),
    "200-steps": ("a long sequence", dict(T=200, N=2, I=2, H=5), {}),
    "no-bias": ("no bias", dict(T=5, N=2, I=6, H=33, bias=False), {}),
    "2-layers": ("two layers", dict(T=5, N=2, I=4, H=33, num_layers=2), {}),
    "3-layers-no-bias-states": ("three layers, no bias, initial states", dict(T=4, N=3, I=3, H=5, num_layers=3, bias=False), dict(states=True)),
    "bidirectional": ("both directions", dict(T=6, N=2, I=5, H=33, bidirectional=True), {}),
    "bidirectional-h65": ("both directions, batch first, T = 2", dict(T=2, N=2, I=3, H=65, bidirectional=True, batch_first=True), {}),
    "bidirectional-3-layers": (
        "three bidirectional layers with states",
        dict(T=5, N=3, I=4, H=5, num_layers=3, bidirectional=True),
        dict(states=True),
    ),
    "proj": ("a projection", dict(T=5, N=2, I=6, H=33, proj_size=7), {}),
    "proj-h64": ("a projection of half the size, no bias", dict(T=3, N=3, I=2, H=64, proj_size=32, bias=False), dict(states=True)),
    "proj-1": ("a projection to one number", dict(T=4, N=2, I=3, H=5, proj_size=1), {}),
    "proj-bidirectional-2-layers": (
        "projection, both directions, two layers, states, lengths",
        dict(T=6, N=4, I=5, H=33, proj_size=9, num_layers=2, bidirectional=True),
        dict(states=True, lens=[6, 1, 4, 3]),
    ),
    "lens": ("packed lengths", dict(T=7, N=4, I=3, H=33), dict(lens=[3, 7, 1, 5])),
    "lens-all-short": ("no row as long as the input", dict(T=6, N=2, I=3, H=5), dict(lens=[2, 4], states=True)),
    "lens-bidirectional-2-layers": (
        "lengths, both directions, two layers, batch first",
        dict(T=6, N=3, I=4, H=5, num_layers=2, bidirectional=True, batch_first=True),
        dict(lens=[2, 6, 5]),
    ),
    "saturated": ("gates that saturate", dict(T=6, N=3, I=7, H=33), dict(x_scale=50.0, states=True)),
    "saturated-2-layers": (
        "saturated gates, two bidirectional layers",
        dict(T=4, N=2, I=3, H=5, num_layers=2, bidirectional=True),
        dict(x_scale=50.0, weight_scale=3.0),
    ),
}
ONNX = {
    "opset7": ("the defaults of the operator, without a bias", dict(T=4, N=2, I=3, H=5, bias=False), dict(opset=7)),
    "h1": ("one unit", dict(T=3, N=2, I=2, H=1), {}),
    "h100": ("a hidden size between the powers of two", dict(T=2, N=2, I=3, H=100), {}),
    "opset11-states": ("initial states", dict(T=5, N=3, I=4, H=33), dict(opset=11, states=True)),
    "opset22-bidirectional": ("both directions", dict(T=4, N=2, I=3, H=64, direction="bidirectional"), dict(opset=22)),
    "reverse": ("the reverse direction", dict(T=5, N=2, I=3, H=33, direction="reverse"), dict(states=True)),
    "reverse-lens": ("the reverse direction starts at each row's own end", dict(T=6, N=4, I=3, H=5, direction="reverse"), dict(lens=[6, 2, 5, 1])),
    "bidirectional-lens-states": (
        "lengths and states in both directions",
        dict(T=6, N=5, I=4, H=33, direction="bidirectional"),
        dict(lens=[3, 6, 1, 4, 6], states=True),
    ),
    "peepholes": ("peepholes", dict(T=5, N=2, I=3, H=33, peepholes=True), dict(states=True)),
    "peepholes-bidirectional": (
        "peepholes in both directions, lengths",
        dict(T=4, N=3, I=2, H=5, peepholes=True, direction="bidirectional"),
        dict(lens=[4, 1, 3], opset=11),
    ),
    "clip": ("clip on the pre-activations", dict(T=5, N=2, I=4, H=33, clip=0.4), dict(x_scale=3.0)),
    "input-forget": ("coupled gates", dict(T=5, N=2, I=4, H=33, input_forget=True), {}),
    "input-forget-peepholes-clip": (
        "coupled gates, peepholes, clip",
        dict(T=4, N=3, I=3, H=5, input_forget=True, peepholes=True, clip=0.6),
        dict(states=True, x_scale=2.0),
    ),
    "hard-sigmoid-softsign": (
        "HardSigmoid with alpha and beta, Softsign",
        dict(T=5, N=2, I=3, H=33, activations=[[HARD_SIGMOID, "Softsign", "Tanh"]]),
        {},
    ),
    "relu": ("Relu twice", dict(T=4, N=2, I=3, H=5, activations=[["Sigmoid", "Relu", "Relu"]]), {}),
    "affine-elu-scaled-tanh": ("three functions that take parameters", dict(T=4, N=2, I=3, H=5, activations=[[AFFINE, ELU, SCALED_TANH]]), {}),
    "leaky-thresholded-relu": ("LeakyRelu, ThresholdedRelu", dict(T=4, N=3, I=3, H=33, activations=[["Sigmoid", LEAKY_RELU, THRESHOLDED_RELU]]), {}),
    "softplus-default-parameters": (
        "Softplus; HardSigmoid and Elu with the parameters they have by default",
        dict(T=4, N=2, I=3, H=5, activations=[["HardSigmoid", "Softplus", "Elu"]]),
        {},
    ),
    "activations-per-direction": (
        "another triple for each direction",
        dict(
            T=4, N=2, I=3, H=33, direction="bidirectional", activations=[["Sigmoid", SCALED_TANH, "Softsign"], [HARD_SIGMOID, LEAKY_RELU, "Softplus"]]
        ),
        {},
    ),
    "layout1": ("batch first", dict(T=4, N=3, I=3, H=33), dict(layout=1, states=True)),
    "layout1-bidirectional-lens": (
        "batch first, both directions, lengths",
        dict(T=5, N=3, I=3, H=5, direction="bidirectional"),
        dict(layout=1, states=True, lens=[5, 2, 3], opset=22),
    ),
    "only-y": ("one output, the first", dict(T=4, N=2, I=3, H=5), dict(outputs=["Y"])),
    "only-y-h": ("one output, behind an empty name", dict(T=4, N=2, I=3, H=5, direction="bidirectional"), dict(outputs=["Y_h"], lens=[2, 4])),
    "only-y-c": ("one output, behind two empty names", dict(T=4, N=2, I=3, H=5), dict(outputs=["Y_c"])),
    "empty-names": (
        "no bias and no lengths between W, R and the states and peepholes",
        dict(T=3, N=2, I=3, H=5, bias=False, peepholes=True),
        dict(states=True),
    ),
    "only-initial-c": ("an initial cell state alone", dict(T=3, N=2, I=3, H=5), dict(states=["c_0"])),
    "runtime-weights": ("W, R and B are inputs of the graph", dict(T=3, N=2, I=3, H=5, direction="bidirectional"), dict(runtime_weights=True)),
}
VARIANT = {
    "reverse": ("a reverse stack of one layer", dict(T=5, N=2, I=3, H=33, direction="reverse"), dict(states=True)),
    "reverse-2-layers-lens": (
        "a reverse stack of two layers, lengths",
        dict(T=6, N=4, I=3, H=5, num_layers=2, direction="reverse"),
        dict(lens=[6, 1, 3, 5], states=True),
    ),
    "tf-lstmp": (
        "TensorFlow's LSTMCell: cell_clip and proj_clip",
        dict(T=5, N=2, I=4, H=33, proj_size=7, cell_clip=0.25, proj_clip=0.1),
        dict(x_scale=3.0),
    ),
    "tf-lstmp-2-layers": (
        "cell_clip, proj_clip and peepholes in two layers",
        dict(T=5, N=3, I=4, H=33, num_layers=2, proj_size=9, cell_clip=0.2, proj_clip=0.1, peepholes=True),
        dict(x_scale=3.0, states=True),
    ),
    "tf-lstmp-bidirectional-2-layers": (
        "cell_clip and proj_clip in both directions of two layers, lengths",
        dict(T=4, N=3, I=3, H=5, num_layers=2, direction="bidirectional", proj_size=3, cell_clip=0.3, proj_clip=0.15),
        dict(x_scale=3.0, lens=[4, 2, 1]),
    ),
    "cell-clip-h65": (
        "cell_clip without a projection; an initial state beyond the bound",
        dict(T=3, N=2, I=2, H=65, cell_clip=0.3),
        dict(states=True, x_scale=3.0),
    ),
    "layer-norm": ("layer normalisation", dict(T=5, N=2, I=3, H=33, layer_norm=1e-5), dict(states=True)),
    "layer-norm-h5-2-layers": ("layer normalisation in two layers, no bias", dict(T=4, N=2, I=4, H=5, num_layers=2, layer_norm=1e-3, bias=False), {}),
    "layer-norm-bidirectional": (
        "layer normalisation in both directions of two layers, lengths",
        dict(T=5, N=3, I=3, H=5, num_layers=2, bidirectional=True, layer_norm=1e-5),
        dict(lens=[2, 5, 4]),
    ),
    "layer-norm-proj": ("layer normalisation with a projection", dict(T=4, N=2, I=3, H=64, proj_size=9, layer_norm=1e-5), dict(states=True)),
    "layer-norm-peepholes": ("layer normalisation with peepholes", dict(T=4, N=3, I=3, H=33, peepholes=True, layer_norm=1e-5), {}),
    "coupled-peepholes": (
        "coupled gates and peepholes in two layers",
        dict(T=5, N=2, I=3, H=33, num_layers=2, input_forget=True, peepholes=True),
        {},
    ),
    "coupled-bidirectional": (
        "coupled gates in both directions of two layers, batch first",
        dict(T=4, N=3, I=3, H=5, num_layers=2, bidirectional=True, batch_first=True, input_forget=True),
        dict(states=True),
    ),
    "clip-2-layers": ("clip in two layers", dict(T=4, N=2, I=3, H=33, num_layers=2, clip=0.1), dict(x_scale=3.0)),
    "activations-2-layers": (
        "other activations in two layers",
        dict(T=4, N=2, I=3, H=33, num_layers=2, activations=[[HARD_SIGMOID, "Softsign", SCALED_TANH]]),
        {},
    ),
    "activations-bidirectional-2-layers": (
        "a triple for each direction, two layers",
        dict(
            T=4, N=3, I=3, H=5, num_layers=2, bidirectional=True, activations=[["Sigmoid", ELU, LEAKY_RELU], [AFFINE, "Softplus", THRESHOLDED_RELU]]
        ),
        {},
    ),
    "length-0": ("rows of length 0 hand their initial states on", dict(T=4, N=3, I=3, H=33), dict(lens=[0, 4, 0], states=True)),
    "length-0-bidirectional": (
        "rows of length 0 in both directions of two layers, zero initial states",
        dict(T=4, N=4, I=3, H=5, num_layers=2, bidirectional=True),
        dict(lens=[2, 0, 4, 0]),
    ),
    "length-0-everywhere": ("nothing to do: all rows have length 0", dict(T=3, N=2, I=3, H=5, batch_first=True), dict(lens=[0, 0], states=True)),
    "everything": (
        "every option at once",
        dict(
            T=5,
            N=4,
            I=4,
            H=33,
            num_layers=2,
            bidirectional=True,
            batch_first=True,
            proj_size=9,
            peepholes=True,
            layer_norm=1e-4,
            input_forget=True,
            clip=0.8,
            cell_clip=0.5,
            proj_clip=0.2,
            activations=[["Sigmoid", "Tanh", "Tanh"], [HARD_SIGMOID, "Softsign", SCALED_TANH]],
        ),
        dict(x_scale=2.0, states=True, lens=[5, 0, 2, 4]),
    ),
}

# A module of PyTorch with layers around its LSTM; name: (what it exercises, sizes and options of the stack, options of the call). The stack's I
# is what the embedding makes. Beyond the call of a stack: `ids` (vectors of the embedding), `linears` (features and function of each layer),
# `metadata` (whether the file says how the stages are joined; otherwise that has to be inferred), `root` (what all names start with).
MODULE = {
    "module-2-layers-log-softmax": (
        "embedding, two layers, linear, log_softmax",
        dict(T=6, N=3, I=5, H=33, num_layers=2),
        dict(ids=11, linears=[(7, "log_softmax")], metadata=True),
    ),
    "module-bidirectional-batch-first": (
        "embedding, both directions, two linear layers, batch first, lengths and states",
        dict(T=5, N=4, I=4, H=5, bidirectional=True, batch_first=True),
        dict(ids=9, linears=[(6, "relu"), (3, "none")], metadata=True, lens=[5, 1, 4, 2], states=True),
    ),
    "module-inferred": (
        "an embedding, an LSTM and a linear layer, of which no metadata says so",
        dict(T=4, N=2, I=3, H=5),
        dict(ids=6, linears=[(4, "none")], root="module."),
    ),
}

# two nodes in one graph; name: (sizes and options of the first, options of the call)
ENCODER_DECODER = {
    "encoder-decoder": (dict(T=5, N=2, I=3, H=33), {}),
    "encoder-decoder-bidirectional-lens": (dict(T=6, N=3, I=3, H=5, direction="bidirectional"), dict(lens=[6, 2, 4])),
}
