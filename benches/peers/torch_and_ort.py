#!/usr/bin/env python3
"""Times the LSTMs of PyTorch and ONNX Runtime at the rows of `rows.json`, and prints one table.

    python benches/peers/torch_and_ort.py [--threads 2] [--rows 0,3] [--json torch.jsonl]
    python benches/peers/torch_and_ort.py --cellgate target/release/cellgate --cellgate-json burn.jsonl

Needs numpy and torch; onnx with onnxruntime, safetensors (for --cellgate) and flashrnn (CUDA) where they are installed.
Every output of every call is compared with PyTorch's LSTM in float64 on the CPU. `README.md` says what the figures mean.

Shapes: T time steps, N rows, I inputs, H units, D directions.
"""

import argparse
import contextlib
import dataclasses
import importlib.util
import json
import math
import pathlib
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
import torch

LEAST = 3  # samples that even the slowest row gets
WARM_UP = 2  # calls after the first that are not timed

# How far an output may be from float64. f32: what `peers` allows burn. f16, bf16: 8 times the rounding of a number near 1, where rounding
# the weights and each step's h alone costs up to one; wrong gates or directions are off by more than 0.1.
TOLERANCE = {"f32": 1e-4, "f16": 8 * 2.0**-11, "bf16": 8 * 2.0**-8}
CELLGATE_TOLERANCE = 1e-5  # times 1 + |value|

TORCH_TYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}


@dataclasses.dataclass(frozen=True)
class Row:
    layers: int
    directions: int
    batch: int
    seq_len: int
    input_size: int
    hidden_size: int
    lengths: tuple | None = None  # of each row, where not all have `seq_len` steps

    def sizes(self):
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name != "lengths"}

    def __str__(self):
        return f"L={self.layers} D={self.directions} N={self.batch} T={self.seq_len} I={self.input_size} H={self.hidden_size}"


class Case:
    """A row with weights, uniform in ±1/sqrt(H), an input uniform in ±1, and what they give in float64."""

    def __init__(self, row):
        self.row = row
        torch.manual_seed(1)
        self.lstm = make_lstm(row).eval()  # PyTorch's own initialisation is that
        self.x = np.random.default_rng(1).uniform(-1, 1, (row.seq_len, row.batch, row.input_size)).astype(np.float32)
        judge = make_lstm(row).eval()
        judge.load_state_dict(self.lstm.state_dict())
        with torch.inference_mode():
            x = torch.from_numpy(self.x).double()
            self.expected = unpacked(judge.double()(packed(x, row.lengths))[0]).numpy()  # [T, N, D*H], 0 beyond a row's length

    def weights(self, layer, direction):
        """`weight_ih [4H, I]`, `weight_hh [4H, H]`, `bias_ih [4H]`, `bias_hh [4H]`."""
        suffix = f"_l{layer}" + "_reverse" * direction
        return [getattr(self.lstm, name + suffix).detach() for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]


def packed(x, lengths):
    """`x` as `torch.nn.LSTM` takes rows of different lengths; itself where there are none."""
    return x if lengths is None else torch.nn.utils.rnn.pack_padded_sequence(x, torch.tensor(lengths), enforce_sorted=False)


def unpacked(y):
    return y if isinstance(y, torch.Tensor) else torch.nn.utils.rnn.pad_packed_sequence(y)[0]


def make_lstm(row):
    return torch.nn.LSTM(row.input_size, row.hidden_size, row.layers, bidirectional=row.directions == 2)


class TorchCpu:
    peer = "torch"
    version = torch.__version__
    device = "cpu"
    backend = None
    tolerance = TOLERANCE["f32"]
    resident = None

    def __init__(self, case, arguments):
        self.setting = f"f32, threads={arguments.threads}"
        self.lstm, self.x = case.lstm, case.x

    def call(self):
        return self.lstm(torch.from_numpy(self.x))[0].numpy()


class OnnxRuntime:
    peer = "onnxruntime"
    device = "cpu"
    backend = None
    tolerance = TOLERANCE["f32"]
    resident = None

    def __init__(self, case, arguments):
        import onnxruntime

        self.version = onnxruntime.__version__
        self.setting = f"f32, threads={arguments.threads}"
        self.x = case.x
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = arguments.threads
        model = onnx_model(case).SerializeToString()
        self.session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def call(self):
        return self.session.run(["y"], {"x": self.x})[0]


def onnx_model(case, joined=True):
    """A graph `x [T, N, I]` to `y [T, N, D*H]`: an LSTM node a layer, with its output [T, D, N, H] brought into the next one's order.

    Without `joined` the last layer's output is left as it is. Rows of different lengths have an input `sequence_lens [N]` more.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    row = case.row

    def reorder(weight):
        """From PyTorch's gates i, f, g, o to ONNX's i, o, f, c."""
        gates = weight.numpy().reshape(4, row.hidden_size, *weight.shape[1:])
        return gates[[0, 3, 1, 2]].reshape(weight.shape)

    nodes, name = [], "x"
    tensors = []
    if joined or row.layers > 1:  # what the nodes that join directions take as their second input
        tensors.append(numpy_helper.from_array(np.array([1] if row.directions == 1 else [0, 0, -1]), "join"))
    lengths = ["sequence_lens"] if row.lengths else []
    for layer in range(row.layers):
        directions = [[reorder(weight) for weight in case.weights(layer, direction)] for direction in range(row.directions)]
        tensors += [
            numpy_helper.from_array(np.stack([weight_ih for weight_ih, *_ in directions]), f"W{layer}"),
            numpy_helper.from_array(np.stack([weight_hh for _, weight_hh, *_ in directions]), f"R{layer}"),
            numpy_helper.from_array(np.stack([np.concatenate(biases) for _, _, *biases in directions]), f"B{layer}"),
        ]
        last = layer == row.layers - 1
        output = "y" if last else f"y{layer}"
        direction = "bidirectional" if row.directions == 2 else "forward"
        inputs = [name, f"W{layer}", f"R{layer}", f"B{layer}", *lengths]
        left = last and not joined
        nodes.append(helper.make_node("LSTM", inputs, ["y" if left else f"Y{layer}"], hidden_size=row.hidden_size, direction=direction))
        if not left and row.directions == 1:
            nodes.append(helper.make_node("Squeeze", [f"Y{layer}", "join"], [output]))
        elif not left:
            nodes.append(helper.make_node("Transpose", [f"Y{layer}"], [f"Yt{layer}"], perm=[0, 2, 1, 3]))
            nodes.append(helper.make_node("Reshape", [f"Yt{layer}", "join"], [output]))
        name = output
    value = lambda name, *shape: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
    steps, rows, units, directions = row.seq_len, row.batch, row.hidden_size, row.directions
    y = value("y", steps, rows, directions * units) if joined else value("y", steps, directions, rows, units)
    inputs = [value("x", steps, rows, row.input_size), *(helper.make_tensor_value_info(name, TensorProto.INT32, [rows]) for name in lengths)]
    graph = helper.make_graph(nodes, "lstm", inputs, [y], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)


class Cuda:
    """What the peers on CUDA share: host tensors in and out for a whole call, `forward` alone for a resident one."""

    device = "gpu"
    backend = "cuda"

    def __init__(self, case, kind):
        self.kind = kind
        self.tolerance = TOLERANCE[kind]
        self.x = case.x
        self.x_resident = self.upload()

    def upload(self):
        return torch.from_numpy(self.x).cuda().to(TORCH_TYPES[self.kind])

    def call(self):
        return self.forward(self.upload()).float().cpu().numpy()

    def resident(self):
        self.forward(self.x_resident)


class TorchCuda(Cuda):
    peer = "torch"
    version = f"{torch.__version__}, cuDNN {torch.backends.cudnn.version()}"

    def __init__(self, case, kind):
        super().__init__(case, kind)
        self.setting = "f32, no TF32" if kind == "f32" else kind
        self.lstm = make_lstm(case.row)
        self.lstm.load_state_dict(case.lstm.state_dict())
        self.lstm = self.lstm.eval().cuda().to(TORCH_TYPES[kind])
        self.lstm.flatten_parameters()

    def forward(self, x):
        return self.lstm(x)[0]


class FlashRnn(Cuda):
    """FlashRNN computes the recurrent part alone: the input's product is PyTorch's, one matrix product a layer."""

    peer = "flashrnn"

    def __init__(self, case, kind, variant):
        import flashrnn

        super().__init__(case, kind)
        self.version = getattr(flashrnn, "__version__", "unknown")
        self.setting = f"{variant}, {kind}"
        self.variant, self.run = variant, flashrnn.flashrnn
        if case.row.directions != 1:
            raise NotImplementedError("FlashRNN has no reverse direction")
        self.layers = []
        for layer in range(case.row.layers):
            weight_ih, weight_hh, bias_ih, bias_hh = (w.cuda().to(TORCH_TYPES[kind]) for w in case.weights(layer, 0))
            hidden_size = case.row.hidden_size  # one head: [gates, heads, new units, previous units]
            self.layers.append((weight_ih, weight_hh.view(4, 1, hidden_size, hidden_size), (bias_ih + bias_hh).view(4, 1, hidden_size)))

    def forward(self, x):
        dtype = {"bf16": "bfloat16", "f16": "float16", "f32": "float32"}[self.kind]
        x = x.transpose(0, 1)
        for weight_ih, weight_hh, bias in self.layers:
            gates = (x @ weight_ih.T).unflatten(-1, (4, 1, -1)).contiguous()  # [N, T, 4, 1, H]
            states, _ = self.run(gates, weight_hh.contiguous(), bias, function="lstm", backend=self.variant, dtype=dtype)
            x = states[0].flatten(-2)
        return x.transpose(0, 1)


def peers_of(case, arguments):
    """Every peer that is installed, and for those that do not take this row: why."""
    makers = []
    if arguments.device != "cuda":
        makers.append(("torch (cpu)", lambda: TorchCpu(case, arguments)))
        if importlib.util.find_spec("onnxruntime") and importlib.util.find_spec("onnx"):
            makers.append(("onnxruntime", lambda: OnnxRuntime(case, arguments)))
    if arguments.device != "cpu" and torch.cuda.is_available():
        makers += [(f"torch (cuda, {kind})", lambda kind=kind: TorchCuda(case, kind)) for kind in ("f32", "f16")]
        if arguments.flashrnn:
            for variant in ("cuda_fused", "cuda"):
                makers.append((f"flashrnn ({variant})", lambda variant=variant: FlashRnn(case, "bf16", variant)))
    peers = []
    for name, make in makers:
        try:
            peers.append(make())
        except Exception as error:  # a peer that does not take a row leaves it to the others
            print(f"{name} does not run at {case.row}: {error}", file=sys.stderr)
    return peers


def has_flashrnn():
    """Whether `import flashrnn` works; it asks for a compiler and a device."""
    with contextlib.suppress(Exception):
        import flashrnn  # noqa: F401

        return True
    return False


def synchronize(peer):
    if peer.backend == "cuda":
        torch.cuda.synchronize()


def timed(peer, work):
    """Milliseconds of `work`, which starts and ends with an idle device, and its result."""
    synchronize(peer)
    start = time.perf_counter()
    result = work()
    synchronize(peer)
    return (time.perf_counter() - start) * 1e3, result


def contest(case, peers, arguments):
    """Times `peers`, which take turns; gives a record of each. One that fails, or is wrong in any call, is not timed any further."""
    whole, resident = {peer: [] for peer in peers}, {peer: [] for peer in peers}
    error, failure = dict.fromkeys(peers, 0.0), dict.fromkeys(peers)

    def turn(keep):
        for peer in peers:
            if failure[peer]:
                continue
            try:
                ms, y = timed(peer, peer.call)
                error[peer] = max(error[peer], max_abs_err(y, case.expected))
                if not error[peer] <= peer.tolerance:
                    raise ArithmeticError(f"wrong: error {error[peer]:.1e}, at most {peer.tolerance:.1e} is allowed")
                resident_ms = timed(peer, peer.resident)[0] if peer.resident else None
            except Exception as problem:
                failure[peer] = f"{type(problem).__name__}: {problem}"
                print(f"{peer.peer} ({peer.setting}) at {case.row}: {failure[peer]}", file=sys.stderr)
                continue
            if keep:
                whole[peer].append(ms)
                resident[peer] += [] if resident_ms is None else [resident_ms]

    with torch.inference_mode():
        for _ in range(1 + WARM_UP):
            turn(keep=False)
        start = time.perf_counter()
        for sample in range(arguments.repeat):
            if sample >= LEAST and time.perf_counter() - start > arguments.cap:
                break
            turn(keep=True)
    return [record(case.row, peer, whole[peer], resident[peer], error[peer], failure[peer]) for peer in peers]


def max_abs_err(y, expected):
    if y.shape != expected.shape:
        raise ArithmeticError(f"shape {y.shape}: expected {expected.shape}")
    error = np.abs(y.astype(np.float64) - expected).max()
    return float(error) if math.isfinite(error) else math.inf


def summary(samples):
    """Median, minimum and median absolute deviation, as `cellgate::measure::Summary` has them."""
    if not samples:
        return dict(median_ms=None, min_ms=None, mad_ms=None)
    median = statistics.median(samples)
    return dict(median_ms=median, min_ms=min(samples), mad_ms=statistics.median(abs(sample - median) for sample in samples))


def record(row, peer, whole, resident, error, failure):
    """The fields that `src/record.rs` writes, and those of calls whose tensors stay on the device."""
    cuda = peer.backend == "cuda"
    return dict(
        peer=peer.peer,
        version=peer.version,
        setting=peer.setting,
        device=peer.device,
        adapter=torch.cuda.get_device_name() if cuda else cpu_name(),
        driver=f"CUDA {torch.version.cuda}" if cuda else "",
        backend=peer.backend,
        **row.sizes(),
        n=0 if failure else len(whole),
        **summary([] if failure else whole),
        max_abs_err=error if math.isfinite(error) else None,
        verified=failure is None,
        failure=failure,
        **{f"resident_{name}": value for name, value in summary([] if failure else resident).items()},
    )


def cpu_name():
    with contextlib.suppress(OSError):
        for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def check_cellgate(case, arguments):
    """Whether the program `cellgate` computes the same from a file. Its calls are not timed: a process with its start is not a call."""
    from safetensors.torch import save_file

    row = case.row
    config = dict(input_size=row.input_size, hidden_size=row.hidden_size, num_layers=row.layers, bidirectional=row.directions == 2)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        save_file(case.lstm.state_dict(), folder / "model.safetensors", metadata={"lstm": json.dumps(config)})
        np.save(folder / "x.npy", case.x)
        command = [arguments.cellgate, "run", folder / "model.safetensors", "--input", f"x={folder / 'x.npy'}", "--out", folder]
        result = subprocess.run([*command, *shlex.split(arguments.cellgate_args)], capture_output=True, text=True)
        if result.returncode or not (folder / "y.npy").exists():
            print(f"cellgate at {row}: {result.stderr.strip()}", file=sys.stderr)
            return False
        y = np.load(folder / "y.npy")
    ratio = (np.abs(y - case.expected) / (CELLGATE_TOLERANCE * (1 + np.abs(case.expected)))).max() if y.shape == case.expected.shape else math.inf
    print(f"cellgate at {row}: {'right' if ratio <= 1 else 'WRONG'}, error at most {ratio:.2g} of what is allowed", file=sys.stderr)
    return bool(ratio <= 1)


def print_table(records, rows):
    """A line a peer, row by row, the fastest first."""
    print("| L | D | N | T | I | H | peer | setting | device | n | median ms | MAD | min | resident ms | error |")
    print("|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|")
    ms = lambda record, name: "" if record.get(name) is None else f"{record[name]:.3f}"
    for row in rows:
        sizes = row.sizes()
        found = [record for record in records if all(record[name] == size for name, size in sizes.items())]
        for found in sorted(found, key=lambda record: (record["median_ms"] is None, record["median_ms"])):
            cells = [*sizes.values(), found["peer"], found.get("setting", ""), found["adapter"] + f" ({found['backend'] or 'cpu'})"]
            if found["verified"] and found["n"]:
                cells += [found["n"], *(ms(found, name) for name in ("median_ms", "mad_ms", "min_ms", "resident_median_ms"))]
                cells += [f"{found['max_abs_err']:.1e}"]
            else:
                cells += [0, "failed", "", "", "", ""]
            print("| " + " | ".join(map(str, cells)) + " |")


def select_rows(selection, arguments):
    file = json.loads(pathlib.Path(__file__).with_name("rows.json").read_text())
    rows = [Row(**row) for row in file["rows"]]
    if torch.cuda.is_available() and arguments.device != "cpu":
        rows += [Row(**row) for row in file["cuda"]]
    return rows if selection == "all" else [rows[int(number)] for number in selection.split(",")]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", default="all", help="numbers of rows.json, from 0, separated by commas; those for CUDA follow where there is CUDA")
    parser.add_argument("--repeat", type=int, default=10, help="timed calls of each peer")
    parser.add_argument("--cap", type=float, default=120, help=f"seconds of timed calls after which a row ends, with {LEAST} of each peer at least")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="threads of the peers on the CPU")
    parser.add_argument("--device", choices=["all", "cpu", "cuda"], default="all")
    parser.add_argument("--json", type=pathlib.Path, help="one JSON object a line: a peer at a row")
    parser.add_argument("--cellgate", help="the program; its results from files are checked at each row")
    parser.add_argument("--cellgate-args", default="", help="what to add to `cellgate run`: '--device gpu --backend vulkan'")
    parser.add_argument("--cellgate-json", type=pathlib.Path, action="append", default=[], help="lines to add to the table, as `peers --json` writes them")
    arguments = parser.parse_args()
    if arguments.repeat < LEAST:
        parser.error(f"--repeat: expected {LEAST} at least, found {arguments.repeat}")
    if arguments.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: PyTorch finds no CUDA device")

    torch.set_num_threads(arguments.threads)
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    arguments.flashrnn = torch.cuda.is_available() and has_flashrnn()
    try:
        rows = select_rows(arguments.rows, arguments)
    except (IndexError, ValueError) as error:
        parser.error(f"--rows: {error}")
    added = [json.loads(line) for path in arguments.cellgate_json for line in path.read_text().splitlines() if line.strip()]

    records, passed = [], True
    for row in rows:
        print(row, file=sys.stderr)
        case = Case(row)
        if arguments.cellgate:
            passed &= check_cellgate(case, arguments)
        records += contest(case, peers_of(case, arguments), arguments)
    passed &= all(record["verified"] for record in records)
    if arguments.json:
        arguments.json.write_text("".join(json.dumps(record) + "\n" for record in records))
    print_table(records + added, rows)
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
