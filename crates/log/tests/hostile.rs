//! Hostile bytes: the decoder never panics, and never allocates more than a bounded amount.
//!
//! A corpus made here (golden files cut, flipped, spliced, and lengths that lie), then random ones for
//! `ICECORE_FUZZ_SECONDS` (2 by default). The seed is printed.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::{Duration, Instant};

use bytes::Bytes;
use icecore_log::codec::{Preamble, open_entry};
use icecore_log::{EntryHeader, Frame, Hash, Header};

/// Counts what this thread has allocated at once, and its peak.
struct Counting;

thread_local! {
    static NOW: Cell<usize> = const { Cell::new(0) };
    static PEAK: Cell<usize> = const { Cell::new(0) };
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: every call goes to the system's allocator unchanged; the counters are plain thread-local cells.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = NOW.try_with(|now| {
            now.set(now.get() + layout.size());
            let _ = PEAK.try_with(|peak| peak.set(peak.get().max(now.get())));
        });
        // SAFETY: the caller keeps `alloc`'s contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        let _ = NOW.try_with(|now| now.set(now.get().saturating_sub(layout.size())));
        // SAFETY: the caller keeps `dealloc`'s contract.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// A small generator of our own, so that a seed gives the same bytes for ever.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }
}

fn decode_all(bytes: &Bytes, events: u32) {
    NOW.set(0);
    PEAK.set(0);
    if let Ok(header) = Header::decode(bytes.clone()) {
        let _ = header.open_body(bytes);
        let _ = header.open_preamble(bytes);
    }
    let _ = Preamble::open(bytes);
    let frame = Frame { length: bytes.len() as u64, key: Bytes::new(), commitment: Hash::of(bytes) };
    let _ = open_entry(&EntryHeader { id_tag: None, content_tag: None, events, frame }, bytes);
    // 64 MiB of plain bytes at the most, and what describes 65,536 events.
    assert!(PEAK.get() < 160 << 20, "{} bytes allocated for {} of input", PEAK.get(), bytes.len());
}

fn corpus() -> Vec<Vec<u8>> {
    let header = include_bytes!("golden/header.bin").to_vec();
    let body = include_bytes!("golden/body.bin").to_vec();
    let mut frame = vec![0; 16];
    frame.push(0);
    let mut many_empty_events = (4_u32 << 20).to_le_bytes().to_vec();
    many_empty_events.extend([0x12, 0].repeat(2 << 20));
    let mut lying = frame.clone();
    lying.extend((many_empty_events.len() as u32).to_le_bytes());
    lying.extend(&many_empty_events);
    let mut many_empty_entries = vec![0x08, 1];
    many_empty_entries.extend([0x72, 0].repeat((Header::BYTES_MAX - 2) / 2));
    let mut bomb = vec![0; 16];
    bomb.push(1);
    bomb.extend((64_u32 << 20).to_le_bytes());
    bomb.extend([0x28, 0xB5, 0x2F, 0xFD, 0xA4, 0, 0, 0, 0x40, 0x4B, 0, 0, 0x18, 0, 0, 1]);
    vec![Vec::new(), header, body, frame, lying, many_empty_entries, bomb]
}

#[test]
fn hostile_bytes_are_refused_without_a_panic_or_much_memory() {
    let corpus = corpus();
    for bytes in &corpus {
        for events in [0, 1, 2, 65_536, u32::MAX, 2_u32 << 20] {
            decode_all(&bytes.clone().into(), events);
        }
        for cut in 0..bytes.len().min(2_000) {
            decode_all(&Bytes::copy_from_slice(&bytes[..cut]), 2);
        }
    }
    let seconds =
        std::env::var("ICECORE_FUZZ_SECONDS").ok().and_then(|value| value.parse().ok()).unwrap_or(2);
    let seed =
        std::env::var("ICECORE_SEED").ok().and_then(|value| value.parse().ok()).unwrap_or(0x1CEC_04E5_u64);
    println!("seed {seed}, {seconds} s");
    let mut random = Random(seed | 1);
    let end = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < end {
        let mut bytes = corpus[1 + random.below(2)].clone();
        for _ in 0..1 + random.below(8) {
            let at = random.below(bytes.len());
            match random.below(5) {
                0 => bytes[at] ^= 1 << random.below(8),
                1 => bytes[at] = random.next() as u8,
                2 => bytes.truncate(at + 1),
                3 => bytes.insert(at, random.next() as u8),
                _ => {
                    let from = random.below(bytes.len());
                    let piece = bytes[from..(from + random.below(64)).min(bytes.len())].to_vec();
                    bytes.splice(at..at, piece);
                }
            }
        }
        decode_all(&bytes.into(), random.below(4) as u32);
    }
}
