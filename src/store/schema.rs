//! The layout of the file, as SQL. A change here is a new `LAYOUT`, and a migration.
//!
//! Readings are stored by the number of their series and without their run: a reading of one float takes
//! 28 to 30 bytes. The view `sensor_readings` gives the columns that people read. A run's readings are
//! those from its `first_id` to the next run's.
//!
//! `sensor_numbers` is two views because DuckDB runs a view by itself where it knows all functions in it, and takes
//! every column for text where it does not: `numbers` has what only SQLite knows, and the casts around it the types.

use std::ffi::CStr;

/// `PRAGMA application_id`: "SeaW".
pub const APPLICATION_ID: i64 = 0x5365_6157;
/// `PRAGMA user_version`.
pub const LAYOUT: i64 = 2;

pub const CREATE: &CStr = c"
PRAGMA application_id = 0x53656157;
PRAGMA user_version = 2;
CREATE TABLE device(
  id TEXT NOT NULL,                -- 128 random bits in hex, made with the file, and anew on another machine
  machine TEXT NOT NULL            -- hashes of the names of the machine that recorded last
);
CREATE TABLE runs(
  id INTEGER PRIMARY KEY,
  started_ns INTEGER NOT NULL,     -- since 1970-01-01 UTC
  ended_ns INTEGER,                -- NULL while running
  reason TEXT,                     -- why it ended: a signal's name, eof, error, unclean, lost
  committed INTEGER NOT NULL DEFAULT 0,
  dropped INTEGER NOT NULL DEFAULT 0,     -- readings that found no room in the queue
  rejected INTEGER NOT NULL DEFAULT 0,    -- lines that did not parse
  boot_id TEXT,                    -- the kernel's
  boot_ns INTEGER NOT NULL,        -- CLOCK_BOOTTIME at the start
  errors INTEGER NOT NULL DEFAULT 0,      -- failures of sources and of commits
  checkpoints INTEGER NOT NULL DEFAULT 0, -- without those of the stop itself
  first_id INTEGER NOT NULL,       -- of the readings of this run
  tail_fingerprint INTEGER NOT NULL DEFAULT 0, -- in the last run: sum over the readings after the last span
  expired INTEGER NOT NULL DEFAULT 0,     -- of those committed, readings that retention dropped
  repeated INTEGER NOT NULL DEFAULT 0,    -- readings that were sent again and not stored again
  written_bytes INTEGER,           -- by the process, as the kernel counts them; NULL where it was not asked
  device TEXT NOT NULL,            -- the id that the device had then
  lost_from_id INTEGER,            -- where reason is lost: the first and the last id that were committed
  lost_to_id INTEGER,              -- and were not in the file at the next start
  running_s INTEGER NOT NULL DEFAULT 0,   -- time for which recorders ran, over all runs up to the last commit
  steady_from_s INTEGER NOT NULL DEFAULT 0, -- running_s when the clock was last set
  seen_ns INTEGER NOT NULL DEFAULT 0      -- system clock at the last commit
);
CREATE INDEX runs_by_first_id ON runs(first_id);
CREATE TABLE series(
  id INTEGER PRIMARY KEY,
  sensor TEXT NOT NULL,            -- measurement and tags, canonical line protocol
  field TEXT NOT NULL,
  type TEXT NOT NULL,              -- as it was sent: float, integer, unsigned, boolean, string
  UNIQUE(sensor, field, type)
);
CREATE TABLE readings(
  id INTEGER PRIMARY KEY,
  time_ns INTEGER NOT NULL,
  series INTEGER NOT NULL,
  value NOT NULL
);
CREATE TABLE spans(
  first_id INTEGER PRIMARY KEY,    -- of some thousand readings in order of id
  last_id INTEGER NOT NULL,
  oldest_ns INTEGER NOT NULL,      -- least and greatest time_ns among them
  newest_ns INTEGER NOT NULL,
  fingerprint INTEGER NOT NULL,    -- sum over its readings, see `seawall check`
  running_s INTEGER NOT NULL       -- runs.running_s when the last of them was committed
);
CREATE VIEW spans_to_now AS SELECT first_id, last_id, oldest_ns, newest_ns FROM spans
  UNION ALL SELECT coalesce((SELECT last_id + 1 FROM spans ORDER BY first_id DESC LIMIT 1), 1), 9223372036854775807,
    -9223372036854775807 - 1, 9223372036854775807;
CREATE TABLE clock_steps(
  run INTEGER NOT NULL,
  after_id INTEGER NOT NULL,       -- the last reading before the clock was set
  step_ns INTEGER NOT NULL
);
CREATE TABLE clients(
  name TEXT PRIMARY KEY,           -- as the client gave it
  lines INTEGER NOT NULL,          -- of it that are settled, over all its connections
  seen_ns INTEGER NOT NULL,        -- when a line of it was last settled, since 1970-01-01 UTC
  uid INTEGER                      -- user who has the name, by a unix socket; NULL by TCP
) WITHOUT ROWID;
CREATE VIEW sensor_readings AS SELECT
  id,
  time_ns,
  CAST(strftime('%Y-%m-%dT%H:%M:%S', (time_ns - (time_ns % 1000000000 + 1000000000) % 1000000000) / 1000000000, 'unixepoch')
    || printf('.%03dZ', (time_ns % 1000000000 + 1000000000) % 1000000000 / 1000000) AS TEXT) AS timestamp,
  (SELECT sensor FROM series WHERE series.id = readings.series) AS sensor,
  (SELECT field FROM series WHERE series.id = readings.series) AS field,
  value,
  (SELECT runs.id FROM runs WHERE first_id <= readings.id ORDER BY first_id DESC, runs.id DESC LIMIT 1) AS run
FROM readings;
CREATE VIEW numbers AS SELECT
  readings.id AS id,
  CAST(strftime('%Y-%m-%dT%H:%M:%S', (time_ns - (time_ns % 1000000000 + 1000000000) % 1000000000) / 1000000000, 'unixepoch')
    || printf('.%03dZ', (time_ns % 1000000000 + 1000000000) % 1000000000 / 1000000) AS TEXT) AS timestamp,
  sensor,
  field,
  value
FROM readings JOIN series ON series.id = readings.series WHERE type <> 'string';
CREATE VIEW sensor_numbers AS SELECT
  readings.id AS id,
  CAST(readings.time_ns / 1e9 AS DOUBLE) AS time,
  CAST(timestamp AS TEXT) AS timestamp,
  sensor,
  field,
  CAST(numbers.value AS DOUBLE) AS value
FROM readings JOIN numbers ON numbers.id = readings.id;
";

pub const IS_EMPTY: &CStr = c"SELECT count(*) = 0 FROM sqlite_master";
pub const GET_APPLICATION_ID: &CStr = c"PRAGMA application_id";
pub const GET_LAYOUT: &CStr = c"PRAGMA user_version";

/// Where a recorder writes, besides the ends of the readings and of the spans, which `NEXT_ID` and
/// `LIST_TAIL` read.
pub const LOOK_WHERE_WRITTEN: [&CStr; 5] = [
    c"PRAGMA quick_check('device')",
    c"PRAGMA quick_check('runs')",
    c"PRAGMA quick_check('series')",
    c"PRAGMA quick_check('clock_steps')",
    c"PRAGMA quick_check('clients')",
];

pub const INSERT_READING: &CStr =
    c"INSERT INTO readings(id, time_ns, series, value) VALUES(?1, ?2, ?3, ?4)";
/// Each gets the id after the last. An error ends the transaction anyway: without OR FAIL SQLite would keep
/// what it takes to undo this statement alone.
pub const INSERT_READINGS: &CStr = c"INSERT OR FAIL INTO readings(time_ns, series, value)
    SELECT time_ns, series, value FROM sqlite_seawall_batch";
/// The table that `INSERT_READINGS` reads from.
pub const BATCH_COLUMNS: &CStr = c"CREATE TABLE x(time_ns INTEGER, series INTEGER, value)";
pub const FIND_SERIES: &CStr =
    c"SELECT id FROM series WHERE sensor = ?1 AND field = ?2 AND type = ?3";
/// Without RETURNING, for which SQLite makes a table and its memory each time.
pub const ADD_SERIES: &CStr = c"INSERT INTO series(sensor, field, type) VALUES(?1, ?2, ?3)";
pub const COUNT_RUN: &CStr = c"UPDATE runs SET committed = ?2, dropped = ?3, rejected = ?4,
    errors = ?5, checkpoints = ?6, tail_fingerprint = ?7, running_s = ?8, steady_from_s = ?9, seen_ns = ?10,
    repeated = ?11, written_bytes = nullif(?12, -1)
    WHERE id = ?1";
pub const END_RUN: &CStr = c"UPDATE runs SET ended_ns = ?2, reason = ?3 WHERE id = ?1";
pub const ADD_CLOCK_STEP: &CStr =
    c"INSERT INTO clock_steps(run, after_id, step_ns) VALUES(?1, ?2, ?3)";
pub const ADD_SPAN: &CStr =
    c"INSERT INTO spans(first_id, last_id, oldest_ns, newest_ns, fingerprint, running_s)
    VALUES(?1, ?2, ?3, ?4, ?5, ?6)";
pub const LIST_TAIL: &CStr = c"SELECT id, time_ns, iif(typeof(value) = 'text', octet_length(value), 0) FROM readings
    WHERE id > coalesce((SELECT last_id FROM spans ORDER BY first_id DESC LIMIT 1), -1) ORDER BY id";
pub const SET_CLIENT: &CStr =
    c"INSERT INTO clients(name, lines, seen_ns, uid) VALUES(?1, ?2, ?3, ?4)
    ON CONFLICT(name) DO UPDATE SET lines = excluded.lines, seen_ns = excluded.seen_ns,
    uid = coalesce(clients.uid, excluded.uid)";
pub const GET_CLIENT: &CStr =
    c"SELECT iif(uid IS NULL OR uid IS ?2, max(lines, 0), -1) FROM clients WHERE name = ?1";
pub const ADD_DEVICE: &CStr = c"INSERT INTO device(id, machine) VALUES(?1, ?2)";
pub const GET_DEVICE: &CStr = c"SELECT id FROM device";
pub const GET_MACHINE: &CStr = c"SELECT machine FROM device";
pub const SET_DEVICE: &CStr = c"UPDATE device SET id = ?1, machine = ?2";
pub const ADD_RUN: &CStr =
    c"INSERT INTO runs(started_ns, boot_id, boot_ns, first_id, tail_fingerprint, running_s, steady_from_s, seen_ns, device)
    VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, (SELECT id FROM device)) RETURNING id";
/// The fingerprint of the readings after the last span, which the last run's row holds.
pub const TAIL_FINGERPRINT: &CStr = c"SELECT tail_fingerprint FROM runs ORDER BY id DESC LIMIT 1";
pub const LAST_RUN: &CStr =
    c"SELECT id, ended_ns IS NULL, running_s, steady_from_s, seen_ns, started_ns FROM runs ORDER BY id DESC LIMIT 1";
pub const LOSE_READINGS: &CStr =
    c"UPDATE runs SET reason = 'lost', lost_from_id = ?2, lost_to_id = ?3 WHERE id = ?1";

/// The id that the next reading gets: after the last reading, and after the last that the ledger knows of
/// where retention has emptied the table.
pub const NEXT_ID: &CStr = c"SELECT max(
    (SELECT coalesce(max(id), 0) + 1 FROM readings),
    (SELECT coalesce(max(first_id + committed), 1) FROM runs))";
/// At most one is open, if nobody made more: some of those are enough to be told.
pub const OPEN_RUNS: &CStr = c"SELECT id, committed FROM
    (SELECT id, committed FROM runs WHERE ended_ns IS NULL ORDER BY id DESC LIMIT 8) ORDER BY id";
pub const CLOSE_OPEN_RUNS: &CStr =
    c"UPDATE runs SET ended_ns = ?1, reason = ?2 WHERE ended_ns IS NULL";

/// The span at the old end, which retention drops next.
pub const OLDEST_SPAN: &CStr =
    c"SELECT first_id, last_id, newest_ns, running_s FROM spans ORDER BY first_id LIMIT 1";
/// How many spans there are, up to ?1.
pub const COUNT_SPANS: &CStr = c"SELECT count(*) FROM (SELECT 1 FROM spans LIMIT ?1)";
pub const DROP_READINGS: &CStr = c"DELETE FROM readings WHERE id <= ?1";
pub const DROP_CLOCK_STEPS: &CStr = c"DELETE FROM clock_steps WHERE after_id < ?1";
pub const DROP_SPAN: &CStr = c"DELETE FROM spans WHERE last_id <= ?1";
/// Adds the readings ?1 to ?2 to `expired` of the runs that hold them. Runs before the one that holds ?1 are
/// not read.
pub const EXPIRE_RUNS: &CStr = c"UPDATE runs
    SET expired = expired + min(first_id + committed, ?2 + 1) - max(first_id, ?1)
    WHERE first_id BETWEEN (SELECT coalesce(max(first_id), 0) FROM runs WHERE first_id <= ?1) AND ?2
      AND first_id + committed > ?1 AND committed > 0";
pub const DROP_CLIENTS: &CStr = c"DELETE FROM clients WHERE seen_ns < ?1";

pub const LIST_RUNS: &CStr =
    c"SELECT id, first_id, committed, tail_fingerprint, ended_ns, reason, expired, lost_from_id, lost_to_id,
    device
    FROM runs ORDER BY id";
pub const NAME_SERIES: &CStr = c"SELECT sensor, field, type FROM series WHERE id = ?1";
pub const HAS_OTHERS_THAN_SIM: &CStr =
    c"SELECT EXISTS(SELECT 1 FROM series WHERE substr(sensor, 1, 4) <> 'sim,')";
pub const LIST_SERIES: &CStr = c"SELECT id, sensor, field, type FROM series";
pub const LIST_SPANS: &CStr =
    c"SELECT first_id, last_id, oldest_ns, newest_ns, fingerprint, running_s FROM spans ORDER BY first_id";
pub const LIST_ALL_SPANS: &CStr =
    c"SELECT first_id, last_id, oldest_ns, newest_ns FROM spans_to_now ORDER BY first_id";
pub const LIST_WRONG_CLIENTS: &CStr = c"SELECT name FROM clients
    WHERE typeof(name) <> 'text' OR typeof(lines) <> 'integer' OR lines < 1
    OR typeof(seen_ns) <> 'integer'";
pub const LIST_READINGS: &CStr = c"SELECT id, time_ns, series, value FROM readings ORDER BY id";
/// A reading to compare with, and all of them for as long as they are wanted.
pub const GET_READING: &CStr = c"SELECT time_ns, series, value FROM readings WHERE id = ?1";
pub const LIST_NEWEST_READINGS: &CStr =
    c"SELECT id, time_ns, series, value FROM readings ORDER BY id DESC";
pub const LIST_OBJECTS: &CStr =
    c"SELECT type, name, tbl_name, sql FROM sqlite_master WHERE sql IS NOT NULL";
pub const SCHEMA_VERSION: &CStr = c"PRAGMA schema_version";
pub const QUICK_CHECK: &CStr = c"PRAGMA quick_check(20)";
pub const INTEGRITY_CHECK: &CStr = c"PRAGMA integrity_check(20)";
