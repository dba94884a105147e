//! Calls that may take no more memory than is allowed.

use ndarray::{Array2, Array3};

use crate::engine::tests::faults::options;
use crate::engine::tests::{OPENING, an_adapter, network};
use crate::gpu::GpuDevice;
use crate::{DeviceChoice, Engine, ErrorKind, Inputs, Network, Options, Result};

/// The CPU, and an adapter where there is one.
fn engines() -> Result<Vec<Engine>> {
    let mut engines = vec![Engine::new(DeviceChoice::Cpu)?];
    if let Some(adapter) = an_adapter() {
        engines.push(Engine::of_gpu(pollster::block_on(GpuDevice::open_with(&adapter, OPENING, &[]))?, "for a test".to_owned()));
    }
    Ok(engines)
}

fn allowing(max_call_bytes: u64) -> Options {
    Options { max_call_bytes: Some(max_call_bytes), ..options() }
}

/// The number behind `word` in an error of kind `Limit`.
fn number_after<T>(word: &str, result: Result<T>) -> u64 {
    let error = result.err().expect("it takes more than is allowed");
    assert_eq!(error.kind(), ErrorKind::Limit, "{error}");
    let text = error.to_string();
    let number = text.split(word).nth(1).and_then(|rest| rest.trim().split(' ').next());
    number.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("a number after `{word}` in: {text}"))
}

fn x(rows: usize) -> Array3<f32> {
    Array3::from_shape_fn((6, rows, 4), |(step, row, k)| (step + row + k) as f32 / 16.0)
}

#[test]
fn a_call_that_needs_more_than_is_allowed_makes_nothing_and_says_what_would_fit() -> Result<()> {
    for engine in engines()? {
        let stack = network(4, 5)?;
        let run = |options, rows| engine.session(&stack, options)?.run(&Inputs::new().with("x", x(rows).view()));
        let need = number_after("limit max_call_bytes: need", run(allowing(1), 9));
        assert_eq!(run(allowing(need), 9)?, run(options(), 9)?, "{}: as much as it needs", engine.describe());
        let allowed = need * 2 / 3;
        let rows = number_after(&format!("are {allowed};"), run(allowing(allowed), 9)) as usize;
        assert!((1..9).contains(&rows), "{rows} rows");
        run(allowing(allowed), rows)?;
        number_after("need", run(allowing(allowed), rows + 1));
        let mut session = engine.session(&stack, allowing(1))?;
        let made = || engine.usage().map(|usage| usage.buffers_made);
        let (before, refused) = (made(), session.run(&Inputs::new().with("x", x(9).view())));
        assert!(refused.is_err() && made() == before, "something was made before it was refused");
        let mut state = session.state(2)?;
        number_after("need", session.run_with_state(&Inputs::new().with("x", x(2).view()), &mut state));
        session.read_state(&state)?;
    }
    Ok(())
}

#[test]
fn layers_beside_a_stack_are_held_to_it_as_well() -> Result<()> {
    let network = Network::open(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/char-lm.safetensors"))?;
    let x = Array3::<f32>::zeros((3, 2, 96));
    for engine in engines()? {
        let run = |max_call_bytes| engine.session(&network, allowing(max_call_bytes))?.run(&Inputs::new().with("x", x.view()));
        let mut needs = vec![number_after("need", run(1))];
        // the stack first, then what stands behind it
        while let refused @ Err(_) = run(needs[needs.len() - 1]) {
            needs.push(number_after("need", refused));
        }
        assert!(needs.is_sorted() && needs.len() <= 3, "{}: {needs:?}", engine.describe());
    }
    Ok(())
}

#[test]
fn a_step_of_a_long_chunk_runs_in_windows_with_the_same_bits() -> Result<()> {
    for engine in engines()? {
        let stack = network(4, 5)?;
        let (long, short) = (Array2::from_shape_fn((50, 4), |(step, k)| (step * k) as f32 / 50.0), Array2::from_elem((3, 4), 0.5));
        let step = |options| {
            let mut stream = engine.session(&stack, options)?.into_stream(40)?;
            let slots = [stream.join()?, stream.join()?];
            let results = stream.step(&[(slots[0], long.view()), (slots[1], short.view())])?;
            let state = stream.read(slots[1])?;
            Ok::<_, crate::Error>((results, state))
        };
        let expected = step(options())?;
        let need = number_after("need", step(allowing(1)));
        // a window of a step, and some longer ones
        for allowed in [need, 3 * need, 10 * need] {
            assert_eq!(step(allowing(allowed))?, expected, "{}: {allowed} bytes", engine.describe());
        }
        number_after("need", step(allowing(need - 1)));
        let mut stream = engine.session(&stack, allowing(2 * need))?.into_stream(40)?;
        number_after("need", stream.step_all(Array3::zeros((60, 40, 4)).view()));
    }
    Ok(())
}
