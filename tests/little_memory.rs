//! Guards against a command that takes memory by the number of series or by the length of their names and texts: in
//! a container it has what the recorder leaves of 6 MB, and the kernel kills one of the two.

use std::fmt::Write;
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::support::stop::text;
use crate::support::*;

/// Memory that a command may allocate, with what the C library and the program begin with.
const DATA_BYTES_MAX: u64 = 4 * 1024 * 1024;

#[test]
fn no_command_takes_memory_by_the_series_or_by_the_length_of_a_text() {
    let dir = Dir::new("little-memory");
    let db = dir.file("x.db");
    let long = "x".repeat(30_000);
    let mut lines = String::new();
    for n in 0..100 {
        writeln!(lines, "m,n={n} text=\"{long}\"\nlong,n={n},x={long} v={n}").unwrap();
    }
    record_lines(&db, &lines);
    sql(
        &db,
        "WITH n(n) AS (VALUES(1) UNION ALL SELECT n + 1 FROM n WHERE n < 60000)
        INSERT INTO series(sensor, field, type) SELECT 'many,n=' || n, 'v', 'float' FROM n",
    );
    let dest = dir.file("copy.db");
    let run = |words: &str| {
        let mut command = Command::new(BINARY);
        command.args(words.split(' ')).args(["--db", text(&db)]);
        let limit = libc::rlimit {
            rlim_cur: DATA_BYTES_MAX,
            rlim_max: DATA_BYTES_MAX,
        };
        // SAFETY: setrlimit is async-signal-safe.
        unsafe {
            command.pre_exec(move || match libc::setrlimit(libc::RLIMIT_DATA, &limit) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            });
        }
        let output = command.output().unwrap();
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "{words}: {:?} {err}",
            output.status
        );
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(run("check"), "sound readings=200 runs=1 unclean=0\n");
    run("export");
    run(&format!("backup {}", text(&dest)));
    assert_sound(&dest);
    let table = run("show --since none");
    let last = table.lines().last().unwrap();
    assert!(last.starts_with("the table ends after "), "{last}");
    let widest = table.lines().map(str::len).max().unwrap();
    assert!(widest < 1000, "{widest}");
    let page = run("show --since none --format html");
    assert!(page.contains("the page ends after ") && page.ends_with("</html>\n"));
    assert!(page.len() < 1_500_000, "{}", page.len());
}
