//! Where prompts come from.

use std::io;
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::thread;

/// Prompts, one after the other.
pub(crate) enum Prompts {
    Given(std::vec::IntoIter<String>),
    /// the lines of stdin as they arrive, each as soon as it is whole
    Lines(Receiver<io::Result<String>>),
}

impl Prompts {
    /// Lines are read on a thread of their own: whoever types or pipes them holds nobody up whose text is being written.
    pub(crate) fn from_stdin() -> Self {
        let (sender, receiver) = sync_channel(1);
        thread::spawn(move || io::stdin().lines().try_for_each(|line| sender.send(line)));
        Self::Lines(receiver)
    }

    /// The next prompt. Where it has not arrived yet, that is waited for if there is nothing else to do, and is `None` else, as is the end.
    pub(crate) fn next(&mut self, idle: bool) -> io::Result<Option<String>> {
        match self {
            Self::Given(prompts) => Ok(prompts.next()),
            Self::Lines(lines) if idle => lines.recv().ok().transpose(),
            Self::Lines(lines) => match lines.try_recv() {
                Ok(line) => line.map(Some),
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => Ok(None),
            },
        }
    }
}
