//! Adding up what ran: durations, failures, skips with their reasons, and the one closing line.

use std::time::Duration;

/// What libtest (and libtest-mimic) say at the end of a binary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub passed: u64,
    pub failed: u64,
    pub skipped: u64,
}

/// `test result: ok. 5 passed; 0 failed; 2 ignored; …`
pub fn parse_result(line: &str) -> Option<Counts> {
    let rest = line.strip_prefix("test result: ")?;
    let number = |word: &str| -> Option<u64> {
        let before =
            rest.split(';').flat_map(|part| part.split(". ")).find_map(|part| part.trim().strip_suffix(word))?;
        before.trim().parse().ok()
    };
    Some(Counts { passed: number("passed")?, failed: number("failed")?, skipped: number("ignored")? })
}

/// Why a test did not run: `skipped NAME: reason` from our own binaries, `test NAME ... ignored, reason` from libtest.
pub fn parse_skip(line: &str) -> Option<String> {
    if let Some(rest) = line.strip_prefix("skipped ") {
        return Some(rest.to_owned());
    }
    let (name, rest) = line.strip_prefix("test ")?.split_once(" ... ignored")?;
    // libtest-mimic prints no reason; its binaries print the line above instead.
    rest.strip_prefix(", ").map(|reason| format!("{}: {reason}", name.trim()))
}

#[derive(Debug, Default)]
pub struct Report {
    rows: Vec<(String, Counts, Duration)>,
    failures: Vec<String>,
    skips: Vec<String>,
}

impl Report {
    pub fn row(&mut self, name: &str, counts: Counts, took: Duration) {
        self.rows.push((name.to_owned(), counts, took));
    }

    /// A check that is one thing, such as rustfmt.
    pub fn check(&mut self, name: &str, passed: bool, took: Duration) {
        let counts = Counts { passed: u64::from(passed), failed: u64::from(!passed), skipped: 0 };
        self.row(name, counts, took);
        if !passed {
            self.failure(name.to_owned());
        }
    }

    pub fn skipped_check(&mut self, name: &str, reason: &str) {
        self.row(name, Counts { skipped: 1, ..Counts::default() }, Duration::ZERO);
        self.skip(format!("{name}: {reason}"));
    }

    pub fn failure(&mut self, what: String) {
        self.failures.push(what);
    }

    pub fn skip(&mut self, what: String) {
        self.skips.push(what);
    }

    pub fn total(&self) -> Counts {
        self.rows.iter().fold(Counts::default(), |sum, (_, counts, _)| Counts {
            passed: sum.passed + counts.passed,
            failed: sum.failed + counts.failed,
            skipped: sum.skipped + counts.skipped,
        })
    }

    /// Failures count; a skip too where nothing may be skipped.
    pub fn is_success(&self, skip_is_failure: bool) -> bool {
        let total = self.total();
        total.failed == 0 && self.failures.is_empty() && !(skip_is_failure && total.skipped > 0)
    }

    /// The table, the reasons, and as the last line the sum.
    pub fn to_text(&self, skip_is_failure: bool) -> String {
        let mut text = String::from("\nseconds  passed  failed skipped\n");
        for (name, counts, took) in &self.rows {
            let Counts { passed, failed, skipped } = counts;
            text.push_str(&format!("{:7.1} {passed:7} {failed:7} {skipped:7}  {name}\n", took.as_secs_f64()));
        }
        for skip in &self.skips {
            text.push_str(&format!("skipped: {skip}\n"));
        }
        if skip_is_failure && self.total().skipped > 0 {
            text.push_str("nothing may be skipped here (CI): every skip is a failure\n");
        }
        for failure in &self.failures {
            text.push_str(&format!("FAILED: {failure}\n"));
        }
        let Counts { passed, failed, skipped } = self.total();
        text.push_str(&format!("\n{passed} passed, {failed} failed, {skipped} skipped\n"));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_of_libtest_are_read() {
        let rows = [
            (
                "test result: ok. 27 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.07s",
                Some(Counts { passed: 27, failed: 0, skipped: 1 }),
            ),
            (
                "test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 21.19s",
                Some(Counts { passed: 2, failed: 1, skipped: 0 }),
            ),
            ("test publish::a ... ok", None),
            ("running 5 tests", None),
        ];
        for (line, expected) in rows {
            assert_eq!(parse_result(line), expected, "{line}");
        }
    }

    #[test]
    fn reasons_for_skips_are_read_from_both_kinds_of_binaries() {
        assert_eq!(parse_skip("skipped a::b: no kcat").as_deref(), Some("a::b: no kcat"));
        assert_eq!(parse_skip("test a::b ... ignored, long").as_deref(), Some("a::b: long"));
        assert_eq!(parse_skip("test a::b ... ignored"), None);
        assert_eq!(parse_skip("test a::b ... ok"), None);
    }

    #[test]
    fn the_last_line_is_the_sum_and_skips_count_where_they_must() {
        let mut report = Report::default();
        report.check("rustfmt", true, Duration::from_secs(1));
        report.row("model", Counts { passed: 5, failed: 0, skipped: 0 }, Duration::from_secs(2));
        report.skipped_check("cargo-deny", "offline");
        assert!(report.to_text(false).ends_with("\n6 passed, 0 failed, 1 skipped\n"));
        assert!(report.is_success(false));
        assert!(!report.is_success(true));
        report.check("clippy", false, Duration::from_secs(1));
        assert!(!report.is_success(false));
        assert!(report.to_text(false).contains("FAILED: clippy\n"));
    }
}
