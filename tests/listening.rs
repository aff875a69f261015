//! Where sockets listen: guards against one that is taken from somebody or left open to everybody.

use std::fs;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use crate::support::client::*;
use crate::support::*;

#[test]
fn a_socket_is_for_its_owner_and_group() {
    // The folder lets everybody in and the umask takes nothing away: the mode alone has to.
    let dir = Dir::new("mode");
    let plain = dir.file("plain");
    let open = dir.file("a=b,c");
    let mut command = Command::new(BINARY);
    command
        .args(["--db", dir.file("x.db").to_str().unwrap()])
        .args(["--source", &format!("unix:{}", plain.display())])
        .args(["--source", &format!("unix:{},mode=0606", open.display())]);
    // SAFETY: umask is async-signal-safe.
    unsafe {
        command.pre_exec(|| {
            libc::umask(0);
            Ok(())
        });
    }
    let seawall = Running::spawn(&mut command);
    seawall.wait_for("ready");
    let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode(&plain), mode(&open)), (0o660, 0o606));
    assert_eq!(mode(&dir.file("x.db")), 0o666, "the umask is as it was");
    assert_eq!(seawall.stop(libc::SIGTERM).code(), 0);
    assert!(!plain.exists() && !open.exists());
}

/// Runs a recorder that has to fail, and gives what it says.
fn refused(dir: &Dir, source: &str) -> String {
    let db = dir.file("refused.db");
    let args = ["--db", db.to_str().unwrap(), "--source", source];
    let ended = Running::start(&args).wait();
    assert_eq!(ended.code(), 1, "{:#?}", ended.log);
    ended
        .log
        .iter()
        .find(|l| l.contains("event=cannot-record"))
        .unwrap()
        .clone()
}

/// None when the backlog of who listens is full.
fn connect_at_once(path: &Path) -> Option<OwnedFd> {
    let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: no pointers, and the descriptor is nobody else's.
    let socket = unsafe { OwnedFd::from_raw_fd(libc::socket(libc::AF_UNIX, kind, 0)) };
    // SAFETY: all zeros are a valid value of it.
    let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    for (to, &from) in address.sun_path.iter_mut().zip(path.as_os_str().as_bytes()) {
        *to = from as libc::c_char;
    }
    let length = size_of::<libc::sockaddr_un>() as u32;
    // SAFETY: pointer and length describe `address`.
    let result = unsafe { libc::connect(socket.as_raw_fd(), (&raw const address).cast(), length) };
    (result == 0).then_some(socket)
}

#[test]
fn only_a_socket_on_which_nobody_listens_is_replaced() {
    let dir = Dir::new("replaced");
    let path = dir.file("s");
    let source = format!("unix:{}", path.display());
    // Somebody listens, even one who never accepts.
    let live = UnixListener::bind(&path).unwrap();
    let inode = fs::metadata(&path).unwrap().ino();
    assert!(refused(&dir, &source).contains("another process listens on it"));
    assert_eq!(fs::metadata(&path).unwrap().ino(), inode);
    // Nor does one with whom no more connections fit, which would keep a connect waiting for ever.
    // SAFETY: no pointers.
    assert_eq!(unsafe { libc::listen(live.as_raw_fd(), 0) }, 0);
    let mut waiting = Vec::new();
    while let Some(socket) = connect_at_once(&path) {
        waiting.push(socket);
    }
    assert!(refused(&dir, &source).contains("another process listens on it"));
    drop(waiting);
    // Nobody does.
    drop(live);
    assert!(fs::metadata(&path).unwrap().file_type().is_socket());
    let db = dir.file("x.db");
    let seawall = Running::start(&["--db", db.to_str().unwrap(), "--source", &source]);
    seawall.wait_for("ready");
    assert_eq!(connect(&path).hello("a"), 0);
    // What came in its place is not ours to remove.
    fs::remove_file(&path).unwrap();
    let _other = UnixListener::bind(&path).unwrap();
    assert_eq!(seawall.stop(libc::SIGTERM).code(), 0);
    assert!(path.exists());
    // Nor is what is no socket, or a link to one.
    let file = dir.file("file");
    fs::write(&file, "precious").unwrap();
    assert!(refused(&dir, &format!("unix:{}", file.display())).contains("not a socket"));
    assert_eq!(fs::read(&file).unwrap(), b"precious");
    let link = dir.file("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    assert!(refused(&dir, &format!("unix:{}", link.display())).contains("not a socket"));
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
}

/// Idle, and busy with commits.
#[test]
fn a_socket_whose_file_is_gone_is_logged_once_and_unhealthy() {
    for sim in [None, Some("--source=sim:rate=200")] {
        let dir = Dir::new("gone");
        let (db, gone, replaced) = (dir.file("x.db"), dir.file("gone"), dir.file("replaced"));
        let sources = [&gone, &replaced].map(|path| format!("--source=unix:{}", path.display()));
        let mut arguments = vec!["--db", db.to_str().unwrap(), "--commit-interval=20ms"];
        arguments.extend(sources.iter().map(String::as_str).chain(sim));
        let seawall = Running::start(&arguments);
        seawall.wait_for("ready");
        let status = || crate::support::seawall(&["status", "--db", db.to_str().unwrap()]);
        assert_eq!(status().0, 0);
        let mut client = connect(&gone);
        fs::remove_file(&gone).unwrap();
        let told = seawall.wait_for("socket-gone");
        assert!(
            told.contains("level=warn") && told.contains("/gone "),
            "{told}"
        );
        let (code, out, _) = until("it is not healthy", || {
            let told = status();
            (told.0 != 0).then_some(told)
        });
        assert!(
            code == 1 && out.contains("/gone was taken away or replaced"),
            "{out}"
        );
        // Who is connected goes on.
        client.send("m v=1\n").until_ack(1);
        fs::remove_file(&replaced).unwrap();
        let _other = UnixListener::bind(&replaced).unwrap();
        until("both are told", || {
            let (_, out, _) = status();
            (out.matches("was taken away or replaced").count() == 2).then_some(())
        });
        drop(client);
        let ended = seawall.stop(libc::SIGTERM);
        assert_eq!(ended.code(), 0);
        let told = ended.log.iter().filter(|line| line.contains("socket-gone"));
        assert_eq!(told.count(), 2, "{:#?}", ended.log);
    }
}

#[test]
fn many_that_start_at_once_leave_one_listening() {
    let dir = Dir::new("race");
    let path = dir.file("s");
    drop(UnixListener::bind(&path).unwrap());
    let source = format!("unix:{}", path.display());
    let starts: Vec<_> = (0..6)
        .map(|n| {
            let db = dir.file(&format!("{n}.db"));
            Running::start(&["--db", db.to_str().unwrap(), "--source", &source])
        })
        .collect();
    // Kept until all have decided.
    let mut listening = Vec::new();
    for mut seawall in starts {
        let is_ready = until("it is ready or has ended", || {
            let is_ready = seawall.log().iter().any(|l| l.contains("event=ready"));
            (is_ready || seawall.has_ended()).then_some(is_ready)
        });
        if is_ready {
            listening.push(seawall);
        } else {
            assert_eq!(seawall.wait().code(), 1);
        }
    }
    assert_eq!(listening.len(), 1);
    connect(&path).send("m v=1\n").until_ack(1);
}

#[test]
fn what_cannot_be_bound_is_status_1_and_leaves_no_trace() {
    let dir = Dir::new("bound");
    let s = Listening::start("taken", &[]);
    let taken = port(&s.seawall, "tcp");
    for kind in ["tcp", "http"] {
        let reason = refused(&dir, &format!("{kind}:{taken}"));
        let expected = format!("cannot listen on {kind}:127.0.0.1:{taken}: ");
        assert!(reason.contains(&expected), "{reason}");
        assert!(reason.contains("another process has it"), "{reason}");
    }
    let taken = port(&s.seawall, "udp");
    assert!(refused(&dir, &format!("udp:{taken}")).contains("another process has it"));
    assert!(refused(&dir, "tcp:192.0.2.1:0").contains("not an address of this machine"));
    assert!(refused(&dir, "tcp:no.such.host.invalid:0").contains("no.such.host.invalid"));
    let nowhere = format!("unix:{}/no/such/folder/s", dir.path().display());
    assert!(refused(&dir, &nowhere).contains("No such file"));
    // No run was begun, and a socket that was bound before the one that could not be is gone.
    assert_eq!(fs::metadata(dir.file("refused.db")).unwrap().len(), 0);
    let both = format!("unix:{}", dir.file("s").display());
    let db = dir.file("refused.db");
    let db = db.to_str().unwrap();
    let ended = Running::start(&["--db", db, "--source", &both, "--source", &nowhere]).wait();
    assert_eq!(ended.code(), 1);
    assert!(!dir.file("s").exists());
}

#[test]
fn ports_are_open_to_this_machine_only_unless_told() {
    let s = Listening::start(
        "loopback",
        &["--source", "tcp:[::1]:0", "--source", "tcp:localhost:0"],
    );
    let log = s.seawall.log();
    let listening = log.iter().filter(|l| l.contains(" event=listening "));
    let addresses: Vec<_> = listening
        .map(|line| fields(line))
        .filter(|f| !f["source"].starts_with("unix:"))
        .map(|f| f["address"].clone())
        .collect();
    assert_eq!(addresses.len(), 4);
    for address in addresses {
        let address: std::net::SocketAddr = address.parse().unwrap();
        assert!(address.ip().is_loopback(), "{address}");
    }
}
