//! Terminals of the tests' own.

use std::fs::{File, OpenOptions};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

/// Both ends of a terminal of so many columns, inherited by no child of another test.
pub fn terminal(columns: u16) -> (File, OwnedFd) {
    let size = libc::winsize {
        ws_row: 24,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(libc::O_NOCTTY);
    let master = options.open("/dev/ptmx").unwrap();
    let fd = master.as_raw_fd();
    // SAFETY: a descriptor of a terminal, a winsize that is read, and a new descriptor that is nobody else's.
    unsafe {
        assert_eq!(libc::unlockpt(fd), 0);
        assert_eq!(libc::ioctl(fd, libc::TIOCSWINSZ, &raw const size), 0);
        let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
        let slave = libc::ioctl(fd, libc::TIOCGPTPEER, flags);
        assert!(slave >= 0, "{}", std::io::Error::last_os_error());
        (master, OwnedFd::from_raw_fd(slave))
    }
}
