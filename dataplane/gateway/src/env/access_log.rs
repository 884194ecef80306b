//! One line per request, when an access log is configured: never a credential, never a query, never a body.

use runtime::line_log::LineLog;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

/// A shard's end. One per shard; without a file it does nothing.
#[derive(Default)]
pub struct AccessLog(LineLog);

impl AccessLog {
    pub fn new(writer: Option<SyncSender<String>>) -> AccessLog {
        AccessLog(LineLog::new(writer))
    }

    /// `2026-11-22T15:45:45.123Z 127.0.0.1:4711 publish 201 842 0123abcd…` (microseconds).
    pub fn write(
        &self,
        now_ms: i64,
        peer: SocketAddr,
        endpoint: &str,
        status: u16,
        elapsed: Duration,
        request_id: &[u8],
    ) {
        self.0.append(|line| {
            let time = jiff::Timestamp::from_millisecond(now_ms).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
            let _ = write!(line, "{time:.3} {peer} {endpoint} {status} {} ", elapsed.as_micros());
            line.extend(request_id.iter().map(|byte| if byte.is_ascii_graphic() { *byte as char } else { '?' }));
        });
    }

    /// Lines that were not written because the disk was too slow.
    pub fn dropped_total(&self) -> u64 {
        self.0.dropped_total.get()
    }

    /// Gives collected lines to the writer.
    pub fn hand_over(&self) {
        self.0.hand_over();
    }

    /// Gives the last lines to the writer, waiting for it if need be. Nothing is written after this.
    pub fn close(&self) {
        self.0.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use runtime::line_log;
    use std::path::Path;

    #[test]
    fn a_line_tells_who_what_and_how_long_and_a_request_id_cannot_forge_another_line() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("access.log");
        let (writer, thread) = line_log::open(&path).expect("opens");
        let log = AccessLog::new(Some(writer));
        let peer: SocketAddr = "127.0.0.1:4711".parse().expect("an address");
        log.write(1_795_362_345_123, peer, "publish", 201, Duration::from_micros(842), b"r1\nforged \xff");
        log.close();
        thread.join().expect("the writer ends when the last log is closed");
        let expected = "2026-11-22T15:45:45.123Z 127.0.0.1:4711 publish 201 842 r1?forged??\n";
        assert_eq!(std::fs::read_to_string(&path).expect("a file"), expected);
    }

    #[test]
    fn after_a_reopen_lines_go_into_a_new_file_and_none_is_lost() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("access.log");
        let (sender, writer) = line_log::open(&path).expect("opens");
        let log = AccessLog::new(Some(sender));
        let peer: SocketAddr = "127.0.0.1:4711".parse().expect("an address");
        let write = |id: &[u8]| log.write(0, peer, "publish", 201, Duration::ZERO, id);
        let until_written = |path: &Path, id: &str| {
            while !std::fs::read_to_string(path).is_ok_and(|text| text.contains(id)) {
                std::thread::sleep(Duration::from_millis(1));
            }
        };
        write(b"before");
        log.hand_over();
        until_written(&path, "before");
        let rotated = dir.path().join("access.log.1");
        std::fs::rename(&path, &rotated).expect("renamed");
        write(b"unaware");
        log.hand_over();
        until_written(&rotated, "unaware");
        writer.reopen();
        write(b"after");
        log.close();
        writer.join().expect("the writer ends");
        assert!(std::fs::read_to_string(&path).expect("a new file").ends_with(" after\n"));
        assert_eq!(std::fs::read_to_string(&rotated).expect("the old file").lines().count(), 2);
    }
}
