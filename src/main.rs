//! The command line program `cellgate`; `cellgate --help` says what it does.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    silence_wayland();
    cli::main()
}

/// Mesa's Vulkan layer `device_select` looks for a Wayland display, and where there is no session to have one (containers, ssh, services),
/// libwayland writes lines to stderr that begin with `error:`, several for every command. A folder that does not exist has no
/// display in it, and that is said quietly.
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "drivers read the environment, and no safe call changes that of this process")]
fn silence_wayland() {
    const RUNTIME_DIR: &str = "XDG_RUNTIME_DIR";
    if std::env::var_os(RUNTIME_DIR).is_none() {
        // SAFETY: `main` calls this first, when the process has no other thread.
        unsafe { std::env::set_var(RUNTIME_DIR, "/nonexistent") };
    }
}

#[cfg(not(target_os = "linux"))]
fn silence_wayland() {}
