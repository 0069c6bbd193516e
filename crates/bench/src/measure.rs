//! Rounds, medians, and the table.

use std::time::Instant;

use icecore::Result;

/// What one round took, in seconds; the yardstick's in the same round.
#[derive(Debug, Clone, Copy)]
pub struct Round {
    pub ours: f64,
    pub yardstick: f64,
}

/// The rows of the table, as they come.
pub struct Report {
    rounds: usize,
    rows: Vec<String>,
}

impl Report {
    pub fn new(rounds: usize) -> Self {
        Self { rounds: rounds.max(1), rows: Vec::new() }
    }

    pub fn rounds(&self) -> usize {
        self.rounds
    }

    /// Adds the median of the ratios. `count` things were done in a round.
    pub fn add(
        &mut self,
        what: &str,
        rounds: &[Round],
        count: f64,
        unit: &str,
        yardstick: &str,
        target: &str,
    ) {
        let (ratio, low, high) = spread(rounds.iter().map(|round| round.ours / round.yardstick).collect());
        let (ours, ..) = spread(rounds.iter().map(|round| count / round.ours).collect());
        let row = format!(
            "| {what} | {} {unit} | {yardstick} | {ratio:.2}x ({low:.2} to {high:.2}) | {target} |",
            grouped(ours)
        );
        eprintln!("{row}");
        self.rows.push(row);
    }

    /// Adds a fact without a yardstick.
    pub fn fact(&mut self, what: &str, value: &str, target: &str) {
        let row = format!("| {what} | {value} | – | – | {target} |");
        eprintln!("{row}");
        self.rows.push(row);
    }

    pub fn print(&self) {
        println!(
            "Median of {} rounds; in brackets the lowest and the highest ratio of a round.\n",
            self.rounds
        );
        println!(
            "| what | ours | yardstick | time, ours to the yardstick's | target |\n| --- | --- | --- | --- | --- |"
        );
        self.rows.iter().for_each(|row| println!("{row}"));
    }
}

/// The median, the lowest and the highest.
fn spread(mut values: Vec<f64>) -> (f64, f64, f64) {
    values.sort_by(f64::total_cmp);
    match values.as_slice() {
        [] => (f64::NAN, f64::NAN, f64::NAN),
        [low, .., high] => (values[values.len() / 2], *low, *high),
        [only] => (*only, *only, *only),
    }
}

fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// Seconds that some work took.
pub async fn seconds(work: impl Future<Output = Result<()>>) -> Result<f64> {
    let started = Instant::now();
    work.await?;
    Ok(started.elapsed().as_secs_f64())
}

/// Text that does not compress much; the same for the same seed.
pub fn text(bytes: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut letter = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        b'0' + (state % 75) as u8
    };
    (0..bytes).map(|_| letter()).collect()
}

/// Seconds for SHA-256 over so many bytes, one KiB at a time, on one core.
pub fn hashing(bytes: u64) -> f64 {
    use sha2::{Digest, Sha256};
    let block = text(1 << 10, 1);
    let started = Instant::now();
    for _ in 0..bytes >> 10 {
        std::hint::black_box(Sha256::digest(std::hint::black_box(&block)));
    }
    started.elapsed().as_secs_f64()
}
