//! Files that replace others in one step, so that neither a failure nor an interruption leaves half a file.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// A file beside its target that takes the target's place when it is published, and goes when it is dropped before.
pub(crate) struct Temporary {
    path: PathBuf,
    target: PathBuf,
    published: bool,
}

impl Temporary {
    /// Writes `bytes` beside `path`.
    pub(crate) fn write(path: &Path, bytes: &[u8]) -> io::Result<Self> {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        if path.file_name().is_none() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the path does not end in a file name"));
        }
        // A link stays a link.
        let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        loop {
            // Short whatever the target's name is, so that it fits where that one does.
            let number = COUNTER.fetch_add(1, Ordering::Relaxed);
            let path = target.with_file_name(format!(".cellgate-{}-{number}", std::process::id()));
            let mut file = match OpenOptions::new().write(true).create_new(true).open(&path) {
                // left behind by a process of the same number that was killed
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                opened => opened?,
            };
            let temporary = Self { path, target, published: false };
            file.write_all(bytes)?;
            return Ok(temporary);
        }
    }

    /// Puts the file in its target's place.
    pub(crate) fn publish(mut self) -> io::Result<()> {
        fs::rename(&self.path, &self.target)?;
        self.published = true;
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.published {
            // The error that led here is the one to report.
            let _ = fs::remove_file(&self.path);
        }
    }
}
