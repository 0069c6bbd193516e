//! Backends without a server: [`Memory`], and [`FileStore`].

pub mod file;
pub mod memory;

pub use file::FileStore;
pub use memory::Memory;
