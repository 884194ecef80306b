//! Bytes to and from plain files. A call that was interrupted is made again, so many times.

use std::fs;
use std::io::{self, IoSlice};
use std::num::NonZeroU64;

use bytes::Bytes;
use rustix::io::Errno;

use crate::operation::ZERO_WRITE_BYTES;

/// How often one call is made again before its error is believed: a signal or a busy device comes once, not a thousand
/// times in a row.
pub const INTERRUPTIONS_MAX: usize = 1000;

/// Makes a call until it was not interrupted.
pub fn again<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    for _ in 0..INTERRUPTIONS_MAX {
        match call() {
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => std::thread::yield_now(),
            done => return done,
        }
    }
    call()
}

/// Never zeroes memory first.
pub fn read(file: &fs::File, at: u64, bytes: usize) -> io::Result<Bytes> {
    let mut buffer: Vec<u8> = Vec::with_capacity(bytes);
    while buffer.len() < bytes && buffer.capacity() > buffer.len() {
        let position = at + buffer.len() as u64;
        if again(|| rustix::io::pread(file, rustix::buffer::spare_capacity(&mut buffer), position))? == 0 {
            break;
        }
    }
    buffer.truncate(bytes);
    Ok(Bytes::from(buffer))
}

/// Has the page cache let go of these bytes, of whole pages around them.
pub fn forget(file: &fs::File, at: u64, bytes: usize) -> io::Result<()> {
    let page = ZERO_WRITE_BYTES as u64;
    let begin = at - at % page;
    let end = (at + bytes as u64).next_multiple_of(page);
    Ok(rustix::fs::fadvise(file, begin, NonZeroU64::new(end - begin), rustix::fs::Advice::DontNeed)?)
}

/// One write, which may be short.
pub fn write(file: &fs::File, head: &[u8], body: &[u8], at: u64) -> io::Result<usize> {
    Ok(again(|| rustix::io::pwritev(file, &[IoSlice::new(head), IoSlice::new(body)], at))?)
}

/// Zeros from the beginning up to `bytes`. Cost: a system call for a page, 64 MiB in 20 to 50 ms.
pub fn zero(file: &fs::File, bytes: u64) -> io::Result<()> {
    const ZEROS: [u8; ZERO_WRITE_BYTES] = [0; ZERO_WRITE_BYTES];
    let mut at = 0;
    while at < bytes {
        // Up to the next page, also after a short write.
        let page_left = ZERO_WRITE_BYTES as u64 - at % ZERO_WRITE_BYTES as u64;
        let some = page_left.min(bytes - at) as usize;
        match write(file, &ZEROS[..some], &[], at)? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            written => at += written as u64,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interrupted_call_is_made_again_and_not_for_ever() {
        for interruption in [Errno::INTR, Errno::AGAIN] {
            let mut calls = 0;
            let done = again(|| {
                calls += 1;
                if calls < 5 { Err(interruption) } else { Ok(calls) }
            });
            assert_eq!(done, Ok(5));
            let mut calls = 0;
            assert_eq!(
                again::<()>(|| {
                    calls += 1;
                    Err(interruption)
                }),
                Err(interruption)
            );
            assert_eq!(calls, INTERRUPTIONS_MAX + 1);
        }
        assert_eq!(again::<()>(|| Err(Errno::IO)), Err(Errno::IO));
    }
}
