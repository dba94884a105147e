//! A device that has no memory left, at every point where something is made on it.

use std::sync::Arc;

use ndarray::Array2;

use crate::engine::tests::faults::{ASKS, Ask, Service, is_clear, is_refused, options, x};
use crate::engine::tests::{an_adapter, is_long};
use crate::gpu::inject::Fault;
use crate::{Chain, ChainInput, ChainStage, DenseStage, ErrorKind, Inputs, Linear, Result, RowFunction};

/// As [`ASKS`], each from its first allocation to its results.
const WHOLE: [(&str, Ask); 3] = [
    ("a session and a run", |service| {
        let mut session = service.engine.session(service.session.network(), options())?;
        Ok(session.run(&Inputs::new().with("x", x().view()))?["y"].iter().copied().collect())
    }),
    ("a stream and a step", |service| {
        let mut stream = service.engine.session(service.session.network(), options())?.into_stream(3)?;
        let slot = stream.join()?;
        Ok(stream.step(&[(slot, Array2::from_elem((2, 4), 0.5).view())])?.remove(0).into_iter().collect())
    }),
    ("a chain", |service| {
        if service.chain.is_none() {
            let linear = |inputs: usize| Linear::new(Array2::from_elem((4, inputs), 0.25), None);
            let stack = service.session.network().lstms().filter_map(|(_, lstm)| lstm).next().expect("it has one");
            let stages = [
                ChainStage::Dense(DenseStage::Linear(linear(4)?, RowFunction::None)),
                ChainStage::Lstm(Arc::new(stack.clone())),
                ChainStage::Permute(vec![1, 0, 2]),
                ChainStage::Dense(DenseStage::Linear(linear(5)?, RowFunction::Softmax)),
            ];
            service.chain = Some(Chain::new(&service.engine, &stages, &options())?);
        }
        let chain = service.chain.as_mut().expect("it was made above");
        Ok(chain.run(ChainInput::Values(x().into_dyn().view()), None, false)?.into_iter().collect())
    }),
];

/// Every point of calls that are made many times is walked where there is time for that.
fn stride() -> usize {
    if is_long() { 1 } else { 53 }
}

#[test]
fn who_finds_no_memory_can_do_the_same_again() -> Result<()> {
    let Some(adapter) = an_adapter() else { return Ok(()) };
    for (name, ask) in ASKS.into_iter().chain(WHOLE).filter(|(name, _)| *name != "tune") {
        // what is measured again and again makes the same things again
        let stride = if name == "peak" { stride() } else { 1 };
        let expected = ask(&mut Service::new(&adapter)?)?;
        let mut failed = 0;
        for point in (0..).step_by(stride) {
            let mut service = Service::new(&adapter)?;
            service.arm(point, Fault::Memory);
            let answer = ask(&mut service);
            if !service.device().health.inject.has_happened() {
                assert_eq!(answer?, expected, "{name} without a fault");
                break;
            }
            let error = answer.err().unwrap_or_else(|| panic!("{name} at {point}: nobody heard of it"));
            assert_eq!(error.kind(), ErrorKind::OutOfMemory, "{name} at {point}: {error}");
            assert!(is_clear(&error, &service.device()) && error.to_string().contains("; this engine's buffers take "), "{error}");
            let mut again = ask(&mut service);
            if is_refused(&again) {
                service.write_anew()?;
                again = ask(&mut service);
            }
            assert_eq!(again?, expected, "{name} after the memory ran out at {point}");
            failed += 1;
        }
        assert!(failed > 0, "{name} makes something");
        println!("{name}: {failed} points");
    }
    Ok(())
}

#[test]
fn tuning_goes_on_without_the_candidates_that_find_no_memory() -> Result<()> {
    let Some(adapter) = an_adapter() else { return Ok(()) };
    let mut service = Service::new(&adapter)?;
    let (mut told, mut skipped) = (0, 0);
    for point in (0..).step_by(stride()) {
        let mut session = service.engine.session(service.session.network(), options())?;
        service.arm(point, Fault::Memory);
        let tuned = session.tune(1, 1);
        if !service.device().health.inject.has_happened() {
            tuned?;
            break;
        }
        match tuned {
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::OutOfMemory, "at {point}: {error}");
                told += 1;
            }
            Ok(report) => {
                let reasons = report.lstms.iter().flat_map(|lstm| &lstm.candidates).filter_map(|candidate| candidate.why_not.as_deref());
                assert_eq!(reasons.filter(|why| why.contains("not enough memory left")).count(), 1, "at {point}: {report:?}");
                skipped += 1;
            }
        }
        session.run(&Inputs::new().with("x", x().view()))?;
    }
    println!("{told} errors, {skipped} candidates left out");
    assert!(told > 0 && skipped > 0);
    service.step().map(drop)
}

#[test]
fn an_error_of_memory_says_what_takes_how_much_and_what_less_would() -> Result<()> {
    let Some(adapter) = an_adapter() else { return Ok(()) };
    let mut service = Service::new(&adapter)?;
    service.arm(0, Fault::Memory);
    let session = service.engine.session(service.session.network(), options());
    let text = session.err().map(|error| error.to_string()).unwrap_or_default();
    for part in
        ["buffer `weights 0` of ", "not enough memory left; this engine's buffers take ", " as f32, and would take ", " as f16 or ", " as int8"]
    {
        assert!(text.contains(part), "`{part}` in: {text}");
    }
    service.arm(0, Fault::Memory);
    let text = service.session.state(7).err().map(|error| error.to_string()).unwrap_or_default();
    assert!(text.contains("buffer `state` of ") && text.contains("; calls of 1 steps and 7 rows take "), "{text}");
    // what a call is said to take is what `explain` adds up
    let memory = service.session.explain(2, 3)?.lstms[0].memory.clone();
    let bytes: u64 = memory.iter().filter(|part| part.name != "weights").map(|part| part.bytes).sum();
    service.arm(3, Fault::Memory);
    let ran = service.session.run(&Inputs::new().with("x", x().view()));
    let text = ran.err().map(|error| error.to_string()).unwrap_or_default();
    let need = format!("; calls of 3 steps and 2 rows take {bytes} bytes beside the weights, {} a row: fewer rows or steps need less", bytes / 2);
    assert!(text.ends_with(&need), "{text}");
    Ok(())
}
