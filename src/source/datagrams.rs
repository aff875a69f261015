//! Datagrams: each holds whole lines. They cannot wait: readings without room are dropped and
//! counted, and so are datagrams that the kernel dropped.

use std::net::UdpSocket;
use std::os::fd::{AsRawFd, RawFd};
use std::rc::Rc;

use crate::reading::line::Precision;
use crate::reading::stream::{Intake, Reject, Stream};
use crate::source::spec::Port;
use crate::source::{listener, old_times};
use crate::sys::{self, Clock};

/// Upper bound in one turn, so that a flood does not starve other sources.
const PER_TURN: usize = 128;
/// Upper bound at a stop: enough for what the kernel holds, and the end of a flood.
const AT_STOP: usize = 16 * 1024;

#[derive(Debug)]
pub struct Datagrams {
    pub name: Rc<str>,
    pub address: String,
    precision: Precision,
    socket: UdpSocket,
    pub is_ready: bool,
    is_old_told: bool,
    /// The kernel's drop counter at the last look; it wraps.
    kernel_drops: u32,
}

impl Datagrams {
    pub fn bind(port: &Port, precision: Precision) -> Result<Self, String> {
        let (socket, address) = listener::bind_udp(port)?;
        Ok(Datagrams {
            name: format!("udp:{port}").into(),
            address: address.to_string(),
            precision,
            socket,
            is_ready: false,
            is_old_told: false,
            kernel_drops: 0,
        })
    }

    pub fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// Takes received datagrams; at a stop all that came before it. Reads into `memory`. Rejected lines have
    /// their number within the datagram.
    pub fn turn(
        &mut self,
        is_last: bool,
        memory: &mut Vec<u8>,
        to: &mut Intake<'_>,
        reject: Reject<'_>,
    ) {
        let most = match (is_last, std::mem::take(&mut self.is_ready)) {
            (true, _) => AT_STOP,
            (false, true) => PER_TURN,
            (false, false) => 0,
        };
        let fd = self.fd();
        for _ in 0..most {
            let mut stream = Stream::new(0, self.precision, false);
            stream.borrow(memory);
            let read = stream.fill(|buffer| sys::read(fd, buffer));
            if read.is_ok() {
                stream.end();
                let now_ns = sys::clock_ns(Clock::Real);
                let (is_told, name) = (&mut self.is_old_told, &self.name);
                old_times::watch(is_told, name, self.precision, to, |to| {
                    stream.take(to, now_ns, reject)
                });
            }
            stream.give_back(memory);
            // Nothing to read, or an error of no concern here.
            if read.is_err() {
                break;
            }
        }
    }

    /// Datagrams that the kernel dropped since the last look.
    pub fn dropped(&mut self) -> u64 {
        let now = sys::datagrams_dropped(self.fd()).unwrap_or(self.kernel_drops);
        let dropped = now.wrapping_sub(self.kernel_drops);
        self.kernel_drops = now;
        u64::from(dropped)
    }
}
