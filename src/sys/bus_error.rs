//! SIGBUS: memory that is mapped from a file and that the kernel cannot fill or write back. SQLite maps the -shm, which
//! all processes on a database share. Nothing can be gone on with; the handler says so and leaves.

use std::fmt::Write;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::{STDERR, is_writable, leave, write};
use crate::exit::Status;
use crate::log::{self, Level};

const REASON: &str = "the memory that is shared through the -shm beside the database cannot be read or written: its disk or a quota is full, or the device has gone; what was acknowledged had been committed";
/// How long a full stderr is waited for.
const WAIT: Duration = Duration::from_millis(100);

/// The words are the log's.
static IS_RECORDER: AtomicBool = AtomicBool::new(false);
static HAS_COME: AtomicBool = AtomicBool::new(false);

/// Text without an allocation; what finds no room is cut off.
struct Words {
    bytes: [u8; 1024],
    len: usize,
}

impl Write for Words {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let room = self.bytes.len() - self.len;
        let text = &text.as_bytes()[..text.len().min(room)];
        self.bytes[self.len..][..text.len()].copy_from_slice(text);
        self.len += text.len();
        Ok(())
    }
}

pub fn handle() -> io::Result<()> {
    super::signals::handle(libc::SIGBUS, end)
}

/// From here on a SIGBUS ends a recorder and no other command.
pub fn is_of_recorder() {
    IS_RECORDER.store(true, Ordering::SeqCst);
}

/// Does only what is async-signal-safe: clock_gettime(2), poll(2), write(2) and _exit(2), and no allocation.
extern "C" fn end(_signal: libc::c_int) {
    if HAS_COME.swap(true, Ordering::SeqCst) {
        // To return would be to meet it again; the thread that was first leaves for all.
        loop {
            let _ = is_writable(super::NO_FD, WAIT);
        }
    }
    let is_recorder = IS_RECORDER.load(Ordering::SeqCst);
    let mut words = Words {
        bytes: [0; 1024],
        len: 0,
    };
    let _ = match is_recorder {
        true => last_lines(&mut words),
        false => writeln!(words, "seawall: {REASON}"),
    };
    if is_writable(STDERR, WAIT) {
        let _ = write(STDERR, &words.bytes[..words.len]);
    }
    leave(match is_recorder {
        true => Status::Uncommitted,
        false => Status::Failed,
    } as u8);
}

fn last_lines(words: &mut Words) -> std::fmt::Result {
    log::begin(words, Level::Error)?;
    writeln!(words, "database-failed error=\"{REASON}\"")?;
    log::begin(words, Level::Info)?;
    words.write_str("stopped reason=SIGBUS\n")
}
