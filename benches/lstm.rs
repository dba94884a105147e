//! The shapes that this project watches, by `cellgate bench`: `cargo bench` (timed), `cargo test` (small shapes, twice, to see that they run).
//!
//! What stands behind `--` goes on to the program: `cargo bench --bench lstm -- --device cpu --precision f16`. See `benches/README.md` for what the
//! figures mean.

use std::process::{Command, ExitCode};

/// Arguments of one run each: latency, throughput, layers and directions, lengths.
const SHAPES: &[&[&str]] = &[
    &["--batch", "1", "--hidden", "64,256,1024"],
    &["--batch", "4,32", "--hidden", "128,256"],
    &["--batch", "256", "--hidden", "128,512", "--seq-len", "25"],
    &["--batch", "1024", "--hidden", "64", "--seq-len", "10"],
    &["--batch", "16", "--hidden", "256", "--layers", "3", "--seq-len", "50"],
    &["--batch", "64", "--hidden", "512", "--layers", "2", "--seq-len", "50"],
    &["--batch", "32", "--hidden", "256", "--directions", "2"],
    &["--batch", "16", "--hidden", "64", "--seq-len", "10,1000"],
];

const SMOKE_SHAPES: &[&[&str]] = &[
    &["--batch", "1,5", "--hidden", "8", "--input-size", "5", "--seq-len", "3"],
    &["--batch", "5", "--hidden", "9", "--layers", "2", "--directions", "2", "--seq-len", "4"],
];

/// Devices, where nobody names one.
const EVERY_DEVICE: &[&str] = &["--devices", "all", "--allow-software"];

fn main() -> ExitCode {
    // cargo says which of the two it is with an argument of its own
    let given: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let timed = std::env::args().any(|argument| argument == "--bench");
    let (shapes, limits): (_, &[&str]) = if timed { (SHAPES, &[]) } else { (SMOKE_SHAPES, &["--repeat", "2", "--warm-up", "0"]) };
    for shape in shapes {
        let mut bench = Command::new(env!("CARGO_BIN_EXE_cellgate"));
        // what was measured on this machine before has no say
        bench.arg("bench").args(*shape).args(limits).env("CELLGATE_CACHE", "");
        // arguments of the test harness, such as a filter, are none of the program's
        if timed && !given.is_empty() {
            bench.args(&given)
        } else {
            bench.args(EVERY_DEVICE)
        };
        match bench.status() {
            Ok(status) if status.success() => println!(),
            Ok(status) => {
                eprintln!("{bench:?}: {status}");
                return ExitCode::FAILURE;
            }
            Err(error) => {
                eprintln!("{bench:?}: {error}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}
