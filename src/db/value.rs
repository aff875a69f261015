//! Values as SQLite has them.

/// A value of a column or of a parameter, besides NULL, which is `None` of an `Option`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum SqlValue<'a> {
    Integer(i64),
    Real(f64),
    Text(&'a str),
}
