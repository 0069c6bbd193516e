//! What is read from files and from standard input.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use icecore::{Entry, Error, ErrorKind, Result};

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

/// The data of `--data`: `@FILE`, `-` for standard input, or what was given itself. What is too large is not read to its end.
pub fn data(given: &str) -> Result<Vec<u8>> {
    const DOING: &str = "reading --data";
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
        .map_err(|error| failed(DOING, &path, error))?;
    if bytes.len() > Entry::BYTES_MAX {
        return Err(Error::new(ErrorKind::Invalid, DOING)
            .with("file", path.display())
            .with("bytes_max", Entry::BYTES_MAX)
            .advise("It is too large for one entry: split it"));
    }
    Ok(bytes)
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
