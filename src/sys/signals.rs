//! Signals: what is handled, held back until a wait, and left ignored.

use std::io;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::check::check;
use super::{STDERR, is_writable, leave, write};

/// The signals that are handled. Those that stop come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Signal {
    Term,
    Int,
    Hup,
    Quit,
    Pwr,
    Xcpu,
    Alrm,
    Usr2,
    Usr1,
}

const SIGNALS: [(Signal, libc::c_int, &str); 9] = [
    (Signal::Term, libc::SIGTERM, "SIGTERM"),
    (Signal::Int, libc::SIGINT, "SIGINT"),
    (Signal::Hup, libc::SIGHUP, "SIGHUP"),
    (Signal::Quit, libc::SIGQUIT, "SIGQUIT"),
    (Signal::Pwr, libc::SIGPWR, "SIGPWR"),
    // Without meaning here; without a handler they would end the process without its last commit.
    (Signal::Xcpu, libc::SIGXCPU, "SIGXCPU"),
    (Signal::Alrm, libc::SIGALRM, "SIGALRM"),
    (Signal::Usr2, libc::SIGUSR2, "SIGUSR2"),
    (Signal::Usr1, libc::SIGUSR1, "SIGUSR1"),
];

const _: () = {
    let mut at = 0;
    while at < SIGNALS.len() {
        assert!(
            SIGNALS[at].0 as usize == at,
            "a signal is found by its place"
        );
        at += 1;
    }
};

impl Signal {
    pub const STOPPING: [Signal; 8] = {
        use Signal::*;
        [Term, Int, Hup, Quit, Pwr, Xcpu, Alrm, Usr2]
    };

    pub fn name(self) -> &'static str {
        SIGNALS[self as usize].2
    }
}

static ARRIVED: [AtomicBool; SIGNALS.len()] = [const { AtomicBool::new(false) }; SIGNALS.len()];

extern "C" fn note(signal: libc::c_int) {
    for (which, number, _) in SIGNALS {
        if number == signal {
            ARRIVED[which as usize].store(true, Ordering::SeqCst);
        }
    }
}

/// Whether a signal came since the last time that this was asked.
pub fn take_signal(signal: Signal) -> bool {
    ARRIVED[signal as usize].swap(false, Ordering::SeqCst)
}

/// For the commands that can be cut off anywhere; process 1 would not die of a signal by itself. It may have
/// interrupted a write to the same full pipe, so that it does not write where it would have to wait.
extern "C" fn give_up(_signal: libc::c_int) {
    if is_writable(STDERR, Duration::ZERO) {
        let _ = write(STDERR, b"seawall: interrupted\n");
    }
    leave(crate::exit::Status::Failed as u8);
}

/// Installs the handlers. A closed pipe and a limit on file sizes are errors of `write`, not deaths.
pub fn handle_signals() -> io::Result<()> {
    for (_, number, _) in SIGNALS {
        handle(number, note)?;
    }
    for number in [libc::SIGPIPE, libc::SIGXFSZ] {
        // SAFETY: SIG_IGN is a valid disposition and touches no memory of ours.
        if unsafe { libc::signal(number, libc::SIG_IGN) } == libc::SIG_ERR {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Lets a signal that stops end the process at once, with status 1, even if whoever started it has blocked the signal.
pub fn give_up_on_signals() -> io::Result<()> {
    for signal in Signal::STOPPING {
        handle(SIGNALS[signal as usize].1, give_up)?;
    }
    mask_signals(libc::SIG_UNBLOCK)?;
    // One that came before this was only noted.
    if Signal::STOPPING.into_iter().any(take_signal) {
        give_up(libc::SIGTERM);
    }
    Ok(())
}

/// Installs a handler. A signal that was ignored at the start, as `nohup` and shells do for background jobs, stays
/// ignored, except SIGTERM.
pub fn handle(number: libc::c_int, handler: extern "C" fn(libc::c_int)) -> io::Result<()> {
    // SAFETY: an all-zero sigaction is valid: no flags, an empty mask.
    let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    if is_ignored(number) && number != libc::SIGTERM {
        return Ok(());
    }
    action.sa_sigaction = handler as usize;
    // No half-done write is disturbed, and SQLite does not retry fdatasync after EINTR.
    action.sa_flags = libc::SA_RESTART;
    // SAFETY: `action` is initialised; all handlers do only what is async-signal-safe: `note` stores an
    // atomic, `give_up` and that of SIGBUS call poll(2), write(2) and _exit(2).
    check(unsafe { libc::sigaction(number, &action, std::ptr::null_mut()) }).map(drop)
}

fn is_ignored(number: libc::c_int) -> bool {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: a null action changes nothing, and an all-zero sigaction is valid.
    unsafe {
        libc::sigaction(number, std::ptr::null(), action.as_mut_ptr());
        action.assume_init().sa_sigaction == libc::SIG_IGN
    }
}

/// Keeps the handled signals from this thread, and from those that it starts, until `wait` lets them in.
pub fn block_signals() -> io::Result<()> {
    mask_signals(libc::SIG_BLOCK)
}

fn mask_signals(how: libc::c_int) -> io::Result<()> {
    // SAFETY: sigemptyset initialises the set before anything reads it; all pointers are to locals.
    unsafe {
        let mut set = MaybeUninit::<libc::sigset_t>::uninit();
        libc::sigemptyset(set.as_mut_ptr());
        for (_, number, _) in SIGNALS {
            libc::sigaddset(set.as_mut_ptr(), number);
        }
        match libc::pthread_sigmask(how, set.as_ptr(), std::ptr::null_mut()) {
            0 => Ok(()),
            code => Err(io::Error::from_raw_os_error(code)),
        }
    }
}

/// Whether a signal that stops has come or is held back by `block_signals`. The kernel holds back an ignored one, too.
pub fn stop_pending() -> bool {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigpending fills the set when it returns 0, and only then is it read.
    let has_set = unsafe { libc::sigpending(set.as_mut_ptr()) } == 0;
    Signal::STOPPING.into_iter().any(|signal| {
        let number = SIGNALS[signal as usize].1;
        // SAFETY: as above.
        let is_held = has_set && unsafe { libc::sigismember(set.as_ptr(), number) } == 1;
        ARRIVED[signal as usize].load(Ordering::SeqCst) || is_held && !is_ignored(number)
    })
}
