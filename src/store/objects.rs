//! Tables, indexes and views of the layout, compared with those in a file. Others may have changed them so that a
//! reading is accepted and not stored, or put an endless view in the place of a table: nothing is read or written
//! before they are as they were made. What others added is theirs, if it cannot change our rows.

use std::collections::HashMap;

use super::schema;
use crate::db::raw::Connection;
use crate::db::{Cause, Error, error};

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    Missing(&'static str),
    Altered(&'static str),
}

/// Name and SQL of each object of the layout, as SQLite keeps them.
fn made() -> impl Iterator<Item = (&'static str, &'static str)> {
    let statements = schema::CREATE.to_str().unwrap_or_default().split(";\n");
    statements.filter_map(|sql| {
        let sql = sql.trim_start();
        let name = sql.strip_prefix("CREATE ")?.split([' ', '(']).nth(1)?;
        Some((name, sql))
    })
}

/// Objects of the layout that are not in the file as they were made.
pub(super) fn compare(raw: &mut Connection) -> Result<Vec<Wrong>, Error> {
    let mut found: HashMap<&'static str, bool> = HashMap::new();
    raw.rows("compare", schema::LIST_OBJECTS, |row| {
        let name = row.text(1);
        if let Some((name, sql)) = made().find(|(made, _)| *made == name) {
            found.insert(name, row.text(3) == sql);
        }
        true
    })?;
    let wrong = made().filter_map(|(name, _)| match found.get(name) {
        None => Some(Wrong::Missing(name)),
        Some(false) => Some(Wrong::Altered(name)),
        Some(true) => None,
    });
    Ok(wrong.collect())
}

/// An error where an object of the layout is not as it was made.
pub(super) fn require(raw: &mut Connection) -> Result<(), Error> {
    let message = match compare(raw)?.first() {
        None => return Ok(()),
        Some(Wrong::Missing(name)) => format!("{name} is missing"),
        Some(Wrong::Altered(name)) => format!("{name} is not as it was made"),
    };
    Err(error::corrupt("use", raw.path(), message))
}

/// Before recording: an error where somebody added what may change or refuse our rows.
pub(super) fn refuse_strangers(raw: &mut Connection) -> Result<(), Error> {
    let mut strange = None;
    raw.rows("compare", schema::LIST_OBJECTS, |row| {
        let (kind, name, table, sql) = (row.text(0), row.text(1), row.text(2), row.text(3));
        let is_ours = |name: &str| made().any(|(made, _)| made == name);
        let may_change = match &*kind {
            "trigger" => true,
            "index" => sql.to_ascii_uppercase().contains("UNIQUE"),
            _ => false,
        };
        if may_change && is_ours(&table) && !is_ours(&name) {
            strange = Some(format!(
                "somebody added the {kind} {name} to {table}, which may change or refuse readings; remove it: DROP {} \"{name}\"",
                kind.to_uppercase()
            ));
        }
        strange.is_none()
    })?;
    match strange {
        None => Ok(()),
        Some(message) => Err(Error::new("use", raw.path(), Cause::Strange, message)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_objects_of_the_layout_are_those_that_sqlite_keeps() {
        let mut raw = Connection::in_memory().unwrap();
        let all: Vec<_> = made().map(|(name, _)| Wrong::Missing(name)).collect();
        assert!(all.len() > 10 && compare(&mut raw).unwrap() == all);
        raw.execute("make", schema::CREATE).unwrap();
        assert_eq!(compare(&mut raw).unwrap(), []);
        refuse_strangers(&mut raw).unwrap();
        for (change, expected) in [
            (c"DROP VIEW numbers", Wrong::Missing("numbers")),
            (c"ALTER TABLE runs ADD COLUMN more", Wrong::Altered("runs")),
        ] {
            raw.execute("change", change).unwrap();
            assert!(compare(&mut raw).unwrap().contains(&expected));
            assert!(require(&mut raw).is_err());
        }
    }

    #[test]
    fn what_others_added_is_refused_only_where_it_may_change_rows() {
        let mut raw = Connection::in_memory().unwrap();
        raw.execute("make", schema::CREATE).unwrap();
        for harmless in [
            c"CREATE TABLE mine(x UNIQUE)",
            c"CREATE INDEX by_time ON readings(time_ns)",
            c"CREATE VIEW v AS SELECT * FROM readings",
            c"CREATE TRIGGER t AFTER INSERT ON mine BEGIN SELECT 1; END",
        ] {
            raw.execute("add", harmless).unwrap();
        }
        assert_eq!(compare(&mut raw).unwrap(), []);
        refuse_strangers(&mut raw).unwrap();
        for strange in [
            c"CREATE TRIGGER u AFTER INSERT ON readings BEGIN SELECT 1; END",
            c"CREATE UNIQUE INDEX i ON readings(time_ns)",
        ] {
            raw.execute("lock", c"SAVEPOINT s").unwrap();
            raw.execute("add", strange).unwrap();
            assert!(refuse_strangers(&mut raw).is_err());
            raw.execute("back", c"ROLLBACK TO s").unwrap();
        }
    }
}
