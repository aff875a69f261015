//! Another process that has the database open now and then: Python's SQLite, which shares no code or build
//! with ours. One process for the whole torture, told what to do line by line.

use std::io::{BufRead, Write};
use std::path::Path;

use crate::support::Interpreter;

const SCRIPT: &str = "
import sqlite3, sys, time
path = sys.argv[1]
pinned = None

def connect():
    return sqlite3.connect(f'file:{path}?mode=rw', uri=True, timeout=30, isolation_level=None)

def rows(of, after):
    connection = connect()
    connection.execute('BEGIN')
    end = 1 << 62
    if of == 'before':
        end, = connection.execute('SELECT first_id FROM runs ORDER BY id DESC LIMIT 1').fetchone()
    query = 'SELECT id, value FROM readings WHERE id > ? AND id < ? ORDER BY id'
    for id, value in connection.execute(query, (after, end)):
        print(id, value if isinstance(value, int) else 'other')
    connection.close()

def touch():
    connection = connect()
    connection.execute('SELECT max(id) FROM readings').fetchone()
    connection.close()

def pin():
    global pinned
    pinned = pinned or connect()
    if not pinned.in_transaction:
        pinned.execute('BEGIN')
    pinned.execute('SELECT max(id) FROM readings').fetchone()

def unpin():
    global pinned
    if pinned:
        pinned.close()
    pinned = None

def lock(ms):
    connection = connect()
    connection.execute('BEGIN IMMEDIATE')
    time.sleep(ms / 1000)
    connection.execute('ROLLBACK')
    connection.close()

def take_one():
    connection = connect()
    connection.execute('DELETE FROM readings WHERE id = (SELECT max(id) FROM readings)')
    connection.close()

for line in sys.stdin:
    words = line.split()
    try:
        if words[0] == 'rows':
            rows(words[1], int(words[2]))
        elif words[0] == 'lock':
            lock(int(words[1]))
        else:
            {'touch': touch, 'pin': pin, 'unpin': unpin, 'take-one': take_one}[words[0]]()
        print('done', flush=True)
    except sqlite3.Error as e:
        print('failed', e, flush=True)
";

pub struct Tool(Interpreter);

impl Tool {
    pub fn start(db: &Path) -> Self {
        Tool(Interpreter::start(SCRIPT, &[db]))
    }

    pub fn begin(&mut self, order: &str) {
        writeln!(self.0.stdin, "{order}").expect("write to the tool");
    }

    /// The lines of the answer to the oldest order that was begun; or what SQLite said.
    pub fn answer(&mut self) -> Result<Vec<String>, String> {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            let got = self
                .0
                .stdout
                .read_line(&mut line)
                .expect("read from the tool");
            assert!(got > 0, "the tool has ended");
            let line = line.trim_end();
            if line == "done" {
                return Ok(lines);
            }
            if let Some(error) = line.strip_prefix("failed ") {
                return Err(error.to_owned());
            }
            lines.push(line.to_owned());
        }
    }

    pub fn ask(&mut self, order: &str) -> Result<Vec<String>, String> {
        self.begin(order);
        self.answer()
    }

    /// Id and value of the readings after this one: of all runs, or of all but the last. The value is none
    /// where it is no whole number, and so not one of those that were sent.
    pub fn rows(&mut self, after: u64, of_all: bool) -> Result<Vec<(u64, Option<u64>)>, String> {
        let lines = self.ask(&format!(
            "rows {} {after}",
            if of_all { "all" } else { "before" }
        ))?;
        let row = |line: &String| {
            let (id, value) = line.split_once(' ').unwrap();
            (id.parse().unwrap(), value.parse().ok())
        };
        Ok(lines.iter().map(row).collect())
    }
}
