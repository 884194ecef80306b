//! Chance from a seed: the same seed, the same disk.

/// SplitMix64: twenty lines, and every seed is a good one.
pub struct Chance(u64);

impl Chance {
    pub fn new(seed: u64) -> Chance {
        Chance(seed)
    }

    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `bound`, which is not 0.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.number() % bound as u64) as usize
    }

    /// True so many times of a thousand.
    pub fn happens(&mut self, per_mille: u32) -> bool {
        per_mille > 0 && self.number() % 1000 < u64::from(per_mille)
    }
}

/// How much of what was not persisted a power cut leaves. Real cuts are mostly all or nothing; the mixture is where the
/// mistakes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Survival {
    All,
    Nothing,
    Mixture,
}

impl Survival {
    pub fn draw(chance: &mut Chance) -> Survival {
        match chance.below(4) {
            0 => Survival::All,
            1 => Survival::Nothing,
            _ => Survival::Mixture,
        }
    }

    /// Which of `versions` of something is there afterwards; the first is the durable one, the last the newest.
    pub fn choose(self, versions: usize, chance: &mut Chance) -> usize {
        match self {
            Survival::All => versions - 1,
            Survival::Nothing => 0,
            Survival::Mixture => chance.below(versions),
        }
    }
}
