//! Guards against a way to a server on which readings are lost or doubled: a resume point that is kept apart
//! from the rows, a batch that is loaded though its end was cut off, a row that is sent twice after a link
//! broke. The servers are real ones, started here: PostgreSQL, and InfluxDB 1.x.
//!
//! `to_server/*.sql` are the files that docs/servers.md shows, word for word.

use std::fs;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::support::stop::{PublicDir, record, seed, text};
use crate::support::*;

/// Tells that a test cannot run here, which on CI is a failure.
fn skip(why: &str) {
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{why}");
    let line = format!("skipped: {why}\n");
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}

fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

/// A server process, ended with the value.
struct Server {
    child: Child,
    folder: PublicDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        // SIGINT ends both servers at once, and lets PostgreSQL end its children and take its shared memory.
        unsafe { libc::kill(self.child.id() as libc::pid_t, libc::SIGINT) };
        let _ = self.child.wait();
    }
}

/// PostgreSQL's programs, as Debian installs them.
fn postgres_programs() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?;
    let folders = versions.map(|version| version.unwrap().path().join("bin"));
    folders
        .filter(|folder| folder.join("postgres").exists())
        .max()
}

/// PostgreSQL refuses to run as root.
fn as_nobody_special(program: &Path) -> Command {
    let mut command = Command::new(program);
    if is_root() {
        let folder = fs::metadata("/var/lib/postgresql").expect("made by the package");
        command.uid(folder.uid()).gid(folder.gid());
    }
    command.current_dir("/").stdin(Stdio::null());
    command
}

fn start_postgres(programs: &Path) -> Server {
    let folder = PublicDir::new();
    let data = folder.0.join("cluster");
    fs::create_dir(&data).unwrap();
    if is_root() {
        let user = fs::metadata("/var/lib/postgresql").unwrap();
        for path in [&folder.0, &data] {
            chown(path, Some(user.uid()), Some(user.gid())).unwrap();
        }
    }
    let made = as_nobody_special(&programs.join("initdb"))
        .args([
            "-U",
            "fleet",
            "--auth=trust",
            "--no-sync",
            "-E",
            "UTF8",
            "-D",
        ])
        .arg(&data)
        .output()
        .unwrap();
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    let child = as_nobody_special(&programs.join("postgres"))
        .args(["-c", "listen_addresses=", "-c", "fsync=off", "-k"])
        .arg(&folder.0)
        .arg("-D")
        .arg(&data)
        .stderr(fs::File::create(folder.0.join("log")).unwrap())
        .spawn()
        .unwrap();
    let server = Server { child, folder };
    until("PostgreSQL answers", || {
        server
            .psql(&["-c", "SELECT 1"])
            .status
            .success()
            .then_some(())
    });
    server
}

impl Server {
    fn psql_command(&self, options: &[&str]) -> Command {
        let mut command = Command::new("psql");
        command
            .args([
                "-X",
                "-q",
                "-A",
                "-t",
                "-h",
                text(&self.folder.0),
                "-U",
                "fleet",
                "postgres",
            ])
            .args(options)
            .stdin(Stdio::null());
        command
    }

    fn psql(&self, options: &[&str]) -> Output {
        self.psql_command(options).output().unwrap()
    }

    fn ask(&self, sql: &str) -> String {
        let output = self.psql(&["-c", sql]);
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout)
            .unwrap()
            .trim_end()
            .to_owned()
    }

    /// The loader of docs/servers.md, for a shorter time at once.
    fn load(&self, db: &Path, seconds: &str) -> Command {
        let script = fs::read_to_string("tests/to_server/load.sql").unwrap();
        assert!(script.contains("timeout --preserve-status 5 seawall"));
        let script = script.replace("status 5 ", &format!("status {seconds} "));
        let file = self.folder.0.join("load.sql");
        fs::write(&file, script).unwrap();
        let mut command = self.psql_command(&["-f", text(&file), "-v", "sender=here"]);
        // So that `seawall` is the one under test.
        let programs = Path::new(&*BINARY).parent().unwrap();
        let path = format!("{}:{}", text(programs), std::env::var("PATH").unwrap());
        command
            .env("PATH", path)
            .env("SEAWALL_DB", db)
            .stderr(Stdio::piped());
        command
    }
}

/// The processes below one, and their names.
fn descendants(pid: u32) -> Vec<(u32, String)> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let mut found = Vec::new();
    for child in children.unwrap_or_default().split_whitespace() {
        let child: u32 = child.parse().unwrap();
        let name = fs::read_to_string(format!("/proc/{child}/comm")).unwrap_or_default();
        found.push((child, name.trim().to_owned()));
        found.extend(descendants(child));
    }
    found
}

struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (self.0 >> 33) % n
    }
}

const COMPARE: &str = r#"
import csv, io, sys
have, want = (list(csv.reader(io.StringIO(open(path, newline='').read(), newline=''))) for path in sys.argv[1:])
# Without the timestamp, which PostgreSQL writes in its own way.
have, want = ([row[:3] + row[4:] for row in rows] for rows in (have, want))
assert len(have) == len(want) > 1, (len(have), len(want))
for one, other in zip(have, want):
    assert one == other, (one, other)
"#;

#[test]
fn postgresql_ends_with_every_reading_once_whatever_was_cut_or_killed() {
    let Some(programs) = postgres_programs() else {
        return skip("PostgreSQL is not installed; apt-get install postgresql");
    };
    let server = start_postgres(&programs);
    let made = server.psql(&[
        "-v",
        "ON_ERROR_STOP=1",
        "-f",
        "tests/to_server/readings.sql",
    ]);
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    let dir = Dir::new("server");
    let db = dir.file("x.db");
    // A wrong path is an error, and a device without a reading has none to load.
    let loaded = server.load(&db, "1").output().unwrap();
    let said = String::from_utf8_lossy(&loaded.stderr);
    assert!(
        !loaded.status.success() && said.contains("no file is there"),
        "{said}"
    );
    record_lines(&db, "");
    let loaded = server.load(&db, "1").output().unwrap();
    assert!(
        loaded.status.success(),
        "{}",
        String::from_utf8_lossy(&loaded.stderr)
    );
    assert_eq!(
        server.ask("SELECT (SELECT count(*) FROM readings), (SELECT count(*) FROM positions)"),
        "0|0"
    );
    let mut first = record(&db, "--source stdin");
    first.send(b"odd,tag=a\\ b note=\"say \"\"\" 1\nodd note=\"two\nlines, \\\"quoted\\\"\" 2\n");
    // As meters pad their texts.
    first.send(b"odd,serial=no\0\0 note=\"SN12\0\0\" 2\n");
    first.send(b"big u=18446744073709551615u,f=1e300,t=t 3\n");
    first.close_stdin();
    assert_eq!(first.wait().code(), 0);

    let seed = seed();
    let mut random = Random(seed);
    let mut recorder = record(&db, "--source sim:rate=200 --commit-interval 20ms");
    let mut cut = 0;
    for round in 0..16 {
        let mut loader = server.load(&db, "0.4").spawn().unwrap();
        let exporter = || {
            let below = descendants(loader.id()).into_iter();
            below
                .filter(|(_, name)| name == "seawall")
                .map(|(pid, _)| pid)
                .next()
        };
        let what = round % 4;
        if what < 3 {
            // At some moment of its way, once it has begun.
            let moment = Instant::now() + Duration::from_millis(5 * random.below(60));
            until("the loader is at work, or has ended", || {
                let is_time = Instant::now() >= moment && exporter().is_some();
                (is_time || !is_alive(loader.id())).then_some(())
            });
        }
        match what {
            // The link.
            0 => {
                server.ask("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND usename = 'fleet'");
            }
            // The consumer.
            1 => drop(loader.kill()),
            // The exporter, in the middle of a row as likely as not.
            2 => {
                if let Some(pid) = exporter() {
                    unsafe { libc::kill(pid as libc::pid_t, libc::SIGKILL) };
                }
            }
            // The recorder.
            _ if round % 8 == 3 => {
                recorder.kill();
                recorder = record(&db, "--source sim:rate=200 --commit-interval 20ms");
            }
            _ => {
                assert_eq!(recorder.stop(libc::SIGTERM).code() % 3, 0);
                recorder = record(&db, "--source sim:rate=200 --commit-interval 20ms");
            }
        }
        cut += u32::from(!loader.wait().unwrap().success());
    }
    assert!(cut >= 8, "seed {seed}: only {cut} were cut off");
    assert_eq!(recorder.stop(libc::SIGTERM).code() % 3, 0);
    let last = server
        .load(&db, "1")
        .spawn()
        .unwrap()
        .wait_with_output()
        .unwrap();
    assert!(
        last.status.success(),
        "{}",
        String::from_utf8_lossy(&last.stderr)
    );

    let (have, want) = (dir.file("have.csv"), dir.file("want.csv"));
    let rows = server.ask("COPY (SELECT * FROM readings ORDER BY id) TO STDOUT CSV HEADER");
    fs::write(&have, rows + "\n").unwrap();
    let (code, rows, _) = seawall(&["export", "--db", text(&db)]);
    assert_eq!(code, 0);
    fs::write(&want, rows).unwrap();
    let compared = python3()
        .args(["-c", COMPARE, text(&have), text(&want)])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&compared.stderr);
    assert!(compared.status.success(), "seed {seed}: {said}");
    assert_eq!(server.ask("SELECT count(DISTINCT run) FROM readings"), "6");
    let padded = "SELECT sensor, value FROM readings WHERE sensor LIKE 'odd,serial%'";
    assert_eq!(server.ask(padded), "odd,serial=no␀␀|SN12␀␀");

    // The database is set aside; the first readings of the new one have ids that the server knows of the old one.
    fs::rename(&db, dir.file("aside.db")).unwrap();
    let mut new = record(&db, "--source stdin");
    new.send(b"new v=1 1\n");
    new.close_stdin();
    assert_eq!(new.wait().code(), 0);
    for _ in 0..2 {
        let loaded = server.load(&db, "1").output().unwrap();
        let said = String::from_utf8_lossy(&loaded.stderr);
        assert!(loaded.status.success(), "{said}");
        assert_eq!(
            server.ask("SELECT count(*) FROM readings WHERE sensor = 'new'"),
            "1"
        );
    }
    let position = server.ask("SELECT after FROM positions");
    assert_eq!(
        position,
        format!("{}:1:1", sql(&db, "SELECT id FROM device"))
    );
}

fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')')
        .next()
        .is_some_and(|rest| !rest.starts_with(" Z"))
}

fn start_influxdb() -> (Server, u16) {
    let folder = PublicDir::new();
    // Two ports that are free now.
    let ports = [(), ()].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let [http, rpc] = ports.map(|port| port.local_addr().unwrap().port());
    let config = folder.0.join("influxdb.conf");
    let at = text(&folder.0);
    let settings = format!(
        "reporting-disabled = true\nbind-address = \"127.0.0.1:{rpc}\"\n\
         [meta]\ndir = \"{at}/meta\"\n[data]\ndir = \"{at}/data\"\nwal-dir = \"{at}/wal\"\n\
         [monitor]\nstore-enabled = false\n\
         [http]\nbind-address = \"127.0.0.1:{http}\"\n"
    );
    fs::write(&config, settings).unwrap();
    let log = fs::File::create(folder.0.join("log")).unwrap();
    let child = Command::new("influxd")
        .args(["run", "-config", text(&config)])
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap();
    let server = Server { child, folder };
    until("InfluxDB listens", || {
        TcpStream::connect(("127.0.0.1", http)).ok()
    });
    (server, http)
}

#[test]
fn influxdb_takes_the_same_rows_as_line_protocol() {
    let is_there = |program: &str| Command::new(program).arg("version").output().is_ok();
    if !is_there("influxd") || Command::new("influx").arg("-version").output().is_err() {
        return skip("InfluxDB is not installed; apt-get install influxdb influxdb-client");
    }
    let (_server, port) = start_influxdb();
    let dir = Dir::new("server");
    let db = dir.file("x.db");
    let mut recorder = record(&db, "--source stdin");
    let mut lines =
        String::from("door,name=front\\ left open=true,note=\"say \\\"no\\\"\",n=-7i 1\n");
    for n in 1..=3000 {
        lines += &format!("room,floor={} temperature_c={}.25 {n}\n", n % 3, n % 50);
    }
    recorder.send(lines.as_bytes());
    recorder.close_stdin();
    assert_eq!(recorder.wait().code(), 0);

    let influx = |options: &str| {
        let output = Command::new("influx")
            .args(["-host", "127.0.0.1", "-port", &port.to_string()])
            .args([
                "-database",
                "fleet",
                "-precision",
                "ns",
                "-format",
                "csv",
                "-execute",
                options,
            ])
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    };
    let heading = r"printf '# DDL\nCREATE DATABASE fleet\n# DML\n# CONTEXT-DATABASE: fleet\n'";
    assert!(
        fs::read_to_string("docs/servers.md")
            .unwrap()
            .contains(heading)
    );
    // Twice: a point that comes again is the same point.
    for _ in 0..2 {
        let command = format!(
            "{{ {heading}; {} export --format influx --db {}; }} \
             | influx -host 127.0.0.1 -port {port} -import -path /dev/stdin 2>&1",
            &*BINARY,
            text(&db)
        );
        let output = Command::new("sh").args(["-c", &command]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && said.contains("Failed 0 inserts"),
            "{said}"
        );
    }
    let counted = influx("SELECT count(temperature_c), sum(temperature_c) FROM room");
    let expected = sql(
        &db,
        "SELECT count(*), sum(value) FROM sensor_readings WHERE field = 'temperature_c'",
    );
    let (n, sum) = expected.split_once('|').unwrap();
    let sum = sum.trim_end_matches(".0");
    assert!(
        counted.contains(&format!("room,0,{n},{sum}")),
        "{counted} {expected}"
    );
    let door = influx("SELECT \"name\", open, note, n FROM door");
    assert!(
        door.contains("door,1,front left,true,\"say \"\"no\"\"\",-7"),
        "{door}"
    );
}
