//! What is read from files and from standard input.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use icecore::state::KEY_BYTES_MAX;
use icecore::{Entry, Error, ErrorKind, Json, Result};
use serde_json::value::RawValue;

/// A file, or standard input for `-`.
#[derive(Debug)]
pub enum Input {
    Stdin(io::Stdin),
    File(File),
}

impl Input {
    /// Opens it to read.
    pub fn open(path: &Path) -> Result<Self> {
        if path.as_os_str() == "-" {
            return Ok(Self::Stdin(io::stdin()));
        }
        let file = File::open(path).map_err(|error| failed("opening a file", path, error))?;
        if file.metadata().is_ok_and(|metadata| metadata.is_dir()) {
            return Err(Error::new(ErrorKind::Invalid, "opening a file")
                .with("file", path.display())
                .advise("It is a directory"));
        }
        Ok(Self::File(file))
    }

    /// Whether this is the file at that path, under whatever name.
    #[cfg(unix)]
    pub fn is_file_at(&self, path: &Path) -> bool {
        use std::os::fd::AsFd;
        use std::os::unix::fs::MetadataExt;

        let own = match self {
            Self::Stdin(stdin) => stdin.as_fd().try_clone_to_owned().map(File::from),
            Self::File(file) => file.try_clone(),
        };
        let (Ok(own), Ok(other)) = (own.and_then(|file| file.metadata()), path.metadata()) else {
            return false;
        };
        own.is_file() && (own.dev(), own.ino()) == (other.dev(), other.ino())
    }

    /// Whether this is the file at that path; told by `from`, the path that it was opened at.
    #[cfg(not(unix))]
    pub fn is_file_at(&self, _path: &Path) -> bool {
        false
    }
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Stdin(stdin) => stdin.read(buffer),
            Self::File(file) => file.read(buffer),
        }
    }
}

/// What `@FILE` or, with `-`, standard input holds, or what was given itself. What is too large is not read to its end.
pub fn data(doing: &'static str, given: &str) -> Result<Vec<u8>> {
    let path = match given.strip_prefix('@') {
        Some(path) => PathBuf::from(path),
        None if given == "-" => PathBuf::from("-"),
        None => return Ok(given.as_bytes().to_vec()),
    };
    let mut bytes = Vec::new();
    let input = Input::open(&path)?;
    input
        .take(Entry::BYTES_MAX as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| failed(doing, &path, error))?;
    if bytes.len() > Entry::BYTES_MAX {
        return Err(Error::new(ErrorKind::Invalid, doing)
            .with("file", path.display())
            .with("bytes_max", Entry::BYTES_MAX)
            .advise("It is too large for one entry: split it"));
    }
    Ok(bytes)
}

/// The JSON of a document or of a patch, before a store is opened or made for it.
pub fn json(doing: &'static str, given: &str) -> Result<Json> {
    let bytes = data(doing, given)?;
    if let Err(error) = serde_json::from_slice::<&RawValue>(&bytes) {
        return Err(Error::new(ErrorKind::Invalid, doing)
            .because(error)
            .advise("It is not JSON; a text has its own quotes, as in '\"text\"'"));
    }
    Json::text(bytes)
}

/// A document's key, before a store is opened or made for it.
pub fn key(given: &str) -> Result<&str> {
    if (1..=KEY_BYTES_MAX).contains(&given.len()) {
        return Ok(given);
    }
    // It is not shown: it may be long, or anything.
    Err(Error::new(ErrorKind::Invalid, "reading a key")
        .with("key_bytes", given.len())
        .with("key_bytes_max", KEY_BYTES_MAX)
        .advise("A key is some text"))
}

/// What became of a file.
pub fn failed(doing: &'static str, path: &Path, error: io::Error) -> Error {
    let kind = match error.kind() {
        io::ErrorKind::NotFound => ErrorKind::NotFound,
        io::ErrorKind::PermissionDenied => ErrorKind::Refused,
        io::ErrorKind::IsADirectory | io::ErrorKind::InvalidInput => ErrorKind::Invalid,
        _ => ErrorKind::Unavailable,
    };
    Error::new(kind, doing).with("file", path.display()).because(error)
}
