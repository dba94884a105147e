//! Devices as they typically are, for where none was asked or measured.

use crate::device::Hardware;
use crate::gpu::plan::{CostModel, DeviceProfile};

impl CostModel {
    /// Typical figures of a kind of hardware; `tune` replaces the guess by a measurement.
    pub fn typical(hardware: Hardware) -> Self {
        match hardware {
            Hardware::Cpu => Self {
                units: std::thread::available_parallelism().map_or(1.0, |threads| threads.get() as f64),
                // measured with llvmpipe: every read of a thread costs as much as 40 multiplications, whatever is read
                unit_flops: 14e9,
                unit_bytes: 1e12,
                shared_bytes: 1e12,
                dispatch_seconds: 25e-6,
                barrier_seconds: 4e-6,
                load_seconds: 0.0,
                read_seconds: 4.9e-9,
                matrix_rate: 0.5,
                least_busy: 1.0,
                cell_seconds: 30e-9,
                submit_seconds: 100e-6,
                transfer_bytes: 2e9,
            },
            Hardware::Integrated => Self {
                units: 12.0,
                unit_flops: 100e9,
                unit_bytes: 30e9,
                shared_bytes: 200e9,
                dispatch_seconds: 6e-6,
                barrier_seconds: 100e-9,
                load_seconds: 500e-9,
                read_seconds: 140e-12,
                matrix_rate: 4.0,
                least_busy: 0.0,
                cell_seconds: 300e-12,
                submit_seconds: 60e-6,
                transfer_bytes: 6e9,
            },
            _ => Self {
                units: 60.0,
                unit_flops: 200e9,
                unit_bytes: 60e9,
                shared_bytes: 2e12,
                dispatch_seconds: 4e-6,
                barrier_seconds: 60e-9,
                load_seconds: 400e-9,
                read_seconds: 70e-12,
                matrix_rate: 4.0,
                least_busy: 0.0,
                cell_seconds: 150e-12,
                submit_seconds: 80e-6,
                transfer_bytes: 6e9,
            },
        }
    }
}

impl DeviceProfile {
    /// A device of a kind with the least that WebGPU promises, and nothing optional.
    pub fn least(hardware: Hardware) -> Self {
        Self {
            max_binding_bytes: 128 << 20,
            max_workgroups: 65_535,
            uniform_alignment: 256,
            activation_bytes: 256 << 20,
            max_workgroup_threads: 256,
            max_workgroup_bytes: 16_384,
            held_words: 64,
            sum_quads: 16,
            subgroups: None,
            matrices: None,
            max_loop_iterations: u64::MAX,
            flops_per_second: 200e9,
            bytes_per_second: 20e9,
            seconds_per_dispatch: 5e-6,
            seconds_per_submit: 0.05,
            model: CostModel::typical(hardware),
        }
    }
}
