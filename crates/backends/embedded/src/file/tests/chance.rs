//! Chance that can be had again: a seed gives the same numbers on every machine.

/// Xorshift: Marsaglia, "Xorshift RNGs", 2003, with the multiplication of Vigna's xorshift64*.
#[derive(Debug, Clone)]
pub struct Chance(u64);

impl Chance {
    pub fn new(seed: u64) -> Self {
        // Spread, so that seeds that are near each other begin far apart; and never 0, where xorshift stays.
        let mut seed = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
        seed = (seed ^ (seed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        seed = (seed ^ (seed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        Self((seed ^ (seed >> 31)).max(1))
    }

    /// The chance of one part of a test, whatever the other parts did with theirs.
    pub fn of(seed: u64, parts: &[usize]) -> Self {
        let mixed = parts.iter().fold(seed, |mixed, part| {
            mixed.rotate_left(17).wrapping_mul(0x0100_0000_01B3).wrapping_add(*part as u64 + 1)
        });
        Self::new(mixed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        ((self.next() >> 32) as usize) % end.max(1)
    }

    pub fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| (self.next() >> 56) as u8).collect()
    }
}

/// The seeds of a run: `ICECORE_SEED` alone, or else `short` of them, and twenty times as many with `ICECORE_LONG=1`.
pub fn seeds(short: u64) -> Vec<u64> {
    match std::env::var("ICECORE_SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => vec![seed],
        None if std::env::var("ICECORE_LONG").is_ok_and(|long| long == "1") => (1..=20 * short).collect(),
        None => (1..=short).collect(),
    }
}

/// Says where it was if the test fails.
pub struct Told(pub String);

impl Drop for Told {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("failed with {}", self.0);
        }
    }
}
