//! What keeps a source from reading: conditions that last until somebody or something mends them. No row is lost to one.

use std::error::Error;
use std::time::Duration;

/// Why no rows can be read at the moment.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    #[error("the database cannot be reached: {0}")]
    Unreachable(String),
    #[error(
        "the query took longer than its timeout of {0:?}: see whether the cursor's column has an index, or ask for fewer rows with `limit`"
    )]
    Slow(Duration),
    #[error("the database does not take the query: {0}")]
    Query(String),
    #[error("the rows cannot be used: {0}")]
    Rows(String),
}

impl Trouble {
    /// Whether a person has to mend it, since waiting will not.
    pub fn needs_mending(&self) -> bool {
        matches!(self, Trouble::Query(_) | Trouble::Rows(_))
    }

    /// What connecting failed for.
    pub fn connecting(error: &sqlx::Error) -> Self {
        Trouble::Unreachable(told(error))
    }
}

impl From<sqlx::Error> for Trouble {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Database(database) if is_about_the_server(database.code().as_deref()) => {
                Trouble::Unreachable(told(&error))
            }
            sqlx::Error::Database(_) | sqlx::Error::TypeNotFound { .. } | sqlx::Error::Encode(_) => {
                Trouble::Query(told(&error))
            }
            sqlx::Error::Decode(_) | sqlx::Error::ColumnDecode { .. } => Trouble::Rows(told(&error)),
            _ => Trouble::Unreachable(told(&error)),
        }
    }
}

/// SQLSTATE classes: connection, operator intervention, resources, system; and SQLite's "busy" and "locked".
fn is_about_the_server(code: Option<&str>) -> bool {
    code.is_some_and(|code| ["08", "57", "53", "58"].iter().any(|class| code.len() == 5 && code.starts_with(class)))
        || matches!(code, Some("5" | "6"))
}

/// The cause that says most: the innermost. No URL is in any of them.
fn told(error: &sqlx::Error) -> String {
    if let sqlx::Error::Database(database) = error {
        return database.message().to_owned();
    }
    let mut root: &dyn Error = error;
    while let Some(source) = root.source() {
        root = source;
    }
    root.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// If this failed, people would be told to mend a query while a server restarts.
    #[test]
    fn what_passes_by_itself_is_told_from_what_must_be_mended() {
        for (code, passes) in
            [("57P01", true), ("08006", true), ("5", true), ("42703", false), ("1", false), ("57", false)]
        {
            assert_eq!(is_about_the_server(Some(code)), passes, "{code}");
        }
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        assert!(!Trouble::from(sqlx::Error::Io(refused)).needs_mending());
        assert!(Trouble::Rows(String::new()).needs_mending());
    }
}
