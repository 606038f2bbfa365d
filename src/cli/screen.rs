//! Where a command writes: its output, its errors, and whether there are colours.

use std::io::{self, IsTerminal, Write};

use super::failure::Failure;

/// The two outputs of a command.
pub struct Screen<'a> {
    /// What was asked for.
    pub out: Box<dyn Write + 'a>,
    /// What a person should know besides.
    pub err: Box<dyn Write + 'a>,
    pub paint: Paint,
    paint_err: Paint,
}

impl Screen<'_> {
    /// Standard output and standard error, with colours where a terminal shows them.
    pub fn of_process() -> Screen<'static> {
        // Neither stays locked: sinks, progress and logs of other threads write there too.
        let (out, err) = (io::stdout(), io::stderr());
        let (paint, paint_err) = (Paint::on(&out), Paint::on(&err));
        Screen { out: Box::new(io::BufWriter::new(out)), err: Box::new(err), paint, paint_err }
    }

    /// Says what failed, and nothing if only the reader of the output went away.
    pub fn complain(&mut self, failure: &Failure) {
        if let Failure::Told { cause, .. } = failure {
            // Output before the error; where standard error is gone the exit code still tells.
            let _ = self.out.flush();
            let _ = writeln!(self.err, "{} {cause:#}", self.paint_err.red("error:"));
        }
    }

    /// Writes out what is buffered.
    ///
    /// # Errors
    /// When the output cannot be written.
    pub fn flush(&mut self) -> Result<(), Failure> {
        Ok(self.out.flush()?)
    }
}

#[cfg(test)]
impl<'a> Screen<'a> {
    /// Writes into memory, without colours.
    pub fn of_test(out: &'a mut Vec<u8>, err: &'a mut Vec<u8>) -> Self {
        Screen { out: Box::new(out), err: Box::new(err), paint: Paint::Plain, paint_err: Paint::Plain }
    }
}

/// Colours, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paint {
    Plain,
    Ansi,
}

impl Paint {
    /// Colours on a terminal unless `NO_COLOR` asks for none.
    fn on(output: &impl IsTerminal) -> Self {
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        if output.is_terminal() && !unwanted { Paint::Ansi } else { Paint::Plain }
    }

    pub fn bold(self, text: &str) -> String {
        self.with("1", text)
    }

    pub fn dim(self, text: &str) -> String {
        self.with("2", text)
    }

    pub fn red(self, text: &str) -> String {
        self.with("31", text)
    }

    pub fn green(self, text: &str) -> String {
        self.with("32", text)
    }

    pub fn yellow(self, text: &str) -> String {
        self.with("33", text)
    }

    fn with(self, code: &str, text: &str) -> String {
        match self {
            Paint::Ansi if !text.is_empty() => format!("\x1b[{code}m{text}\x1b[0m"),
            _ => text.to_owned(),
        }
    }
}
