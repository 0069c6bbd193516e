//! What makes of one value the next, so that a large value that changes a little costs a little.
//!
//! The ends that both have in common are left out, and the middle is compressed against what was there and a little of what stands before it. It needs no
//! JSON. `docs/formats/state.md` specifies the bytes.
//!
//! Source: trimming is the oldest idea of all; compressing against the earlier version is zstd's own `--patch-from`.

use std::borrow::Cow;
use std::ops::Range;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use icecore_log::compression::{self, LEVEL};
use icecore_log::{Entry, Error, ErrorKind, Result, Version};
use zstd::zstd_safe::{self, CCtx, CParameter};

/// Smaller values are put as they are.
pub(crate) const VALUE_BYTES_MIN: usize = 512;
/// Larger ones cannot be put whole, so that they must not come to be by edits either.
const VALUE_BYTES_MAX: usize = Entry::BYTES_MAX - (64 << 10);
/// A middle that is smaller is stored as it is: a frame of zstd's would be longer.
const PLAIN_BELOW: usize = 24;
/// How much of what stands before the middle serves as context.
const WINDOW: usize = 64 << 10;
/// If a middle is larger, the whole of the old value is the context.
const MIDDLE_MAX: usize = 256 << 10;
/// From here on zstd also looks for matches far away. Without that, level 3 finds none somewhere between 1 and 2 MiB.
const LONG_DISTANCE_FROM: usize = 512 << 10;

const PLAIN: u8 = 0;
const AGAINST_WINDOW: u8 = 1;
const AGAINST_WHOLE: u8 = 2;
const AGAINST_BESIDE: u8 = 3;
/// Less than this beside an edit does not make it shorter.
const BESIDE_FROM: usize = 64;

/// An edit as it is stored, cut into its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Edit {
    /// The version of the value that it makes another of.
    pub version: Version,
    codec: u8,
    old_bytes: usize,
    prefix: usize,
    suffix: usize,
    middle_bytes: usize,
    payload: Bytes,
}

/// What makes `new` of `old`, if that takes less than half the bytes of `new`. It was tried.
///
/// `beside` is what stands before it in its entry.
pub(crate) fn encode(old: &[u8], version: Version, new: &[u8], beside: &[u8]) -> Option<Bytes> {
    if new.len() < VALUE_BYTES_MIN || new.len() > VALUE_BYTES_MAX || old.is_empty() {
        return None;
    }
    let (prefix, suffix) = common_ends(old, new);
    let middle = &new[prefix..new.len() - suffix];
    let edit = Edit {
        version,
        codec: codec_for(old.len() - prefix - suffix, middle.len(), beside.len()),
        old_bytes: old.len(),
        prefix,
        suffix,
        middle_bytes: middle.len(),
        payload: Bytes::new(),
    };
    let payload = match edit.codec {
        PLAIN => Bytes::copy_from_slice(middle),
        _ => compress(&edit.context(old, beside), middle)?,
    };
    let edit = Edit { payload, ..edit };
    if edit.payload.len() >= new.len() / 2 {
        return None;
    }
    // What is not kept whole must be right: should a compressor ever err, the value is put as it is.
    (*edit.middle(old, beside).ok()? == *middle).then(|| edit.to_bytes())
}

fn codec_for(old_middle: usize, middle: usize, beside: usize) -> u8 {
    match middle {
        ..PLAIN_BELOW => PLAIN,
        _ if middle.max(old_middle) > MIDDLE_MAX => AGAINST_WHOLE,
        _ if beside >= BESIDE_FROM => AGAINST_BESIDE,
        _ => AGAINST_WINDOW,
    }
}

/// `None` if there is no memory for it.
fn compress(context: &[u8], middle: &[u8]) -> Option<Bytes> {
    if context.len().max(middle.len()) <= LONG_DISTANCE_FROM {
        return compression::compress_against(context, middle).map(Bytes::from);
    }
    let mut payload = Vec::with_capacity(zstd_safe::compress_bound(middle.len()));
    let mut zstd = CCtx::try_create()?;
    let window = (context.len() + middle.len()).next_power_of_two().ilog2().clamp(20, 27);
    zstd.set_parameter(CParameter::CompressionLevel(LEVEL)).ok()?;
    zstd.set_parameter(CParameter::EnableLongDistanceMatching(true)).ok()?;
    zstd.set_parameter(CParameter::WindowLog(window)).ok()?;
    zstd.ref_prefix(context).ok()?;
    zstd.compress2(&mut payload, middle).ok()?;
    Some(payload.into())
}

/// How long the beginning and the end are that two values have in common, without overlap.
fn common_ends(a: &[u8], b: &[u8]) -> (usize, usize) {
    let prefix = common_prefix(a, b);
    let (a, b) = (&a[prefix..], &b[prefix..]);
    (prefix, common_suffix(a, b))
}

/// At once: comparing slices is many times faster than comparing bytes.
const CHUNK: usize = 4 << 10;

fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    let chunks = a.chunks_exact(CHUNK).zip(b.chunks_exact(CHUNK)).take_while(|(a, b)| a == b).count() * CHUNK;
    chunks + a[chunks..].iter().zip(&b[chunks..]).take_while(|(a, b)| a == b).count()
}

fn common_suffix(a: &[u8], b: &[u8]) -> usize {
    let chunks =
        a.rchunks_exact(CHUNK).zip(b.rchunks_exact(CHUNK)).take_while(|(a, b)| a == b).count() * CHUNK;
    let (a, b) = (&a[..a.len() - chunks], &b[..b.len() - chunks]);
    chunks + a.iter().rev().zip(b.iter().rev()).take_while(|(a, b)| a == b).count()
}

impl Edit {
    /// Reads one.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] if it is none that [`encode`] makes.
    pub(crate) fn parse(bytes: &Bytes) -> Result<Self> {
        let mut rest = bytes.clone();
        let cut_short = || corrupt("an edit is cut short");
        let codec = rest.try_get_u8().map_err(|_| cut_short())?;
        let mut number = || varint(&mut rest).ok_or_else(cut_short);
        let (version, numbers) = (Version(number()?), [number()?, number()?, number()?, number()?]);
        // No value is longer than an entry may be, and then no sum of two overflows.
        if numbers.iter().any(|number| *number > Entry::BYTES_MAX as u64) {
            return Err(corrupt("an edit has an impossible length"));
        }
        let [old_bytes, prefix, suffix, middle_bytes] = numbers.map(|number| number as usize);
        let edit = Self { version, codec, old_bytes, prefix, suffix, middle_bytes, payload: rest };
        let fits = prefix + suffix <= old_bytes
            && prefix + suffix + middle_bytes <= Entry::BYTES_MAX
            && match codec {
                PLAIN => edit.payload.len() == middle_bytes,
                AGAINST_WINDOW | AGAINST_WHOLE | AGAINST_BESIDE => true,
                _ => false,
            };
        if fits { Ok(edit) } else { Err(corrupt("an edit's lengths do not fit together")) }
    }

    fn to_bytes(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(self.payload.len() + 32);
        bytes.put_u8(self.codec);
        for number in [
            self.version.0,
            self.old_bytes as u64,
            self.prefix as u64,
            self.suffix as u64,
            self.middle_bytes as u64,
        ] {
            put_varint(&mut bytes, number);
        }
        bytes.put_slice(&self.payload);
        bytes.freeze()
    }

    /// Makes the new value.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] if it was made of another value.
    pub(crate) fn apply(&self, old: &mut Bytes, beside: &[u8]) -> Result<()> {
        let middle = self.middle(old, beside)?;
        let part = self.prefix..old.len() - self.suffix;
        replace(old, part, &middle);
        Ok(())
    }

    fn middle(&self, old: &[u8], beside: &[u8]) -> Result<Bytes> {
        if old.len() != self.old_bytes {
            return Err(corrupt("an edit was made of another value"));
        }
        if self.codec == PLAIN {
            return Ok(self.payload.clone());
        }
        let context = self.context(old, beside);
        let middle = compression::decompress_against(&context, &self.payload, self.middle_bytes)
            .map_err(|cause| corrupt("an edit does not decompress").with("zstd", cause))?;
        if middle.len() != self.middle_bytes {
            return Err(corrupt("an edit decompresses to another length"));
        }
        Ok(middle.into())
    }

    /// What the middle is compressed against.
    fn context<'a>(&self, old: &'a [u8], beside: &[u8]) -> Cow<'a, [u8]> {
        let window = || &old[self.prefix.saturating_sub(WINDOW)..old.len() - self.suffix];
        match self.codec {
            AGAINST_WHOLE => old.into(),
            AGAINST_BESIDE => [window(), beside].concat().into(),
            _ => window().into(),
        }
    }
}

/// Puts another text in place of a part of a value.
pub(crate) fn replace(old: &mut Bytes, part: Range<usize>, text: &[u8]) {
    // In place if nobody else has it: a value that grows at its end is then not copied each time.
    let mut value = std::mem::take(old).try_into_mut().unwrap_or_else(|shared| {
        let mut copy = BytesMut::with_capacity(shared.len() + text.len() + shared.len() / 8);
        copy.extend_from_slice(&shared);
        copy
    });
    let (tail, end) = (part.end..value.len(), part.start + text.len());
    let bytes = end + tail.len();
    if bytes > value.len() {
        value.resize(bytes, 0);
    }
    value.copy_within(tail, end);
    value[part.start..end].copy_from_slice(text);
    value.truncate(bytes);
    *old = value.freeze();
}

/// Whether what stands before it in its entry is needed to apply it.
pub(crate) fn is_made_of_what_is_beside(edit: &[u8]) -> bool {
    edit.first() == Some(&AGAINST_BESIDE)
}

fn put_varint(bytes: &mut BytesMut, mut number: u64) {
    while number >= 0x80 {
        bytes.put_u8(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.put_u8(number as u8);
}

fn varint(bytes: &mut Bytes) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = bytes.try_get_u8().ok()?;
        number |= u64::from(byte & 0x7F).checked_shl(shift)?;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

fn corrupt(what: &'static str) -> Error {
    Error::new(ErrorKind::Corrupt, "reading a log's state").with("because", what)
}

#[cfg(test)]
mod tests;
