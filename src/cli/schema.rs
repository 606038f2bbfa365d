//! `turnstile schema`: the OpenAPI document of the HTTP interface, without asking a server.

use std::io::Write;

use super::failure::{Exit, Failure};
use super::screen::Screen;
use crate::admin::openapi;

/// Prints the document.
///
/// # Errors
/// When the output cannot be written (3).
pub fn schema(screen: &mut Screen<'_>) -> Result<Exit, Failure> {
    writeln!(screen.out, "{}", openapi())?;
    Ok(Exit::Ok)
}
