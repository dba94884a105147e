"""The judge: an LSTM stack in numpy, float64, written from the equations in `src/network/config.rs`.

It shares nothing with the crate. `make_cases.py` holds it against PyTorch and ONNX Runtime wherever those know the variant.

Shapes: T time steps, N rows, I inputs, H units, P projection, R = P or H, L layers, D directions. Gates are in the order i, f, g, o.
"""

import numpy as np

# ONNX's default (alpha, beta); 0 where the function takes none
PARAMETERS = {
    "Affine": (1.0, 0.0),
    "LeakyRelu": (0.01, 0.0),
    "ThresholdedRelu": (1.0, 0.0),
    "ScaledTanh": (1.0, 1.0),
    "HardSigmoid": (0.2, 0.5),
    "Elu": (1.0, 0.0),
}
USUAL = ["Sigmoid", "Tanh", "Tanh"]


def single(number):
    """`number` as a file keeps it: rounded to float32."""
    return float(np.float32(number))


def activation(spec):
    """The function that `spec` names: "Tanh", or {"name": "HardSigmoid", "alpha": 0.3, "beta": 0.4}."""
    spec = spec if isinstance(spec, dict) else {"name": spec}
    name = spec["name"]
    alpha, beta = (single(spec.get(key, usual)) for key, usual in zip(("alpha", "beta"), PARAMETERS.get(name, (0.0, 0.0)), strict=True))
    return {
        "Sigmoid": lambda v: 0.5 + 0.5 * np.tanh(0.5 * v),
        "Tanh": np.tanh,
        "Relu": lambda v: np.maximum(v, 0),
        "Affine": lambda v: alpha * v + beta,
        "LeakyRelu": lambda v: np.where(v >= 0, v, alpha * v),
        "ThresholdedRelu": lambda v: np.where(v > alpha, v, 0),
        "ScaledTanh": lambda v: alpha * np.tanh(beta * v),
        "HardSigmoid": lambda v: np.clip(alpha * v + beta, 0, 1),
        "Elu": lambda v: np.where(v >= 0, v, alpha * np.expm1(np.minimum(v, 0))),
        "Softsign": lambda v: v / (1 + np.abs(v)),
        "Softplus": lambda v: np.logaddexp(0, v),
    }[name]


def bounded(v, bound):
    """`v` with its absolute value held below `bound`; None: no bound."""
    return v if bound is None else np.clip(v, -single(bound), single(bound))


def normalised(v, epsilon):
    """Each row of `v` with mean 0 and variance 1."""
    return (v - v.mean(-1, keepdims=True)) / np.sqrt(v.var(-1, keepdims=True) + single(epsilon))


def step(config, weights, suffix, x, h, c):
    """One time step of one cell: x [N, I], h [N, R], c [N, H] -> the new h and c."""
    w = lambda name: weights[name + suffix]
    per_direction = config.get("activations", [USUAL])
    gate, candidate, output = map(activation, per_direction[-1 if suffix.endswith("_reverse") else 0])
    epsilon = config.get("layer_norm")
    from_x, from_h = x @ w("weight_ih").T, h @ w("weight_hh").T
    if epsilon is not None:
        from_x = normalised(from_x, epsilon) * w("gamma_ih")
        from_h = normalised(from_h, epsilon) * w("gamma_hh")
    raw = from_x + from_h + (w("bias_ih") + w("bias_hh") if config.get("bias", True) else 0)
    raw_i, raw_f, raw_g, raw_o = np.split(raw, 4, axis=-1)
    p_i, p_f, p_o = w("weight_peephole") if config.get("peepholes") else np.zeros((3, 1), x.dtype)

    clip = config.get("clip")
    i = gate(bounded(raw_i + p_i * c, clip))
    f = 1 - i if config.get("input_forget") else gate(bounded(raw_f + p_f * c, clip))
    g = candidate(bounded(raw_g, clip))
    c = bounded(f * c + i * g, config.get("cell_clip"))
    o = gate(bounded(raw_o + p_o * c, clip))
    seen = c if epsilon is None else normalised(c, epsilon) * w("gamma_c") + w("beta_c")
    h = o * output(seen)
    if config.get("proj_size"):
        h = bounded(h @ w("weight_hr").T, config.get("proj_clip"))
    return h, c


def directions(config):
    """(key suffix, whether it walks backwards) of each direction of the stack."""
    name = config.get("direction", "bidirectional" if config.get("bidirectional") else "forward")
    return {"forward": [("", False)], "reverse": [("", True)], "bidirectional": [("", False), ("_reverse", True)]}[name]


def lstm(config, weights, x, sequence_lens=None, h_0=None, c_0=None, dtype=np.float64):
    """The whole stack: x [T, N, I], sequence_lens [N], h_0 [L*D, N, R], c_0 [L*D, N, H] -> y [T, N, D*R], h_n, c_n.

    A row stands still past its own length: y is 0 there, and its final state is that of its last step, or the initial one
    where the length is 0. `config` has the keys of a model file's `lstm` entry; `batch_first` is the caller's business.
    """
    steps, rows, _ = x.shape
    cells = config["num_layers"] * len(directions(config))
    hidden, out = config["hidden_size"], config.get("proj_size") or config["hidden_size"]
    lens = np.full(rows, steps) if sequence_lens is None else sequence_lens
    weights = {name: value.astype(dtype) for name, value in weights.items()}
    h_n = np.zeros((cells, rows, out), dtype) if h_0 is None else h_0.astype(dtype)
    c_n = np.zeros((cells, rows, hidden), dtype) if c_0 is None else c_0.astype(dtype)
    y = x.astype(dtype)
    for layer in range(config["num_layers"]):
        below, parts = y, []
        for dir, (suffix, backwards) in enumerate(directions(config)):
            cell = layer * len(directions(config)) + dir
            h, c, part = h_n[cell], c_n[cell], np.zeros((steps, rows, out), dtype)
            for t in reversed(range(steps)) if backwards else range(steps):
                live = t < lens
                h[live], c[live] = step(config, weights, f"_l{layer}{suffix}", below[t, live], h[live], c[live])
                part[t, live] = h[live]
            parts.append(part)
        y = np.concatenate(parts, axis=-1)
    return y, h_n, c_n
