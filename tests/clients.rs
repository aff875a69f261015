//! Guards against a program that speaks the published protocol and is understood by nobody: a timestamp in
//! another unit, a datagram without its last newline, a tag that only its own author escapes so. Real clients,
//! as Debian and PyPI have them, hand their readings to the built binary, and here is what they look like in
//! `sensor_readings`:
//!
//! | client | `sensor` | `field` | `value` |
//! | --- | --- | --- | --- |
//! | collectd, gauge | `boiler,host=edge,type=temperature,type_instance=inlet` | `value` | 21.5 |
//! | collectd, derive or counter | `meter,host=edge,type=derive,type_instance=pulses` | `value` | 42, INTEGER |
//! | collectd, several values | `load,host=edge,type=load` | `shortterm`, `midterm`, `longterm` | REAL |
//! | influxdb for Python | `climate,room=boiler\ room` | the keys of `fields` | float REAL, int INTEGER, bool 0 or 1, str TEXT |
//! | `mosquitto_sub` | as the payload has it | as the payload has it | as the payload has it |
//! | `mosquitto_sub -F 'mqtt,topic=%t value=%p @s@N'` | `mqtt,topic=home/cellar/temperature` | `value` | the payload |
//! | socat, nc, bash | as written | as written | as written |
//!
//! Without one of them its test is skipped, aloud; `.ci/run` installs them all.

use std::fs;
use std::io::Write;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::support::stop::*;
use crate::support::*;

/// Whether these programs can be run: `name how-to-ask-it`.
fn have(programs: &[&str]) -> bool {
    for program in programs {
        let mut words = program.split(' ');
        let mut command = Command::new(find(words.next().unwrap()));
        command.args(words).stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        if let Err(e) = command.status() {
            skip(&format!("{program}: {e}"));
            return false;
        }
    }
    true
}

/// Debian keeps daemons where only root's PATH goes.
fn find(program: &str) -> PathBuf {
    let daemon = Path::new("/usr/sbin").join(program);
    if daemon.exists() {
        daemon
    } else {
        program.into()
    }
}

/// A recorder that listens, in a folder of its own: a socket's path is short there.
struct Recorder {
    folder: Dir,
    running: Running,
}

impl Recorder {
    fn start(sources: &[&str]) -> Self {
        let folder = Dir::new("clients");
        let mut command = Command::new(BINARY);
        command.args(["record", "--db", "readings.db", "--commit-interval", "50ms"]);
        for source in sources {
            command.args(["--source", source]);
        }
        let running = Running::spawn(command.current_dir(folder.path()));
        running.wait_for("ready");
        Recorder { folder, running }
    }

    fn db(&self) -> PathBuf {
        self.folder.file("readings.db")
    }

    /// The port on which its n-th source of a kind really listens.
    fn port(&self, kind: &str, n: usize) -> u16 {
        let wanted = format!(" event=listening source={kind}:");
        until(&wanted, || {
            let log = self.running.log();
            let line = log.iter().filter(|line| line.contains(&wanted)).nth(n)?;
            let address = &fields(line)["address"];
            address.rsplit_once(':')?.1.parse().ok()
        })
    }

    /// Runs a line of bash in the recorder's folder to its end, and gives what it wrote. `$UDP` and `$TCP` are
    /// the ports.
    fn bash(&self, line: &str) -> String {
        let mut command = Command::new("bash");
        command.args(["-euc", line]).current_dir(self.folder.path());
        for kind in ["udp", "tcp"] {
            if self
                .running
                .log()
                .iter()
                .any(|l| l.contains(&format!(" source={kind}:")))
            {
                command.env(kind.to_uppercase(), self.port(kind, 0).to_string());
            }
        }
        let mut bash = Running::spawn(&mut command);
        bash.close_stdin();
        let ended = bash.wait();
        assert_eq!(ended.code(), 0, "{line}: {:#?}", ended.log);
        ended.out.join("\n")
    }

    /// Waits until all datagrams that were sent to a port before now are committed.
    fn wait_for_datagrams(&self, port: u16) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let line = format!("last port={port}i");
        socket
            .send_to(line.as_bytes(), ("127.0.0.1", port))
            .unwrap();
        let query =
            format!("SELECT 1 FROM sensor_readings WHERE sensor = 'last' AND value = {port}");
        until("the last datagram is committed", || {
            (sql(&self.db(), &query) == "1").then_some(())
        });
    }

    /// Stops it. Gives its readings in their order, and what the last line says.
    fn stop(self) -> (Vec<String>, Stopped) {
        let db = self.db();
        let ended = self.running.stop(libc::SIGTERM);
        let last = assert_stopped(&db, &ended, 0, "SIGTERM");
        assert_eq!(last.dropped, 0, "{:#?}", ended.log);
        (readings(&db), last)
    }
}

fn readings(db: &Path) -> Vec<String> {
    let query = "SELECT sensor, field, typeof(value), value, time_ns FROM sensor_readings
                 WHERE sensor <> 'last' ORDER BY id";
    sql(db, query).lines().map(str::to_owned).collect()
}

/// Readings of which the time is not known beforehand: it is looked at, and cut off.
fn timeless(readings: &[String], (from_ns, to_ns): (i64, i64)) -> Vec<&str> {
    let cut = |line: &'_ String| {
        let (rest, time) = line.rsplit_once('|').unwrap();
        let time: i64 = time.parse().unwrap();
        assert!((from_ns..=to_ns).contains(&time), "{line} is not of now");
        rest.len()
    };
    readings.iter().map(|line| &line[..cut(line)]).collect()
}

fn now_ns() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.unwrap().as_nanos() as i64
}

/// Starts collectd with these plugins besides two of its own.
fn collectd(folder: &Path, plugins: &str) -> Running {
    let config = format!(
        r#"
Hostname "edge"
FQDNLookup false
Interval 0.2
BaseDir "{folder}"
PIDFile "{folder}/collectd.pid"
TypesDB "/usr/share/collectd/types.db"
LoadPlugin load
LoadPlugin memory
{plugins}
"#,
        folder = text(folder)
    );
    let path = folder.join("collectd.conf");
    fs::write(&path, config).unwrap();
    Running::spawn(Command::new(find("collectd")).args(["-f", "-C", text(&path)]))
}

/// As whom collectd may run a program: never as root.
fn user_for_exec() -> Option<String> {
    // SAFETY: it cannot fail and touches no memory.
    if unsafe { libc::geteuid() } == 0 {
        return Some("nobody".to_owned());
    }
    let output = Command::new("id").arg("-un").output().ok()?;
    let name = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| name.trim().to_owned())
}

#[test]
fn collectd_readings_arrive_with_their_time_and_type() {
    if !have(&["collectd -h"]) {
        return;
    }
    let recorder = Recorder::start(&["udp:0,precision=ms"]);
    let port = recorder.port("udp", 0);
    let values = [
        "echo 'PUTVAL edge/boiler/temperature-inlet 1700000000.25:21.5'",
        r#"echo 'PUTVAL \"edge/boiler room/temperature-a b\" 1700000000.5:-3.25'"#,
        "echo 'PUTVAL edge/boiler/temperature-broken 1700000000.5:U'",
        "echo 'PUTVAL edge/meter/derive-pulses 1700000001.5:42'",
        "echo 'PUTVAL edge/meter/counter-pulses 1700000001.75:43'",
        "while [ -d /proc/$PPID ]; do sleep 0.1; done",
    ];
    let values = values.join("; ");
    let Some(user) = user_for_exec() else {
        return skip("collectd runs programs as a user with a name, and this one has none");
    };
    let plugins = format!(
        r#"
LoadPlugin exec
<Plugin exec>
    Exec "{user}" "/bin/sh" "-c" "{values}"
</Plugin>
LoadPlugin write_influxdb_udp
<Plugin write_influxdb_udp>
    Server "127.0.0.1" "{port}"
</Plugin>
"#
    );
    let client = collectd(recorder.folder.path(), &plugins);
    let query = "SELECT count(DISTINCT sensor) FROM sensor_readings WHERE sensor LIKE 'boiler%'
                 OR sensor LIKE 'meter%' OR sensor LIKE 'load%' OR sensor LIKE 'memory%used'";
    until(&format!("all have come: {:#?}", client.log()), || {
        (sql(&recorder.db(), query) == "6").then_some(())
    });
    // It sends what it holds back when it is stopped.
    let ended = client.stop(libc::SIGTERM);
    assert_eq!(ended.code(), 0, "{:#?}", ended.log);
    recorder.wait_for_datagrams(port);
    let (readings, last) = recorder.stop();
    assert_eq!(last.rejected, 0);
    let mut known: Vec<_> = readings
        .iter()
        .filter(|line| line.starts_with("boiler") || line.starts_with("meter"))
        .collect();
    // Several threads of collectd write, and which of them comes first is not told.
    known.sort_by_key(|line| line.rsplit('|').next());
    assert_eq!(
        known,
        [
            "boiler,host=edge,type=temperature,type_instance=inlet|value|real|21.5|1700000000250000000",
            "boiler\\ room,host=edge,type=temperature,type_instance=a\\ b|value|real|-3.25|1700000000500000000",
            "meter,host=edge,type=derive,type_instance=pulses|value|integer|42|1700000001500000000",
            "meter,host=edge,type=counter,type_instance=pulses|value|integer|43|1700000001750000000",
        ]
    );
    let now_ns = now_ns();
    for (sensor, field) in [
        ("load,host=edge,type=load", "shortterm"),
        ("load,host=edge,type=load", "longterm"),
        ("memory,host=edge,type=memory,type_instance=used", "value"),
    ] {
        let start = format!("{sensor}|{field}|real|");
        let mine: Vec<_> = readings
            .iter()
            .filter(|l| l.starts_with(&start))
            .cloned()
            .collect();
        assert!(!mine.is_empty(), "no {start} in {readings:#?}");
        timeless(&mine, (now_ns - PATIENCE.as_nanos() as i64, now_ns));
    }
}

#[test]
fn what_else_collectd_sends_is_rejected_and_costs_its_readings_nothing() {
    if !have(&["collectd -h"]) {
        return;
    }
    let recorder = Recorder::start(&["udp:0,precision=ms", "udp:0", "tcp:0"]);
    let (influx, binary) = (recorder.port("udp", 0), recorder.port("udp", 1));
    let plugins = format!(
        r#"
LoadPlugin write_influxdb_udp
<Plugin write_influxdb_udp>
    Server "127.0.0.1" "{influx}"
</Plugin>
LoadPlugin network
<Plugin network>
    Server "127.0.0.1" "{binary}"
</Plugin>
LoadPlugin write_graphite
<Plugin write_graphite>
    <Node "graphite">
        Host "127.0.0.1"
        Port "{graphite}"
        Protocol "tcp"
    </Node>
</Plugin>
"#,
        graphite = recorder.port("tcp", 0)
    );
    let client = collectd(recorder.folder.path(), &plugins);
    for source in ["udp", "tcp"] {
        let wanted = format!(" event=rejected source={source}");
        until(
            &format!("{wanted} in {:#?}", recorder.running.log()),
            || {
                recorder
                    .running
                    .log()
                    .iter()
                    .any(|l| l.contains(&wanted))
                    .then_some(())
            },
        );
    }
    until("a reading has come", || {
        (count(&recorder.db()) > 0).then_some(())
    });
    assert_eq!(client.stop(libc::SIGTERM).code(), 0);
    recorder.wait_for_datagrams(influx);
    let (readings, last) = recorder.stop();
    assert!(last.rejected >= 2, "{last:?}");
    for reading in readings {
        assert!(
            reading.starts_with("load,host=edge,") || reading.starts_with("memory,host=edge,"),
            "{reading}"
        );
    }
}

#[test]
fn the_influxdb_client_for_python_hands_over_each_type() {
    let Some(python) = crate::support::client::python_with("influxdb") else {
        return;
    };
    let recorder = Recorder::start(&["udp:0", "udp:0,precision=ms"]);
    let (ns, ms) = (recorder.port("udp", 0), recorder.port("udp", 1));
    let script = "
import datetime, sys
from influxdb import InfluxDBClient

client = InfluxDBClient(host='127.0.0.1', use_udp=True, udp_port=int(sys.argv[1]))
client.write_points([{
    'measurement': 'climate',
    'tags': {'room': 'boiler room', 'floor': -1},
    'time': '2026-01-31T12:00:00Z',
    'fields': {'temperature': 21.5, 'tiny': 1e-9, 'open': True, 'starts': 7, 'note': 'a \"b\"\\nc', 'none': None},
}])
client.write_points([{'measurement': 'odd, name=', 'fields': {'a b,c=d': 1.5}, 'time': 1700000000000000000}])
client.write_points(['m,k=a v=1 1700000000000000000', 'm,k=b v=2i 1700000000000000000'], protocol='line')
client.write_points([{'measurement': 'not', 'fields': {'a': float('nan')}}])
client.write_points([{'measurement': 'not', 'fields': {'a': 2**63}}])
client.write_points([{'measurement': 'now', 'fields': {'a': False}}])

client = InfluxDBClient(host='127.0.0.1', use_udp=True, udp_port=int(sys.argv[2]))
client.write_points([{'measurement': 'm', 'fields': {'v': 3}, 'time': datetime.datetime(2026, 1, 31)}], time_precision='ms')
";
    let before = now_ns();
    let output = Command::new(python)
        .args(["-c", script, &ns.to_string(), &ms.to_string()])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    recorder.wait_for_datagrams(ns);
    recorder.wait_for_datagrams(ms);
    let (mut readings, last) = recorder.stop();
    let now = readings.iter().position(|line| line.starts_with("now|"));
    let now = readings.remove(now.unwrap());
    assert_eq!(timeless(&[now], (before, now_ns())), ["now|a|integer|0"]);
    readings.sort();
    let mut wanted = [
        "climate,floor=-1,room=boiler\\ room|note|text|a \"b\"\\nc|1769860800000000000",
        "climate,floor=-1,room=boiler\\ room|open|integer|1|1769860800000000000",
        "climate,floor=-1,room=boiler\\ room|starts|integer|7|1769860800000000000",
        "climate,floor=-1,room=boiler\\ room|temperature|real|21.5|1769860800000000000",
        "climate,floor=-1,room=boiler\\ room|tiny|real|1e-09|1769860800000000000",
        "odd\\,\\ name\\=|a b,c=d|real|1.5|1700000000000000000",
        "m,k=a|v|real|1.0|1700000000000000000",
        "m,k=b|v|integer|2|1700000000000000000",
        "m|v|integer|3|1769817600000000000",
    ];
    wanted.sort_unstable();
    assert_eq!(readings, wanted);
    // NaN and what does not fit 64 bits are no values of the protocol.
    assert_eq!(last.rejected, 2);
}

/// A broker on a unix socket in the folder: no port of it can be taken.
fn mosquitto(folder: &Path) -> Running {
    let config = "listener 0 broker.sock\nallow_anonymous true\npersistence false\nuser root\n";
    fs::write(folder.join("mosquitto.conf"), config).unwrap();
    let mut command = Command::new(find("mosquitto"));
    let broker = Running::spawn(
        command
            .args(["-v", "-c", "mosquitto.conf"])
            .current_dir(folder),
    );
    wait_for_line(&broker, " running");
    broker
}

fn wait_for_line(running: &Running, text: &str) {
    until(&format!("{text:?} in {:#?}", running.log()), || {
        running
            .log()
            .iter()
            .any(|line| line.contains(text))
            .then_some(())
    });
}

/// Subscribes to a topic, and records what comes.
fn subscribe(folder: &Path, broker: &Running, db: &Path, args: &[&str]) -> (Subscriber, Running) {
    let answers = |log: &[String]| log.iter().filter(|line| line.contains("SUBACK")).count();
    let before = answers(&broker.log());
    let mut command = Command::new("mosquitto_sub");
    command
        .args(["--unix", "broker.sock", "-q", "1"])
        .args(args);
    command
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut subscriber = Subscriber(command.spawn().unwrap());
    let stdout = subscriber.0.stdout.take().unwrap();
    let streams = [stdout.into(), Stdio::piped(), Stdio::piped()];
    let recorder = Running::on(db, "--source stdin --ack --commit-interval 0", streams);
    recorder.wait_for("ready");
    until("the broker knows the subscriber", || {
        (answers(&broker.log()) > before).then_some(())
    });
    (subscriber, recorder)
}

struct Subscriber(Child);

impl Drop for Subscriber {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn publish(folder: &Path, topic: &str, payload: &str) {
    let mut command = Command::new("mosquitto_pub");
    command.args([
        "--unix",
        "broker.sock",
        "-q",
        "1",
        "-t",
        topic,
        "-m",
        payload,
    ]);
    let output = command.current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn mosquitto_sub_hands_over_payloads_and_is_acknowledged() {
    if !have(&[
        "mosquitto -h",
        "mosquitto_sub --help",
        "mosquitto_pub --help",
    ]) {
        return;
    }
    let folder = Dir::new("mosquitto");
    let broker = mosquitto(folder.path());

    let db = folder.file("lines.db");
    let (subscriber, recorder) = subscribe(folder.path(), &broker, &db, &["-t", "readings/#"]);
    publish(
        folder.path(),
        "readings/a",
        "climate,room=cellar t=3.5,h=80i 1700000000000000000",
    );
    publish(folder.path(), "readings/b", "not a reading");
    publish(
        folder.path(),
        "readings/b",
        "m v=1 1700000000000000001\nm v=2 1700000000000000002",
    );
    recorder.wait_for_ack(4);
    drop(subscriber);
    let ended = recorder.wait();
    assert_eq!(assert_stopped(&db, &ended, 0, "eof").rejected, 1);
    assert_eq!(
        readings(&db),
        [
            "climate,room=cellar|t|real|3.5|1700000000000000000",
            "climate,room=cellar|h|integer|80|1700000000000000000",
            "m|v|real|1.0|1700000000000000001",
            "m|v|real|2.0|1700000000000000002",
        ]
    );

    let db = folder.file("numbers.db");
    let before = now_ns();
    let args = [
        "-t",
        "home/+/temperature",
        "-F",
        "mqtt,topic=%t value=%p @s@N",
    ];
    let (subscriber, recorder) = subscribe(folder.path(), &broker, &db, &args);
    publish(folder.path(), "home/cellar/temperature", "21.5");
    publish(folder.path(), "home/attic/temperature", "-3");
    recorder.wait_for_ack(2);
    let after = now_ns();
    drop(subscriber);
    assert_stopped(&db, &recorder.wait(), 0, "eof");
    assert_eq!(
        timeless(&readings(&db), (before, after)),
        [
            "mqtt,topic=home/cellar/temperature|value|real|21.5",
            "mqtt,topic=home/attic/temperature|value|real|-3.0",
        ]
    );
    broker.stop(libc::SIGTERM);
}

/// The program for sed that docs/clients.md shows, word for word.
#[test]
fn any_topic_and_payload_of_mqtt_becomes_a_reading_by_the_sed_of_the_document() {
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/clients.md");
    let document = std::fs::read_to_string(document).unwrap();
    let program = document.split("| sed -uE '").nth(1).unwrap();
    let program = program.split("' | seawall").next().unwrap();
    let folder = Dir::new("mqtt-sed");
    let db = folder.file("x.db");
    let input = "z2m/Boy's Room/temperature\t21.5\t1\nhome/cellar,left=2/t\t-3\t2\nhome/heating/state\tON\t3\n\
        home/kitchen\t21,5\t4\nhome/empty\t\t5\nhome/note\tsay \"hi\" a=b\t6\n";
    let mut sed = Command::new("sed")
        .args(["-uE", program])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    sed.stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    let lines = sed.wait_with_output().unwrap().stdout;
    record_lines(&db, &String::from_utf8(lines).unwrap());
    assert_eq!(
        readings(&db),
        [
            "mqtt,topic=z2m/Boy's\\ Room/temperature|value|real|21.5|1",
            "mqtt,topic=home/cellar\\,left\\=2/t|value|real|-3.0|2",
            "mqtt,topic=home/heating/state|text|text|ON|3",
            "mqtt,topic=home/kitchen|text|text|21,5|4",
            "mqtt,topic=home/empty|text|text||5",
            "mqtt,topic=home/note|text|text|say \"hi\" a=b|6",
        ]
    );
}

#[test]
fn socat_gets_the_acks_of_its_lines_and_sends_datagrams() {
    if !have(&["socat -V", "bash --version"]) {
        return;
    }
    let recorder = Recorder::start(&["unix:seawall.sock", "tcp:0", "udp:0"]);
    let two = "printf 'm a=1 7\\nm a=\\nm a=2i 8\\n'";
    let out = recorder.bash(&format!("{two} | socat -t 60 - UNIX-CONNECT:seawall.sock"));
    assert_settled(&out);
    let out = recorder.bash(&format!("{two} | socat -t 60 - TCP:127.0.0.1:$TCP"));
    assert_settled(&out);
    recorder.bash("echo 'm a=\"udp\" 9' | socat -u - UDP-SENDTO:127.0.0.1:$UDP");
    recorder.wait_for_datagrams(recorder.port("udp", 0));
    let (readings, last) = recorder.stop();
    assert_eq!(last.rejected, 2);
    assert_eq!(
        readings,
        [
            "m|a|real|1.0|7",
            "m|a|integer|2|8",
            "m|a|real|1.0|7",
            "m|a|integer|2|8",
            "m|a|text|udp|9"
        ]
    );
}

/// Three lines were answered for, and the second is told to be wrong.
fn assert_settled(answers: &str) {
    let lines: Vec<_> = answers.lines().collect();
    assert_eq!(lines.last(), Some(&"ack 3"), "{answers}");
    let wrong: Vec<_> = lines
        .iter()
        .filter(|line| line.starts_with("err "))
        .collect();
    assert_eq!(wrong, [&r#"err 2 column 5: no field value after "=""#]);
}

#[test]
fn the_python_of_the_document_sends_each_line_of_its_spool_once() {
    if !have(&["python3 --version"]) {
        return;
    }
    let recorder = Recorder::start(&["tcp:0"]);
    let document = include_str!("../docs/clients.md");
    let blocks = document.split("```python\n").skip(1);
    let mut blocks = blocks.filter_map(|block| block.split("```").next());
    let script = blocks.find(|block| block.contains("spool.lp")).unwrap();
    let port = recorder.port("tcp", 0).to_string();
    let folder = recorder.db().parent().unwrap().to_owned();
    let mut spool = String::new();
    for (more, heard) in [
        ("m v=1 1\nm v=2 2\n", "ack 3\n"),
        // Nothing new, and a line that is not whole yet.
        ("", "ack 1\n"),
        ("m v=3", "ack 1\n"),
        (" 3\nm v=\nm v=5 5\n", "ack 4\n"),
        ("m v=6 6\n", "ack 2\n"),
    ] {
        spool += more;
        std::fs::write(folder.join("spool.lp"), &spool).unwrap();
        let output = Command::new("python3")
            .args(["-c", &script.replace("8094", &port)])
            .current_dir(&folder)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let answers = String::from_utf8_lossy(&output.stdout);
        assert!(answers.ends_with(heard), "{more:?}: {answers}");
        let is_rejected = answers.contains("err 3 column 5: no field value");
        assert_eq!(is_rejected, more.contains("m v=\n"), "{answers}");
    }
    let (readings, _) = recorder.stop();
    let all = [1, 2, 3, 5, 6].map(|n| format!("m|v|real|{n}.0|{n}"));
    assert_eq!(readings, all);
}

#[test]
fn nc_gets_the_acks_of_its_lines_and_sends_datagrams() {
    if !have(&["nc -h", "bash --version"]) {
        return;
    }
    let help = Command::new("nc").arg("-h").output().unwrap();
    if !String::from_utf8_lossy(&help.stderr).contains("OpenBSD") {
        return skip("nc is not OpenBSD's");
    }
    let recorder = Recorder::start(&["unix:seawall.sock", "tcp:0", "udp:0"]);
    let two = "printf 'm a=1 7\\nm a=\\nm a=2i 8\\n'";
    assert_settled(&recorder.bash(&format!("{two} | nc -N -U seawall.sock")));
    assert_settled(&recorder.bash(&format!("{two} | nc -N 127.0.0.1 $TCP")));
    recorder.bash("echo 'm a=\"udp\" 9' | nc -u -N -w 1 127.0.0.1 $UDP");
    recorder.wait_for_datagrams(recorder.port("udp", 0));
    let (readings, last) = recorder.stop();
    assert_eq!(last.rejected, 2);
    assert_eq!(
        readings,
        [
            "m|a|real|1.0|7",
            "m|a|integer|2|8",
            "m|a|real|1.0|7",
            "m|a|integer|2|8",
            "m|a|text|udp|9"
        ]
    );
}

#[test]
fn a_shell_loop_sends_by_dev_udp_and_hears_acks_by_dev_tcp() {
    if !have(&["bash --version"]) {
        return;
    }
    let recorder = Recorder::start(&["udp:0", "tcp:0"]);
    let before = now_ns();
    recorder.bash(
        "for n in 1 2 3; do
             read -r load _ < /proc/loadavg
             echo \"shell load=$load,n=${n}i\" > /dev/udp/127.0.0.1/$UDP
         done",
    );
    recorder.wait_for_datagrams(recorder.port("udp", 0));
    let out = recorder.bash(
        "exec 3<>/dev/tcp/127.0.0.1/$TCP
         echo 'shell n=4i' >&3
         read -r answer <&3
         echo \"$answer\"",
    );
    assert_eq!(out, "ack 1");
    let after = now_ns();
    let (readings, last) = recorder.stop();
    assert_eq!((last.rejected, last.committed), (0, 3 * 2 + 1 + 1));
    let numbers: Vec<_> = timeless(&readings, (before, after))
        .into_iter()
        .filter(|line| line.contains("|n|"))
        .collect();
    assert_eq!(
        numbers,
        [
            "shell|n|integer|1",
            "shell|n|integer|2",
            "shell|n|integer|3",
            "shell|n|integer|4"
        ]
    );
}
