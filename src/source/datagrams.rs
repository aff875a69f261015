//! Datagrams: each is whole lines by itself. They cannot wait, so that what finds no room is dropped and
//! counted; so is what the kernel had no room for, as far as it tells.

use std::net::UdpSocket;
use std::os::fd::{AsRawFd, RawFd};
use std::rc::Rc;

use crate::reading::line::Precision;
use crate::reading::stream::{Intake, Reject, Stream};
use crate::source::listener;
use crate::source::spec::Port;
use crate::sys::{self, Clock};

/// Taken in one turn, so that a flood leaves the others their turn.
const PER_TURN: usize = 128;
/// Taken at a stop: what the kernel holds by then, and no more of a flood that goes on.
const AT_STOP: usize = 16 * 1024;

#[derive(Debug)]
pub struct Datagrams {
    pub name: Rc<str>,
    pub address: String,
    precision: Precision,
    socket: UdpSocket,
    pub is_ready: bool,
    /// That the kernel told of so far; its number goes round.
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
            kernel_drops: 0,
        })
    }

    pub fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// Takes what has come; at a stop all that came before it. `memory` is lent; rejected lines are told by
    /// their number in the datagram.
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
                stream.take(to, now_ns, reject);
            }
            stream.give_back(memory);
            // An error of an earlier send is none of ours, and there is nothing to read.
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
