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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_published_leaves_what_was_there() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        fs::write(&path, "old").expect("a file");
        drop(Temporary::write(&path, b"new").expect("a file beside it"));
        assert_eq!(fs::read(&path).expect("a file"), b"old");
        let temporary = Temporary::write(&path, b"new").expect("a file beside it");
        assert_eq!(fs::read(&path).expect("a file"), b"old");
        temporary.publish().expect("its place is free");
        assert_eq!(fs::read(&path).expect("a file"), b"new");
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1, "a temporary file is left");
    }

    /// Elsewhere a file that somebody has open cannot be replaced.
    #[cfg(unix)]
    #[test]
    fn who_reads_while_others_write_sees_whole_files() {
        const LEN: usize = 1 << 18;
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        fs::write(&path, vec![0; LEN]).expect("a file");
        let write = &|value| {
            for _ in 0..100 {
                Temporary::write(&path, &vec![value; LEN]).and_then(Temporary::publish).expect("a file");
            }
        };
        std::thread::scope(|scope| {
            let writers = [1, 2].map(|value| scope.spawn(move || write(value)));
            while writers.iter().any(|writer| !writer.is_finished()) {
                let bytes = fs::read(&path).expect("it is always there");
                assert!(bytes.len() == LEN && bytes.iter().all(|byte| *byte == bytes[0]), "{} bytes, or of several files", bytes.len());
            }
        });
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1, "a temporary file is left");
    }
}
