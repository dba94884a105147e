//! cellgate beside burn's LSTM, on one adapter and in one run. `README.md` says what the figures mean.

mod burn_peer;
mod cellgate_peer;
mod contest;
mod record;
mod row;

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use cellgate::{DeviceChoice, DeviceRequest, Engine, GraphicsBackend};
use clap::{Parser, ValueEnum};

use burn_peer::{BurnDevice, BurnPeer, TASKS_MAX};
use cellgate_peer::CellgatePeer;
use contest::{LEAST, Outcome, Pace, Peer};
use record::{Record, TABLE_HEAD, table_line};
use row::Case;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Times cellgate and burn on the same adapter, after comparing both with cellgate's float64 reference.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// rows of rows.json by number, from 0: `0,2,3`; or `all`
    #[arg(long, default_value = "all")]
    rows: String,
    /// timed calls of each peer
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(LEAST as i64..))]
    repeat: u32,
    /// seconds of timed calls after which a row ends, with 3 of each peer at least
    #[arg(long, default_value_t = 120)]
    cap: u64,
    /// the only graphics API to time; without it: each that has an adapter
    #[arg(long)]
    backend: Option<Api>,
    /// part of the adapter's name or PCI address
    #[arg(long, value_name = "SUBSTRING")]
    adapter: Option<String>,
    /// writes one JSON object a line: a peer at a row with a setting
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Api {
    Vulkan,
    Metal,
    Dx12,
    Gl,
}

impl From<Api> for GraphicsBackend {
    fn from(api: Api) -> Self {
        match api {
            Api::Vulkan => Self::Vulkan,
            Api::Metal => Self::Metal,
            Api::Dx12 => Self::Dx12,
            Api::Gl => Self::Gl,
        }
    }
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether every peer passed every row.
fn run(args: &Args) -> Result<bool> {
    let rows = row::select(&args.rows)?;
    let engines = engines(args)?;
    let pace = Pace { repeat: args.repeat as usize, cap: Duration::from_secs(args.cap) };
    let mut json = args.json.as_ref().map(File::create).transpose()?;
    let mut all_passed = true;
    println!("{TABLE_HEAD}");
    for engine in engines {
        let info = &engine.describe().device;
        let burn_devices = TASKS_MAX.iter().map(|&tasks| BurnDevice::open(info, tasks)).collect::<Result<Vec<_>>>()?;
        for device in &burn_devices {
            eprintln!("cellgate on {info} ({}), burn on {}", info.driver, device.describe());
        }
        for &row in &rows {
            let case = Case::new(row)?;
            let mut peers: Vec<Box<dyn Peer>> = vec![Box::new(CellgatePeer::new(&engine, &case)?)];
            for device in &burn_devices {
                peers.push(Box::new(BurnPeer::new(device, &case)?));
            }
            let outcomes = contest::time(&mut peers, &case.expected, pace);
            println!("{}", table_line(info, row, &outcomes));
            report_failures(row, &outcomes);
            all_passed &= outcomes.iter().all(|outcome| outcome.failure.is_none());
            if let Some(file) = &mut json {
                for outcome in &outcomes {
                    writeln!(file, "{}", serde_json::to_string(&Record::new(info, row, outcome))?)?;
                }
            }
        }
    }
    Ok(all_passed)
}

fn report_failures(row: row::Row, outcomes: &[Outcome]) {
    for Outcome { name, setting, failure, .. } in outcomes {
        if let Some(failure) = failure {
            eprintln!("{name} ({setting}) at {row}: {failure}");
        }
    }
}

/// The adapter that is asked for, through each graphics API that reaches it.
fn engines(args: &Args) -> Result<Vec<Engine>> {
    let all = [GraphicsBackend::Vulkan, GraphicsBackend::Metal, GraphicsBackend::Dx12, GraphicsBackend::Gl];
    let wanted = args.backend.map_or(all.to_vec(), |api| vec![api.into()]);
    let open = |backend| {
        Engine::new(DeviceRequest {
            choice: DeviceChoice::Gpu,
            adapter: args.adapter.clone(),
            backend: Some(backend),
            allow_software: true,
            ..DeviceRequest::default()
        })
    };
    let (mut engines, mut errors) = (Vec::new(), Vec::new());
    for backend in wanted {
        match open(backend) {
            Ok(engine) => engines.push(engine),
            Err(error) => errors.push(error.to_string()),
        }
    }
    if engines.is_empty() { Err(errors.join("\n").into()) } else { Ok(engines) }
}
