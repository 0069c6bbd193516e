//! Answers of the server, taken apart.

use redis::Value;

use crate::config::Address;

/// A value's bytes.
pub(crate) fn bytes(value: Value) -> Option<Vec<u8>> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        Value::SimpleString(text) => Some(text.into_bytes()),
        _ => None,
    }
}

/// A value's text.
pub(crate) fn text(value: Value) -> Option<String> {
    bytes(value).and_then(|bytes| String::from_utf8(bytes).ok())
}

/// A number, or the digits of one.
pub(crate) fn number(value: Value) -> Option<u64> {
    match value {
        Value::Int(number) => u64::try_from(number).ok(),
        Value::Nil => Some(0),
        value => text(value)?.parse().ok(),
    }
}

/// A list's values.
pub(crate) fn list(value: Value) -> Option<Vec<Value>> {
    match value {
        Value::Array(values) => Some(values),
        _ => None,
    }
}

/// A host and a port, one after the other, as Sentinels and clusters give them.
pub(crate) fn address(value: Value) -> Option<Address> {
    let mut parts = list(value)?.into_iter();
    let (host, port) = (text(parts.next()?)?, number(parts.next()?)?);
    (!host.is_empty()).then_some(Address { host, port: u16::try_from(port).ok()? })
}

/// Whether `ROLE` was answered by one that follows another. Whoever may not ask is not told.
pub(crate) fn is_replica(value: &Value) -> bool {
    match value {
        Value::Array(values) => match values.first() {
            Some(Value::BulkString(role)) => role != b"master",
            Some(Value::SimpleString(role)) => role != "master",
            _ => false,
        },
        _ => false,
    }
}

/// What `CLUSTER SLOTS` says, of `seed`: ranges of slots and their primaries.
pub(crate) fn slots(value: Value, seed: &Address) -> Option<Vec<(u16, u16, Address)>> {
    let range = |value: Value| {
        let mut parts = list(value)?.into_iter();
        let (first, last) = (number(parts.next()?)?, number(parts.next()?)?);
        let mut node = list(parts.next()?)?.into_iter();
        // A node that does not know its own name is where it was asked.
        let host = node.next().and_then(text).filter(|host| !host.is_empty() && host != "?");
        let port = u16::try_from(number(node.next()?)?).ok()?;
        let address = Address { host: host.unwrap_or_else(|| seed.host.clone()), port };
        Some((u16::try_from(first).ok()?, u16::try_from(last).ok()?, address))
    };
    list(value)?.into_iter().map(range).collect()
}
