//! What all our programs do alike where people type them: how results get to stdout ([`print!`], [`println!`], and [`Stdout`]
//! for who wants a writer), and which addresses are understood ([`address`]).
//!
//! Rust's runtime ignores SIGPIPE, which a daemon needs: a client that hangs up must not end it. So `… | head -1` is an error of
//! a write here, where it is the end of other programs, and std's `print!` panics about it. The ones here end the program as
//! SIGPIPE would have: quietly, with what a shell shows of that.

mod address;

use std::fmt;
use std::io::{self, Write};

pub use address::address;

/// What a shell shows of a program that SIGPIPE (13) has ended.
pub const READER_GONE: u8 = 128 + 13;
/// As of everything that failed.
const FAILED: u8 = 1;

/// As std's, but a reader that has gone is the end of this program.
#[macro_export]
macro_rules! print {
    ($($text:tt)*) => { $crate::write(::std::format_args!($($text)*)) };
}

/// As [`print!`], and a line feed.
#[macro_export]
macro_rules! println {
    ($($text:tt)*) => { $crate::write(::std::format_args!("{}\n", ::std::format_args!($($text)*))) };
}

/// Writes it, or ends the program.
pub fn write(text: fmt::Arguments<'_>) {
    try_write(text).unwrap_or_else(|err| end(&err));
}

/// Writes it; for a program that has to put things in order before it ends.
pub fn try_write(text: fmt::Arguments<'_>) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_fmt(text)?;
    stdout.flush()
}

/// Its writes succeed, or end the program.
#[derive(Debug, Default, Clone, Copy)]
pub struct Stdout;

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(io::stdout().write(bytes).unwrap_or_else(|err| end(&err)))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stdout().flush().unwrap_or_else(|err| end(&err));
        Ok(())
    }
}

/// A full disk is said; of a reader that has gone nothing is, for nobody is at fault.
fn end(err: &io::Error) -> ! {
    let code = exit_code(err);
    if code != READER_GONE {
        // Stderr may be gone as well, and then there is nobody to tell.
        let _ = writeln!(io::stderr(), "cannot write to stdout: {err}");
    }
    std::process::exit(code.into())
}

fn exit_code(err: &io::Error) -> u8 {
    if err.kind() == io::ErrorKind::BrokenPipe { READER_GONE } else { FAILED }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_reader_that_has_gone_is_no_failure() {
        assert_eq!(exit_code(&io::ErrorKind::BrokenPipe.into()), READER_GONE);
        for kind in [io::ErrorKind::StorageFull, io::ErrorKind::PermissionDenied, io::ErrorKind::Other] {
            assert_eq!(exit_code(&kind.into()), FAILED, "{kind}");
        }
    }
}
