//! The calls of a backend by name, for what counts them.

/// A method of [`Backend`](icecore_log::Backend).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Operation {
    /// `create`
    Create,
    /// `read`
    Read,
    /// `heads`
    Heads,
    /// `logs`
    Logs,
    /// `close`
    Close,
    /// `sweep`
    Sweep,
    /// `drop_bodies`
    DropBodies,
    /// `wait`
    Wait,
    /// `put_blob`
    PutBlob,
    /// `get_blob`
    GetBlob,
    /// `list_blobs`
    ListBlobs,
    /// `delete_blob`
    DeleteBlob,
    /// `examine`
    Examine,
    /// `shut_down`
    ShutDown,
}

impl Operation {
    /// Every one, in the order of the trait.
    pub const ALL: [Self; 14] = [
        Self::Create,
        Self::Read,
        Self::Heads,
        Self::Logs,
        Self::Close,
        Self::Sweep,
        Self::DropBodies,
        Self::Wait,
        Self::PutBlob,
        Self::GetBlob,
        Self::ListBlobs,
        Self::DeleteBlob,
        Self::Examine,
        Self::ShutDown,
    ];

    /// The method's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Read => "read",
            Self::Heads => "heads",
            Self::Logs => "logs",
            Self::Close => "close",
            Self::Sweep => "sweep",
            Self::DropBodies => "drop_bodies",
            Self::Wait => "wait",
            Self::PutBlob => "put_blob",
            Self::GetBlob => "get_blob",
            Self::ListBlobs => "list_blobs",
            Self::DeleteBlob => "delete_blob",
            Self::Examine => "examine",
            Self::ShutDown => "shut_down",
        }
    }

    /// Whether it changes what is stored: whether it was carried out is then worth knowing.
    pub fn is_writing(self) -> bool {
        match self {
            Self::Create
            | Self::Close
            | Self::Sweep
            | Self::DropBodies
            | Self::PutBlob
            | Self::DeleteBlob
            | Self::ShutDown => true,
            Self::Read
            | Self::Heads
            | Self::Logs
            | Self::Wait
            | Self::GetBlob
            | Self::ListBlobs
            | Self::Examine => false,
        }
    }
}

/// One thing for each operation.
#[derive(Debug, Default)]
pub(crate) struct Each<T>([T; Operation::ALL.len()]);

impl<T> std::ops::Index<Operation> for Each<T> {
    type Output = T;

    fn index(&self, operation: Operation) -> &T {
        // The operations are numbered in the order of `ALL`, which a test looks at.
        &self.0[operation as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operations_are_numbered_in_their_order() {
        for (place, operation) in Operation::ALL.into_iter().enumerate() {
            assert_eq!(operation as usize, place);
        }
    }
}
