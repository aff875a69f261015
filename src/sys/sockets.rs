//! Sockets: what the standard library does not set, ask or wait for.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use super::check::check;

fn set_option(
    fd: RawFd,
    level: libc::c_int,
    name: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    // SAFETY: pointer and length describe one int.
    check(unsafe {
        libc::setsockopt(
            fd,
            level,
            name,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    })
    .map(drop)
}

/// Lets the kernel find out that the other end of a connection is gone: after a minute of silence it asks
/// four times.
pub fn keep_alive(fd: RawFd) -> io::Result<()> {
    set_option(fd, libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1)?;
    set_option(fd, libc::IPPROTO_TCP, libc::TCP_KEEPIDLE, 60)?;
    set_option(fd, libc::IPPROTO_TCP, libc::TCP_KEEPINTVL, 15)?;
    set_option(fd, libc::IPPROTO_TCP, libc::TCP_KEEPCNT, 4)
}

/// As much as is allowed: beyond the system's limit where the process may, up to it otherwise.
pub fn enlarge_receive_buffer(fd: RawFd, bytes: usize) {
    let bytes = bytes.min(i32::MAX as usize) as libc::c_int;
    if set_option(fd, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, bytes).is_err() {
        let _ = set_option(fd, libc::SOL_SOCKET, libc::SO_RCVBUF, bytes);
    }
}

/// Datagrams that the kernel had no room for since the socket was made. None where it cannot tell.
pub fn datagrams_dropped(fd: RawFd) -> Option<u32> {
    let mut info = [0u32; libc::SK_MEMINFO_DROPS as usize + 1];
    let mut length = size_of_val(&info) as libc::socklen_t;
    // SAFETY: pointer and length describe `info`, and the kernel writes no more than the length.
    let result = unsafe {
        libc::getsockopt(
            fd,
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            info.as_mut_ptr().cast(),
            &mut length,
        )
    };
    let is_told = result == 0 && length as usize == size_of_val(&info);
    is_told.then_some(info[libc::SK_MEMINFO_DROPS as usize])
}

/// Connects to a unix socket without waiting; a name that begins with NUL is one of the abstract namespace.
/// `WouldBlock` says that somebody listens whose backlog is full.
pub fn connect_now(name: &[u8]) -> io::Result<OwnedFd> {
    connect(name, libc::SOCK_STREAM)
}

/// Sends one datagram to such a socket without waiting. `WouldBlock` says that it has no room.
pub fn send_datagram(name: &[u8], datagram: &[u8]) -> io::Result<()> {
    let socket = connect(name, libc::SOCK_DGRAM)?;
    let (to, bytes) = (socket.as_raw_fd(), datagram.as_ptr().cast());
    // SAFETY: pointer and length describe `datagram`.
    let sent = unsafe { libc::send(to, bytes, datagram.len(), libc::MSG_NOSIGNAL) };
    if sent < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn connect(name: &[u8], kind: libc::c_int) -> io::Result<OwnedFd> {
    let mut address = libc::sockaddr_un {
        sun_family: libc::AF_UNIX as libc::sa_family_t,
        sun_path: [0; 108],
    };
    // The last byte stays zero.
    if name.len() >= address.sun_path.len() {
        return Err(io::ErrorKind::InvalidFilename.into());
    }
    for (to, &from) in address.sun_path.iter_mut().zip(name) {
        *to = from as libc::c_char;
    }
    let kind = kind | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: no pointers.
    let fd = check(unsafe { libc::socket(libc::AF_UNIX, kind, 0) })?;
    // SAFETY: the descriptor is new and nobody else's.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    let length = std::mem::offset_of!(libc::sockaddr_un, sun_path) + name.len();
    // SAFETY: pointer and length describe `address`.
    check(unsafe { libc::connect(fd, (&raw const address).cast(), length as libc::socklen_t) })?;
    Ok(socket)
}

/// Process, user and group.
pub type Credentials = libc::ucred;

/// The process at the other end of a unix socket, as it was when it connected or began to listen.
pub fn peer_credentials(fd: RawFd) -> Option<Credentials> {
    let mut peer = libc::ucred {
        pid: 0,
        uid: 0,
        gid: 0,
    };
    let mut length = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: pointer and length describe `peer`.
    let result = unsafe {
        libc::getsockopt(
            fd,
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut peer).cast(),
            &mut length,
        )
    };
    (result == 0).then_some(peer)
}

/// Says that nothing more will be written to a connection.
pub fn end_writing(fd: RawFd) {
    // SAFETY: no pointers. Fails only where there is nobody to be told.
    unsafe { libc::shutdown(fd, libc::SHUT_WR) };
}
