//! `turnstile completions SHELL`: what a shell needs to complete our arguments.

use clap::CommandFactory;
use clap_complete::Shell;

use super::entry::Cli;
use super::failure::{Exit, Failure};
use super::screen::Screen;

#[derive(Debug, clap::Args)]
pub struct CompletionsArgs {
    /// The shell the completions are for
    shell: Shell,
}

/// Prints the completion script.
///
/// # Errors
/// When the output cannot be written.
pub fn completions(args: &CompletionsArgs, screen: &mut Screen<'_>) -> Result<Exit, Failure> {
    // Into memory first: the generator panics where its output is closed.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "turnstile", &mut script);
    screen.out.write_all(&script)?;
    Ok(Exit::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_gets_a_script_that_knows_the_subcommands() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish, Shell::PowerShell, Shell::Elvish] {
            let (mut out, mut err) = (Vec::new(), Vec::new());
            let exit = completions(&CompletionsArgs { shell }, &mut Screen::of_test(&mut out, &mut err)).unwrap();
            assert_eq!(exit, Exit::Ok);
            assert!(String::from_utf8(out).unwrap().contains("completions"), "{shell}");
        }
    }
}
