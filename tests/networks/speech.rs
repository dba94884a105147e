//! Silero's voice activity detector over 20 seconds of speech, chunk by chunk, its state carried by the caller.

use std::sync::OnceLock;

use cellgate::formats::npy;
use cellgate::{DeviceChoice, Engine, Inputs, Session};
use libtest_mimic::{Failed, Trial};
use ndarray::{Array2, Array3, arr0};

use crate::case::{NetworkCase, models, session};
use crate::common::{TestDevice, trial};
use crate::verdict::note;

/// Samples of a chunk.
const CHUNK: usize = 512;

/// Samples before each chunk that the model is given once more.
const CONTEXT: usize = 64;

/// Samples a second.
const RATE: i64 = 16_000;

/// Streams of one batch; each starts this many chunks further into the file.
const STREAMS: usize = 32;
const APART: usize = 19;

/// Chunks of the batch of streams, half of what the file has: the last streams reach its end and go on at its start.
const STREAM_CHUNKS: usize = 320;

/// How far a probability may lie from the judge's. An error in a state goes on to the next chunk, and a gate that stands between open and
/// closed makes it larger: the judge itself moves by some 1e-4 where a sum is taken in another order.
const BOUND: f32 = 2e-3;

pub(crate) fn trials(device: &TestDevice) -> Vec<Trial> {
    // the reference computes all of it on one thread, and the CPU is held to the same file
    if device.name == "reference" {
        return Vec::new();
    }
    let (alone, batch) = (device.name.clone(), device.name.clone());
    vec![
        trial(device, "speech/alone", move |engine| file(engine, &alone)),
        trial(device, &format!("speech/{STREAMS}-streams"), move |engine| streams(engine, &batch)),
    ]
}

/// The whole file gives the probabilities beside it.
fn file(engine: &Engine, device: &str) -> Result<(), Failed> {
    let (speech, expected) = (samples()?, probabilities()?);
    let made = detect(&mut open(engine)?, &[&speech], speech.len() / CHUNK)?;
    close(device, "speech/alone", &made[0], &expected)
}

/// Streams that share a batch get what each gets alone.
fn streams(engine: &Engine, device: &str) -> Result<(), Failed> {
    let (speech, expected) = (samples()?, probabilities()?);
    let shifted: Vec<Vec<f32>> = (0..STREAMS).map(|stream| shifted(&speech, stream)).collect();
    let mut session = open(engine)?;
    let made = detect(&mut session, &shifted.iter().map(Vec::as_slice).collect::<Vec<_>>(), STREAM_CHUNKS)?;
    close(device, "speech/streams: stream 0 and the file", &made[0], &expected[..STREAM_CHUNKS])?;
    for (stream, (made, cpu)) in made.iter().zip(alone_on_the_cpu()?).enumerate() {
        close(device, &format!("speech/streams: stream {stream} and alone on the CPU"), made, cpu)?;
    }
    for stream in [1, STREAMS - 1] {
        let alone = detect(&mut session, &[&shifted[stream]], STREAM_CHUNKS)?;
        close(device, &format!("speech/streams: stream {stream} and alone on the same device"), &made[stream], &alone[0])?;
    }
    Ok(())
}

/// Every stream by itself on the CPU, computed once.
fn alone_on_the_cpu() -> Result<&'static [Vec<f32>], Failed> {
    static ALONE: OnceLock<Result<Vec<Vec<f32>>, String>> = OnceLock::new();
    let compute = || -> Result<Vec<Vec<f32>>, Failed> {
        let speech = samples()?;
        let mut session = open(&Engine::new(DeviceChoice::Cpu)?)?;
        let mut alone = |stream| Ok(detect(&mut session, &[&shifted(&speech, stream)], STREAM_CHUNKS)?.remove(0));
        (0..STREAMS).map(&mut alone).collect()
    };
    let made = ALONE.get_or_init(|| compute().map_err(|failed| failed.message().unwrap_or_default().to_owned()));
    made.as_deref().map_err(|text| text.as_str().into())
}

fn open(engine: &Engine) -> Result<Session, Failed> {
    session(engine, &NetworkCase::named("silero-vad")?.network()?)
}

/// Probabilities of the first `chunks` chunks of every stream, as one batch.
fn detect(session: &mut Session, streams: &[&[f32]], chunks: usize) -> Result<Vec<Vec<f32>>, Failed> {
    let mut made = vec![Vec::with_capacity(chunks); streams.len()];
    let mut state = Array3::<f32>::zeros((2, streams.len(), 128)).into_dyn();
    let rate = arr0(RATE);
    for chunk in 0..chunks {
        // what was before the first chunk is silence
        let sample = |(stream, place): (usize, usize)| (chunk * CHUNK + place).checked_sub(CONTEXT).map_or(0.0, |place| streams[stream][place]);
        let x = Array2::from_shape_fn((streams.len(), CONTEXT + CHUNK), sample);
        let mut outputs = session.run(&Inputs::new().with("input", x.view()).with("state", state.view()).with("sr", rate.view()))?;
        for (made, &probability) in made.iter_mut().zip(&outputs["output"]) {
            made.push(probability);
        }
        state = outputs.remove("stateN").and_then(|state| state.as_f32().cloned()).ok_or("no output `stateN`")?;
    }
    Ok(made)
}

/// What stream number `stream` hears: the file from a later chunk on, and around its end to its start.
fn shifted(speech: &[f32], stream: usize) -> Vec<f32> {
    let mut speech = speech.to_vec();
    speech.rotate_left(stream * APART * CHUNK);
    speech
}

/// Passes where all probabilities are close; keeps the largest difference for the report.
fn close(device: &str, what: &str, made: &[f32], expected: &[f32]) -> Result<(), Failed> {
    if made.len() != expected.len() {
        return Err(format!("{what}: {} chunks, expected {}", made.len(), expected.len()).into());
    }
    let mut worst = (0.0, 0);
    for (chunk, (made, expected)) in made.iter().zip(expected).enumerate() {
        let error = (made - expected).abs();
        if error.is_nan() || error > BOUND {
            return Err(format!("{what}: chunk {chunk}: {made}, expected {expected}").into());
        }
        if error > worst.0 {
            worst = (error, chunk);
        }
    }
    note(device, &format!("{what}, chunk {}", worst.1), f64::from(worst.0 / BOUND), f64::from(worst.0));
    Ok(())
}

fn probabilities() -> Result<Vec<f32>, Failed> {
    let array = npy::read(&models().join("silero-vad/speech.probability.npy"))?;
    Ok(array.as_f32().ok_or("the probabilities are not float32")?.iter().copied().collect())
}

/// The samples of a WAV file of one channel and 16 bits, from -1 to 1.
fn samples() -> Result<Vec<f32>, Failed> {
    let bytes = std::fs::read(models().join("silero-vad/speech.wav"))?;
    let word = |place: usize| Some(u32::from_le_bytes(bytes.get(place..place + 4)?.try_into().ok()?));
    let is_wave = bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WAVE");
    let (mut place, mut is_known) = (12, false);
    while is_wave && let (Some(name), Some(len)) = (bytes.get(place..place + 4), word(place + 4)) {
        let part = bytes.get(place + 8..place + 8 + len as usize).ok_or("speech.wav is cut off")?;
        match name {
            // PCM, one channel; the rate; 16 bits
            b"fmt " => is_known = part[..4] == [1, 0, 1, 0] && i64::from(word(place + 12).unwrap_or(0)) == RATE && part[14..16] == [16, 0],
            b"data" if is_known => return Ok(part.as_chunks().0.iter().map(|&sample| f32::from(i16::from_le_bytes(sample)) / 32768.0).collect()),
            _ => {}
        }
        place += 8 + len as usize + len as usize % 2;
    }
    Err("speech.wav: expected RIFF with one channel of 16-bit samples at 16 kHz".into())
}
