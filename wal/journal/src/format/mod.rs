//! The bytes of `wal/FORMAT.md`: encoders, and decoders that take any bytes at all.
//!
//! Pure. A decoder never allocates more than what its input holds.

pub mod block;
pub mod checkpoint;
pub mod id;
pub mod segment;
#[cfg(test)]
mod tests;

/// Blocks begin on one; what a memory-mapped disk writes at least.
pub const PAGE_BYTES: usize = 4096;
/// What this code writes, and the newest it reads.
pub const VERSION: u32 = 1;

/// No lsn and no number of a file gets here; so adding to one never overflows.
pub const NUMBERS_END: u64 = 1 << 62;

pub type Magic = [u8; 8];
/// 16 random bytes that tell one journal from another.
pub type JournalId = [u8; 16];

/// Where every header has its magic and version.
const AT_MAGIC: usize = 8;
const AT_VERSION: usize = 16;
const AT_FLAGS: usize = 20;
/// The first byte of a header that is its own.
pub const AT_OWN: usize = 24;

/// Why bytes are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Bad {
    #[error("it is shorter than its header says")]
    Short,
    #[error("it does not begin with the magic of its kind")]
    Magic,
    #[error("its checksum does not match")]
    Checksum,
    #[error("a field of it contradicts another, or where it was found")]
    Field,
    /// Whole, and of a version or with a flag that we do not know: not to be touched.
    #[error("it has version {version}, flags {flags:#x}; this program knows up to version {VERSION}, no flags")]
    Newer { version: u32, flags: u32 },
}

/// Rounds up to whole pages.
pub fn pages(bytes: usize) -> usize {
    bytes.next_multiple_of(PAGE_BYTES)
}

/// FNV-1a, 64 bit.
pub fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

pub fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

pub fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

pub fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("as many bytes")
}

pub fn put(bytes: &mut [u8], at: usize, field: &[u8]) {
    bytes[at..at + field.len()].copy_from_slice(field);
}

/// Begins a header of this kind: everything but its own fields and its checksum.
pub fn begin(header_bytes: usize, magic: &Magic) -> Vec<u8> {
    let mut header = vec![0; header_bytes];
    put(&mut header, 4, &(header_bytes as u32).to_le_bytes());
    put(&mut header, AT_MAGIC, magic);
    put(&mut header, AT_VERSION, &VERSION.to_le_bytes());
    header
}

/// Its checksum put in.
pub fn finish(mut header: Vec<u8>) -> Vec<u8> {
    let crc = crc32c::crc32c(&header[4..]);
    put(&mut header, 0, &crc.to_le_bytes());
    header
}

/// The header at the begin of `bytes`, when it is whole, of this kind, and of a version we know.
pub fn checked<'a>(bytes: &'a [u8], magic: &Magic) -> Result<&'a [u8], Bad> {
    let prelude = bytes.get(..AT_OWN).ok_or(Bad::Short)?;
    if prelude[AT_MAGIC..AT_VERSION] != magic[..] {
        return Err(Bad::Magic);
    }
    let header_bytes = u32_at(prelude, 4) as usize;
    if !(AT_OWN..=PAGE_BYTES).contains(&header_bytes) {
        return Err(Bad::Field);
    }
    let header = bytes.get(..header_bytes).ok_or(Bad::Short)?;
    if crc32c::crc32c(&header[4..]) != u32_at(header, 0) {
        return Err(Bad::Checksum);
    }
    let (version, flags) = (u32_at(header, AT_VERSION), u32_at(header, AT_FLAGS));
    match version == VERSION && flags == 0 {
        true => Ok(header),
        false => Err(Bad::Newer { version, flags }),
    }
}
