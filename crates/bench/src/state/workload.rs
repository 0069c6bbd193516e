//! What both sides store: a conversation whose text compresses about as English does, and small documents.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use icecore::Result;
use serde::{Deserialize, Serialize};

use crate::file::failed;

/// A turn of a conversation: 1.9 KB as JSON, in the middle.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Turn {
    id: String,
    at: String,
    user: String,
    assistant: String,
    tools: Vec<Call>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Call {
    id: String,
    name: String,
    arguments: Arguments,
    result: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Arguments {
    query: String,
}

/// A document of 200 B.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Small {
    id: String,
    text: String,
}

/// The same for the same documentation, from which its words are made.
pub struct Workload {
    words: Words,
    chance: Chance,
}

impl Workload {
    pub fn new() -> Result<Self> {
        Ok(Self { words: Words::read()?, chance: Chance::new(1) })
    }

    pub fn turns(&mut self, count: usize) -> Vec<Turn> {
        (0..count).map(|number| self.turn(number)).collect()
    }

    pub fn small(&mut self, count: usize) -> Vec<Small> {
        (0..count)
            .map(|_| Small { id: self.chance.id(16), text: self.words.text(149, &mut self.chance) })
            .collect()
    }

    fn turn(&mut self, number: usize) -> Turn {
        let Self { words, chance } = self;
        let mut text = |median: f64, spread: f64| {
            let bytes = median * (spread * chance.normal()).exp();
            words.text(bytes as usize, chance)
        };
        let (user, assistant) = (text(150.0, 0.6), text(930.0, 0.45));
        let queries: Vec<_> = (0..3).map(|_| (text(34.0, 0.4), text(205.0, 0.6))).collect();
        let calls = [0, 1, 1, 2, 2, 3][chance.below(6)];
        let tools = queries.into_iter().take(calls).map(|(query, result)| Call {
            id: format!("call_{}", chance.id(12)),
            name: ["search", "read", "write", "run"][chance.below(4)].to_owned(),
            arguments: Arguments { query },
            result,
        });
        let tools = tools.collect();
        let (minute, second, millisecond) = (number % 60, chance.below(60), chance.below(1_000));
        let at = format!("2026-11-25T{:02}:{minute:02}:{second:02}.{millisecond:03}Z", number / 60 % 24);
        Turn { id: chance.id(16), at, user, assistant, tools }
    }
}

/// Writes what the other side stores, a value a line.
pub fn write<T: Serialize>(values: &[T], path: &Path) -> Result<()> {
    let mut lines = Vec::new();
    for value in values {
        lines.extend(json(value)?);
        lines.push(b'\n');
    }
    fs::write(path, lines).map_err(|error| failed("writing a workload", error))
}

pub fn json<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|error| failed("writing JSON", error.into()))
}

/// Chooses, the same each time. Source: SplitMix64.
pub struct Chance(u64);

impl Chance {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, count: usize) -> usize {
        (self.next() % count.max(1) as u64) as usize
    }

    /// Of a normal distribution, nearly: twelve even ones together.
    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.below(1 << 20) as f64 / f64::from(1 << 20)).sum::<f64>() - 6.0
    }

    /// So many random bytes, in hexadecimal digits.
    fn id(&mut self, bytes: usize) -> String {
        (0..bytes).map(|_| format!("{:02x}", self.below(256))).collect()
    }
}

/// How many letters decide on the next one: with three, text compresses as a conversation in English does.
const ORDER: usize = 3;

/// A Markov chain over the letters of this repository's own documentation.
struct Words {
    source: Vec<u8>,
    following: HashMap<[u8; ORDER], Vec<u8>>,
}

impl Words {
    fn read() -> Result<Self> {
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let mut source = Vec::new();
        for path in pages(&repository.join("docs"))? {
            let page =
                fs::read_to_string(&path).map_err(|error| failed("reading the documentation", error))?;
            source.extend(prose(&page).into_bytes());
        }
        let mut following: HashMap<[u8; ORDER], Vec<u8>> = HashMap::new();
        for letters in source.windows(ORDER + 1) {
            if let Some((before, [next])) = letters.split_first_chunk::<ORDER>() {
                following.entry(*before).or_default().push(*next);
            }
        }
        Ok(Self { source, following })
    }

    fn text(&self, bytes: usize, chance: &mut Chance) -> String {
        let mut text: Vec<u8> = Vec::with_capacity(bytes);
        while text.len() < bytes {
            let next = text.last_chunk::<ORDER>().and_then(|before| self.following.get(before));
            match next {
                Some(next) => text.push(next[chance.below(next.len())]),
                None => {
                    let from = chance.below(self.source.len() - ORDER);
                    text.extend(&self.source[from..from + ORDER]);
                }
            }
        }
        String::from_utf8_lossy(&text).into_owned()
    }
}

/// The pages of a folder and of those in it, in order.
fn pages(folder: &Path) -> Result<Vec<PathBuf>> {
    let read = |error| failed("listing the documentation", error);
    let mut entries = fs::read_dir(folder)
        .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>())
        .map_err(read)?;
    entries.sort();
    let mut pages = Vec::new();
    for path in entries {
        if path.is_dir() {
            pages.extend(self::pages(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            pages.push(path);
        }
    }
    Ok(pages)
}

/// The words of a page: no blocks of code, no marks, and ASCII alone, each letter of which is a byte in JSON.
fn prose(page: &str) -> String {
    let mut is_code = false;
    let mut words = String::new();
    for line in page.lines() {
        if line.starts_with("```") {
            is_code = !is_code;
        } else if !is_code {
            let plain = |letter: &char| letter.is_ascii_graphic() && !r#"|#*`>[]"\"#.contains(*letter);
            for word in line.split_whitespace() {
                let word: String = word.chars().filter(plain).collect();
                if word.contains(|letter: char| letter.is_ascii_alphanumeric()) {
                    words.extend([&*word, " "]);
                }
            }
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ratio(text: &[u8]) -> f64 {
        text.len() as f64 / zstd::bulk::compress(text, 3).unwrap().len() as f64
    }

    /// The documentation changes, and the text with it: what it compresses to must not, or results of two days would not compare.
    #[test]
    fn a_conversation_is_as_large_and_compresses_as_it_should() {
        let turns = Workload::new().unwrap().turns(200);

        let whole = json(&turns).unwrap();
        let mut each: Vec<_> = turns.iter().map(|turn| json(turn).unwrap()).collect();
        each.sort_by_key(Vec::len);

        let middle = &each[each.len() / 2];
        assert!((1_800..2_000).contains(&middle.len()), "{}", middle.len());
        assert!((375_000..405_000).contains(&whole.len()), "{}", whole.len());
        assert!((1.5..1.9).contains(&ratio(middle)), "{}", ratio(middle));
        assert!((2.4..2.8).contains(&ratio(&whole)), "{}", ratio(&whole));
        assert_eq!(turns, Workload::new().unwrap().turns(200));
    }

    #[test]
    fn a_small_document_is_small() {
        let small = Workload::new().unwrap().small(50);

        assert!(small.iter().all(|small| (190..210).contains(&json(small).unwrap().len())));
    }
}
