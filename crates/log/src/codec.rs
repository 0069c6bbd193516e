//! Commits to bytes and back. `docs/formats/commit.md` specifies every byte; `tests/golden` holds examples.
//!
//! A header and the envelope of an entry are Protocol Buffers messages, so that any language reads them; a frame is
//! `| salt 16 | codec u8 | length of the plain bytes u32 LE | payload |`, and its plain bytes are
//! `| envelope length u32 LE | envelope | data of the first event | data of the second | … |`.
//!
//! Decoding checks every length before it allocates: at most about 25 times the input's length, and never more than
//! the limits of [`Header`] and [`Entry`] allow.

use bytes::{BufMut, Bytes, BytesMut};
use hmac::{Hmac, KeyInit, Mac};
use prost::Message;
use sha2::Sha256;

use crate::clock::Timestamp;
use crate::commit::{EntryHeader, Flags, Frame, Hash, Header, Incarnation, Version};
use crate::compression;
use crate::error::{Error, ErrorKind, Result};
use crate::event::{Entry, EntryId, Event};
use crate::name::LogId;

/// The number of this format, in every header.
pub const FORMAT: u32 = 1;

const FRAME_HEAD: usize = 16 + 1 + 4;
const CODEC_PLAIN: u8 = 0;
const CODEC_ZSTD: u8 = 1;
const ENVELOPE_BYTES_MAX: usize = 4 << 20;
/// Below this a single frame gains little from compression (measured: 1.4x at 1 KB, for more time than the hash takes; of a turn of
/// chat, 2 KB, a third).
const COMPRESS_FROM: usize = 1_500;

mod wire {
    use bytes::Bytes;
    use std::collections::BTreeMap;

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Header {
        #[prost(uint32, tag = "1")]
        pub format: u32,
        #[prost(bytes = "bytes", tag = "2")]
        pub name_tag: Bytes,
        #[prost(bytes = "bytes", tag = "3")]
        pub incarnation: Bytes,
        #[prost(uint64, tag = "4")]
        pub version: u64,
        #[prost(uint64, tag = "5")]
        pub position: u64,
        #[prost(bytes = "bytes", tag = "6")]
        pub previous: Bytes,
        #[prost(sfixed64, tag = "7")]
        pub at: i64,
        #[prost(bytes = "bytes", tag = "8")]
        pub writer: Bytes,
        #[prost(uint64, tag = "9")]
        pub epoch: u64,
        #[prost(bytes = "bytes", tag = "10")]
        pub nonce: Bytes,
        #[prost(uint32, tag = "11")]
        pub flags: u32,
        #[prost(uint64, tag = "12")]
        pub base: u64,
        #[prost(message, optional, tag = "13")]
        pub preamble: Option<Frame>,
        #[prost(message, repeated, tag = "14")]
        pub entries: Vec<Entry>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Frame {
        #[prost(uint64, tag = "1")]
        pub length: u64,
        #[prost(bytes = "bytes", tag = "2")]
        pub key: Bytes,
        #[prost(bytes = "bytes", tag = "3")]
        pub commitment: Bytes,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Entry {
        #[prost(bytes = "bytes", tag = "1")]
        pub id_tag: Bytes,
        #[prost(bytes = "bytes", tag = "2")]
        pub content_tag: Bytes,
        #[prost(uint32, tag = "3")]
        pub events: u32,
        #[prost(message, optional, tag = "4")]
        pub frame: Option<Frame>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Envelope {
        #[prost(string, tag = "1")]
        pub id: String,
        #[prost(message, repeated, tag = "2")]
        pub events: Vec<Event>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Event {
        #[prost(string, tag = "1")]
        pub kind: String,
        #[prost(uint64, tag = "2")]
        pub data_bytes: u64,
        #[prost(sfixed64, optional, tag = "3")]
        pub at: Option<i64>,
        #[prost(string, tag = "4")]
        pub content_type: String,
        #[prost(uint32, tag = "5")]
        pub schema_version: u32,
        #[prost(string, tag = "6")]
        pub actor: String,
        #[prost(string, tag = "7")]
        pub trace: String,
        #[prost(string, tag = "8")]
        pub node: String,
        #[prost(string, tag = "9")]
        pub correlation: String,
        #[prost(string, tag = "10")]
        pub causation: String,
        #[prost(string, repeated, tag = "11")]
        pub subjects: Vec<String>,
        #[prost(btree_map = "string, string", tag = "12")]
        pub meta: BTreeMap<String, String>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Preamble {
        #[prost(string, tag = "1")]
        pub name: String,
        #[prost(bytes = "bytes", tag = "2")]
        pub secret: Bytes,
    }
}

/// An entry ready to join a commit: made in the caller's task, so that hashing is never the appender's work.
#[derive(Debug, Clone)]
pub struct SealedEntry {
    /// The caller's id.
    pub id: Option<EntryId>,
    /// SHA-256 of the plain bytes: two entries are the same content if these are equal.
    pub digest: Hash,
    /// How many events it has.
    pub events: u32,
    /// What the header will say of its frame.
    pub frame: Frame,
    /// The frame's bytes.
    pub bytes: Bytes,
}

impl SealedEntry {
    /// Validates and encodes an entry; compresses it if that pays.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if it has no event, or more than [`Entry::EVENTS_MAX`], or an empty kind, or is larger than [`Entry::BYTES_MAX`].
    pub fn seal(entry: Entry, salt: [u8; 16]) -> Result<Self> {
        let plain = encode_entry(&entry)?;
        let digest = Hash::of(&plain);
        Ok(Self::of(entry, &plain, digest, salt))
    }

    /// As [`SealedEntry::seal`], for an entry that says in a shorter form what `content` says: the same content has the same digest,
    /// however it is stored.
    ///
    /// # Errors
    /// As [`SealedEntry::seal`].
    pub fn seal_as(entry: Entry, content: &Entry, salt: [u8; 16]) -> Result<Self> {
        let plain = encode_entry(&entry)?;
        // Only an entry with an id is ever compared.
        let digest = if entry.id.is_some() { Hash::of(&encode_entry(content)?) } else { Hash::of(&plain) };
        Ok(Self::of(entry, &plain, digest, salt))
    }

    fn of(entry: Entry, plain: &[u8], digest: Hash, salt: [u8; 16]) -> Self {
        let (frame, bytes) = seal_frame(plain, salt);
        // `encode_entry` has refused more than 65,536 events.
        Self { id: entry.id, digest, events: entry.events.len() as u32, frame, bytes }
    }
}

fn encode_entry(entry: &Entry) -> Result<BytesMut> {
    let invalid = || Error::new(ErrorKind::Invalid, "checking an entry");
    if entry.events.is_empty() || entry.events.len() > Entry::EVENTS_MAX {
        return Err(invalid()
            .with("events", entry.events.len())
            .with("events_max", Entry::EVENTS_MAX)
            .advise("An entry has at least one event; split a longer one"));
    }
    if let Some(index) = entry.events.iter().position(|event| event.kind.is_empty()) {
        return Err(invalid().with("event", index).advise("Every event has a kind"));
    }
    let envelope = wire::Envelope {
        id: entry.id.as_ref().map(|id| id.as_str().to_owned()).unwrap_or_default(),
        events: entry.events.iter().map(event_to_wire).collect(),
    };
    let envelope_bytes = envelope.encoded_len();
    let data_bytes: usize = entry.events.iter().map(|event| event.data.len()).sum();
    let total = 4 + envelope_bytes + data_bytes;
    if envelope_bytes > ENVELOPE_BYTES_MAX {
        return Err(invalid()
            .with("described_bytes", envelope_bytes)
            .with("described_bytes_max", ENVELOPE_BYTES_MAX)
            .advise("Kinds, ids and metadata are too long: put them into the data, or split the entry"));
    }
    if total > Entry::BYTES_MAX {
        return Err(invalid()
            .with("bytes", total)
            .with("bytes_max", Entry::BYTES_MAX)
            .advise("Split the entry"));
    }
    let mut plain = BytesMut::with_capacity(total);
    // Checked above: below 4 MiB.
    plain.put_u32_le(envelope_bytes as u32);
    envelope.encode_raw(&mut plain);
    for event in &entry.events {
        plain.put_slice(&event.data);
    }
    Ok(plain)
}

fn event_to_wire(event: &Event) -> wire::Event {
    wire::Event {
        kind: event.kind.clone(),
        data_bytes: event.data.len() as u64,
        at: event.at.map(|at| at.0),
        content_type: event.content_type.clone(),
        schema_version: event.schema_version,
        actor: event.actor.clone(),
        trace: event.trace.clone(),
        node: event.node.clone(),
        correlation: event.correlation.clone(),
        causation: event.causation.clone(),
        subjects: event.subjects.clone(),
        meta: event.meta.clone(),
    }
}

/// Reads the entry of a frame whose commitment was checked.
///
/// # Errors
/// [`ErrorKind::Corrupt`] if the bytes are not what [`SealedEntry::seal`] makes of some entry of `header.events` events.
pub fn open_entry(header: &EntryHeader, frame: &Bytes) -> Result<Entry> {
    let plain = open_frame(frame)?;
    let Some(length) = plain.get(..4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes) else {
        return Err(corrupt("an entry's envelope is cut short"));
    };
    let end = 4 + length as usize;
    if length as usize > ENVELOPE_BYTES_MAX || end > plain.len() {
        return Err(corrupt("an entry's envelope has an impossible length"));
    }
    let envelope = plain.slice(4..end);
    let limit = (header.events as usize).min(Entry::EVENTS_MAX);
    if count_events(&envelope) != Some(limit) {
        return Err(corrupt("an entry has another number of events than its header says"));
    }
    let envelope = wire::Envelope::decode(envelope)
        .map_err(|cause| corrupt("an envelope is not readable").because(cause))?;
    let mut data = plain.slice(end..);
    let mut events = Vec::with_capacity(envelope.events.len());
    for event in envelope.events {
        let length = usize::try_from(event.data_bytes).unwrap_or(usize::MAX);
        if length > data.len() {
            return Err(corrupt("an event's data is cut short"));
        }
        events.push(event_from_wire(event, data.split_to(length)));
    }
    if !data.is_empty() {
        return Err(corrupt("bytes are left over behind the last event"));
    }
    let id = match envelope.id {
        id if id.is_empty() => None,
        id => Some(EntryId::new(id).map_err(|_| corrupt("an entry's id is too long"))?),
    };
    Ok(Entry { id, events })
}

fn event_from_wire(event: wire::Event, data: Bytes) -> Event {
    Event {
        kind: event.kind,
        data,
        at: event.at.map(Timestamp),
        content_type: event.content_type,
        schema_version: event.schema_version,
        actor: event.actor,
        trace: event.trace,
        node: event.node,
        correlation: event.correlation,
        causation: event.causation,
        subjects: event.subjects,
        meta: event.meta,
    }
}

/// Counts an envelope's events without allocating, so that hostile bytes cannot make us allocate for millions of them.
fn count_events(envelope: &[u8]) -> Option<usize> {
    let mut rest = envelope;
    let mut events = 0;
    while !rest.is_empty() {
        let key = prost::encoding::decode_varint(&mut rest).ok()?;
        let length = usize::try_from(prost::encoding::decode_varint(&mut rest).ok()?).ok()?;
        match key {
            0x0A => {}
            0x12 => events += 1,
            _ => return None,
        }
        rest = rest.get(length..)?;
    }
    Some(events)
}

/// What a log says of itself in its first commit and in every base: its name, and the secret of its tags.
#[derive(Clone, PartialEq, Eq)]
pub struct Preamble {
    /// The log's name.
    pub name: LogId,
    /// The key of the tags in headers.
    pub secret: Secret,
}

impl std::fmt::Debug for Preamble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Preamble").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Preamble {
    /// Encodes it as a frame.
    pub fn seal(&self, salt: [u8; 16]) -> (Frame, Bytes) {
        let message = wire::Preamble {
            name: self.name.as_str().to_owned(),
            secret: Bytes::copy_from_slice(&self.secret.0),
        };
        seal_frame(&message.encode_to_vec(), salt)
    }

    /// Reads the frame of a preamble whose commitment was checked.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] if it is not one.
    pub fn open(frame: &Bytes) -> Result<Self> {
        let message = wire::Preamble::decode(open_frame(frame)?)
            .map_err(|cause| corrupt("a preamble is not readable").because(cause))?;
        let name = LogId::parse(&message.name).map_err(|_| corrupt("a preamble has no valid name"))?;
        Ok(Self { name, secret: Secret(array(&message.secret, "a preamble's secret")?) })
    }
}

/// The key of a log's tags. Dies with the log's preambles.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Secret(pub [u8; 32]);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Secret {
    /// The tag of the log's name.
    pub fn name_tag(&self, log: &LogId) -> [u8; 16] {
        self.tag(b"name", log.as_str().as_bytes())
    }

    /// The tag of an entry's id.
    pub fn id_tag(&self, id: &EntryId) -> [u8; 16] {
        self.tag(b"id", id.as_str().as_bytes())
    }

    /// The tag of an entry's content.
    pub fn content_tag(&self, digest: Hash) -> [u8; 16] {
        self.tag(b"content", &digest.0)
    }

    fn tag(&self, what: &[u8], bytes: &[u8]) -> [u8; 16] {
        #[expect(clippy::expect_used, reason = "HMAC takes a key of any length")]
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("a key of any length");
        mac.update(what);
        mac.update(&[0]);
        mac.update(bytes);
        let full: [u8; 32] = mac.finalize().into_bytes().into();
        let mut tag = [0; 16];
        tag.copy_from_slice(&full[..16]);
        tag
    }
}

fn seal_frame(plain: &[u8], salt: [u8; 16]) -> (Frame, Bytes) {
    let compressed = (plain.len() >= COMPRESS_FROM)
        .then(|| compression::compress(plain))
        .flatten()
        .filter(|compressed| compressed.len() < plain.len() - plain.len() / 8);
    let (codec, payload) = match &compressed {
        Some(compressed) => (CODEC_ZSTD, compressed.as_slice()),
        None => (CODEC_PLAIN, plain),
    };
    let mut bytes = BytesMut::with_capacity(FRAME_HEAD + payload.len());
    bytes.put_slice(&salt);
    bytes.put_u8(codec);
    // An entry is refused above 64 MiB.
    bytes.put_u32_le(plain.len() as u32);
    bytes.put_slice(payload);
    let bytes = bytes.freeze();
    let frame = Frame { length: bytes.len() as u64, key: Bytes::new(), commitment: Hash::of(&bytes) };
    (frame, bytes)
}

fn open_frame(frame: &Bytes) -> Result<Bytes> {
    if frame.len() < FRAME_HEAD {
        return Err(corrupt("a frame is cut short"));
    }
    let length = u32::from_le_bytes([frame[17], frame[18], frame[19], frame[20]]) as usize;
    let payload = frame.slice(FRAME_HEAD..);
    if length > Entry::BYTES_MAX {
        return Err(corrupt("a frame claims an impossible length"));
    }
    match frame[16] {
        CODEC_PLAIN if payload.len() == length => Ok(payload),
        CODEC_ZSTD => {
            let plain = compression::decompress(&payload, length)
                .map_err(|cause| corrupt("a frame does not decompress").with("zstd", cause))?;
            if plain.len() != length {
                return Err(corrupt("a frame decompresses to another length"));
            }
            Ok(plain.into())
        }
        CODEC_PLAIN => Err(corrupt("a frame has another length than it claims")),
        other => Err(corrupt("a frame has an unknown codec").with("codec", other)),
    }
}

impl Header {
    /// Encodes it; the same header always gives the same bytes.
    pub fn encode(&self) -> Bytes {
        let message = wire::Header {
            format: FORMAT,
            name_tag: Bytes::copy_from_slice(&self.name_tag),
            incarnation: Bytes::copy_from_slice(&self.incarnation.0),
            version: self.version.0,
            position: self.position,
            previous: Bytes::copy_from_slice(&self.previous.0),
            at: self.at.0,
            writer: Bytes::copy_from_slice(&self.writer),
            epoch: self.epoch,
            nonce: Bytes::copy_from_slice(&self.nonce),
            flags: u32::from(self.flags.base)
                | u32::from(self.flags.seal) << 1
                | u32::from(self.flags.expires) << 2,
            base: self.base.0,
            preamble: self.preamble.as_ref().map(frame_to_wire),
            entries: self.entries.iter().map(entry_to_wire).collect(),
        };
        message.encode_to_vec().into()
    }

    /// Reads a header.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] if it is not one; [`ErrorKind::Refused`] if it is of a later format.
    pub fn decode(bytes: Bytes) -> Result<Self> {
        if bytes.len() > Self::BYTES_MAX {
            return Err(corrupt("a header is too long"));
        }
        let message = wire::Header::decode(bytes)
            .map_err(|cause| corrupt("a header is not readable").because(cause))?;
        if message.format > FORMAT {
            return Err(Error::new(ErrorKind::Refused, "reading a commit")
                .with("format", message.format)
                .with("format_max", FORMAT)
                .advise("It was written by a later version of Icecore: use that one"));
        }
        if message.format != FORMAT || message.flags > 7 || message.entries.len() > Self::ENTRIES_MAX {
            return Err(corrupt("a header has impossible fields"));
        }
        Ok(Self {
            name_tag: array(&message.name_tag, "a name tag")?,
            incarnation: Incarnation(array(&message.incarnation, "an incarnation")?),
            version: Version(message.version),
            position: message.position,
            previous: Hash(array(&message.previous, "a hash")?),
            at: Timestamp(message.at),
            writer: array(&message.writer, "a writer")?,
            epoch: message.epoch,
            nonce: array(&message.nonce, "a nonce")?,
            flags: Flags {
                base: message.flags & 1 != 0,
                seal: message.flags & 2 != 0,
                expires: message.flags & 4 != 0,
            },
            base: Version(message.base),
            preamble: message.preamble.map(frame_from_wire).transpose()?,
            entries: message.entries.into_iter().map(entry_from_wire).collect::<Result<_>>()?,
        })
    }

    /// Cuts a body into its frames and checks each against its commitment: the preamble's, then one for each entry.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] if a length or a commitment differs.
    pub fn check_body(&self, body: &Bytes) -> Result<Vec<Bytes>> {
        let mut rest = body.clone();
        let mut frames = Vec::with_capacity(self.entries.len() + 1);
        for frame in self.frames() {
            let length = usize::try_from(frame.length).unwrap_or(usize::MAX);
            if length > rest.len() {
                return Err(corrupt("a body is shorter than its header says"));
            }
            let bytes = rest.split_to(length);
            if Hash::of(&bytes) != frame.commitment {
                return Err(corrupt("a body's bytes are not those that its header commits to"));
            }
            frames.push(bytes);
        }
        if !rest.is_empty() {
            return Err(corrupt("a body is longer than its header says"));
        }
        Ok(frames)
    }

    /// The entries of a body, checked.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] if anything differs from what this header says.
    pub fn open_body(&self, body: &Bytes) -> Result<Vec<Entry>> {
        let frames = self.check_body(body)?;
        let entries = frames.iter().skip(usize::from(self.preamble.is_some()));
        self.entries.iter().zip(entries).map(|(header, frame)| open_entry(header, frame)).collect()
    }

    /// The preamble of a body, checked; `None` if this commit has none.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] if anything differs from what this header says.
    pub fn open_preamble(&self, body: &Bytes) -> Result<Option<Preamble>> {
        if self.preamble.is_none() {
            return Ok(None);
        }
        let preamble = self.check_body(body)?.first().map(Preamble::open).transpose()?;
        if preamble.as_ref().is_some_and(|preamble| preamble.secret.name_tag(&preamble.name) != self.name_tag)
        {
            return Err(corrupt("a preamble names another log than its header"));
        }
        Ok(preamble)
    }
}

fn frame_to_wire(frame: &Frame) -> wire::Frame {
    wire::Frame {
        length: frame.length,
        key: frame.key.clone(),
        commitment: Bytes::copy_from_slice(&frame.commitment.0),
    }
}

fn frame_from_wire(frame: wire::Frame) -> Result<Frame> {
    Ok(Frame {
        length: frame.length,
        key: frame.key,
        commitment: Hash(array(&frame.commitment, "a commitment")?),
    })
}

fn entry_to_wire(entry: &EntryHeader) -> wire::Entry {
    let tag = |tag: &Option<[u8; 16]>| tag.map_or_else(Bytes::new, |tag| Bytes::copy_from_slice(&tag));
    wire::Entry {
        id_tag: tag(&entry.id_tag),
        content_tag: tag(&entry.content_tag),
        events: entry.events,
        frame: Some(frame_to_wire(&entry.frame)),
    }
}

fn entry_from_wire(entry: wire::Entry) -> Result<EntryHeader> {
    let tag = |bytes: &Bytes| if bytes.is_empty() { Ok(None) } else { array(bytes, "a tag").map(Some) };
    let frame = entry.frame.ok_or_else(|| corrupt("an entry has no frame"))?;
    Ok(EntryHeader {
        id_tag: tag(&entry.id_tag)?,
        content_tag: tag(&entry.content_tag)?,
        events: entry.events,
        frame: frame_from_wire(frame)?,
    })
}

fn array<const N: usize>(bytes: &Bytes, what: &'static str) -> Result<[u8; N]> {
    bytes[..]
        .try_into()
        .map_err(|_| corrupt("a field has another length than it must have").with("field", what))
}

fn corrupt(what: &'static str) -> Error {
    Error::new(ErrorKind::Corrupt, "reading a commit").with("because", what)
}
