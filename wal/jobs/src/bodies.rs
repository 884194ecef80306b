//! Bodies of jobs side by side in chunks: what a million small ones cost is their bytes, not a million allocations.
//!
//! A body on its own is its allocation, the head that counts who shares it, and what the allocator loses around both: 64 bytes
//! take some 150. A chunk goes when nothing of it is wanted any more, so a job that lives long keeps its chunk; that ends with its
//! generation, which is written as a table.

/// Room of a chunk. A longer body has one of its own.
pub const CHUNK_BYTES: usize = 256 << 10;

/// Where a body is.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    chunk: u32,
    at: u32,
    bytes: u32,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Bodies {
    chunks: Vec<Chunk>,
    /// Chunks without room, for the next one.
    empty: Vec<u32>,
    /// The one that is being filled.
    filling: Option<u32>,
    bytes: u64,
}

#[derive(Debug, Default)]
struct Chunk {
    bytes: Vec<u8>,
    /// Bodies of it that are wanted.
    wanted: u32,
}

impl Bodies {
    /// Copies it.
    ///
    /// # Panics
    /// When it is longer than 4 GiB, which no record of the log is.
    pub fn put(&mut self, body: &[u8]) -> Place {
        let bytes = u32::try_from(body.len()).expect("a record of the log is shorter");
        let has_room = |chunk: &u32| {
            let chunk = &self.chunks[*chunk as usize].bytes;
            chunk.capacity() - chunk.len() >= body.len()
        };
        let number = match self.filling.filter(has_room) {
            Some(filling) => filling,
            None => self.begin(body.len()),
        };
        let chunk = &mut self.chunks[number as usize];
        let at = chunk.bytes.len() as u32;
        chunk.bytes.extend_from_slice(body);
        chunk.wanted += 1;
        Place { chunk: number, at, bytes }
    }

    /// A chunk with room for so much; the one that is filled from now on, but for a body that has it for itself.
    fn begin(&mut self, bytes: usize) -> u32 {
        let room = bytes.max(CHUNK_BYTES);
        let chunk = Chunk { bytes: Vec::with_capacity(room), wanted: 0 };
        self.bytes += chunk.bytes.capacity() as u64;
        let number = match self.empty.pop() {
            Some(number) => {
                self.chunks[number as usize] = chunk;
                number
            }
            None => {
                self.chunks.push(chunk);
                (self.chunks.len() - 1) as u32
            }
        };
        if bytes <= CHUNK_BYTES {
            let before = self.filling.replace(number);
            before.into_iter().for_each(|before| self.let_go(before));
        }
        number
    }

    pub fn get(&self, place: Place) -> &[u8] {
        let Place { chunk, at, bytes } = place;
        &self.chunks[chunk as usize].bytes[at as usize..][..bytes as usize]
    }

    /// Nobody wants this one any more.
    pub fn remove(&mut self, place: Place) {
        self.chunks[place.chunk as usize].wanted -= 1;
        self.let_go(place.chunk);
    }

    /// A chunk of which nothing is wanted goes; the one that is being filled begins again.
    fn let_go(&mut self, number: u32) {
        let chunk = &mut self.chunks[number as usize];
        if chunk.wanted > 0 {
            return;
        }
        if self.filling == Some(number) {
            chunk.bytes.clear();
            return;
        }
        self.bytes -= chunk.bytes.capacity() as u64;
        chunk.bytes = Vec::new();
        self.empty.push(number);
    }

    /// Of memory.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use disk::Chance;

    use super::*;

    #[test]
    fn bodies_are_what_was_put_and_take_no_more_than_their_chunks() {
        for seed in 0..10 {
            let mut chance = Chance::new(seed);
            let (mut bodies, mut twin) = (Bodies::default(), BTreeMap::new());
            let mut most = 0;
            for number in 0..4_000_u32 {
                let length =
                    [0, 1, 64, 5_000, CHUNK_BYTES, CHUNK_BYTES + 1][chance.below(if number % 50 == 0 { 6 } else { 4 })];
                let body: Vec<u8> = (0..length).map(|at| (at as u32 ^ number) as u8).collect();
                twin.insert(number, (bodies.put(&body), body));
                // As jobs do: most are over soon, a few stay.
                while twin.len() > 40 {
                    let which = *twin.keys().nth(chance.below(twin.len())).expect("there are so many");
                    let (place, body) = twin.remove(&which).expect("it is one of them");
                    assert_eq!(bodies.get(place), &body[..], "seed {seed}, {which}");
                    bodies.remove(place);
                }
                most = most.max(bodies.bytes());
            }
            for (number, (place, body)) in &twin {
                assert_eq!(bodies.get(*place), &body[..], "seed {seed}, {number}");
            }
            // A chunk for each that stays at the worst, and two that are long.
            assert!(most <= 44 * (CHUNK_BYTES as u64 + 1), "seed {seed}: {most} bytes for 40 bodies");
            twin.values().for_each(|(place, _)| bodies.remove(*place));
            assert!(bodies.bytes() <= CHUNK_BYTES as u64, "seed {seed}: {} bytes for nothing", bodies.bytes());
        }
    }
}
