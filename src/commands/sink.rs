//! stdout or stderr of a command: waits for a consumer, and returns at once on a signal that
//! stops. A blocking write to a full pipe would not: a handler that only notes the signal is followed by the
//! same write again.

use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use crate::sys::{self, Watch, signals};

/// Result of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    Whole,
    /// The consumer took nothing within the wait.
    Waiting,
    /// A stop signal came.
    Stopped,
}

pub struct Sink {
    fd: RawFd,
    /// A file description of our own, made non-blocking without affecting other holders of the descriptor.
    own: Option<OwnedFd>,
    /// A file takes any number of bytes; anything else that cannot be opened anew, no more than it reports
    /// room for.
    is_file: bool,
}

impl Sink {
    /// Handled signals have to be blocked; waits let them in.
    pub fn new(fd: RawFd) -> Self {
        let to = std::fs::metadata(format!("/proc/self/fd/{fd}"));
        Sink {
            fd,
            own: sys::reopen_nonblocking(fd),
            is_file: to.is_ok_and(|to| to.is_file()),
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
                    sys::wait(&mut [Watch::writable(self.fd)], wait)?;
                    if signals::stop_pending() {
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
        let mut watch = [Watch::broken(self.fd)];
        sys::wait(&mut watch, Some(time))?;
        Ok(!watch[0].ready() && !signals::stop_pending())
    }

    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match &self.own {
            Some(own) => sys::write(own.as_raw_fd(), bytes),
            None if self.is_file => sys::write(self.fd, bytes),
            None if sys::is_writable(self.fd, Duration::ZERO) => {
                sys::write(self.fd, &bytes[..bytes.len().min(sys::PIPE_BUF_BYTES)])
            }
            None => {
                // A broken pipe is not writable either; only a write returns why.
                let mut watch = [Watch::broken(self.fd)];
                sys::wait(&mut watch, Some(Duration::ZERO))?;
                if watch[0].ready() {
                    return sys::write(self.fd, &bytes[..1]);
                }
                Err(ErrorKind::WouldBlock.into())
            }
        }
    }
}
