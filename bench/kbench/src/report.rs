//! Figures for people and for programs.

use std::process::ExitCode;

use anyhow::Result;

use crate::cli::{FAILED, Output, UNREACHABLE};
use crate::outcome::Figures;

/// Prints the figures; the exit code tells whether all went well.
pub fn print(figures: &Figures, output: Output) -> Result<ExitCode> {
    let text = match output {
        Output::Json => serde_json::to_string(figures)? + "\n",
        Output::Table => table(figures),
    };
    console::print!("{text}");
    Ok(if figures.all_good() {
        ExitCode::SUCCESS
    } else if figures.requests == 0 {
        ExitCode::from(UNREACHABLE)
    } else {
        ExitCode::from(FAILED)
    })
}

fn table(figures: &Figures) -> String {
    let mut rows: Vec<(String, String)> = Vec::new();
    let mut row = |name: &str, value: String| rows.push((name.to_owned(), value));
    row("measured", format!("{:.1} s", figures.seconds));
    row("requests", format!("{} ({:.0}/s)", figures.requests, figures.requests_per_second));
    if figures.messages != figures.requests {
        row("messages", format!("{} ({:.0}/s)", figures.messages, figures.messages_per_second));
    }
    if figures.failed > 0 {
        row("failed", format!("{} messages", figures.failed));
    }
    row("payload", format!("{:.1} MiB/s", figures.mebibytes_per_second));
    row(
        "latency",
        format!(
            "p50 {} µs, p99 {} µs, p99.9 {} µs, max {} µs",
            figures.p50_us, figures.p99_us, figures.p999_us, figures.max_us
        ),
    );
    for (status, count) in &figures.statuses {
        row(&format!("status {status}"), count.to_string());
    }
    for (why, count) in &figures.errors {
        row("error", format!("{count} × {why}"));
    }
    if figures.unanswered > 0 {
        row("unanswered", figures.unanswered.to_string());
    }
    if let Some(open) = &figures.open {
        row(
            "from sent",
            format!(
                "p50 {} µs, p99 {} µs, p99.9 {} µs",
                open.from_sent_p50_us, open.from_sent_p99_us, open.from_sent_p999_us
            ),
        );
        row(
            "client late",
            format!(
                "p50 {} µs, p99 {} µs, p99.9 {} µs",
                open.client_late_p50_us, open.client_late_p99_us, open.client_late_p999_us
            ),
        );
    }
    if let Some(foreign) = figures.foreign_cores {
        row("foreign CPU", format!("{foreign:.2} cores on the server's CPU"));
    }
    if let Some(cpu) = &figures.cpu {
        row("CPU", format!("{:.2} µs/request ({:.2} cores)", cpu.us_per_request, cpu.cores));
        if figures.messages != figures.requests && figures.messages > 0 {
            row("messages", format!("{:.0} per CPU-second", 1e6 / cpu.us_per_message));
        }
        for (name, us) in &cpu.us_per_request_by_thread {
            row(&format!("CPU {name}"), format!("{us:.2} µs/request"));
        }
    }
    let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    rows.iter().map(|(name, value)| format!("{name:width$}  {value}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::Spent;
    use crate::outcome::Outcome;
    use crate::receipts::Stored;
    use std::time::Duration;

    #[test]
    fn a_table_says_everything_that_happened() {
        let mut outcome = Outcome::new();
        for us in 1..=100 {
            outcome.answered(201, Stored { stored: 10, failed: 0 }, 1 << 20, Duration::from_micros(us));
        }
        outcome.answered(200, Stored { stored: 0, failed: 10 }, 0, Duration::from_micros(50));
        outcome.failed("connection closed by the server");
        outcome.unanswered = 3;
        let spent = Spent { total_ns: 1_010_000, by_name: [("shard-0".to_owned(), 1_010_000)].into() };
        let figures = Figures::of(&outcome, Duration::from_secs(2), Some(&spent));
        assert_eq!(
            table(&figures),
            "measured     2.0 s\n\
             requests     101 (50/s)\n\
             messages     1000 (500/s)\n\
             failed       10 messages\n\
             payload      50.0 MiB/s\n\
             latency      p50 50 µs, p99 99 µs, p99.9 100 µs, max 100 µs\n\
             status 200   1\n\
             status 201   100\n\
             error        1 × connection closed by the server\n\
             unanswered   3\n\
             CPU          10.00 µs/request (0.00 cores)\n\
             messages     990099 per CPU-second\n\
             CPU shard-0  10.00 µs/request\n"
        );
    }
}
