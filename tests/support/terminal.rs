//! Terminals of the tests' own.

use std::fs::File;
use std::os::fd::{FromRawFd, OwnedFd};

/// Both ends of a terminal of so many columns.
pub fn terminal(columns: u16) -> (File, OwnedFd) {
    let size = libc::winsize {
        ws_row: 24,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    let (mut master, mut slave) = (0, 0);
    // SAFETY: openpty fills two descriptors and reads one winsize; the other arguments may be null.
    unsafe {
        let null = std::ptr::null_mut();
        let size: *const libc::winsize = &size;
        assert_eq!(
            libc::openpty(&mut master, &mut slave, null, null as _, size as _),
            0
        );
        for fd in [master, slave] {
            libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC);
        }
        (File::from_raw_fd(master), OwnedFd::from_raw_fd(slave))
    }
}
