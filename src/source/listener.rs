//! Listening: sockets are bound before the database is opened, and guarded.
//!
//! A unix socket never has wider permissions than asked for. An existing socket is replaced only if
//! nobody listens on it; nothing but a socket is removed, and at the end only our own.

use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, ToSocketAddrs, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::place;
use crate::place::lock::holder;
use crate::reading::line::Precision;
use crate::source::http::Rules;
use crate::source::protocol::Peer;
use crate::source::spec::Port;
use crate::sys::{self, signals};

/// Receive buffer of `udp:`, so that a burst is not lost while the disk is slow.
pub const RECEIVE_BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// Upper bound on the wait for another start, which holds the folder's lock while it checks and binds.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);
const LOCK_AGAIN: Duration = Duration::from_millis(5);
/// How often a look-up of a name looks for a signal.
const LOOK_UP_AGAIN: Duration = Duration::from_millis(20);

/// A socket that accepts connections.
#[derive(Debug)]
pub struct Listener {
    /// The source as the user wrote it, without its keys.
    pub name: String,
    /// The address it is bound to.
    pub address: String,
    pub precision: Precision,
    /// For clients that speak HTTP.
    pub rules: Option<Rc<Rules>>,
    /// Somebody connected.
    pub is_ready: bool,
    /// It was logged that its times are old.
    pub is_old_told: bool,
    socket: Socket,
    /// The file to be removed.
    file: Option<SocketFile>,
}

#[derive(Debug)]
enum Socket {
    Unix(UnixListener),
    Tcp(TcpListener),
    Closed,
}

#[derive(Clone, Debug)]
pub struct SocketFile {
    path: PathBuf,
    inode: (u64, u64),
}

impl SocketFile {
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether no client reaches the socket any more.
    pub fn is_lost(&self) -> bool {
        match inode(&self.path) {
            Ok(found) => found != self.inode,
            Err(e) => e.kind() == io::ErrorKind::NotFound,
        }
    }

    /// Removes the file if it is still ours.
    pub fn remove(self) {
        if inode(&self.path).is_ok_and(|found| found == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Listener {
    pub fn unix(kind: &str, path: &Path, mode: u32, precision: Precision) -> Result<Self, String> {
        let bound = bind_unix(path, mode).map_err(|reason| cannot(kind, path, &reason));
        let (listener, file) = bound?;
        let address = path.display().to_string();
        let name = format!("{kind}:{address}");
        let socket = Socket::Unix(listener);
        Ok(Self::new(name, address, precision, socket, Some(file)))
    }

    pub fn tcp(kind: &str, port: &Port, precision: Precision) -> Result<Self, String> {
        let bound = resolve(port).and_then(|address| {
            let listener = TcpListener::bind(address)?;
            listener.set_nonblocking(true)?;
            Ok((listener.local_addr()?, listener))
        });
        let (address, listener) = bound.map_err(|e| cannot_port(kind, port, &e))?;
        let (name, address) = (format!("{kind}:{port}"), address.to_string());
        let socket = Socket::Tcp(listener);
        Ok(Self::new(name, address, precision, socket, None))
    }

    fn new(
        name: String,
        address: String,
        precision: Precision,
        socket: Socket,
        file: Option<SocketFile>,
    ) -> Self {
        Listener {
            name,
            address,
            precision,
            rules: None,
            is_ready: false,
            is_old_told: false,
            socket,
            file,
        }
    }

    /// Its clients speak HTTP.
    pub fn speak_http(&mut self, rules: Rules) {
        self.rules = Some(Rc::new(rules));
    }

    /// HTTP without a token, for other machines too.
    pub fn is_open_to_all(&self) -> bool {
        let needs_none = self
            .rules
            .as_ref()
            .is_some_and(|rules| rules.token.is_none());
        let is_local = |address: SocketAddr| address.ip().is_loopback();
        needs_none && self.address.parse().is_ok_and(|address| !is_local(address))
    }

    pub fn fd(&self) -> RawFd {
        match &self.socket {
            Socket::Unix(listener) => listener.as_raw_fd(),
            Socket::Tcp(listener) => listener.as_raw_fd(),
            Socket::Closed => -1,
        }
    }

    pub fn file(&self) -> Option<&SocketFile> {
        self.file.as_ref()
    }

    /// Stops accepting. Returns the file to remove.
    pub fn close(&mut self) -> Option<SocketFile> {
        self.socket = Socket::Closed;
        self.file.take()
    }

    /// Accepts the next connection, non-blocking, and names its peer.
    pub fn accept(&self) -> io::Result<(OwnedFd, Peer)> {
        match &self.socket {
            Socket::Unix(listener) => {
                let (stream, _) = listener.accept()?;
                stream.set_nonblocking(true)?;
                let process = sys::peer_credentials(stream.as_raw_fd());
                // The number is 0 for another container's process.
                let pid = process.as_ref().filter(|process| process.pid > 0);
                let name = pid.map_or("unknown".into(), |process| {
                    format!("pid {}", process.pid).into()
                });
                let uid = process.map(|process| process.uid);
                Ok((stream.into(), Peer { name, uid }))
            }
            Socket::Tcp(listener) => {
                let (stream, address) = listener.accept()?;
                stream.set_nonblocking(true)?;
                // A client waits for each ack, which is a few bytes.
                stream.set_nodelay(true)?;
                sys::keep_alive(stream.as_raw_fd())?;
                let name = address.to_string().into();
                Ok((stream.into(), Peer { name, uid: None }))
            }
            Socket::Closed => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.close().into_iter().for_each(SocketFile::remove);
    }
}

/// Result of a thread that may hang. The standard library's channels would be 14 KB of the image.
#[derive(Debug)]
struct ThreadResult<T>(Mutex<Option<T>>, Condvar);

impl<T> ThreadResult<T> {
    fn new() -> Arc<Self> {
        Arc::new(ThreadResult(Mutex::new(None), Condvar::new()))
    }

    fn end(&self, result: T) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
        self.1.notify_all();
    }

    /// The result, `None` while there is none after the time.
    fn wait(&self, most: Duration) -> MutexGuard<'_, Option<T>> {
        let result = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self
            .1
            .wait_timeout_while(result, most, |result| result.is_none());
        waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// Removal of the sockets' files, in a thread that is waited for no longer than the stop may take:
/// their folder may be on a disk that stalls.
#[derive(Debug)]
pub struct Removal(Arc<ThreadResult<()>>);

impl Removal {
    /// Calls `gone` at the end. Without a thread the files stay, as after a kill, and the next start replaces them.
    pub fn begin(files: Vec<SocketFile>, gone: impl FnOnce() + Send + 'static) -> Option<Self> {
        let removal = ThreadResult::new();
        let pending = removal.clone();
        let remove = move || {
            files.into_iter().for_each(SocketFile::remove);
            pending.end(());
            gone();
        };
        let started = sys::spawn("remove-sockets", Box::new(remove));
        started.ok().map(|()| Removal(removal))
    }

    pub fn is_over(&self) -> bool {
        self.0.wait(Duration::ZERO).is_some()
    }

    pub fn wait(&self, most: Duration) {
        drop(self.0.wait(most));
    }
}

/// A socket for datagrams, and the address it is bound to.
pub fn bind_udp(port: &Port) -> Result<(UdpSocket, SocketAddr), String> {
    let bound = resolve(port).and_then(|address| {
        let socket = UdpSocket::bind(address)?;
        socket.set_nonblocking(true)?;
        sys::enlarge_receive_buffer(socket.as_raw_fd(), RECEIVE_BUFFER_BYTES);
        Ok((socket.local_addr()?, socket))
    });
    let (address, socket) = bound.map_err(|e| cannot_port("udp", port, &e))?;
    Ok((socket, address))
}

/// The address of a host. A name is looked up once, here, and a signal ends the wait for a server that does not
/// answer.
fn resolve(port: &Port) -> io::Result<SocketAddr> {
    if let Ok(address) = port.host.parse::<IpAddr>() {
        return Ok((address, port.number).into());
    }
    let answer = ThreadResult::new();
    let pending = answer.clone();
    let name = (port.host.clone(), port.number);
    let look_up = move || {
        pending.end(name.to_socket_addrs().map(|mut addresses| addresses.next()));
    };
    sys::spawn("look-up", Box::new(look_up))?;
    loop {
        if let Some(found) = answer.wait(LOOK_UP_AGAIN).take() {
            return found?.ok_or_else(|| io::Error::other("the name has no address"));
        }
        if signals::stop_pending() {
            return Err(io::Error::other("stopped while the name was looked up"));
        }
    }
}

fn bind_unix(path: &Path, mode: u32) -> Result<(UnixListener, SocketFile), String> {
    // Two starts at once must not both find one stale socket and remove each other's.
    let folder = place::paths::folder_of(path);
    let folder = File::open(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let patience = Instant::now() + LOCK_PATIENCE;
    while !sys::try_lock(&folder).map_err(|e| format!("its folder cannot be locked: {e}"))? {
        if Instant::now() > patience {
            let holder = folder.metadata().ok().and_then(|folder| holder(&folder));
            let by = holder.map_or("another process".into(), |by| by.to_string());
            return Err(format!("{by} keeps its folder locked (flock)"));
        }
        std::thread::sleep(LOCK_AGAIN);
    }
    clear_way(path)?;
    let umask = sys::set_umask(!mode & 0o777);
    let bound = UnixListener::bind(path);
    sys::set_umask(umask);
    let listener = bound.map_err(|e| e.to_string())?;
    listener.set_nonblocking(true).map_err(|e| e.to_string())?;
    let inode = set_mode(path, mode).map_err(|e| e.to_string())?;
    let path = path.to_owned();
    Ok((listener, SocketFile { path, inode }))
}

/// Gives a new socket its mode where the mask did not, as where its folder has a default ACL. By a descriptor: where
/// others may write, the name may lead to another file by now. Returns device and inode.
fn set_mode(path: &Path, mode: u32) -> io::Result<(u64, u64)> {
    let file = sys::open_path(path)?;
    let found = file.metadata()?;
    if !found.file_type().is_socket() {
        return Err(io::Error::other("somebody replaced it at once"));
    }
    if found.mode() & 0o777 != mode {
        let file = format!("/proc/self/fd/{}", file.as_raw_fd());
        fs::set_permissions(file, fs::Permissions::from_mode(mode))?;
    }
    Ok((found.dev(), found.ino()))
}

/// Removes a socket on which nobody listens.
fn clear_way(path: &Path) -> Result<(), String> {
    let found = match fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found.map_err(|e| e.to_string())?,
    };
    if !found.file_type().is_socket() {
        return Err("there is something else of that name, which is not a socket".into());
    }
    match sys::connect_now(path.as_os_str().as_bytes()) {
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => {}
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
            return Err("another process listens on it, and is slow to accept".into());
        }
        Err(e) => return Err(format!("there is a socket of that name: {e}")),
        Ok(_) => return Err("another process listens on it".into()),
    }
    if inode(path).is_ok_and(|inode| inode == (found.dev(), found.ino())) {
        fs::remove_file(path).map_err(|e| format!("the stale socket cannot be removed: {e}"))?;
    }
    Ok(())
}

fn inode(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|m| (m.dev(), m.ino()))
}

fn cannot(kind: &str, path: &Path, reason: &str) -> String {
    format!("cannot listen on {kind}:{}: {reason}", path.display())
}

fn cannot_port(kind: &str, port: &Port, error: &io::Error) -> String {
    let advice = match error.kind() {
        io::ErrorKind::AddrInUse => "; another process has it",
        io::ErrorKind::PermissionDenied => {
            "; ports below 1024 need a privilege, choose a higher one"
        }
        io::ErrorKind::AddrNotAvailable => "; it is not an address of this machine",
        _ => "",
    };
    format!("cannot listen on {kind}:{port}: {error}{advice}")
}
