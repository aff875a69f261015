//! Guards against a port that speaks the published HTTP and is understood by nobody: an answer that a client takes for
//! a failure, and sends again for ever, or for a success that is none. Clients of InfluxDB, as Debian and PyPI have
//! them, hand their readings to the built binary; what they then hold for done is in the database, and nothing else.
//!
//! The requests of those that cannot be had are in `tests/http`. Without one of these its test is skipped, aloud;
//! `.ci/run` installs them all.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::support::client::{port, python_with};
use crate::support::*;

/// A recorder with a port and a socket, for both of which clients need the token `s3cret`.
struct Served {
    dir: Dir,
    db: PathBuf,
    recorder: Running,
    port: String,
}

impl Served {
    fn start(name: &str) -> Self {
        let dir = Dir::new(name);
        let db = dir.file("x.db");
        let token = dir.file("token");
        fs::write(&token, "s3cret\n").unwrap();
        let tcp = format!("http:0,token-file={}", token.display());
        let unix = dir.file("s");
        let unix = format!(
            "http:unix:{},token-file={}",
            unix.display(),
            token.display()
        );
        let recorder = start(&db, &["--source", &tcp, "--source", &unix]);
        recorder.wait_for("ready");
        let port = port(&recorder, "http").to_string();
        Served {
            dir,
            db,
            recorder,
            port,
        }
    }

    /// Runs a script to its end, and gives what it printed.
    fn python(&self, python: &Path, script: &str) -> String {
        let output = Command::new(python)
            .args(["-c", script, &self.port])
            .output()
            .unwrap();
        said(&output)
    }

    fn readings(&self) -> Vec<String> {
        let query =
            "SELECT sensor, field, typeof(value), value, time_ns FROM sensor_readings ORDER BY id";
        let rows = sql(&self.db, query);
        rows.lines().map(str::to_owned).collect()
    }

    fn stop(self) {
        let ended = self.recorder.stop(libc::SIGTERM);
        assert_eq!(ended.code(), 0, "{:#?}", ended.log);
        assert_sound(&self.db);
    }
}

/// What a program printed, which has to have succeeded.
fn said(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Lines of one sensor whose values and times are these numbers.
fn lines(sensor: &str, numbers: std::ops::RangeInclusive<u64>) -> String {
    numbers.map(|n| format!("{sensor} v={n}i {n}\n")).collect()
}

#[test]
fn curl_is_told_what_became_of_each_body() {
    if Command::new("curl").arg("--version").output().is_err() {
        return skip("curl is not installed");
    }
    let served = Served::start("http-curl");
    let (large, zipped) = (served.dir.file("large.lp"), served.dir.file("zipped.lp"));
    fs::write(&large, lines("large", 1..=100_000)).unwrap();
    fs::write(&zipped, lines("zipped", 1..=5000)).unwrap();
    said(&Command::new("gzip").arg(&zipped).output().unwrap());
    let url = format!("http://127.0.0.1:{}", served.port);
    // Status of each transfer on a line behind its body.
    let curl = |args: &[&str]| {
        let mut command = Command::new("curl");
        command.args(["-sS", "-m", "60", "-w", "%{http_code}\n"]);
        command
            .args(["-H", "Authorization: Token s3cret"])
            .args(args);
        said(&command.current_dir(served.dir.path()).output().unwrap())
    };
    let write = format!("{url}/write?db=x");
    let v2 = format!("{url}/api/v2/write?org=o&bucket=b&precision=s");
    assert_eq!(curl(&["-d", "small v=1i 7", &write]), "204\n");
    assert_eq!(curl(&["-d", "small v=2i 1700000000", &v2]), "204\n");
    let expect = ["-H", "Expect: 100-continue", "--data-binary", "@large.lp"];
    let said = curl(&[&expect[..], &["-D", "heads", &write]].concat());
    assert_eq!(said, "204\n");
    let heads = fs::read_to_string(served.dir.file("heads")).unwrap();
    assert!(heads.starts_with("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n"));
    let gzip = [
        "-H",
        "Content-Encoding: gzip",
        "--data-binary",
        "@zipped.lp.gz",
    ];
    assert_eq!(curl(&[&gzip[..], &[&write]].concat()), "204\n");
    let chunked = ["-H", "Transfer-Encoding: chunked", "-d", "chunked v=1i 7"];
    assert_eq!(curl(&[&chunked[..], &[&write]].concat()), "204\n");
    let unix = ["--unix-socket", "s", "-d", "unix v=1i 7"];
    let local = "http://localhost/write?db=x";
    assert_eq!(curl(&[&unix[..], &[local]].concat()), "204\n");
    assert_eq!(curl(&["-0", "-d", "old v=1i 7", &write]), "204\n");

    // Good lines stay although a bad one is among them.
    let mixed = "mixed v=1i 1\nmixed v=\nmixed v=3i 3";
    let partial = curl(&["-d", mixed, &write]);
    assert!(partial.ends_with("400\n"), "{partial}");
    assert!(
        partial.contains("partial write: line 2: column 9: no field value"),
        "{partial}"
    );
    let head = curl(&["-I", &format!("{url}/ping")]);
    assert!(head.starts_with("HTTP/1.1 204") && head.contains("X-Influxdb-Version: 1."));
    let refused = curl(&[
        "-H",
        "Authorization: Token wrong",
        "-d",
        "small v=9i 9",
        &write,
    ]);
    assert!(
        refused.contains("unauthorized") && refused.ends_with("401\n"),
        "{refused}"
    );
    let metrics = curl(&[&format!("{url}/metrics")]);
    assert!(metrics.contains("seawall_committed_readings"), "{metrics}");
    // Two on one connection.
    let twice = curl(&[
        "-d",
        "twice v=1i 1",
        &write,
        &write,
        "-w",
        "%{http_code} %{num_connects}\n",
    ]);
    assert_eq!(twice, "204 1\n204 0\n");

    let counts = sql(
        &served.db,
        "SELECT sensor, count(*), sum(value), min(time_ns) FROM sensor_readings GROUP BY sensor",
    );
    let expected = [
        "chunked|1|1|7",
        "large|100000|5000050000|1",
        "mixed|2|4|1",
        "old|1|1|7",
        "small|2|3|7",
        "twice|1|1|1",
        "unix|1|1|7",
        "zipped|5000|12502500|1",
    ];
    assert_eq!(counts.lines().collect::<Vec<_>>(), expected);
    let seconds = "SELECT time_ns FROM sensor_readings WHERE sensor = 'small' AND value = 2";
    assert_eq!(sql(&served.db, seconds), "1700000000000000000");
    served.stop();
}

#[test]
fn influxdb_for_python_makes_its_database_and_writes_into_it() {
    let Some(python) = python_with("influxdb") else {
        return;
    };
    let served = Served::start("http-influxdb");
    let script = r#"
import sys
from influxdb import InfluxDBClient
from influxdb.exceptions import InfluxDBClientError

def client(password='s3cret', **more):
    return InfluxDBClient('127.0.0.1', int(sys.argv[1]), 'anybody', password, 'home', **more)

plain = client()
print(plain.ping())
plain.create_database('home')
print(plain.get_list_database())
print(plain.write_points([]))
print(plain.write_points([{
    'measurement': 'climate',
    'tags': {'room': 'boiler room'},
    'time': '2026-01-31T12:00:00Z',
    'fields': {'temperature': 21.5, 'open': True, 'starts': 7, 'note': 'a "b"\nc'},
}]))
zipped = client(gzip=True)
points = [{'measurement': 'm', 'fields': {'v': n}, 'time': n} for n in range(1, 2001)]
print(zipped.write_points(points, time_precision='ms', batch_size=500))
for wrong in [client(), client('guessed')]:
    try:
        wrong.write_points(['bad v=1i 1', 'bad v=nan 2', 'bad v=3i 3'], protocol='line')
    except InfluxDBClientError as error:
        print(error.code, error.content.strip())
"#;
    let said = served.python(&python, script);
    let said: Vec<_> = said.lines().collect();
    assert_eq!(
        said[..5],
        [
            "1.8-seawall",
            "[{'name': 'seawall'}]",
            "True",
            "True",
            "True"
        ]
    );
    assert!(said[5].starts_with("400 ") && said[5].contains("partial write: line 2:"));
    assert!(said[6].starts_with("401 ") && said[6].contains("unauthorized"));
    let readings = served.readings();
    assert_eq!(
        readings[..4],
        [
            "climate,room=boiler\\ room|note|text|a \"b\"\\nc|1769860800000000000",
            "climate,room=boiler\\ room|open|integer|1|1769860800000000000",
            "climate,room=boiler\\ room|starts|integer|7|1769860800000000000",
            "climate,room=boiler\\ room|temperature|real|21.5|1769860800000000000",
        ]
    );
    let mut expected: Vec<_> = (1..=2000)
        .map(|n| format!("m|v|integer|{n}|{n}000000"))
        .collect();
    expected.extend(["bad|v|integer|1|1", "bad|v|integer|3|3"].map(str::to_owned));
    assert_eq!(readings[4..], expected);
    served.stop();
}

#[test]
fn influxdb_client_for_python_holds_for_written_what_is() {
    let Some(python) = python_with("influxdb_client") else {
        return;
    };
    let served = Served::start("http-client");
    let script = r#"
import sys
from influxdb_client import InfluxDBClient, Point
from influxdb_client.client.write_api import SYNCHRONOUS
from influxdb_client.rest import ApiException

def client(token='s3cret', **more):
    return InfluxDBClient(f'http://127.0.0.1:{sys.argv[1]}', token, org='home', **more)

plain = client()
print(plain.ping(), plain.version(), plain.health().status, plain.ready().status)
point = Point('climate').tag('room', 'boiler room').field('temperature', 21.5).field('starts', 7).time(1700000000000000000)
print(plain.write_api(SYNCHRONOUS).write('readings', record=point))
lines = [f'm v={n}i {n}' for n in range(1, 2001)]
print(client(enable_gzip=True).write_api(SYNCHRONOUS).write('readings', record=lines, write_precision='ms'))
print(plain.write_api(SYNCHRONOUS).write('readings', record=b''))
for wrong in [plain, client('guessed')]:
    try:
        wrong.write_api(SYNCHRONOUS).write('readings', record='bad v=1i 1\nbad v= 2\nbad v=3i 3')
    except ApiException as error:
        print(error.status, error.message)
"#;
    let said = served.python(&python, script);
    let said: Vec<_> = said.lines().collect();
    assert_eq!(
        said[..4],
        ["True 1.8-seawall pass ready", "None", "None", "None"]
    );
    assert!(said[4].starts_with("400 partial write: line 2: column 7: no field value"));
    assert!(said[5].starts_with("401 the token is wrong or missing"));
    let mut expected = vec![
        "climate,room=boiler\\ room|starts|integer|7|1700000000000000000".to_owned(),
        "climate,room=boiler\\ room|temperature|real|21.5|1700000000000000000".to_owned(),
    ];
    expected.extend((1..=2000).map(|n| format!("m|v|integer|{n}|{n}000000")));
    expected.extend(["bad|v|integer|1|1", "bad|v|integer|3|3"].map(str::to_owned));
    assert_eq!(served.readings(), expected);
    served.stop();
}

#[test]
fn influxdb_client_for_python_writes_asynchronously() {
    let Some(python) = python_with("aiohttp") else {
        return;
    };
    let served = Served::start("http-async");
    let script = r#"
import asyncio, sys
from influxdb_client import Point
from influxdb_client.client.influxdb_client_async import InfluxDBClientAsync

async def main():
    async with InfluxDBClientAsync(f'http://127.0.0.1:{sys.argv[1]}', 's3cret', org='home') as client:
        write = client.write_api().write
        several = [write('readings', record=Point('m').field('v', n).time(n)) for n in range(1, 51)]
        print(await client.ping(), set(await asyncio.gather(*several)))

asyncio.run(main())
"#;
    assert_eq!(served.python(&python, script), "True {True}\n");
    let mut readings = served.readings();
    readings.sort_by_key(|row| {
        row.rsplit('|')
            .next()
            .map(|time| time.parse::<u64>().unwrap())
    });
    let expected: Vec<_> = (1..=50).map(|n| format!("m|v|integer|{n}|{n}")).collect();
    assert_eq!(readings, expected);
    served.stop();
}

/// How often the recorder is killed under the client.
const KILLS: usize = 6;

/// Lines that the client has to write around each kill.
const LINES_OF_ROUND: usize = 600;

#[test]
fn a_batching_client_delivers_every_line_once_over_kills_of_the_recorder() {
    let Some(python) = python_with("influxdb_client") else {
        return;
    };
    let script = r#"
import sys
from influxdb_client import InfluxDBClient, WriteOptions
retries, failures = [], []
options = WriteOptions(batch_size=25, flush_interval=50, retry_interval=100, max_retry_delay=400, max_retries=300, max_retry_time=120_000)
client = InfluxDBClient(sys.argv[1], 'none', org='home')
with client.write_api(options, error_callback=lambda conf, data, error: failures.append(error),
        retry_callback=lambda conf, data, error: retries.append(error)) as api:
    n = 0
    for round in range(int(sys.argv[2])):
        for half in range(2):
            for _ in range(int(sys.argv[3]) // 2):
                n += 1
                api.write('readings', record=f'm,c=batching v={n}i {n}')
            print(n, flush=True)
            sys.stdin.readline()
print(len(retries) > 0, failures)
"#;
    let dir = Dir::new("http-kills");
    let db = dir.file("x.db");
    // An address of its own, so that nobody takes the port while there is no recorder.
    let id = std::process::id();
    let host = format!("127.83.{}.{}", id >> 8 & 255, id & 255);
    let mut recorder = start(&db, &["--source", &format!("http:{host}:0")]);
    recorder.wait_for("ready");
    let address = format!("{host}:{}", port(&recorder, "http"));
    let mut client = Command::new(python)
        .args(["-c", script, &format!("http://{address}")])
        .args([KILLS.to_string(), LINES_OF_ROUND.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        // It warns of each retry.
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdin = client.stdin.take().unwrap();
    let mut out = BufReader::new(client.stdout.take().unwrap()).lines();
    for round in 0..KILLS {
        let written = out.next().unwrap().unwrap();
        assert_eq!(
            written,
            (round * LINES_OF_ROUND + LINES_OF_ROUND / 2).to_string()
        );
        // Some of them are on their way, and the second half comes while nobody listens.
        recorder.kill();
        writeln!(stdin).unwrap();
        out.next().unwrap().unwrap();
        recorder = start(&db, &["--source", &format!("http:{address}")]);
        recorder.wait_for("ready");
        writeln!(stdin).unwrap();
    }
    assert_eq!(out.next().unwrap().unwrap(), "True []");
    assert!(client.wait().unwrap().success());
    let query = "SELECT count(*), count(DISTINCT value), max(value) FROM sensor_readings WHERE sensor = 'm,c=batching'";
    let all = KILLS * LINES_OF_ROUND;
    assert_eq!(sql(&db, query), format!("{all}|{all}|{all}"));
    assert_eq!(recorder.stop(libc::SIGTERM).code(), 0);
    assert_sound(&db);
}

#[test]
fn clients_send_again_what_was_not_answered() {
    let Some(python) = python_with("influxdb, influxdb_client") else {
        return;
    };
    if Command::new("curl").arg("--version").output().is_err() {
        return skip("curl is not installed");
    }
    let dir = Dir::new("http-unanswered");
    let db = dir.file("x.db");
    let mut first = start_stdin(&db, &[]);
    first.send(b"m v=0i 1\n");
    first.close_stdin();
    assert_eq!(first.wait().code(), 0);
    let recorder = start(&db, &["--source", "http:0", "--http-wait", "1s"]);
    recorder.wait_for("ready");
    let url = format!("http://127.0.0.1:{}", port(&recorder, "http"));
    let lock = Holder::start(&db, "BEGIN IMMEDIATE");
    let script = r#"
import sys, requests
from urllib.parse import urlparse
from influxdb import InfluxDBClient
from influxdb_client import InfluxDBClient as Client2, WriteOptions
from influxdb_client.client.write_api import SYNCHRONOUS
from urllib3.exceptions import HTTPError

try:
    InfluxDBClient('127.0.0.1', urlparse(sys.argv[1]).port, database='x').write_points(['first v=1i 1'], protocol='line')
except requests.exceptions.ConnectionError:
    print('told', flush=True)
client = Client2(sys.argv[1], 'none', org='x')
try:
    client.write_api(SYNCHRONOUS).write('x', record='second v=1i 1')
except HTTPError:
    print('told', flush=True)
failures = []
options = WriteOptions(batch_size=1, retry_interval=100, max_retry_delay=400, max_retries=1000, max_retry_time=120_000)
with client.write_api(options, error_callback=lambda conf, data, error: failures.append(error),
        retry_callback=lambda conf, data, error: print('again', flush=True)) as api:
    api.write('x', record='batching v=1i 1')
print('done', failures)
"#;
    let mut curl = Command::new("curl")
        .args(["--no-progress-meter", "--retry", "60", "--retry-delay", "1"])
        .args(["--retry-all-errors", "-w", "%{http_code}\n"])
        .args(["-d", "curl v=1i 1", &format!("{url}/write")])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut client = Command::new(python)
        .args(["-c", script, &url])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(client.stdout.take().unwrap()).lines();
    let mut next = || out.next().unwrap().unwrap();
    assert_eq!(
        [next(), next(), next(), next()],
        ["told", "told", "again", "again"]
    );
    recorder.wait_for("client-unanswered");
    let mut complaint = String::new();
    let mut err = BufReader::new(curl.stderr.take().unwrap());
    err.read_line(&mut complaint).unwrap();
    assert!(
        complaint.contains("Will retry") || complaint.contains("(52)"),
        "{complaint}"
    );
    lock.release();
    let last = std::iter::repeat_with(&mut next).find(|line| line != "again");
    assert_eq!(last.as_deref(), Some("done []"));
    assert!(client.wait().unwrap().success());
    assert_eq!(said(&curl.wait_with_output().unwrap()), "204\n");
    // What was given up on has been taken all the same: it waits in the queue, and is not lost.
    let query = "SELECT sensor FROM sensor_readings ORDER BY sensor";
    assert_eq!(sql(&db, query), "batching\ncurl\nfirst\nm\nsecond");
    assert_eq!(recorder.stop(libc::SIGTERM).code(), 0);
}

#[test]
fn the_influx_shell_imports_a_file() {
    if Command::new("influx").arg("-version").output().is_err() {
        return skip("the influx shell is not installed; apt-get install influxdb-client");
    }
    let served = Served::start("http-influx");
    let influx = |args: &[&str]| {
        let mut command = Command::new("influx");
        command.args(["-host", "127.0.0.1", "-port", &served.port]);
        command.args(["-username", "anybody", "-password", "s3cret"]);
        let output = command.args(args).current_dir(served.dir.path()).output();
        let output = output.unwrap();
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        (output.status.success(), text)
    };
    let head = "# DDL\nCREATE DATABASE fleet\n# DML\n# CONTEXT-DATABASE: fleet\n";
    let import = ["-import", "-precision=ns"];
    let file = served.dir.file("good");
    fs::write(&file, format!("{head}{}", lines("good", 1..=7000))).unwrap();
    let (is_done, text) = influx(&[&import[..], &["-path=good"]].concat());
    assert!(is_done, "{text}");
    for line in [
        "Processed 1 commands",
        "Processed 7000 inserts",
        "Failed 0 inserts",
    ] {
        assert!(text.contains(line), "{text}");
    }
    fs::write(
        served.dir.file("seconds"),
        format!("{head}s v=1i 1700000000\n"),
    )
    .unwrap();
    said(
        &Command::new("gzip")
            .arg(served.dir.file("seconds"))
            .output()
            .unwrap(),
    );
    let seconds = ["-import", "-precision=s", "-compressed", "-path=seconds.gz"];
    let (is_done, text) = influx(&seconds);
    assert!(is_done && text.contains("Failed 0 inserts"), "{text}");
    fs::write(
        served.dir.file("bad"),
        format!("{head}bad v=1i 1\nbad v= 2\nbad v=3i 3\n"),
    )
    .unwrap();
    let (_, text) = influx(&[&import[..], &["-path=bad"]].concat());
    // It ends each line twice.
    assert!(text.contains("partial write: line 3:"), "{text}");
    let (is_done, text) = influx(&["-execute", "SHOW DATABASES"]);
    assert!(is_done && text.contains("seawall"), "{text}");
    let (is_done, text) = influx(&["-execute", "SELECT * FROM good"]);
    assert!(
        !is_done && text.contains("read the database file with SQL"),
        "{text}"
    );

    let mut expected: Vec<_> = (1..=7000)
        .map(|n| format!("good|v|integer|{n}|{n}"))
        .collect();
    expected.push("s|v|integer|1|1700000000000000000".to_owned());
    expected.extend(["bad|v|integer|1|1", "bad|v|integer|3|3"].map(str::to_owned));
    assert_eq!(served.readings(), expected);
    served.stop();
}
