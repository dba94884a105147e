#!/usr/bin/env python3
"""Writes the project's own golden cases: small models with inputs and the outputs that must come out.

    pip install numpy onnx onnxruntime torch safetensors
    python tests/golden/make_cases.py [--out tests/golden]

A case is a folder with `model.safetensors` or `model.onnx`, `in.NAME.npy`, `out.NAME.npy` and `case.json`. The values are
computed in float64 and stored as float32. Who vouches for them is the first part of the name:

torch-*    PyTorch; `judge.py` agrees within 1e-10 on the LSTM.
onnx-*     `judge.py`; ONNX Runtime's CPU provider agrees within 1e-5 (it computes in float32).
variant-*  `judge.py` alone: what no engine at hand has.

A safetensors model has PyTorch's key names, and the constructor's arguments as JSON in the metadata key `lstm`. Beyond PyTorch's,
that JSON may hold: `direction` ("forward", "reverse", "bidirectional"), `peepholes`, `input_forget` (true), `clip`, `cell_clip`,
`proj_clip` (numbers), `layer_norm` (epsilon), `activations` (one list a direction, or one for both, of [gate, candidate, output];
each a name or {"name", "alpha", "beta"}). The tensors that go with them: `weight_peephole_l{k}` [3, H] (rows i, f, o),
`gamma_ih_l{k}`, `gamma_hh_l{k}` [4H], `gamma_c_l{k}`, `beta_c_l{k}` [H]; `_reverse` follows for direction 1 of a bidirectional stack.
The state dict of a module, torch-module-*, has the list of its stages in the key `network`, or no metadata at all.

Every case must also be able to fail: each option it sets is taken away in turn, and the outputs must change. And it must be
fair: the judge in float32 has to stay close to the judge in float64 (`float32_error` in case.json).
"""

import argparse
import hashlib
import json
import pathlib
import shutil

import judge
import numpy as np
import onnx
import onnxruntime
import safetensors.numpy
import torch
from cases import ENCODER_DECODER, MODULE, ONNX, TORCH, VARIANT
from onnx import helper, numpy_helper

JUDGES_AGREE = 1e-10  # judge.py and PyTorch, both in float64
ENGINE_AGREES = 1e-5  # judge.py in float64 and ONNX Runtime in float32
OPTION_BITES = 1e-3  # what taking an option away must change at least
WELL_CONDITIONED = 3e-6  # (1 + |value|) times this bounds the float32 run of judge.py
OPTIONS = {"bias", "direction", "peepholes", "input_forget", "clip", "cell_clip", "proj_clip", "layer_norm", "activations"}


def rng_of(name):
    """A generator that depends on the case's name alone, so that no case moves when another comes or goes."""
    return np.random.default_rng(list(name.encode()))


def config_of(sizes):
    """(T, N, the `lstm` metadata): PyTorch's constructor arguments and, beyond them, only what the case sets."""
    options = dict(sizes)
    steps, rows = options.pop("T"), options.pop("N")
    plain = dict(
        input_size=options.pop("I"), hidden_size=options.pop("H"), num_layers=1, bias=True, batch_first=False, bidirectional=False, proj_size=0
    )
    return steps, rows, plain | options


def random_weights(rng, config, scale):
    """Weights under the key names of the safetensors contract, float32, about as large as PyTorch initialises them."""
    directions = judge.directions(config)
    hidden, proj = config["hidden_size"], config["proj_size"]
    out = proj or hidden
    uniform = lambda *shape: (rng.uniform(-1, 1, shape) * 1.5 * scale / np.sqrt(hidden)).astype(np.float32)
    near = lambda centre, *shape: (centre + rng.uniform(-0.4, 0.4, shape)).astype(np.float32)
    weights = {}
    for layer in range(config["num_layers"]):
        for suffix in (f"_l{layer}{suffix}" for suffix, _ in directions):
            weights["weight_ih" + suffix] = uniform(4 * hidden, config["input_size"] if layer == 0 else len(directions) * out)
            weights["weight_hh" + suffix] = uniform(4 * hidden, out)
            if config["bias"]:
                weights["bias_ih" + suffix], weights["bias_hh" + suffix] = uniform(4 * hidden), uniform(4 * hidden)
            if proj:
                weights["weight_hr" + suffix] = uniform(proj, hidden)
            if config.get("peepholes"):
                weights["weight_peephole" + suffix] = near(0, 3, hidden)
            if "layer_norm" in config:
                weights["gamma_ih" + suffix], weights["gamma_hh" + suffix] = near(1, 4 * hidden), near(1, 4 * hidden)
                weights["gamma_c" + suffix], weights["beta_c" + suffix] = near(1, hidden), near(0, hidden)
    return weights


def random_inputs(rng, steps, rows, config, call):
    """x [T, N, I] and, where the case has them, h_0 [L*D, N, R], c_0 [L*D, N, H], sequence_lens [N]."""
    cells = config["num_layers"] * len(judge.directions(config))
    normal = lambda *shape: rng.standard_normal(shape).astype(np.float32)
    inputs = {"x": normal(steps, rows, config["input_size"]) * np.float32(call.get("x_scale", 1.0))}
    h_0, c_0 = 0.7 * normal(cells, rows, config["proj_size"] or config["hidden_size"]), normal(cells, rows, config["hidden_size"])
    present = call.get("states", [])
    inputs |= {name: value for name, value in (("h_0", h_0), ("c_0", c_0)) if present is True or name in present}
    if "lens" in call:
        inputs["sequence_lens"] = np.array(call["lens"], np.int64)
    return inputs


def judged(name, config, weights, inputs):
    """(y, h_n, c_n) of the judge in float64, and how far its float32 run is off; checks that the case is fair and can fail."""
    values = judge.lstm(config, weights, **inputs)
    rounded = judge.lstm(config, weights, **inputs, dtype=np.float32)
    error = max(np.max(np.abs(a - b) / (1 + np.abs(a))) for a, b in zip(values, rounded, strict=True))
    assert error < WELL_CONDITIONED, f"{name}: float32 is off by {error:.1e}"
    steps_taken = np.any(inputs.get("sequence_lens", 1))
    for option in sorted(OPTIONS & {k for k, v in config.items() if v and v != "bidirectional"}) if steps_taken else []:
        without = config | {"bias": False} if option == "bias" else {k: v for k, v in config.items() if k != option}
        assert difference(values, judge.lstm(without, weights, **inputs)) > OPTION_BITES, f"{name}: {option} changes nothing"
    for option in inputs.keys() - {"x"}:
        without = {k: v for k, v in inputs.items() if k != option}
        assert difference(values, judge.lstm(config, weights, **without)) > OPTION_BITES, f"{name}: {option} changes nothing"
    return values, {"float32_error": float(f"{error:.1e}")}


def difference(values, others):
    """The largest absolute difference between two lists of arrays."""
    return max(float(np.max(np.abs(a - b))) for a, b in zip(values, others, strict=True))


@torch.no_grad()
def pytorch(config, weights, inputs):
    """(y, h_n, c_n) of `torch.nn.LSTM` in float64, from time-first inputs, with packed-sequence semantics."""
    net = torch.nn.LSTM(**config | {"batch_first": False}).double()
    net.load_state_dict({name: torch.from_numpy(value).double() for name, value in weights.items()})
    x = torch.from_numpy(inputs["x"]).double()
    states = tuple(torch.from_numpy(inputs[name]).double() for name in ("h_0", "c_0")) if "h_0" in inputs else None
    if "sequence_lens" in inputs:
        packed = torch.nn.utils.rnn.pack_padded_sequence(x, torch.from_numpy(inputs["sequence_lens"]), enforce_sorted=False)
        packed_y, (h_n, c_n) = net(packed, states)
        y, _ = torch.nn.utils.rnn.pad_packed_sequence(packed_y, total_length=len(x))
    else:
        y, (h_n, c_n) = net(x, states)
    return [value.numpy() for value in (y, h_n, c_n)]


def safetensors_case(folder, name, about, sizes, call, plain):
    """A model of the safetensors contract; `plain`: one that PyTorch knows and judges."""
    rng = rng_of(name)
    steps, rows, config = config_of(sizes)
    weights = random_weights(rng, config, call.get("weight_scale", 1.0))
    inputs = random_inputs(rng, steps, rows, config, call)
    values, numbers = judged(name, config, weights, inputs)
    judged_by = "tests/golden/judge.py, float64"
    if plain:
        mine, values = values, pytorch(config, weights, inputs)
        gap = difference(values, mine)
        assert gap < JUDGES_AGREE, f"{name}: PyTorch and judge.py differ by {gap:.1e}"
        judged_by = f"torch {torch.__version__}, float64; judge.py agrees within {JUDGES_AGREE:.0e}"
    outputs = dict(zip(("y", "h_n", "c_n"), values, strict=True))
    if config["batch_first"]:
        inputs["x"], outputs["y"] = inputs["x"].swapaxes(0, 1), outputs["y"].swapaxes(0, 1)
    (folder / "model.safetensors").write_bytes(safetensors.numpy.save(weights, metadata={"lstm": json.dumps(config)}))
    write(folder, inputs, outputs, {"about": about, "judge": judged_by, "T": steps, "N": rows, **config, **call, **numbers})


FUNCTIONS = {"none": lambda v: v, "relu": torch.relu, "log_softmax": lambda v: torch.log_softmax(v, -1)}


@torch.no_grad()
def module_case(folder, name, about, sizes, call):
    """The state dict of a module: an embedding, an LSTM, linear layers. PyTorch's float64 is the judge; judge.py of the LSTM in it."""
    rng = rng_of(name)
    steps, rows, config = config_of(sizes)
    inputs = random_inputs(rng, steps, rows, config, call)
    ids = rng.integers(0, call["ids"], (steps, rows))
    ids[0, :2] = 0, call["ids"] - 1
    weights = random_weights(rng, config, 1.0)
    normal = lambda *shape: rng.standard_normal(shape).astype(np.float32)
    state = {"embedding.weight": normal(call["ids"], config["input_size"])} | {"lstm." + key: value for key, value in weights.items()}
    stages = [{"embedding": "embedding"}, {"lstm": "lstm", "config": config}]
    features = len(judge.directions(config)) * config["hidden_size"]
    linears = []
    for number, (size, function) in enumerate(call["linears"]):
        path = "fc" if len(call["linears"]) == 1 else f"classifier.{2 * number}"
        state |= {path + ".weight": normal(size, features) / np.float32(np.sqrt(features)), path + ".bias": normal(size)}
        stages.append({"linear": path, "function": function})
        linears.append((path, function))
        features = size
    values, numbers = judged(name, config, weights, inputs | {"x": state["embedding.weight"][ids]})

    double = {key: torch.from_numpy(value).double() for key, value in state.items()}
    x = torch.nn.functional.embedding(torch.from_numpy(ids), double["embedding.weight"])
    y, h_n, c_n = pytorch(config, weights, inputs | {"x": x.numpy().astype(np.float32)})
    gap = difference(values, (y, h_n, c_n))
    assert gap < JUDGES_AGREE, f"{name}: PyTorch and judge.py differ by {gap:.1e}"
    y = torch.from_numpy(y)
    for path, function in linears:
        without = y = torch.nn.functional.linear(y, double[path + ".weight"], double[path + ".bias"])
        y = FUNCTIONS[function](y)
        assert function == "none" or difference([without.numpy()], [y.numpy()]) > OPTION_BITES, f"{name}: {function} changes nothing"
    inputs, outputs = inputs | {"x": ids}, {"y": y.numpy(), "h_n": h_n, "c_n": c_n}
    if config["batch_first"]:
        inputs["x"], outputs["y"] = inputs["x"].swapaxes(0, 1), outputs["y"].swapaxes(0, 1)
    metadata = {"network": json.dumps(stages)} if call.get("metadata") else None
    root = call.get("root", "")
    (folder / "model.safetensors").write_bytes(safetensors.numpy.save({root + key: value for key, value in state.items()}, metadata=metadata))
    judged_by = f"torch {torch.__version__}, float64; judge.py agrees on the LSTM within {JUDGES_AGREE:.0e}"
    write(folder, inputs, outputs, {"about": about, "judge": judged_by, "T": steps, "N": rows, **config, **call, **numbers})


def onnx_tensors(config, weights):
    """W [D, 4H, I], R [D, 4H, H], B [D, 8H], P [D, 3H] of the ONNX operator, gates i, o, f, c, from PyTorch's key names."""
    hidden = config["hidden_size"]
    gates = lambda key: np.concatenate([weights[key].reshape(4, hidden, -1)[g] for g in (0, 3, 1, 2)])
    suffixes = ["_l0" + suffix for suffix, _ in judge.directions(config)]
    tensors = {"W": [gates("weight_ih" + s) for s in suffixes], "R": [gates("weight_hh" + s) for s in suffixes]}
    if config["bias"]:
        tensors["B"] = [np.concatenate([gates("bias_ih" + s), gates("bias_hh" + s)])[:, 0] for s in suffixes]
    if config.get("peepholes"):
        tensors["P"] = [weights["weight_peephole" + s][[0, 2, 1]].ravel() for s in suffixes]
    return {name: np.stack(value) for name, value in tensors.items()}


def onnx_attributes(config):
    """The attributes of the ONNX operator; alpha and beta lie in the order in which the functions consume them."""
    attributes = {"hidden_size": config["hidden_size"]}
    attributes |= {key: config[key] for key in ("direction", "clip") if key in config}
    if config.get("input_forget"):
        attributes["input_forget"] = 1
    functions = [a if isinstance(a, dict) else {"name": a} for triple in config.get("activations", []) for a in triple]
    if functions:
        attributes["activations"] = [f["name"] for f in functions]
    for key in ("alpha", "beta"):
        if numbers := [f[key] for f in functions if key in f]:
            attributes["activation_" + key] = numbers
    return attributes


def onnx_model(nodes, inputs, outputs, initializers, opset):
    """A checked model with the named arrays as inputs and outputs, each of its own shape."""
    info = lambda name, value: helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
    constants = [numpy_helper.from_array(value, name) for name, value in initializers.items()]
    graph = helper.make_graph(nodes, "golden", [info(*i) for i in inputs.items()], [info(*o) for o in outputs.items()], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8, producer_name="cellgate-golden")
    onnx.checker.check_model(model, full_check=True)
    return model


def onnx_outputs(config, values):
    """Y [T, D, N, H], Y_h and Y_c [D, N, H] from the judge's y [T, N, D*H], h_n, c_n, as float32."""
    y, h_n, c_n = (value.astype(np.float32) for value in values)
    steps, rows, _ = y.shape
    return {"Y": y.reshape(steps, rows, -1, config["hidden_size"]).swapaxes(1, 2), "Y_h": h_n, "Y_c": c_n}


def vouched(name, model, inputs, outputs):
    """The `judge` entry of an ONNX case, after ONNX Runtime has computed the same `outputs`."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    gap = difference(session.run(list(outputs), inputs), outputs.values())
    assert gap < ENGINE_AGREES, f"{name}: ONNX Runtime and judge.py differ by {gap:.1e}"
    return f"tests/golden/judge.py, float64; onnxruntime {onnxruntime.__version__} CPU agrees within {gap:.0e}"


def onnx_case(folder, name, about, sizes, call):
    """A graph of one ONNX LSTM node."""
    rng = rng_of(name)
    steps, rows, config = config_of(sizes)
    opset, layout = call.get("opset", 14), call.get("layout", 0)
    weights = random_weights(rng, config, 1.0)
    inputs = random_inputs(rng, steps, rows, config, call)
    values, numbers = judged(name, config, weights, inputs)
    outputs = {k: v for k, v in onnx_outputs(config, values).items() if k in call.get("outputs", ["Y", "Y_h", "Y_c"])}
    initializers = onnx_tensors(config, weights)
    names = {"x": "X", "h_0": "initial_h", "c_0": "initial_c", "sequence_lens": "sequence_lens"}
    inputs = {names[k]: v.astype(np.int32) if k == "sequence_lens" else v for k, v in inputs.items()}
    if call.get("runtime_weights"):
        inputs, initializers = inputs | initializers, {}

    present = inputs.keys() | initializers.keys()
    operands = [k if k in present else "" for k in ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P")]
    results = [k if k in outputs else "" for k in ("Y", "Y_h", "Y_c")]
    node = helper.make_node("LSTM", trimmed(operands), trimmed(results), name="lstm", **onnx_attributes(config))
    model = onnx_model([node], inputs, outputs, initializers, opset)
    judged_by = vouched(name, model, inputs, outputs)
    if layout == 1:  # the same numbers with the batch axis first; ONNX Runtime has layout 0 only, so it judged that
        batch_first = lambda v: v if v.ndim == 1 else np.moveaxis(v, v.ndim - 2, 0)
        inputs = {k: batch_first(v) for k, v in inputs.items()}
        outputs = {k: batch_first(v) for k, v in outputs.items()}
        node.attribute.append(helper.make_attribute("layout", 1))
        model = onnx_model([node], inputs, outputs, initializers, opset)
    (folder / "model.onnx").write_bytes(model.SerializeToString(deterministic=True))
    write(folder, inputs, outputs, {"about": about, "judge": judged_by, "T": steps, "N": rows, **config, **call, "opset": opset, **numbers})


def trimmed(names):
    """`names` without the empty ones at the end."""
    return names[: max(i for i, name in enumerate(names) if name) + 1]


def encoder_decoder_case(folder, name, sizes, call):
    """Two LSTM nodes in one graph: the second starts from the final states of the first."""
    rng = rng_of(name)
    steps, rows, encoder = config_of(sizes)
    decoder = encoder | {"input_size": 4}
    enc_weights, dec_weights = (random_weights(rng, config, 1.0) for config in (encoder, decoder))
    source = random_inputs(rng, steps, rows, encoder, call)
    enc_values, numbers = judged(name, encoder, enc_weights, source)
    target = random_inputs(rng, steps - 2, rows, decoder, {})
    dec_values, dec_numbers = judged(name, decoder, dec_weights, target | {"h_0": enc_values[1], "c_0": enc_values[2]})
    inputs = {"source": source["x"], "target": target["x"]} | ({"source_lens": source["sequence_lens"].astype(np.int32)} if "lens" in call else {})
    outputs = {"decoded_" + k: v for k, v in onnx_outputs(decoder, dec_values).items()}
    tensors = {
        prefix + k: v
        for prefix, config, w in (("enc_", encoder, enc_weights), ("dec_", decoder, dec_weights))
        for k, v in onnx_tensors(config, w).items()
    }
    nodes = [
        helper.make_node(
            "LSTM",
            trimmed(["source", "enc_W", "enc_R", "enc_B", "source_lens" if "lens" in call else ""]),
            ["", "state_h", "state_c"],
            name="encoder",
            **onnx_attributes(encoder),
        ),
        helper.make_node(
            "LSTM", ["target", "dec_W", "dec_R", "dec_B", "", "state_h", "state_c"], list(outputs), name="decoder", **onnx_attributes(decoder)
        ),
    ]
    model = onnx_model(nodes, inputs, outputs, tensors, 14)
    judged_by = vouched(name, model, inputs, outputs)
    numbers = {"float32_error": max(numbers["float32_error"], dec_numbers["float32_error"])}
    (folder / "model.onnx").write_bytes(model.SerializeToString(deterministic=True))
    about = "two nodes; the second starts from the first's Y_h and Y_c"
    write(folder, inputs, outputs, {"about": about, "judge": judged_by, "T": steps, "N": rows, **encoder, **call, "opset": 14, **numbers})


def write(folder, inputs, outputs, about):
    """The arrays of a case, outputs as float32, and its case.json."""
    for prefix, arrays in (("in", inputs), ("out", outputs)):
        for name, value in arrays.items():
            np.save(folder / f"{prefix}.{name}.npy", np.ascontiguousarray(value, value.dtype if prefix == "in" else np.float32))
    (folder / "case.json").write_text(json.dumps(about, indent=1) + "\n")


def sha256(path):
    """The hash of a file, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_manifest(out, cases):
    """`manifest.json`: every case folder with the hash of each of its files, the scripts' hashes, the versions used."""
    here = pathlib.Path(__file__).parent
    manifest = {
        "scripts": {name: sha256(here / name) for name in ("cases.py", "judge.py", "make_cases.py")},
        "versions": {module.__name__: module.__version__ for module in (np, onnx, onnxruntime, torch)},
        "cases": {case: {path.name: sha256(path) for path in sorted((out / case).iterdir())} for case in sorted(cases)},
    }
    (out / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent)
    out = parser.parse_args().out
    for old in list(out.glob("*/case.json")):
        shutil.rmtree(old.parent)
    made = []

    def new(name):
        made.append(name)
        (out / name).mkdir(parents=True)
        return out / name, name

    for name, (about, sizes, call) in TORCH.items():
        safetensors_case(*new("torch-" + name), about, sizes, call, plain=True)
    for name, (about, sizes, call) in MODULE.items():
        module_case(*new("torch-" + name), about, sizes, call)
    for name, (about, sizes, call) in ONNX.items():
        onnx_case(*new("onnx-" + name), about, sizes, call)
    for name, (sizes, call) in ENCODER_DECODER.items():
        encoder_decoder_case(*new("onnx-" + name), sizes, call)
    for name, (about, sizes, call) in VARIANT.items():
        safetensors_case(*new("variant-" + name), about, sizes, call, plain=False)
    write_manifest(out, made)
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    print(f"{len(made)} cases in {out}, {size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
