//! Running one program of a test run: under a time limit, its output kept, its progress on stderr.
//!
//! The limit is what tells a hang from slow work: a step that exceeds it is killed and named, with what it said last.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use testkit::process::{shown, spawn};
use testkit::progress::say;

/// Say that a step still runs this often.
const STILL_EVERY: Duration = Duration::from_secs(30);
/// Lines kept of one program's output; the first are dropped.
const LINES_MAX: usize = 20_000;

/// How a program ended and what it printed to stdout.
#[derive(Debug)]
pub struct Ended {
    pub success: bool,
    /// Set when it was killed for taking longer than its limit.
    pub hung: bool,
    pub status: String,
    pub lines: Vec<String>,
    pub took: Duration,
}

/// Runs `command` to its end. Its stderr is ours; each line of its stdout goes to `each` as it comes.
pub fn run(name: &str, mut command: Command, limit: Duration, mut each: impl FnMut(&str)) -> Result<Ended> {
    let started = Instant::now();
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let line = shown(&command);
    let mut family = spawn(command)?;
    let stdout = family.take_stdout().context("stdout was piped")?;
    let (sender, output) = mpsc::sync_channel(1_000);
    let reader = std::thread::spawn(move || {
        for text in BufReader::new(stdout).split(b'\n') {
            let Ok(text) = text else { break };
            if sender.send(String::from_utf8_lossy(&text).trim_end_matches('\r').to_owned()).is_err() {
                break;
            }
        }
    });
    let mut lines: Vec<String> = Vec::new();
    let mut told = started;
    let mut hung = false;
    loop {
        match output.recv_timeout(Duration::from_millis(500)) {
            Ok(text) => {
                each(&text);
                if lines.len() >= LINES_MAX {
                    lines.drain(..LINES_MAX / 2);
                }
                lines.push(text);
            }
            // The reader ends with the program's last copy of stdout.
            Err(RecvTimeoutError::Disconnected) => match family.try_wait()? {
                Some(_) => break,
                None => std::thread::sleep(Duration::from_millis(5)),
            },
            // Noticing its end also ends whoever it left behind with its stdout.
            Err(RecvTimeoutError::Timeout) => drop(family.try_wait()?),
        }
        if started.elapsed() > limit {
            hung = true;
            say(&format!("✗ {name} hung: killed after {limit:?}: {line}"));
            family.kill9();
            break;
        }
        if told.elapsed() > STILL_EVERY {
            told = Instant::now();
            let last = lines.last().map_or(String::new(), |last| format!(", last said: {}", short(last)));
            say(&format!("  … {name}: {} s so far{last}", started.elapsed().as_secs()));
        }
    }
    let ended = family.try_wait()?;
    let success = ended.is_some_and(|status| status.success());
    let status = ended.map_or_else(|| "killed".to_owned(), |status| status.to_string());
    drop(output);
    if !hung {
        let _ = reader.join();
    }
    Ok(Ended { success: success && !hung, hung, status, lines, took: started.elapsed() })
}

/// A line for people; of cargo's messages for machines only what was compiled.
fn short(line: &str) -> String {
    if let Ok(message) = serde_json::from_str::<serde_json::Value>(line)
        && let Some(name) = message["target"]["name"].as_str()
    {
        return format!("{name} is built");
    }
    let cut: String = line.chars().take(100).collect();
    if cut.len() < line.len() { format!("{cut}…") } else { cut }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Command {
        let mut command = testkit::process::tethered("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_program_that_ends_is_reported_with_its_lines() {
        let mut seen = Vec::new();
        let ended = run("x", sh("echo a; echo b; exit 3"), Duration::from_secs(20), |line| seen.push(line.to_owned()));
        let ended = ended.unwrap();
        assert_eq!((ended.success, ended.hung, ended.status.as_str()), (false, false, "exit status: 3"));
        assert_eq!(ended.lines, ["a", "b"]);
        assert_eq!(seen, ended.lines);
    }

    #[test]
    fn what_was_said_last_is_shown_for_people() {
        assert_eq!(short(r#"{"reason":"compiler-artifact","target":{"name":"serde"}}"#), "serde is built");
        assert_eq!(short("plain"), "plain");
        assert_eq!(short(&"é".repeat(300)).chars().count(), 101);
    }

    #[test]
    fn a_program_that_leaves_somebody_behind_with_its_output_does_not_hang_the_run() {
        let ended = run("x", sh("sleep 600 & echo done"), Duration::from_secs(60), |_| {}).unwrap();
        assert!(ended.success);
        assert!(ended.took < Duration::from_secs(30), "{:?}", ended.took);
    }

    #[test]
    fn a_program_that_hangs_is_killed_and_says_so() {
        let ended = run(
            "(a program that a unit test lets hang)",
            sh("echo begun; exec sleep 600"),
            Duration::from_millis(200),
            |_| {},
        )
        .unwrap();
        assert!(ended.hung);
        assert!(!ended.success);
        assert_eq!(ended.lines, ["begun"]);
    }
}
