#!/usr/bin/env python3
"""The CPU backend beside ONNX Runtime and PyTorch on the CPU, in turns, two threads each.

    cargo bench --bench networks --no-run
    python benches/peers/cpu.py target/release/deps/networks-* [--rounds 15] [--rows 0,3] [--precision f16] [--table table.md]

takes the bench's program (the newest of those given), and prints one JSON object a line for each of the rows `cpu` in `rows.json`, and a table in the end.
Needs numpy, torch, onnx, onnxruntime and safetensors; a C compiler for the floor; Linux. `README.md` says what the figures mean.

Shapes: T time steps, N rows, I inputs, H units, D directions.
"""

import argparse
import ctypes
import json
import math
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import threading
import time

import numpy as np
import torch
from torch_and_ort import CELLGATE_TOLERANCE, TOLERANCE, Case, Row, cpu_name, make_lstm, onnx_model, packed, summary, unpacked

HERE = pathlib.Path(__file__).parent
ROUNDS = 15
TURN_MS = 60  # of calls in a turn, where one call takes less
MOST_CALLS = 2000
QUIET_S = 0.01  # a process that ran for less than a hundredth of such a time is taken to sleep
PATIENCE_S = 0.5  # for the peers to become quiet
FOREIGN = 0.05  # of the machine's time taken by anybody else: more, and a round is repeated, if it has not been twice as many already
FLOOR_TRIES = 5

VARIANTS = {"onnxruntime": ["run", "bound"], "torch": ["onednn", "native"], "torch, ragged": ["packed", "padded"]}

# float16 rounds by 2^-11; int8 by half of 1/127 of the largest weight, as much as bfloat16
PRECISION_TOLERANCE = {"f16": TOLERANCE["f16"], "int8": TOLERANCE["bf16"]}


# The peers, each in a process of its own: lines `FOLDER CALLS VARIANT` are answered with milliseconds, as the bench's program does it.


def open_torch(folder, variant, row):
    """A call of `torch.nn.LSTM`, and what makes its result [T, N, D*H]."""
    from safetensors.torch import load_file

    lstm = make_lstm(row).eval()
    lstm.load_state_dict(load_file(folder / "model.safetensors"))
    x = torch.from_numpy(np.load(folder / "in.x.npy"))
    if variant == "packed":
        rows = packed(x, row.lengths)
        return lambda: lstm(rows)[0], lambda y: unpacked(y).numpy()
    if variant == "padded":
        present = (torch.arange(row.seq_len)[:, None] < torch.tensor(row.lengths))[:, :, None].float()
        return lambda: lstm(x)[0].mul_(present), torch.Tensor.numpy
    return lambda: lstm(x)[0], torch.Tensor.numpy


def open_onnxruntime(folder, variant, row):
    """A call of the session, and what makes its result [T, N, D*H]."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = int(os.environ["THREADS"]), 1
    session = onnxruntime.InferenceSession(str(folder / "onnxruntime.onnx"), options, providers=["CPUExecutionProvider"])
    given = {port.name: np.load(folder / f"in.{port.name}.npy") for port in session.get_inputs()}
    joined = lambda y: y.transpose(0, 2, 1, 3).reshape(row.seq_len, row.batch, -1)
    if variant == "run":
        return lambda: session.run(None, given)[0], joined
    binding = session.io_binding()
    for name, array in given.items():
        binding.bind_cpu_input(name, array)
    y = onnxruntime.OrtValue.ortvalue_from_numpy(np.empty(session.get_outputs()[0].shape, np.float32))
    binding.bind_ortvalue_output("y", y)
    return lambda: session.run_with_iobinding(binding), lambda _: joined(y.numpy())


def serve(peer):
    torch.set_num_threads(int(os.environ["THREADS"]))
    open_case = {"torch": open_torch, "onnxruntime": open_onnxruntime}[peer]
    print(f"ready {__import__(peer).__version__}", flush=True)
    cases = {}
    with torch.inference_mode():
        for line in sys.stdin:
            folder, calls, variant = line.split()
            torch.backends.mkldnn.enabled = variant != "native"
            if (folder, variant) not in cases:
                row = Row(**json.loads((pathlib.Path(folder) / "row.json").read_text()))
                call, result = open_case(pathlib.Path(folder), variant, row)
                np.save(pathlib.Path(folder) / "out.y.npy", result(call()))
                cases[folder, variant] = call
            call, times = cases[folder, variant], []
            for _ in range(int(calls)):
                start = time.perf_counter()
                call()
                times.append((time.perf_counter() - start) * 1e3)
            print(*times, flush=True)


# The floor: what this machine can do at most.


def serve_floor():
    threads = int(os.environ["THREADS"])
    torch.set_num_threads(threads)
    print("ready", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        library = pathlib.Path(folder) / "read.so"
        subprocess.run(["cc", "-O3", "-march=native", "-shared", "-fPIC", "-o", library, HERE / "read.c"], check=True)
        read = ctypes.CDLL(str(library)).read_all
        read.argtypes, read.restype = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t], ctypes.c_float
        for line in sys.stdin:
            what, *size = line.split()
            print(gemm_peak() if what == "product" else read_rate(read, int(*size), threads), flush=True)


def gemm_peak():
    """FLOP/s of the best of several large matrix products, PyTorch's and NumPy's."""
    best = 0
    for size in (1024, 2048, 3072):
        a, b = (torch.rand(size, size) for _ in range(2))
        out = torch.empty(size, size)
        for multiply in (lambda: torch.mm(a, b, out=out), lambda: np.matmul(a.numpy(), b.numpy(), out=out.numpy())):
            best = max(best, 2 * size**3 / least_time(multiply, 4))
    return best


def read_rate(read, num_bytes, threads):
    """Bytes a second of `threads` threads, each of which reads its own part of `num_bytes` over and over."""
    length = max(num_bytes // threads // 4 // 512, 1) * 512
    parts = [np.ones(length + 16, np.float32) for _ in range(threads)]
    addresses = [(part.ctypes.data + 63) // 64 * 64 for part in parts]
    repeats = max(2, int(2e9 / (4 * length)))  # some 20 ms and more

    def run():
        running = [threading.Thread(target=read, args=(address, length, repeats)) for address in addresses]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()

    return threads * length * 4 * repeats / least_time(run, 8)


def least_time(work, times):
    least = math.inf
    for _ in range(times):
        start = time.perf_counter()
        work()
        least = min(least, time.perf_counter() - start)
    return least


# The driver.


class Peer:
    """A process that answers lines."""

    def __init__(self, command, threads, **environment):
        variables = ("RAYON_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "THREADS")
        environment = dict(os.environ, **dict.fromkeys(variables, str(threads)), **environment)
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        self.version = self.answer().removeprefix("ready").strip()

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.process.args[0]} ended with {self.process.wait()}")
        return line

    def ask(self, *words):
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()
        return [float(word) for word in self.answer().split()]

    def end(self):
        self.process.stdin.close()
        self.process.wait()

    def cpu_seconds(self):
        """What the threads that it has have run."""
        seconds = 0
        for path in pathlib.Path(f"/proc/{self.process.pid}/task").glob("*/schedstat"):
            seconds += int(path.read_text().split()[0]) / 1e9
        return seconds


def settle(peers):
    """Waits until no thread pool of anybody spins any more."""
    start = time.perf_counter()
    while time.perf_counter() - start < PATIENCE_S:
        before = sum(peer.cpu_seconds() for peer in peers)
        time.sleep(QUIET_S)
        if sum(peer.cpu_seconds() for peer in peers) - before < QUIET_S / 100:
            return
    print(f"a peer still computes after {PATIENCE_S} s without work", file=sys.stderr)


def machine_seconds():
    """What all CPUs together have been busy, this process and its like included."""
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, pathlib.Path("/proc/stat").read_text().split("\n")[0].split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def write_case(case, folder):
    """What every peer reads: weights, inputs, sizes."""
    from safetensors.torch import save_file

    row = case.row
    config = dict(input_size=row.input_size, hidden_size=row.hidden_size, num_layers=row.layers, bidirectional=row.directions == 2)
    save_file(case.lstm.state_dict(), folder / "model.safetensors", metadata={"lstm": json.dumps(config)})
    (folder / "onnxruntime.onnx").write_bytes(onnx_model(case, joined=False).SerializeToString())
    (folder / "row.json").write_text(json.dumps(dict(row.sizes(), lengths=row.lengths)))
    np.save(folder / "in.x.npy", case.x)
    if row.lengths:
        np.save(folder / "in.sequence_lens.npy", np.array(row.lengths, np.int32))


def verify(case, folder, name, variant):
    """The largest error of what was just written; ends the run if it is too large."""
    y = np.load(folder / "out.y.npy")
    for path in folder.glob("out.*.npy"):
        path.unlink()
    if y.shape != case.expected.shape:
        raise SystemExit(f"{name} ({variant}) at {case.row}: expected {case.expected.shape}, found {y.shape}")
    error = np.abs(y - case.expected)
    if variant in PRECISION_TOLERANCE:
        bound = PRECISION_TOLERANCE[variant]
    else:
        bound = CELLGATE_TOLERANCE * (1 + np.abs(case.expected)) if name == "cellgate" else TOLERANCE["f32"]
    if not (error <= bound).all():
        raise SystemExit(f"{name} ({variant}) at {case.row} is wrong, so nothing is timed: error {error.max():.1e}")
    return float(error.max())


def work(row):
    """FLOPs and bytes of weights of the products with inputs and of those with states, layer by layer; padding is no work."""
    row_steps = sum(row.lengths) if row.lengths else row.batch * row.seq_len
    steps = max(row.lengths) if row.lengths else row.seq_len
    for layer in range(row.layers):
        inputs = row.input_size if layer == 0 else row.directions * row.hidden_size
        for size, reads in ((inputs, 1), (row.hidden_size, steps)):
            weights = row.directions * 4 * row.hidden_size * size
            yield 2 * weights * row_steps, 4 * weights, reads


def floor_ms(row, peak, rates):
    """The least time that this machine's rates allow: each product takes its FLOPs at the peak, or its weights' bytes at the rate of reading as many."""
    return 1e3 * sum(max(flops / peak, reads * num_bytes / rates[num_bytes]) for flops, num_bytes, reads in work(row))


class Foreign:
    """The share of the machine's time that goes to anybody but this process and `peers`, from now on."""

    def __init__(self, peers):
        self.peers, self.start, self.before = list(peers), time.perf_counter(), 0.0
        self.before = self.seconds()

    def seconds(self):
        return machine_seconds() - sum(peer.cpu_seconds() for peer in self.peers) - time.process_time()

    def share(self):
        return max(0.0, self.seconds() - self.before) / (time.perf_counter() - self.start) / os.cpu_count()


def contest(case, folder, peers, arguments):
    """Verifies and times every variant of every peer, in turns; gives a dictionary of each, and the share of the machine that others took."""
    entries, ragged = [], ", ragged" if case.row.lengths else ""
    for name, peer in peers.items():
        for variant in ["f32", *arguments.precision] if name == "cellgate" else VARIANTS.get(name + ragged, VARIANTS[name]):
            peer.ask(folder, 0, variant)
            entries.append(dict(peer=name, variant=variant, max_abs_err=verify(case, folder, name, variant)))
    for entry in entries:
        settle(peers.values())
        estimate = min(peers[entry["peer"]].ask(folder, 3, entry["variant"])[1:])
        entry["calls"] = min(math.ceil(TURN_MS / estimate), MOST_CALLS)
    rounds, shares = [], []
    while sum(share <= FOREIGN for share in shares) < arguments.rounds and len(rounds) < 2 * arguments.rounds:
        foreign, times = Foreign(peers.values()), [None] * len(entries)
        for turn in range(len(entries)):
            number = (len(rounds) + turn) % len(entries)  # everybody is first once
            settle(peers.values())
            # the first call finds others' data in the caches
            times[number] = peers[entries[number]["peer"]].ask(folder, entries[number]["calls"] + 1, entries[number]["variant"])[1:]
        rounds.append(times)
        shares.append(foreign.share())
    quietest = sorted(range(len(rounds)), key=shares.__getitem__)[: arguments.rounds]
    for number, entry in enumerate(entries):
        entry["rounds"] = [rounds[kept][number] for kept in quietest]
    return entries, statistics.mean(shares[kept] for kept in quietest)


class Floor:
    """What this machine can do at most, as far as it was seen."""

    def __init__(self, peer, others):
        self.peer, self.others, self.best = peer, others, {}

    def rate(self, *what):
        """The best so far; asks again, until nobody else disturbs it."""
        for _ in range(FLOOR_TRIES):
            settle(self.others)
            foreign = Foreign([self.peer])
            self.best[what] = max(self.best.get(what, 0.0), self.peer.ask(*what)[0])
            if foreign.share() <= FOREIGN:
                break
        return self.best[what]

    def measure(self, row):
        """FLOP/s, and bytes a second for as many bytes as each of the row's matrices has."""
        return self.rate("product"), {num_bytes: self.rate("read", num_bytes) for num_bytes in sorted({num_bytes for _, num_bytes, _ in work(row)})}


def result(entry, flops, floor):
    samples = [sample for times in entry["rounds"] for sample in times]
    figures = {name: round(value, 5) for name, value in summary(samples).items()}
    gflops = round(flops / figures["median_ms"] / 1e6, 2)
    share = floor and round(floor / figures["median_ms"], 3)
    return dict(variant=entry["variant"], n=len(samples), **figures, gflops=gflops, floor_share=share, max_abs_err=entry["max_abs_err"])


def reports(row, entries, common, floor):
    """An object for each of cellgate's precisions, beside the better variant of each peer."""
    flops = sum(flops for flops, *_ in work(row))
    results = [(entry, result(entry, flops, floor)) for entry in entries]
    best = {}
    for entry, found in results:
        if entry["peer"] != "cellgate" and found["median_ms"] < best.get(entry["peer"], (entry, dict(median_ms=math.inf)))[1]["median_ms"]:
            best[entry["peer"]] = entry, found
    faster = min(best.values(), key=lambda pair: pair[1]["median_ms"])
    for entry, found in results:
        if entry["peer"] != "cellgate":
            continue
        if found["variant"] != "f32":
            found["floor_share"] = None  # the floor is float32's
        ratios = [statistics.median(theirs) / statistics.median(mine) for theirs, mine in zip(faster[0]["rounds"], entry["rounds"])]
        quartiles = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else [ratios[0]] * 3
        yield dict(
            **row.sizes(),
            lengths=row.lengths,
            flops=flops,
            **common,
            floor_ms=floor and float(f"{floor:.4g}"),
            ratio=round(faster[1]["median_ms"] / found["median_ms"], 3),
            ratio_quartiles=[round(quartiles[0], 3), round(quartiles[2], 3)],
            cellgate=found,
            **{name: found for name, (_, found) in best.items()},
            variants=[dict(peer=entry["peer"], variant=found["variant"], median_ms=found["median_ms"]) for entry, found in results],
        )


def table(records):
    columns = ["L", "D", "N", "T", "I", "H", "precision", "cellgate ms", "ONNX Runtime ms", "PyTorch ms", "ratio", "quartiles"]
    columns += ["GFLOP/s of each", "floor ms", "share of it, of each", "largest error of each", "foreign CPU"]
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * 7 + "--:|" * (len(columns) - 7)]
    for record in records:
        found = [record[name] for name in ("cellgate", "onnxruntime", "torch")]
        each = lambda name, form: ", ".join("-" if peer[name] is None else format(peer[name], form) for peer in found)
        steps = f"{min(record['lengths'])} to {max(record['lengths'])}" if record["lengths"] else record["seq_len"]
        cells = [record["layers"], record["directions"], record["batch"], steps, record["input_size"], record["hidden_size"], found[0]["variant"]]
        cells += [f"{peer['median_ms']:.4g} ± {peer['mad_ms']:.2g} ({peer['variant']})" for peer in found]
        cells += [f"{record['ratio']:.2f}", "{:.2f} to {:.2f}".format(*record["ratio_quartiles"]), each("gflops", ".4g")]
        cells += [f"{record['floor_ms']:.3g}" if record["floor_ms"] else "-", each("floor_share", ".0%"), each("max_abs_err", ".0e")]
        cells += [f"{record['foreign_cpu']:.0%}"]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines) + "\n"


def commit_of(program):
    command = ["git", "-C", program.parent, "describe", "--always", "--dirty", "--abbrev=9", "--exclude=*"]
    described = subprocess.run(command, capture_output=True, text=True)
    return described.stdout.strip() or None


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("program", nargs="+", type=pathlib.Path, help="the bench `networks`; the newest is taken")
    parser.add_argument("--rows", default="all", help="numbers of `cpu` in rows.json, from 0, separated by commas")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="turns of each")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precision", action="append", default=[], choices=list(PRECISION_TOLERANCE), help="cellgate's, beside f32; may be given twice")
    parser.add_argument("--no-floor", action="store_true", help="do not measure what the machine can do")
    parser.add_argument("--table", type=pathlib.Path, help="where the table goes, instead of stderr")
    arguments = parser.parse_args()
    program = max((path for path in arguments.program if path.suffix != ".d"), key=os.path.getmtime).resolve()
    rows = [Row(**dict(row, lengths=tuple(row.get("lengths", ())) or None)) for row in json.loads((HERE / "rows.json").read_text())["cpu"]]
    if arguments.rows != "all":
        rows = [rows[int(number)] for number in arguments.rows.split(",")]

    worker = lambda name: Peer([sys.executable, __file__, "--worker", name], arguments.threads)
    peers = dict(cellgate=Peer([program, "--bench"], arguments.threads, CELLGATE_ROUNDS="1", CELLGATE_BENCH="CPU"))
    peers |= {name: worker(name) for name in ("onnxruntime", "torch")}
    common = dict(threads=arguments.threads, cpu=cpu_name(), commit=commit_of(program))
    common["built"] = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(program.stat().st_mtime))
    common["versions"] = {name: peer.version for name, peer in peers.items() if name != "cellgate"}
    floor = None if arguments.no_floor else Floor(worker("floor"), list(peers.values()))
    records = []
    with tempfile.TemporaryDirectory() as parent:
        for number, row in enumerate(rows):
            print(row, "" if row.lengths is None else f"lengths {min(row.lengths)} to {max(row.lengths)}", file=sys.stderr)
            case, folder = Case(row), pathlib.Path(parent) / str(number)
            folder.mkdir()
            write_case(case, folder)
            entries, foreign = contest(case, folder, peers, arguments)
            common["foreign_cpu"] = round(foreign, 3)
            least = None
            if floor:
                peak, rates = floor.measure(row)
                common["peak_gflops"] = round(peak / 1e9, 1)
                common["read_gb_per_s"] = {num_bytes: round(rate / 1e9, 1) for num_bytes, rate in rates.items()}
                least = floor_ms(row, peak, rates)
            for record in reports(row, entries, common, least):
                print(json.dumps(record), flush=True)
                records.append(record)
    for peer in [*peers.values(), *([floor.peer] if floor else [])]:
        peer.end()
    if arguments.table:
        arguments.table.write_text(table(records))
    else:
        sys.stderr.write(table(records))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        serve_floor() if sys.argv[2] == "floor" else serve(sys.argv[2])
    else:
        main()
