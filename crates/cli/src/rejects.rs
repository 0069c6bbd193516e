//! Where `import --keep-going` puts the lines that it passes over.

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use base64::Engine;
use icecore::{Error, ErrorKind, Result};
use serde_json::{Map, Value};

use crate::input::{Input, failed};
use crate::lines::{Bad, Line};

const DOING: &str = "writing the rejects";

/// A file of JSON lines: each a line's number, what is wrong with it, and its text.
#[derive(Debug)]
pub struct Rejects {
    path: PathBuf,
    file: BufWriter<File>,
}

impl Rejects {
    /// Makes the file, which must not be the input: it would be emptied before it was read.
    pub fn create(path: PathBuf, input: &Input) -> Result<Self> {
        if input.is_file_at(&path) {
            return Err(Error::new(ErrorKind::Invalid, DOING)
                .with("file", path.display())
                .advise("It is the file to import: name another one with --rejects"));
        }
        let file = File::create(&path).map_err(|error| failed(DOING, &path, error))?;
        Ok(Self { path, file: BufWriter::new(file) })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Adds a line.
    pub fn add(&mut self, line: &Line, error: &Error) -> Result<()> {
        let mut told = Map::new();
        told.insert("line".to_owned(), line.number.into());
        told.insert("error".to_owned(), error.to_string().into());
        match &line.text {
            Ok(text) => told.insert("text".to_owned(), text.as_str().into()),
            Err(Bad::NotUtf8(bytes)) => {
                let text = base64::engine::general_purpose::STANDARD.encode(bytes);
                told.insert("text_base64".to_owned(), text.into())
            }
            // It was passed over, and is in the input by its number.
            Err(Bad::TooLong) => None,
        };
        writeln!(self.file, "{}", Value::Object(told)).map_err(|error| failed(DOING, &self.path, error))
    }

    pub fn flush(&mut self) -> Result<()> {
        self.file.flush().map_err(|error| failed(DOING, &self.path, error))
    }
}

/// Where rejects go by default: beside the file, or for standard input into the current folder.
pub fn default_path(input: &Path) -> PathBuf {
    if input.as_os_str() == "-" {
        return PathBuf::from("rejects.ndjson");
    }
    let mut name = OsString::from(input);
    name.push(".rejects");
    name.into()
}
