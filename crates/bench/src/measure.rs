//! Rounds, medians, and the table.

use std::time::Instant;

use icecore::Result;

/// What one round took, in seconds, or bytes; the yardstick's in the same round.
#[derive(Debug, Clone, Copy)]
pub struct Round {
    pub ours: f64,
    pub yardstick: f64,
}

/// How a round is told, and a ratio of two.
#[derive(Debug, Clone, Copy)]
#[cfg(feature = "postgres")]
pub enum Measure {
    /// Rounds are seconds for one; the ratio is how many times as fast.
    Rate(&'static str),
    /// Rounds are seconds; the ratio is ours to the yardstick's.
    Time,
    /// The ratio is ours to the yardstick's.
    Bytes,
}

/// The rows of the table, as they come.
pub struct Report {
    rounds: usize,
    columns: &'static str,
    rows: Vec<String>,
}

impl Report {
    pub fn new(rounds: usize) -> Self {
        let columns = "| what | ours | yardstick | time, ours to the yardstick's | target |";
        Self { rounds: rounds.max(1), columns, rows: Vec::new() }
    }

    /// One whose rows come from [`Report::beside`].
    #[cfg(feature = "postgres")]
    pub fn of_two(rounds: usize) -> Self {
        Self { columns: "| what | ours | beside | ours to that | target |", ..Self::new(rounds) }
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
        self.row(row);
    }

    /// Adds the median of the ratios, with the medians of both sides.
    #[cfg(feature = "postgres")]
    pub fn beside(&mut self, what: &str, measure: Measure, rounds: &[Round], yardstick: &str, target: &str) {
        let (ours, ..) = spread(rounds.iter().map(|round| round.ours).collect());
        let (theirs, ..) = spread(rounds.iter().map(|round| round.yardstick).collect());
        let ratios = rounds.iter().map(|round| match measure {
            Measure::Rate(_) => round.yardstick / round.ours,
            Measure::Time | Measure::Bytes => round.ours / round.yardstick,
        });
        let (ratio, low, high) = spread(ratios.collect());
        let (ratio, low, high) = (measure.ratio(ratio), measure.ratio(low), measure.ratio(high));
        let (ours, theirs) = (measure.value(ours), measure.value(theirs));
        self.row(format!(
            "| {what} | {ours} | {yardstick}: {theirs} | {ratio} ({low} to {high}) | {target} |"
        ));
    }

    /// Adds a fact without a yardstick.
    pub fn fact(&mut self, what: &str, value: &str, target: &str) {
        self.row(format!("| {what} | {value} | – | – | {target} |"));
    }

    fn row(&mut self, row: String) {
        eprintln!("{row}");
        self.rows.push(row);
    }

    pub fn print(&self) {
        println!(
            "Median of {} rounds; in brackets the lowest and the highest ratio of a round.\n",
            self.rounds
        );
        println!("{}\n| --- | --- | --- | --- | --- |", self.columns);
        self.rows.iter().for_each(|row| println!("{row}"));
    }
}

#[cfg(feature = "postgres")]
impl Measure {
    fn value(self, value: f64) -> String {
        match self {
            Self::Rate(unit) => format!("{} {unit}", grouped(1.0 / value)),
            Self::Time => milliseconds(value),
            Self::Bytes => format!("{} KB", grouped(value / 1e3)),
        }
    }

    fn ratio(self, ratio: f64) -> String {
        match self {
            Self::Bytes if ratio < 0.5 => format!("1/{:.1}", 1.0 / ratio),
            _ => format!("{ratio:.2}x"),
        }
    }
}

/// Seconds, told in milliseconds.
#[cfg(feature = "postgres")]
pub fn milliseconds(seconds: f64) -> String {
    format!("{:.3} ms", seconds * 1e3)
}

/// The median, the lowest and the highest.
pub fn spread(mut values: Vec<f64>) -> (f64, f64, f64) {
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
