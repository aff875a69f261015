//! Return values of system calls.

use std::io;

/// An error where a call returned -1.
pub fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}
