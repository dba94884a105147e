//! The crate's error type: what went wrong, in words and as an [`ErrorKind`].

use std::error::Error as StdError;
use std::fmt;

/// The crate's result type.
pub type Result<T> = std::result::Result<T, Error>;

/// What class of thing went wrong, for a caller that wants to react rather than report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A file could not be read or written.
    Io,
    /// A file is not what its name or header says it is.
    Format,
    /// A tensor has the wrong shape, rank, name or element type.
    Shape,
    /// A model, an option or a combination of both that cannot be run.
    Config,
    /// No adapter fits the request, or several do.
    NoAdapter,
    /// A limit of the device is too small for the request; the message names the limit.
    Limit,
    /// The driver refused a shader.
    ShaderCompilation,
    /// The device has no memory left.
    OutOfMemory,
    /// The device went away: driver reset, removal, or destruction. It stays lost until [`Engine::recover`](crate::Engine::recover) opens it anew.
    DeviceLost,
    /// The device did not answer in time. It counts as lost from then on.
    Timeout,
    /// A state, or a sequence of a stream, was lost to a call that did not finish, or with a device.
    StateLost,
    /// The graphics API refused a call; this is a defect of this crate or of the driver.
    Validation,
}

/// An error: its [`kind`](Error::kind), one line of text that names the thing, the rule and what was found,
/// and the error that caused it, if there is one.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner { kind, message: message.into(), source: None }))
    }

    /// Keeps `source` as the cause; its text is not repeated in this error's own.
    pub(crate) fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Puts "`subject`: " before the message, so that an inner error says which file or node it is about.
    pub(crate) fn within(mut self, subject: impl fmt::Display) -> Self {
        self.0.message = format!("{subject}: {}", self.0.message);
        self
    }

    /// Puts "; `what`" behind the message: what a caller can do about it.
    pub(crate) fn followed_by(mut self, what: impl fmt::Display) -> Self {
        self.0.message = format!("{}; {what}", self.0.message);
        self
    }

    pub(crate) fn io(path: &std::path::Path, verb: &str, source: std::io::Error) -> Self {
        Self::new(ErrorKind::Io, format!("{}: cannot {verb}: {source}", path.display())).with_source(source)
    }

    pub(crate) fn format(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Format, message)
    }

    pub(crate) fn shape(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Shape, message)
    }

    pub(crate) fn config(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Config, message)
    }

    pub(crate) fn limit(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Limit, message)
    }

    /// What class of thing went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.0.kind, self.0.message)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

/// The text with every run of white space, line breaks included, as one space. Public for the program alone.
#[doc(hidden)]
pub fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_kind_and_source_survive_context() {
        let cause = std::io::Error::other("disk on fire");
        let error = Error::new(ErrorKind::Io, "cannot read").with_source(cause).within("model.onnx");
        assert_eq!(error.kind(), ErrorKind::Io);
        assert_eq!(error.to_string(), "model.onnx: cannot read");
        assert_eq!(error.source().map(ToString::to_string).as_deref(), Some("disk on fire"));
    }
}
