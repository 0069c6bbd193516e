//! Tenants that this handle has written.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

/// A tenant never goes away again.
#[derive(Debug, Default)]
pub(crate) struct Tenants(Mutex<HashSet<String>>);

/// How many are remembered.
const MOST: usize = 16_384;

impl Tenants {
    pub fn has(&self, tenant: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(tenant)
    }

    pub fn add(&self, tenant: &str) {
        let mut tenants = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if tenants.len() >= MOST {
            tenants.clear();
        }
        tenants.insert(tenant.to_owned());
    }
}
