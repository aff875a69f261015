//! stdout for as much as a consumer will take: written to for as long as that needs, but a signal that
//! stops is heard while waiting. Called by the commands that stream.

use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use crate::sys::{self, STDOUT, Watch};

/// What came of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    Whole,
    /// Some is left, and the consumer has taken nothing for as long as was to be waited.
    Waiting,
    /// Some is left, and a signal that stops has come.
    Stopped,
}

pub struct Sink {
    /// A description that may be made non-blocking without doing so to those who share stdout.
    own: Option<OwnedFd>,
    /// A file takes any number of bytes; anything else that cannot be opened anew, no more than it says that
    /// it has room for.
    is_file: bool,
}

impl Sink {
    /// Signals have to be blocked: they are let in while it waits.
    pub fn new() -> Self {
        let stdout = std::fs::metadata(format!("/proc/self/fd/{STDOUT}"));
        Sink {
            own: sys::reopen_nonblocking(STDOUT),
            is_file: stdout.is_ok_and(|stdout| stdout.is_file()),
        }
    }

    /// Writes what is left of `bytes` from `at` on, and moves `at`.
    pub fn write(
        &mut self,
        bytes: &[u8],
        at: &mut usize,
        patience: Option<Duration>,
    ) -> io::Result<Written> {
        let mut since = Instant::now();
        loop {
            let rest = bytes.get(*at..).unwrap_or_default();
            if rest.is_empty() {
                return Ok(Written::Whole);
            }
            match self.try_write(rest) {
                Ok(n) => {
                    *at += n;
                    since = Instant::now();
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    let wait = patience.map(|patience| patience.saturating_sub(since.elapsed()));
                    if wait.is_some_and(|wait| wait.is_zero()) {
                        return Ok(Written::Waiting);
                    }
                    sys::wait(&mut [Watch::writable(STDOUT)], wait)?;
                    if sys::stop_pending() {
                        return Ok(Written::Stopped);
                    }
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// Waits with nothing to write. False when the consumer has gone, or a signal that stops has come.
    pub fn idle(&self, time: Duration) -> io::Result<bool> {
        let mut watch = [Watch::broken(STDOUT)];
        sys::wait(&mut watch, Some(time))?;
        Ok(!watch[0].ready() && !sys::stop_pending())
    }

    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match &self.own {
            Some(own) => sys::write(own.as_raw_fd(), bytes),
            None if self.is_file => sys::write(STDOUT, bytes),
            None if sys::is_writable(STDOUT, Duration::ZERO) => {
                sys::write(STDOUT, &bytes[..bytes.len().min(sys::PIPE_BUF_BYTES)])
            }
            None => {
                // What is broken is not writable either, and says what it is only to a write.
                let mut watch = [Watch::broken(STDOUT)];
                sys::wait(&mut watch, Some(Duration::ZERO))?;
                if watch[0].ready() {
                    return sys::write(STDOUT, &bytes[..1]);
                }
                Err(ErrorKind::WouldBlock.into())
            }
        }
    }
}

impl Default for Sink {
    fn default() -> Self {
        Self::new()
    }
}
