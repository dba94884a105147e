"""What the scripts that make cases share: running a model, writing a case, and `manifest.json`.

A case is a folder with `model.onnx` (external data beside it, if it has any), one `in.TENSOR.npy` for every input of the graph and one
`out.TENSOR.npy` for every output. Where a tensor's name has `/` or `:`, these are `_` in the name of the file, and `names.json` gives the
tensors' names by file.
"""

import argparse
import hashlib
import json
import pathlib
import shutil

import numpy as np
import onnxruntime as ort

HERE = pathlib.Path(__file__).parent
SCRIPTS = ("golden.py", "hand_made.py", "make_keras.py", "make_torch.py", "torch_exports.py", "torch_modules.py")
LARGEST = 60_000  # bytes of a model: larger ones do not belong into the repository


def session(model):
    """A session of ONNX Runtime that changes nothing about `model`, a path or bytes."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(model if isinstance(model, bytes) else str(model), options, providers=["CPUExecutionProvider"])


def run_model(model, feeds):
    """What ONNX Runtime's CPU provider makes of `feeds`, by name."""
    judge = session(model)
    return dict(zip([output.name for output in judge.get_outputs()], judge.run(None, feeds)))


def save_golden(folder, feeds, outputs):
    """Writes the arrays of a case, and `names.json` where it needs one."""
    names, is_needed = {}, False
    for prefix, key, arrays in (("in", "inputs", feeds), ("out", "outputs", outputs)):
        names[key] = {}
        for tensor, value in arrays.items():
            safe = tensor.replace("/", "_").replace(":", "_")
            is_needed |= safe != tensor
            names[key][f"{prefix}.{safe}.npy"] = tensor
            np.save(folder / f"{prefix}.{safe}.npy", np.asarray(value))
    if is_needed:
        (folder / "names.json").write_text(json.dumps(names, indent=1))


def fresh(out, name):
    """An empty folder for a case."""
    shutil.rmtree(out / name, ignore_errors=True)
    (out / name).mkdir(parents=True)
    return out / name


def rng(seed=3):
    """A generator; every array of a case says which."""
    return np.random.default_rng(seed)


def randn(*shape, seed=3, scale=1.0):
    """Normally distributed float32."""
    return (rng(seed).standard_normal(shape) * scale).astype(np.float32)


def write_manifest(versions):
    """`manifest.json`: every case and model with the hash of each of its files, the scripts' hashes, the versions used."""

    def sums(folder):
        paths = [path for path in sorted(folder.iterdir()) if path.is_file()]
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}

    manifest = {"scripts": {name: hashlib.sha256((HERE / name).read_bytes()).hexdigest() for name in SCRIPTS}}
    manifest["versions"] = dict(sorted((listed().get("versions", {}) | versions).items()))
    for folder in ("cases", "models"):
        manifest[folder] = {case.name: sums(case) for case in sorted((HERE / folder).iterdir()) if case.is_dir()}
    (HERE / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")


def listed():
    """The manifest as it is."""
    path = HERE / "manifest.json"
    return json.loads(path.read_text()) if path.exists() else {}


def main(about, tables, versions):
    """Makes the cases that the command line asks for; `tables` are pairs of a table by name and what makes a case of a row of it."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="cases to make, new ones too; without: those in manifest.json")
    parser.add_argument("--all", action="store_true", help="make every case that there is; needs --out")
    parser.add_argument("--out", type=pathlib.Path, help="write there and leave manifest.json as it is")
    parser.add_argument("--manifest", action="store_true", help="make nothing, write manifest.json anew")
    asked = parser.parse_args()
    if asked.all and not asked.out:
        parser.error("--all needs --out: not every case belongs into the repository")
    known = {name for table, _ in tables for name in table}
    if unknown := sorted(set(asked.names) - known):
        parser.error(f"unknown cases: {', '.join(unknown)}")
    wanted = known if asked.all else set(asked.names or listed().get("cases", {})) & known
    failed = 0
    for table, make in tables if not asked.manifest else ():
        for name in (name for name in table if name in wanted):
            out = asked.out or HERE / "cases"
            try:
                note = make(out, name, table[name])
                size = (out / name / "model.onnx").stat().st_size
                if size > LARGEST:
                    raise ValueError(f"too large: {size} bytes")
                print(f"ok   {name:32} {size:7} bytes  {note}  {table[name][-1]}", flush=True)
            except Exception as error:  # one exporter's failure is no reason not to make the other cases
                shutil.rmtree(out / name, ignore_errors=True)
                failed += 1
                print(f"FAIL {name:32} {type(error).__name__}: {' '.join(str(error).split())[:400]}", flush=True)
    if not asked.out and not failed:
        write_manifest({} if asked.manifest else versions)
    raise SystemExit(1 if failed else 0)
