use crate::harness::Case;

pub const CASES: &[Case] = &[];
