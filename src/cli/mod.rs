//! The command line: one file per command, data on stdout, talk and progress on stderr.
//!
//! Exit codes: 0 all is well, 1 a check failed, 2 an error, of which stderr says in one line what it was.

mod args;
mod bench;
mod convert;
mod demo;
mod devices;
mod explain;
mod inspect;
mod judge;
mod output;
mod random;
mod run;
mod tensors;
mod verify;

use std::error::Error as StdError;
use std::io;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A failure of any origin: an error of the library, of the output, or a sentence.
type Result<T> = std::result::Result<T, Box<dyn StdError>>;

/// How a command that ran to its end came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// exit code 0
    Good,
    /// exit code 1: what was checked is not as it should be
    CheckFailed,
}

/// Run LSTM networks on any GPU: model file in, tensors in, tensors out.
///
/// Data goes to stdout, talk and progress to stderr. Exit codes: 0 ok, 1 a check failed, 2 an error.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "Examples:
  cellgate devices
  cellgate inspect model.onnx
  cellgate run model.safetensors --input x.npy --out results
  cellgate verify model.onnx --device gpu
  cellgate convert model.onnx model.safetensors
  cellgate bench model.onnx --batch 1-256*4 --report report.html
  cellgate demo";

#[derive(Debug, Subcommand)]
enum Command {
    Devices(devices::Args),
    Inspect(inspect::Args),
    Run(run::Args),
    Verify(verify::Args),
    Explain(explain::Args),
    Convert(convert::Args),
    // by far the largest
    Bench(Box<bench::Args>),
    Demo(demo::Args),
}

/// Does what the command line says; the result is the process's exit code.
pub(crate) fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors and go to stdout, whose reader may have gone: nothing is left to tell it.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let verdict = match &cli.command {
        Command::Devices(args) => devices::run(args),
        Command::Inspect(args) => inspect::run(args),
        Command::Run(args) => run::run(args),
        Command::Verify(args) => verify::run(args),
        Command::Explain(args) => explain::run(args),
        Command::Convert(args) => convert::run(args),
        Command::Bench(args) => bench::run(args),
        Command::Demo(args) => demo::run(args),
    };
    match verdict {
        Ok(Verdict::Good) => ExitCode::SUCCESS,
        Ok(Verdict::CheckFailed) => ExitCode::from(1),
        Err(error) if is_broken_pipe(&*error) => ExitCode::SUCCESS,
        Err(error) => {
            // The library's texts name their causes, so the chain below adds nothing.
            output::say(&format!("error: {}", cellgate::one_line(&error.to_string())));
            ExitCode::from(2)
        }
    }
}

/// Whether the reader of stdout has gone, as `head` does. Errors of files are the library's own and not meant.
fn is_broken_pipe(error: &(dyn StdError + 'static)) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
