//! Directories of released versions, as `golden.rs` packs them: of each file its length, and the pages that are not zero, each
//! behind its number. Of its tests and of those of walctl.

use std::fs;
use std::path::Path;

/// Has every file of `packed` in `dir` as it was.
pub fn unpack(packed: &Path, dir: &Path) {
    for entry in fs::read_dir(packed).unwrap().map(Result::unwrap) {
        fs::write(dir.join(entry.file_name()), unpacked(&fs::read(entry.path()).unwrap())).unwrap();
    }
}

fn unpacked(packed: &[u8]) -> Vec<u8> {
    let (length, pages) = packed.split_first_chunk::<8>().unwrap();
    let length = u64::from_le_bytes(*length) as usize;
    let mut bytes = vec![0; length.next_multiple_of(4096)];
    for page in pages.chunks(4100) {
        let at = u32::from_le_bytes(page[..4].try_into().unwrap()) as usize * 4096;
        bytes[at..at + 4096].copy_from_slice(&page[4..]);
    }
    bytes.truncate(length);
    bytes
}
