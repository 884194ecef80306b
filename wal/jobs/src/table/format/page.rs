//! A page of a directory: where jobs are due and in which queue, sorted by their numbers, each told as its difference to the
//! one before. The rest of the page is zero, and checked with it.

use journal::format::{Bad, PAGE_BYTES, put, u32_at, u64_at};

use super::{FileKey, put_varint, take_u32, take_varint, unzigzag, zigzag};

const HEADER_BYTES: usize = 16;
const AT_COUNT: usize = 4;
const AT_END: usize = 6;
const AT_FIRST: usize = 8;

/// A job without its body. A job that was moved while tables were merged may be in one twice, with two dues.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    pub seq: u64,
    pub due_ms: i64,
    pub queue: u32,
}

/// A page that is being filled.
#[derive(Debug)]
pub struct Builder {
    bytes: Vec<u8>,
    count: u16,
    first: u64,
    last: Entry,
}

impl Builder {
    /// An empty one.
    pub fn new() -> Builder {
        let last = Entry { seq: 0, due_ms: 0, queue: 0 };
        Builder { bytes: vec![0; HEADER_BYTES], count: 0, first: 0, last }
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The number of its first job.
    pub fn first(&self) -> u64 {
        self.first
    }

    /// Takes one more. False: there is no room for it.
    ///
    /// # Panics
    /// When it does not come behind the one before: they were sorted.
    pub fn push(&mut self, entry: Entry) -> bool {
        let mut last = self.last;
        if self.is_empty() {
            last = Entry { seq: entry.seq, due_ms: 0, queue: 0 };
        } else {
            assert!(last < entry, "entries are in order: {last:?} before {entry:?}");
        }
        let end = self.bytes.len();
        put_varint(&mut self.bytes, entry.seq - last.seq);
        put_varint(&mut self.bytes, zigzag(entry.due_ms.wrapping_sub(last.due_ms)));
        put_varint(&mut self.bytes, u64::from(entry.queue));
        if self.bytes.len() > PAGE_BYTES {
            self.bytes.truncate(end);
            return false;
        }
        if self.is_empty() {
            self.first = entry.seq;
        }
        (self.count, self.last) = (self.count + 1, entry);
        true
    }

    /// Its page, as it stands at this offset of this file; then it is empty again.
    pub fn seal(&mut self, key: FileKey, at: u64) -> Vec<u8> {
        let mut page = std::mem::take(self);
        let end = page.bytes.len() as u16;
        page.bytes.resize(PAGE_BYTES, 0);
        put(&mut page.bytes, AT_COUNT, &page.count.to_le_bytes());
        put(&mut page.bytes, AT_END, &end.to_le_bytes());
        put(&mut page.bytes, AT_FIRST, &page.first.to_le_bytes());
        let crc = key.checksum(at, &page.bytes[4..]);
        put(&mut page.bytes, 0, &crc.to_le_bytes());
        page.bytes
    }
}

impl Default for Builder {
    fn default() -> Builder {
        Builder::new()
    }
}

/// The entries of the page at the begin of `bytes`, which were found at this offset; some 400, at least one.
pub fn decode(bytes: &[u8], key: FileKey, at: u64) -> Result<Vec<Entry>, Bad> {
    let page = bytes.get(..PAGE_BYTES).ok_or(Bad::Short)?;
    if key.checksum(at, &page[4..]) != u32_at(page, 0) {
        return Err(Bad::Checksum);
    }
    entries(page).ok_or(Bad::Field)
}

fn entries(page: &[u8]) -> Option<Vec<Entry>> {
    let two = |at: usize| usize::from(u16::from_le_bytes([page[at], page[at + 1]]));
    let (count, end) = (two(AT_COUNT), two(AT_END));
    let page_used = page.get(..end)?;
    let mut entries = Vec::with_capacity(count.min(PAGE_BYTES));
    let (mut at, mut last) = (HEADER_BYTES, Entry { seq: u64_at(page, AT_FIRST), due_ms: 0, queue: 0 });
    for index in 0..count {
        let seq = last.seq.checked_add(take_varint(page_used, &mut at)?)?;
        let due_ms = last.due_ms.wrapping_add(unzigzag(take_varint(page_used, &mut at)?));
        let entry = Entry { seq, due_ms, queue: take_u32(page_used, &mut at)? };
        if if index == 0 { seq != last.seq } else { entry <= last } {
            return None;
        }
        entries.push(entry);
        last = entry;
    }
    (count > 0 && at == end).then_some(entries)
}
