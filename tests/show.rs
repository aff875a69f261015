//! Guards against a table that misleads: a wrong last value, a sensor that fell silent and is not shown, a
//! unit that is not meant, a line that a narrow terminal breaks, a name that moves the cursor.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use crate::support::stop::{record, text};
use crate::support::*;

fn ago(seconds: u64) -> u128 {
    let then = SystemTime::now() - Duration::from_secs(seconds);
    then.duration_since(SystemTime::UNIX_EPOCH)
        .unwrap()
        .as_nanos()
}

fn record_lines(db: &Path, lines: &str) {
    let mut run = record(db, "--source stdin");
    run.send(lines.as_bytes());
    run.close_stdin();
    assert_eq!(run.wait().code(), 0);
}

fn show(db: &Path, options: &str) -> String {
    let mut arguments = vec!["show", "--db", text(db)];
    arguments.extend(options.split_whitespace());
    let (code, out, err) = seawall(&arguments);
    assert_eq!((code, err.as_str()), (0, ""));
    out
}

/// The words of the line of a sensor, without the sparkline's blanks.
fn words(table: &str, sensor: &str) -> Vec<String> {
    let line = table.lines().find(|line| line.starts_with(sensor));
    let line = line.unwrap_or_else(|| panic!("{sensor} is not in\n{table}"));
    line.split("  ")
        .map(|word| word.trim().to_owned())
        .filter(|word| !word.is_empty())
        .collect()
}

#[test]
fn the_table_is_of_the_time_asked_for_whatever_order_readings_came_in() {
    let dir = Dir::new("show");
    let db = dir.file("x.db");
    let mut lines = String::new();
    // The newest comes first, then what was backfilled, then what is too old.
    for (age, value) in [(600, 21.25), (1200, 19.5), (3000, 20.0), (7200, 99.0)] {
        lines += &format!("room temperature_c={value} {}\n", ago(age));
    }
    lines += &format!("door open=true {0}\ndoor open=f {1}\n", ago(120), ago(180));
    lines += &format!("log text=\"hello\" {}\n", ago(7200 * 24));
    lines += &format!("pump count=41i {0}\npump count=44i {1}\n", ago(60), ago(50));
    record_lines(&db, &lines);
    let table = show(&db, "");
    assert_eq!(table.lines().count(), 5, "{table}");
    let heading = words(&table, "sensor");
    let expected = [
        "sensor", "field", "unit", "readings", "last", "age", "min", "mean", "max", "last 1h",
    ];
    assert_eq!(heading, expected);
    let room = words(&table, "room");
    let expected = [
        "room",
        "temperature_c",
        "°C",
        "3",
        "21.25",
        "10 min",
        "19.50",
        "20.25",
        "21.25",
    ];
    assert_eq!(room[..9], expected, "{table}");
    let door = words(&table, "door");
    assert_eq!(
        door[..7],
        ["door", "open", "2", "true", "2 min", "0", "0.5"],
        "{table}"
    );
    let pump = words(&table, "pump");
    assert_eq!(pump[2..4], ["2", "44"], "{table}");
    assert_eq!(pump[5..8], ["41", "42.5", "44"], "{table}");
    // It fell silent, and is there.
    assert_eq!(
        words(&table, "log"),
        ["log", "text", "0", "-", "-", "-", "-", "-"]
    );
    let all = show(&db, "--since none");
    assert_eq!(words(&all, "room")[8], "99.00", "{all}");
    assert_eq!(words(&all, "log")[3], "\"hello\"", "{all}");
    let some = show(&db, "--since -15m --sensor [rp]*");
    assert_eq!(words(&some, "room")[3], "1", "{some}");
    assert_eq!(some.lines().count(), 3, "{some}");
}

#[test]
fn each_field_of_the_kernels_sensors_has_its_unit() {
    // And what ends like a unit without being one.
    const NONE: &str = "cycles health status charge_type proximity uv_index ph phase_a class_c";
    let document = crate::support::document::document("docs/sensors.md");
    let (_, fields) = document.split_once("## Fields and series\n").unwrap();
    let (fields, _) = fields.split_once("A series is named").unwrap();
    let fields = fields.split('`').skip(3).step_by(2);
    let fields: Vec<&str> = fields.chain(["phase_a", "class_c"]).collect();
    assert!(fields.len() > 27, "{fields:?}");
    let dir = Dir::new("show-units");
    let db = dir.file("x.db");
    let lines = fields.iter().map(|field| format!("{field} {field}=1\n"));
    record_lines(&db, &lines.collect::<String>());
    let table = show(&db, "");
    for field in fields {
        let words = words(&table, &format!("{field} "));
        let has_unit = words[2] != "1";
        assert_ne!(
            has_unit,
            NONE.split(' ').any(|none| none == field),
            "{words:?}"
        );
    }
}

/// The sum of a few of these is more than a float holds.
#[test]
fn the_greatest_numbers_have_a_mean() {
    let dir = Dir::new("show-greatest");
    let db = dir.file("x.db");
    let values = |name: &str, values: [&str; 3]| values.map(|v| format!("{name} v={v}\n")).concat();
    record_lines(
        &db,
        &(values("large", ["1.7e308", "1.7e308", "1.1e308"])
            + &values("both", ["-1.5e308", "-1.5e308", "1.5e308"])
            + &values("small", ["3e-300", "1e-300", "2e-300"])),
    );
    let table = show(&db, "");
    for (sensor, mean) in [
        ("large", "1.500e308"),
        ("both", "-5.000e307"),
        ("small", "2.000e-300"),
    ] {
        assert_eq!(words(&table, sensor)[6], mean, "{table}");
    }
}

#[test]
fn a_sensor_that_sends_times_of_1970_is_named() {
    let dir = Dir::new("show");
    let db = dir.file("x.db");
    record_lines(&db, "right v=1\nseconds,at=a v=1 1790000000\n");
    let named = "seconds,at=a sent times of 1970 (--since none shows these readings; the log has why: event=old-times)\n";
    assert!(show(&db, "").ends_with(named), "{}", show(&db, ""));
    // Behind spans of other readings, and in one of them.
    record_lines(&db, &"right v=2\n".repeat(5_000));
    record_lines(&db, "right v=3\n");
    assert!(show(&db, "").ends_with(named), "{}", show(&db, ""));
    for options in ["--since none", "--sensor right"] {
        let table = show(&db, options);
        assert!(!table.contains("1970"), "{table}");
    }
}

#[test]
fn every_reading_of_a_large_file_is_counted() {
    let dir = Dir::new("show");
    let db = dir.file("x.db");
    assert_eq!(
        record(&db, "--source sim:rate=max,count=900001")
            .wait()
            .code(),
        0
    );
    let table = show(&db, "--since none");
    for (sensor, readings) in [(1, "112,501"), (2, "112,500"), (8, "112,500")] {
        let found = words(&table, &format!("sim,sensor={sensor}"));
        assert_eq!(found[3], readings, "{table}");
        let last = sql(
            &db,
            &format!("SELECT value FROM readings WHERE series = {sensor} ORDER BY id DESC LIMIT 1"),
        );
        let last: f64 = last.parse().unwrap();
        assert_eq!(found[4].parse::<f64>().unwrap(), last, "{table}");
        let [min, mean, max] = [6, 7, 8].map(|n| found[n].parse::<f64>().unwrap());
        let expected = sql(
            &db,
            &format!(
                "SELECT min(value), avg(value), max(value) FROM readings WHERE series = {sensor}"
            ),
        );
        let expected: Vec<f64> = expected.split('|').map(|v| v.parse().unwrap()).collect();
        assert_eq!((min, max), (expected[0], expected[2]));
        assert!((mean - expected[1]).abs() < 0.006, "{mean} {expected:?}");
    }
}

#[test]
fn nothing_to_show_is_said_in_words() {
    let dir = Dir::new("show");
    let db = dir.file("x.db");
    record_lines(&db, "");
    assert_eq!(show(&db, ""), "no reading has been recorded\n");
    record_lines(&db, "m f=1 1262304000000000000\n");
    let table = show(&db, "");
    assert!(
        table.contains("the last one that was recorded is of 2010-01-01T00:00:00.000Z"),
        "{table}"
    );
    for (pattern, all) in [("x", "'x*'"), ("y*", "'y*'")] {
        let says = format!(
            "no sensor matches --sensor \"{pattern}\", which stands for a whole name with its tags: {all} matches all that begin so\n"
        );
        assert_eq!(show(&db, &format!("--sensor {pattern}")), says);
    }
}

/// The table as a terminal of so many columns gets it.
fn on_terminal(db: &Path, options: &str, columns: u32, variables: &[(&str, &str)]) -> String {
    let command = format!(
        "stty cols {columns} rows 24; {} show {options} --db {}",
        &*BINARY,
        text(db)
    );
    let output = Command::new("script")
        .args(["-qec", &command, "/dev/null"])
        .env_remove("NO_COLOR")
        .env("TERM", "xterm")
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap().replace('\r', "")
}

/// At each width the sensors can be told apart, and columns go before names are cut.
#[test]
fn a_narrow_terminal_costs_columns_and_no_sensor() {
    let dir = Dir::new("show-narrow");
    let [weather, sim] = ["weather.db", "sim.db"].map(|name| dir.file(name));
    record_lines(&weather, include_str!("data/weather.lp"));
    // Some seconds of the default simulator.
    let lines: String = (0..480)
        .map(|n| {
            format!(
                "sim,sensor={} temperature_c={}.25 {}\n",
                n % 8 + 1,
                n % 30,
                ago(48 - n / 10)
            )
        })
        .collect();
    record_lines(&sim, &lines);
    for columns in [40, 60, 72, 80, 120] {
        for (db, sensors) in [(&weather, 2), (&sim, 8)] {
            let table = on_terminal(db, "--since none", columns, &[("NO_COLOR", "1")]);
            let lines: Vec<_> = table.lines().collect();
            assert_eq!(lines.len(), sensors + 1, "{table}");
            let names: BTreeSet<_> = lines[1..]
                .iter()
                .map(|line| line.split("  ").next())
                .collect();
            assert_eq!(names.len(), sensors, "{table}");
            for line in &lines {
                assert!(
                    line.chars().count() <= columns as usize,
                    "{columns}:\n{table}"
                );
            }
            let heading: Vec<_> = lines[0].split_whitespace().collect();
            assert!(
                ["last", "age"].iter().all(|word| heading.contains(word)),
                "{table}"
            );
            // Of these names even the longest is whole where there is room for it.
            assert_eq!(
                table.contains('…'),
                columns == 40 && db == &weather,
                "{columns}:\n{table}"
            );
            let is_there = |word| heading.contains(&word);
            assert_eq!(
                is_there("min") && is_there("max"),
                columns >= 72 || db == &sim && columns == 60,
                "{table}"
            );
            assert_eq!(
                is_there("mean") && is_there("unit"),
                columns == 120,
                "{table}"
            );
            let blocks = lines[1].chars().filter(|c| ('▁'..='█').contains(c)).count();
            match (columns, blocks) {
                (80, 12) | (120, 24) => {}
                (40..=72, _) => {}
                _ => panic!("{blocks} blocks at {columns}:\n{table}"),
            }
        }
    }
    // The sparkline is of the time that there is, and its heading says so.
    let table = on_terminal(&sim, "", 80, &[("NO_COLOR", "1")]);
    let heading = table.lines().next().unwrap();
    assert!(
        !heading.ends_with("last 1h") && heading.contains("  last "),
        "{table}"
    );
    let blocks = table
        .lines()
        .nth(1)
        .unwrap()
        .chars()
        .filter(|c| ('▁'..='█').contains(c))
        .count();
    assert!(blocks > 2, "{table}");
}

/// Guards against a chart that is not of the readings, is wider than the terminal, or comes where nobody looks at it.
#[test]
fn one_series_has_a_larger_chart_on_a_terminal_only() {
    let dir = Dir::new("show-chart");
    let db = dir.file("x.db");
    // A ramp of 60 minutes in which the third quarter is missing, and twice as much at each tenth minute.
    let value = |n: u64| n as f64 * if n.is_multiple_of(10) { 2.0 } else { 1.0 };
    let mut lines: String = (0..=600)
        .filter(|n| !(300..450).contains(n))
        .map(|n| {
            format!(
                "ramp power_w={} {}\n",
                value(n),
                1_764_201_600_000_000_000 + n * 6_000_000_000
            )
        })
        .collect();
    lines += "other f=1 1764201600000000000\n";
    record_lines(&db, &lines);
    let plain = [("NO_COLOR", "1")];
    for columns in [60, 80, 120, 300] {
        let out = on_terminal(&db, "--since none --sensor ramp", columns, &plain);
        let lines: Vec<&str> = out.lines().collect();
        assert!(
            lines
                .iter()
                .all(|line| line.chars().count() <= columns as usize),
            "{out}"
        );
        assert_eq!(lines[2..4], ["", "█ mean ░ max  ramp power_w W"], "{out}");
        let rows: Vec<Vec<char>> = lines[4..14]
            .iter()
            .map(|row| row.chars().skip(12).collect())
            .collect();
        assert!(
            lines[4].starts_with("       1200 ") && lines[13].starts_with("          0 "),
            "{out}"
        );
        assert!(
            lines[14].trim_start().starts_with("27 Nov 2025 00:00:00 "),
            "{out}"
        );
        assert!(lines[14].ends_with("27 Nov 2025 01:00:00 UTC"), "{out}");
        let parts = columns.min(200) as usize - 12;
        let height = |column: usize| {
            let cells = rows.iter().filter_map(|row| row.get(column));
            cells.filter(|c| ('▁'..='█').contains(*c)).count()
        };
        let heights: Vec<usize> = (0..parts).map(height).collect();
        // A twelfth of a window of one hour on each side of the gap.
        assert!(
            heights[parts * 13 / 24..parts * 17 / 24]
                .iter()
                .all(|h| *h == 0),
            "{out}"
        );
        assert!(heights[..parts * 11 / 24].iter().all(|h| *h > 0), "{out}");
        assert!(
            heights[parts * 19 / 24..]
                .iter()
                .all(|h| (4..=10).contains(h)),
            "{out}"
        );
        assert!(rows[1].contains(&'░') && rows[0].contains(&'░'), "{out}");
    }
    for (options, columns) in [("--since none", 80), ("--since none --sensor ramp", 59)] {
        assert!(!on_terminal(&db, options, columns, &plain).contains('░'));
    }
    assert!(!show(&db, "--since none --sensor ramp").contains('░'));
    // One value is a line in the middle.
    let one = on_terminal(&db, "--since none --sensor other", 80, &plain);
    assert!(
        one.lines().filter(|line| line.contains('█')).count() > 4,
        "{one}"
    );
    let coloured = on_terminal(&db, "--since none --sensor ramp", 80, &[]);
    assert!(coloured.matches("\x1b[36m").count() > 10, "{coloured}");
}

#[test]
fn sensors_are_in_the_order_of_their_numbers() {
    let dir = Dir::new("show-order");
    let db = dir.file("x.db");
    let lines: String = [10, 2, 1, 11].map(|n| format!("m,n={n} f=1\n")).concat();
    record_lines(&db, &lines);
    let table = show(&db, "");
    let names: Vec<_> = table
        .lines()
        .skip(1)
        .map(|line| line.split(' ').next().unwrap())
        .collect();
    assert_eq!(names, ["m,n=1", "m,n=2", "m,n=10", "m,n=11"]);
}

#[test]
fn piped_it_is_plain_and_on_a_terminal_it_fits_and_may_be_coloured() {
    let dir = Dir::new("show");
    let db = dir.file("x.db");
    let tags: String = (0..12).map(|n| format!(",tag{n:02}=value")).collect();
    let lines = format!(
        "m{tags} temperature_c=20.5 {0}\nm,t=\x1b[2J f=1 {0}\n",
        ago(9)
    );
    record_lines(&db, &lines);
    let piped = show(&db, "");
    assert!(
        !piped.contains('\x1b') && piped.contains("tag11=value"),
        "{piped}"
    );
    let on_terminal = |columns, variables: &[_]| on_terminal(&db, "", columns, variables);
    let coloured = on_terminal(100, &[]);
    assert!(
        coloured.contains("\x1b[1m") && !coloured.contains("\x1b[2J"),
        "{coloured:?}"
    );
    for columns in [40, 80, 120] {
        for plain in [("NO_COLOR", "1"), ("TERM", "dumb")] {
            let table = on_terminal(columns, &[plain]);
            assert!(!table.contains('\x1b'), "{table:?}");
            let widest = table.lines().map(|line| line.chars().count()).max();
            assert!(widest <= Some(columns as usize), "{table}");
            assert!(table.contains("20.5"), "{table}");
        }
    }
}

#[test]
fn ids_and_times_at_both_ends_of_what_64_bits_hold_are_shown() {
    let dir = Dir::new("show-ends");
    let db = dir.file("x.db");
    const READINGS: usize = 12;
    record_lines(&db, &"m f=1 1\n".repeat(READINGS));
    let seed = crate::support::stop::seed();
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut near = |end: i64, steps: u64| end.saturating_add(rng.u64(0..=steps) as i64);
    for round in 0..8 {
        let mut ids = vec![1, i64::MAX];
        while ids.len() < READINGS {
            let id = match ids.len() % 3 {
                0 => near(1, 20_000),
                1 => near(i64::MAX - 20_000, 19_999),
                _ => near(1, i64::MAX as u64 - 2),
            };
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
        ids.sort_unstable();
        let mut rows = String::new();
        for id in &ids {
            let time_ns = match id % 4 {
                0 => near(i64::MIN, 3),
                1 => near(i64::MAX - 3, 3),
                2 => near(-2, 4),
                _ => near(i64::MIN, i64::MAX as u64),
            };
            rows += &format!(",({id},{time_ns},1,0.5)");
        }
        sql(&db, "DELETE FROM readings");
        let columns = "id, time_ns, series, value";
        let rows = rows.trim_start_matches(',');
        sql(
            &db,
            &format!("INSERT INTO readings ({columns}) VALUES {rows}"),
        );
        for options in [
            "--since none",
            "",
            "--since 1677-09-21T00:12:44Z",
            "--since 2262-04-11T23:47:16.8Z",
        ] {
            let table = show(&db, options);
            if options == "--since none" {
                let found = words(&table, "m");
                assert_eq!(found[2], "12", "seed {seed}, round {round}: {table}");
            }
        }
        let (code, out, err) = seawall(&["export", "--db", text(&db)]);
        assert_eq!((code, err.as_str()), (0, ""), "seed {seed}, round {round}");
        assert_eq!(out.lines().count(), READINGS + 1, "seed {seed}");
    }
}
