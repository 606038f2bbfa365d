//! How a command ends, and what a failure says.

use std::io;
use std::process::ExitCode;

/// How a command ended: the exit codes of the command line, which scripts rely on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    Ok = 0,
    /// It was answered, and the answer is no: nothing there, something refused.
    No = 1,
    /// The arguments or the configuration have to be mended first.
    Usage = 2,
    /// A file, a socket or the server failed.
    Io = 3,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

/// Why a command could not do what was asked.
#[derive(Debug)]
pub enum Failure {
    /// Whoever read our output has seen enough (`| head`): nothing to complain about.
    OutputClosed,
    Told {
        exit: Exit,
        cause: anyhow::Error,
    },
}

impl Failure {
    /// A failure with a message, for one of the exit codes but 0.
    pub fn new(exit: Exit, cause: impl Into<anyhow::Error>) -> Self {
        Failure::Told { exit, cause: cause.into() }
    }

    /// A failure that is told by a message alone.
    pub fn message(exit: Exit, message: String) -> Self {
        Failure::Told { exit, cause: anyhow::Error::msg(message) }
    }

    /// The exit code it leads to.
    pub fn exit(&self) -> Exit {
        match self {
            Failure::OutputClosed => Exit::Ok,
            Failure::Told { exit, .. } => *exit,
        }
    }
}

/// Only for what is written to our own output.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Failure::OutputClosed;
        }
        Failure::new(Exit::Io, anyhow::Error::new(error).context("cannot write the output"))
    }
}
