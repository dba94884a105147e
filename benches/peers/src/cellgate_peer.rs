//! cellgate as one of the peers.

use std::hint::black_box;
use std::time::Instant;

use cellgate::compare::Tolerance;
use cellgate::{Engine, Inputs, Options, Session, Tensor};
use ndarray::{Array3, Ix3};

use crate::Result;
use crate::contest::{Call, Peer, sum};
use crate::row::Case;

pub struct CellgatePeer {
    session: Session,
    /// `[T, N, I]`
    x: Array3<f32>,
}

impl CellgatePeer {
    pub fn new(engine: &Engine, case: &Case) -> Result<Self> {
        Ok(Self { session: engine.session(&case.network, Options::default())?, x: case.x.clone() })
    }
}

impl Peer for CellgatePeer {
    fn name(&self) -> &'static str {
        "cellgate"
    }

    fn setting(&self) -> String {
        "default".to_owned()
    }

    /// `|error| <= 1e-5 * (1 + |value|)`, what the crate promises for float32.
    fn tolerance(&self) -> Tolerance {
        Tolerance { atol: 1e-5, rtol: 1e-5 }
    }

    fn call(&mut self) -> Result<Call> {
        let inputs = Inputs::new().with("x", self.x.view());
        let start = Instant::now();
        let mut outputs = self.session.run(&inputs)?;
        let Some(Tensor::F32(y)) = outputs.remove("y") else { return Err("no float32 output `y`".into()) };
        black_box(sum(y.as_slice().ok_or("`y` is not contiguous")?));
        let elapsed = start.elapsed();
        Ok(Call { elapsed, y: y.into_dimensionality::<Ix3>()? })
    }
}
