//! Azurite: Azure's blobs in memory. It creates a blob once, whoever races; it checks signatures; and it forgets everything at its
//! end. On disk it would too: what it has acknowledged does not outlive a crash there.

use std::path::PathBuf;
use std::process::Command;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::Result;
use crate::http::{Answer, Started, exchange, find, on_path, said};

/// The container that is there from the start.
pub const CONTAINER: &str = "icecore-test";
/// The account that every Azurite has.
pub const ACCOUNT: &str = "devstoreaccount1";
/// The key of [`ACCOUNT`], which is no secret: it is the same everywhere.
pub const KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// Azurite does not compare it with its clock.
const DATE: &str = "Thu, 01 Jan 2026 00:00:00 GMT";

/// The program: in `target/tools` of the repository, or on the path.
///
/// # Errors
/// If it, or the `node` that runs it, is not installed.
pub fn program() -> Result<PathBuf> {
    if on_path("node").is_none() {
        return Err("node, which runs Azurite, is not here: `cargo xtask test` installs it, or install the packages nodejs and npm".to_owned());
    }
    find("node_modules/.bin/azurite-blob").ok_or_else(|| {
        "Azurite is not here: `cargo xtask test` installs it, or install npm's package azurite".to_owned()
    })
}

/// Its version, such as `3.35.0`.
///
/// # Errors
/// If it is not installed, or does not run.
pub fn version() -> Result<String> {
    said(Command::new(program()?).arg("--version"))
}

/// An Azurite server on a free port of this machine.
#[derive(Debug)]
pub struct Server {
    started: Started,
}

impl Server {
    /// Starts one, and makes [`CONTAINER`].
    ///
    /// # Errors
    /// If Azurite is not installed, or does not start; with what it said.
    pub fn start() -> Result<Self> {
        // It knows the versions of the API as of its own release, and refuses clients that are newer.
        let flags = ["--silent", "--disableTelemetry", "--skipApiVersionCheck", "--inMemoryPersistence"];
        let arguments = |port: u16| {
            let place = ["--blobHost", "127.0.0.1", "--blobPort", &port.to_string()].map(str::to_owned);
            place.into_iter().chain(flags.map(str::to_owned)).collect()
        };
        let is_ready = |port| send(port, "PUT", &format!("/{CONTAINER}?restype=container"), &[], b"");
        Ok(Self { started: Started::new(&program()?, arguments, is_ready)? })
    }

    /// Where it is: the URL of [`ACCOUNT`], below which are its containers.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/{ACCOUNT}", self.started.port)
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.started.process.pid()
    }

    /// Asks for a path below [`Self::url`], which begins with a slash; signed.
    ///
    /// # Errors
    /// If there is no answer.
    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<Answer> {
        send(self.started.port, method, path, headers, body)
    }
}

fn send(port: u16, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<Answer> {
    let mut headers = [headers, &[("x-ms-date", DATE), ("x-ms-version", "2021-08-06")]].concat();
    let path = format!("/{ACCOUNT}{path}");
    let authorization = authorization(method, &path, &headers, body.len());
    headers.push(("Authorization", &authorization));
    exchange(port, method, &path, &headers, body)
}

/// Signs a request with [`KEY`].
///
/// Source: Microsoft's "Authorize with Shared Key", for version 2015-02-21 and later.
fn authorization(method: &str, path: &str, headers: &[(&str, &str)], length: usize) -> String {
    let value = |name: &str| {
        let header = headers.iter().find(|(given, _)| given.eq_ignore_ascii_case(name));
        header.map_or("", |(_, value)| *value)
    };
    let length = if length == 0 { String::new() } else { length.to_string() };
    let mut lines = vec![method, value("content-encoding"), value("content-language"), &length];
    lines.extend(["content-md5", "content-type", "date", "if-modified-since"].map(value));
    lines.extend(["if-match", "if-none-match", "if-unmodified-since", "range"].map(value));
    let own = headers.iter().map(|(name, value)| (name.to_ascii_lowercase(), value));
    let own = own.filter(|(name, _)| name.starts_with("x-ms-"));
    let mut own: Vec<_> = own.map(|(name, value)| format!("{name}:{value}")).collect();
    own.sort_unstable();
    lines.extend(own.iter().map(String::as_str));
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    // The path has the account in it already, because Azurite has no host names.
    let resource = format!("/{ACCOUNT}{path}");
    lines.push(&resource);
    let mut query: Vec<_> =
        query.split('&').filter(|pair| !pair.is_empty()).map(|pair| pair.replacen('=', ":", 1)).collect();
    query.sort_unstable();
    lines.extend(query.iter().map(String::as_str));
    format!("SharedKey {ACCOUNT}:{}", encode(&sign(&decode(KEY), lines.join("\n").as_bytes())))
}

#[expect(clippy::expect_used, reason = "every length will do")]
fn sign(key: &[u8], text: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length");
    mac.update(text);
    mac.finalize().into_bytes().to_vec()
}

/// The digits of base64.
const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn encode(bytes: &[u8]) -> String {
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let mut number = [0; 4];
        number[1..=group.len()].copy_from_slice(group);
        let number = u32::from_be_bytes(number);
        for place in 0..4 {
            let digit = DIGITS[(number >> (18 - 6 * place)) as usize & 63];
            text.push(if place <= group.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

fn decode(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let (mut number, mut bits) = (0_usize, 0);
    for digit in text.bytes().filter_map(|byte| DIGITS.iter().position(|digit| *digit == byte)) {
        number = (number << 6 | digit) & 0xffff;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((number >> bits & 0xff) as u8);
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::{decode, encode};

    /// Source: RFC 4648, section 10.
    #[test]
    fn base64_is_as_its_standard_says() {
        let vectors = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ];
        for (bytes, text) in vectors {
            assert_eq!(encode(bytes.as_bytes()), text);
            assert_eq!(decode(text), bytes.as_bytes());
        }
    }
}
