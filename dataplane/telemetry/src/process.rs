//! What the kernel says about this process, read at each scrape. Names are those of the Prometheus clients.

use std::fs;

use crate::text;

/// USER_HZ: the unit of times in /proc, 100 a second on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;

pub(crate) fn render(out: &mut String) {
    if let Some(seconds) = cpu_seconds() {
        let name = "process_cpu_seconds_total";
        text::header(out, name, "User and system CPU time spent.", "counter");
        text::sample(out, name, "", "", "", seconds);
    }
    if let Ok(entries) = fs::read_dir("/proc/self/fd") {
        let name = "process_open_fds";
        text::header(out, name, "Open file descriptors.", "gauge");
        // One of them is the directory being read.
        text::sample(out, name, "", "", "", entries.count().saturating_sub(1));
    }
    if let Some(bytes) = resident_bytes() {
        let name = "process_resident_memory_bytes";
        text::header(out, name, "Memory in use by the process and resident in RAM.", "gauge");
        text::sample(out, name, "", "", "", bytes);
    }
}

fn cpu_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    parse_cpu_seconds(&stat)
}

/// proc_pid_stat(5): the command in parentheses may hold anything, so fields are counted behind the last one.
fn parse_cpu_seconds(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some((user + system) as f64 / TICKS_PER_SECOND)
}

fn resident_bytes() -> Option<u64> {
    parse_resident_bytes(&fs::read_to_string("/proc/self/status").ok()?)
}

fn parse_resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_files_are_read_whatever_the_command_is_called() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 100 0 0 0 150 50 0 0 20 0 1 0 5 1 1";
        assert_eq!(parse_cpu_seconds(stat), Some(2.0));
        assert_eq!(parse_cpu_seconds("7 (x"), None);
        assert_eq!(parse_resident_bytes("Name:\tx\nVmRSS:\t    2048 kB\n"), Some(2048 * 1024));
        assert_eq!(parse_resident_bytes("VmRSS: many"), None);
    }
}
