//! How fast 10 million readings are looked at: by time, by `show`, by `export`. SQLite's side is not ours but
//! Python's and the `sqlite3` command's. `just bench --large`.

use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::large::{has_room, record_lines};
use super::recorder::BINARY;
use super::throughput::{ROUNDS, per_second};
use super::{bare, process, table};

const READINGS: u64 = 10_000_000;
/// Eight sensors, each once a second.
const STEP_NS: u64 = 1_000_000_000 / 8;
const EXPORTED: u64 = 2_000_000;

/// The README's query, the same without the index, and what `show` has to find out; each prints milliseconds.
const QUERIES: &str = "
import sqlite3, sys, time
hour = \"(strftime('%s', 'now') - 3600) * 1000000000\"
sensor = \"r.series IN (SELECT id FROM series WHERE sensor = 'weather,station=s1')\"
db = sqlite3.connect(sys.argv[1])
found = []
for query in [
    f'''SELECT r.time_ns, r.value
        FROM spans_to_now AS s CROSS JOIN readings AS r ON r.id BETWEEN s.first_id AND s.last_id
        WHERE s.newest_ns >= {hour} AND r.time_ns >= {hour} AND {sensor}''',
    f'SELECT r.time_ns, r.value FROM readings AS r WHERE r.time_ns >= {hour} AND {sensor}',
    'SELECT series, count(*), max(time_ns), min(value), avg(value), max(value) FROM readings GROUP BY series',
]:
    start = time.perf_counter()
    found.append(db.execute(query).fetchall())
    print((time.perf_counter() - start) * 1000)
assert abs(len(found[0]) - len(found[1])) <= 1 < len(found[0]), (len(found[0]), len(found[1]))
";

pub fn measure(folder: &Path) {
    if !has_room(folder, READINGS * 60, "10 million readings") {
        return;
    }
    let db = folder.join("queries.db");
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("a clock that is set");
    let first_ns = now.as_nanos() as u64 - READINGS * STEP_NS;
    record_lines(
        &db,
        (0..READINGS).map(|n| {
            let (station, value, time) = (n % 8, bare::value(n), first_ns + n * STEP_NS);
            format!("weather,station=s{station} temperature_c={value} {time}\n")
        }),
    );
    look(&db);
    export(&db);
}

fn look(db: &Path) {
    let mut asked: [Vec<f64>; 3] = Default::default();
    let mut shows = Vec::new();
    for _ in 0..ROUNDS {
        let output = Command::new("python3")
            .args(["-c", QUERIES])
            .arg(db)
            .output();
        if let Ok(output) = output {
            assert!(output.status.success(), "{output:?}");
            let text = String::from_utf8(output.stdout).expect("numbers");
            for (times, line) in asked.iter_mut().zip(text.lines()) {
                times.push(line.parse().expect("milliseconds"));
            }
        }
        let mut show = Command::new(BINARY);
        show.args(["show", "--since", "30d", "--db"])
            .arg(db)
            .stdout(Stdio::null());
        shows.push(process::run(&mut show).0.as_secs_f64() * 1e3);
    }
    let [indexed, scanned, grouped] = &asked;
    if indexed.is_empty() {
        return table::skip("queries of 10 million readings", "no python3");
    }
    let scanned = ("the same without the index", &**scanned);
    table::row(
        "ms",
        ("last hour of a sensor, of 10 million", indexed),
        scanned,
    );
    table::row(
        "ms",
        ("show, 10 million readings", &shows),
        ("SQL: least, mean, most of each sensor", grouped),
    );
}

fn export(db: &Path) {
    let limit = EXPORTED.to_string();
    let queries =
        ["sensor_readings", "readings"].map(|table| format!("SELECT * FROM {table} LIMIT {limit}"));
    let (mut ours, mut theirs) = (Vec::new(), <[Vec<f64>; 2]>::default());
    for _ in 0..ROUNDS {
        let mut command = Command::new(BINARY);
        command.args(["export", "--format", "csv", "--limit", &limit, "--db"]);
        ours.extend(through_a_pipe(command.arg(db)));
        for (rates, query) in theirs.iter_mut().zip(&queries) {
            rates.extend(through_a_pipe(
                Command::new("sqlite3").arg("-csv").arg(db).arg(query),
            ));
        }
    }
    let ours = ("export --format csv, 2 million readings", &*ours);
    if theirs[0].is_empty() {
        return table::skip(ours.0, "sqlite3 is not installed");
    }
    table::row(
        "rows/s",
        ours,
        ("sqlite3 -csv, the same columns", &theirs[0]),
    );
    table::row(
        "rows/s",
        ours,
        ("sqlite3 -csv, the plain table", &theirs[1]),
    );
}

/// Rows a second; none where the program is not installed.
fn through_a_pipe(command: &mut Command) -> Option<f64> {
    let start = Instant::now();
    let mut child = command.stdout(Stdio::piped()).spawn().ok()?;
    io::copy(&mut child.stdout.take().unwrap(), &mut io::sink()).expect("read the rows");
    assert!(child.wait().expect("wait for it").success(), "{command:?}");
    Some(per_second(EXPORTED, start.elapsed()))
}
