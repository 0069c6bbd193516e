//! The few things that the file backend asks of a disk, so that a test can put a failing one under it.

use std::fmt::Debug;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FallocateFlags, fallocate};

/// One directory, by names relative to it.
pub trait Disk: Debug + Send + Sync + 'static {
    /// Makes a new file of `bytes` zero bytes, allocated if the file system can.
    fn create(&self, name: &str, bytes: u64) -> io::Result<Arc<dyn DiskFile>>;
    /// Opens a file that is there.
    fn open(&self, name: &str, write: bool) -> io::Result<Arc<dyn DiskFile>>;
    /// Gives a complete file its name; `false` if the name is taken, which stays as it is. `from` is gone afterwards.
    fn publish(&self, from: &str, to: &str) -> io::Result<bool>;
    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes a directory if it is not there.
    fn make_dir(&self, name: &str) -> io::Result<()>;
    /// The names in a directory; none if it is not there.
    fn list(&self, name: &str) -> io::Result<Vec<String>>;
    /// Makes names that were made or removed in a directory durable.
    fn sync_dir(&self, name: &str) -> io::Result<()>;
    /// Takes the lock of the one writer, until the file is dropped; `None` if another has it.
    fn lock(&self, name: &str) -> io::Result<Option<Box<dyn Debug + Send + Sync>>>;
}

/// One file.
pub trait DiskFile: Debug + Send + Sync {
    /// Reads as many bytes as there are, up to `bytes.len()`.
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all of them.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Makes what was written durable.
    fn sync(&self) -> io::Result<()>;
    /// Its length.
    fn bytes(&self) -> io::Result<u64>;
    /// Cuts or extends it; allocated if the file system can.
    fn resize(&self, bytes: u64) -> io::Result<()>;
    /// Makes a range read as zeros and gives its blocks back.
    fn punch(&self, offset: u64, bytes: u64) -> io::Result<()>;
}

/// A directory of the file system.
#[derive(Debug, Clone)]
pub struct RealDisk(PathBuf);

impl RealDisk {
    /// Below this directory.
    pub fn new(path: &Path) -> Self {
        Self(path.to_owned())
    }

    fn path(&self, name: &str) -> PathBuf {
        if name.is_empty() { self.0.clone() } else { self.0.join(name) }
    }
}

fn allocate(file: &File, bytes: u64) -> io::Result<()> {
    match fallocate(file, FallocateFlags::empty(), 0, bytes) {
        Ok(()) => Ok(()),
        // A file system without allocation still has files that grow.
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => file.set_len(bytes),
        Err(error) => Err(error.into()),
    }
}

impl Disk for RealDisk {
    fn create(&self, name: &str, bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(self.path(name))?;
        if bytes > 0 {
            allocate(&file, bytes)?;
        }
        Ok(Arc::new(RealFile(file)))
    }

    fn open(&self, name: &str, write: bool) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(RealFile(OpenOptions::new().read(true).write(write).open(self.path(name))?)))
    }

    fn publish(&self, from: &str, to: &str) -> io::Result<bool> {
        let linked = match std::fs::hard_link(self.path(from), self.path(to)) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => false,
            Err(error) => return Err(error),
        };
        std::fs::remove_file(self.path(from))?;
        Ok(linked)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.path(name))
    }

    fn make_dir(&self, name: &str) -> io::Result<()> {
        std::fs::create_dir_all(self.path(name))
    }

    fn list(&self, name: &str) -> io::Result<Vec<String>> {
        match std::fs::read_dir(self.path(name)) {
            Ok(entries) => {
                entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    fn sync_dir(&self, name: &str) -> io::Result<()> {
        File::open(self.path(name))?.sync_all()
    }

    fn lock(&self, name: &str) -> io::Result<Option<Box<dyn Debug + Send + Sync>>> {
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(self.path(name))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Box::new(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

#[derive(Debug)]
struct RealFile(File);

impl DiskFile for RealFile {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < bytes.len() {
            match self.0.read_at(&mut bytes[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn bytes(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn resize(&self, bytes: u64) -> io::Result<()> {
        if bytes > self.bytes()? { allocate(&self.0, bytes) } else { self.0.set_len(bytes) }
    }

    fn punch(&self, offset: u64, bytes: u64) -> io::Result<()> {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match fallocate(&self.0, flags, offset, bytes) {
            Ok(()) => Ok(()),
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {
                let zeros = vec![0; usize::try_from(bytes.min(1 << 20)).unwrap_or(1 << 20)];
                let (mut offset, end) = (offset, offset + bytes);
                while offset < end {
                    let count = (end - offset).min(zeros.len() as u64);
                    self.write_at(&zeros[..count as usize], offset)?;
                    offset += count;
                }
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }
}
