//! stdout and stderr, written to without ever waiting: a pipe that nobody reads and a terminal that is
//! stopped must not hold up a recording or its stop.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

use crate::sys;

pub struct Output {
    fd: RawFd,
    /// Looked for at the first write.
    own: Option<Option<OwnedFd>>,
    /// Bytes of the last write that the output has not taken, so that lines are never mixed up.
    rest: Vec<u8>,
}

impl Output {
    pub const fn new(fd: RawFd) -> Self {
        Output {
            fd,
            own: None,
            rest: Vec::new(),
        }
    }

    /// Writes all of it, now or with the writes to come; or nothing, with `WouldBlock`. No more than
    /// `sys::PIPE_BUF_BYTES` at a time.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        while !self.rest.is_empty() {
            let n = self.try_write(None)?;
            self.rest.drain(..n);
        }
        let n = self.try_write(Some(bytes))?;
        self.rest.extend_from_slice(&bytes[n..]);
        Ok(())
    }

    /// Waits a little for a reader.
    pub fn wait(&self, wait: Duration) -> bool {
        sys::is_writable(self.fd, wait)
    }

    fn try_write(&mut self, bytes: Option<&[u8]>) -> io::Result<usize> {
        let fd = self.fd;
        let own = self.own.get_or_insert_with(|| sys::reopen_nonblocking(fd));
        let bytes = bytes.unwrap_or(&self.rest);
        match own {
            Some(own) => sys::write(own.as_raw_fd(), bytes),
            // A file never blocks, and what takes any byte takes a line: of a pipe POSIX says so, and a
            // socket says that it is writable only while it has much room.
            None if sys::is_writable(fd, Duration::ZERO) => sys::write(fd, bytes),
            None => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}
