//! The disk that a store is given in these tests: a [`Machine`], with a trace of what was asked of it, and with faults.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::chance::Chance;
use super::machine::{Machine, Operation, SECTOR};
use crate::file::{Disk, DiskFile};

/// Whether an operation fails, and how.
type Fault = Arc<dyn Fn(&Attempt<'_>) -> Option<io::ErrorKind> + Send + Sync>;

/// What is about to be done.
#[derive(Debug)]
pub struct Attempt<'a> {
    /// Counted from 0, failed ones too.
    pub number: usize,
    pub operation: &'a Operation,
    /// Whether it needs space that the disk has not given yet.
    pub allocates: bool,
}

#[derive(Clone)]
pub struct ModelDisk {
    state: Arc<Mutex<State>>,
    is_locked: Arc<AtomicBool>,
}

struct State {
    machine: Machine,
    trace: Vec<Operation>,
    /// Failed ones too.
    attempts: usize,
    fault: Option<Fault>,
    chance: Chance,
    /// What another process does meanwhile, the next first: a few steps of it before every read.
    others: Vec<Operation>,
}

impl fmt::Debug for ModelDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ModelDisk").finish_non_exhaustive()
    }
}

impl ModelDisk {
    pub fn new(machine: Machine, chance: Chance) -> Self {
        let state =
            State { machine, trace: Vec::new(), attempts: 0, fault: None, chance, others: Vec::new() };
        Self { state: Arc::new(Mutex::new(state)), is_locked: Arc::default() }
    }

    /// A disk on which another process carries out this trace, step by step while it is read.
    pub fn shared(trace: &[Operation], chance: Chance) -> Self {
        let disk = Self::new(Machine::default(), chance);
        disk.share(trace);
        disk
    }

    /// From now on another process carries out this trace.
    pub fn share(&self, trace: &[Operation]) {
        self.state().others = trace.iter().rev().cloned().collect();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn machine(&self) -> Machine {
        self.state().machine.clone()
    }

    pub fn trace(&self) -> Vec<Operation> {
        self.state().trace.clone()
    }

    /// Carries out a trace.
    pub fn perform_all(&self, trace: &[Operation]) {
        for operation in trace {
            self.perform(operation.clone()).unwrap();
        }
    }

    /// How many operations were carried out.
    pub fn position(&self) -> usize {
        self.state().trace.len()
    }

    /// How many were tried.
    pub fn attempts(&self) -> usize {
        self.state().attempts
    }

    pub fn evict(&self) {
        self.state().machine.evict();
    }

    /// From now on, `fault` says which operations fail.
    pub fn fail(&self, fault: impl Fn(&Attempt<'_>) -> Option<io::ErrorKind> + Send + Sync + 'static) {
        self.state().fault = Some(Arc::new(fault));
    }

    pub fn repair(&self) {
        self.state().fault = None;
    }

    /// Steps that the other process has yet to do.
    pub fn others_left(&self) -> usize {
        self.state().others.len()
    }

    fn perform(&self, operation: Operation) -> io::Result<usize> {
        let (number, allocates, fault) = {
            let mut state = self.state();
            state.attempts += 1;
            (state.attempts - 1, state.machine.allocates(&operation), state.fault.clone())
        };
        // Asked without the lock: a fault may also hold an operation back for a while.
        let failure = fault.and_then(|fault| fault(&Attempt { number, operation: &operation, allocates }));
        let mut state = self.state();
        let State { machine, chance, trace, .. } = &mut *state;
        let Some(kind) = failure else {
            let outcome = machine.apply(&operation)?;
            trace.push(operation);
            return Ok(outcome);
        };
        match operation {
            Operation::Sync { file } => machine.fail_sync(file, chance),
            // It may have come some of the way.
            Operation::Write { file, offset, mut bytes } => {
                let sectors = chance.below(bytes.len() / SECTOR + 1);
                bytes.truncate((sectors * SECTOR).saturating_sub(offset as usize % SECTOR));
                machine.apply(&Operation::Write { file, offset, bytes })?;
            }
            // The name comes before the space.
            Operation::Create { name, bytes } if bytes > 0 => {
                machine.apply(&Operation::Create { name, bytes: 0 })?;
            }
            _ => {}
        }
        Err(kind.into())
    }

    /// The machine, after the other process has done a few more steps.
    fn look(&self) -> MutexGuard<'_, State> {
        let mut state = self.state();
        if !state.others.is_empty() {
            for _ in 0..[0, 0, 0, 1, 1, 2, 7, 25][state.chance.below(8)] {
                if let Some(operation) = state.others.pop() {
                    state.machine.apply(&operation).unwrap();
                }
            }
        }
        state
    }

    fn handle(&self, file: usize) -> Arc<dyn DiskFile> {
        Arc::new(ModelFile { disk: self.clone(), file })
    }
}

impl Disk for ModelDisk {
    fn create(&self, name: &str, bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
        self.perform(Operation::Create { name: name.to_owned(), bytes }).map(|file| self.handle(file))
    }

    fn open(&self, name: &str, _write: bool) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.look().machine.file(name)?;
        Ok(self.handle(file))
    }

    fn publish(&self, from: &str, to: &str) -> io::Result<bool> {
        let outcome = self.perform(Operation::Publish { from: from.to_owned(), to: to.to_owned() })?;
        Ok(outcome == 1)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.perform(Operation::Remove { name: name.to_owned() }).map(|_| ())
    }

    fn make_dir(&self, name: &str) -> io::Result<()> {
        self.perform(Operation::MakeDir { name: name.to_owned() }).map(|_| ())
    }

    fn list(&self, name: &str) -> io::Result<Vec<String>> {
        Ok(self.look().machine.list(name))
    }

    fn sync_dir(&self, name: &str) -> io::Result<()> {
        self.perform(Operation::SyncDir { name: name.to_owned() }).map(|_| ())
    }

    fn lock(&self, name: &str) -> io::Result<Option<Box<dyn fmt::Debug + Send + Sync>>> {
        if self.is_locked.swap(true, Ordering::SeqCst) {
            return Ok(None);
        }
        let lock = Lock(Arc::clone(&self.is_locked));
        let is_new = self.state().machine.file(name).is_err();
        if is_new {
            self.create(name, 0)?;
        }
        Ok(Some(Box::new(lock)))
    }
}

#[derive(Debug)]
struct Lock(Arc<AtomicBool>);

impl Drop for Lock {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

#[derive(Debug)]
struct ModelFile {
    disk: ModelDisk,
    file: usize,
}

impl DiskFile for ModelFile {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.disk.look();
        let content = state.machine.content(self.file).get(offset as usize..).unwrap_or_default();
        let count = content.len().min(bytes.len());
        bytes[..count].copy_from_slice(&content[..count]);
        Ok(count)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.disk.perform(Operation::Write { file: self.file, offset, bytes: bytes.to_vec() }).map(|_| ())
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.perform(Operation::Sync { file: self.file }).map(|_| ())
    }

    fn bytes(&self) -> io::Result<u64> {
        Ok(self.disk.look().machine.content(self.file).len() as u64)
    }

    fn resize(&self, bytes: u64) -> io::Result<()> {
        self.disk.perform(Operation::Resize { file: self.file, bytes }).map(|_| ())
    }

    fn punch(&self, offset: u64, bytes: u64) -> io::Result<()> {
        self.disk.perform(Operation::Punch { file: self.file, offset, bytes }).map(|_| ())
    }
}
