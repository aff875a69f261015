//! Tables, indexes and views of the layout, compared with those in a file. Others may have changed them so that a
//! reading is accepted and not stored, or put an endless view in the place of a table: nothing is read or written
//! before they are as they were made. What others added is theirs, if it cannot change our rows.

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

/// Objects of a file beside those of the layout.
pub(super) struct Objects {
    /// Objects of the layout that are not as they were made.
    pub wrong: Vec<Wrong>,
    /// Any that the layout has not.
    pub has_others: bool,
    /// Another's that may change or refuse our rows, and how to remove it.
    strange: Option<String>,
}

pub(super) fn compare(raw: &mut Connection) -> Result<Objects, Error> {
    let layout: Vec<_> = made().collect();
    let mut as_made = vec![None; layout.len()];
    let (mut strange, mut has_others) = (None, false);
    raw.rows("compare", schema::LIST_OBJECTS, |row| {
        let (kind, name, table, sql) = (row.text(0), row.text(1), row.text(2), row.text(3));
        // A trigger may have the name of a table.
        let place = layout.iter().position(|(made, _)| kind != "trigger" && *made == name);
        if let Some(place) = place {
            as_made[place] = Some(layout[place].1 == sql);
            return true;
        }
        has_others = true;
        if may_change_rows(&kind, &sql) && layout.iter().any(|(made, _)| made.eq_ignore_ascii_case(&table)) {
            strange = Some(format!(
                "somebody added the {kind} {name} to {table}, which may change or refuse readings; remove it: DROP {kind} \"{name}\""
            ));
        }
        true
    })?;
    let looked_at = layout.iter().zip(as_made);
    let wrong = looked_at.filter_map(|(&(name, _), as_made)| match as_made {
        None => Some(Wrong::Missing(name)),
        Some(false) => Some(Wrong::Altered(name)),
        Some(true) => None,
    });
    Ok(Objects {
        wrong: wrong.collect(),
        has_others,
        strange,
    })
}

fn may_change_rows(kind: &str, sql: &str) -> bool {
    kind == "trigger" || (kind == "index" && sql.to_ascii_uppercase().contains("UNIQUE"))
}

impl Objects {
    /// An error where an object of the layout is not as it was made.
    pub fn require(&self, raw: &Connection) -> Result<(), Error> {
        let message = match self.wrong.first() {
            None => return Ok(()),
            Some(Wrong::Missing(name)) => format!("{name} is missing"),
            Some(Wrong::Altered(name)) => format!("{name} is not as it was made"),
        };
        Err(error::corrupt("use", raw.path(), message))
    }

    /// An error where nothing may be recorded.
    pub fn require_for_recording(self, raw: &Connection) -> Result<(), Error> {
        self.require(raw)?;
        match self.strange {
            None => Ok(()),
            Some(message) => Err(Error::new("use", raw.path(), Cause::Strange, message)),
        }
    }
}
