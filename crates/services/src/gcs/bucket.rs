//! What the server remembers: objects by name, each with its generation.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

/// An object as it was put. Another put makes another one.
#[derive(Debug)]
pub(super) struct Object {
    pub(super) content: Arc<Vec<u8>>,
    pub(super) generation: u64,
    pub(super) etag: String,
    /// Since 1970.
    pub(super) modified: Duration,
    /// The headers that are given back with it.
    pub(super) metadata: Vec<(String, String)>,
}

/// Objects in the order of their names' bytes.
#[derive(Debug, Default)]
pub(super) struct Bucket {
    objects: BTreeMap<String, Arc<Object>>,
    /// The last that was given to any object.
    generation: u64,
}

/// Which objects are listed.
#[derive(Debug)]
pub(super) struct Listing<'a> {
    pub(super) prefix: &'a str,
    /// Names that have it after the prefix are listed as what they have in common.
    pub(super) delimiter: Option<&'a str>,
    /// Only names after this one.
    pub(super) start_after: &'a str,
    /// Only entries after this one, which ended the page before.
    pub(super) token: &'a str,
    pub(super) entries_max: usize,
}

/// One page of a listing.
#[derive(Debug, Default)]
pub(super) struct Page {
    pub(super) objects: Vec<(String, Arc<Object>)>,
    pub(super) prefixes: Vec<String>,
    /// The last entry, if more would follow.
    pub(super) next: Option<String>,
}

impl Bucket {
    pub(super) fn get(&self, name: &str) -> Option<Arc<Object>> {
        self.objects.get(name).cloned()
    }

    /// The generation of an object; 0 if there is none, as in the service's preconditions.
    pub(super) fn generation(&self, name: &str) -> u64 {
        self.objects.get(name).map_or(0, |object| object.generation)
    }

    /// Puts an object in the place of what is there.
    pub(super) fn put(&mut self, name: &str, mut object: Object) -> Arc<Object> {
        // As large as the service's, which are times in microseconds: none fits in 32 bits, nor exactly in a float of them.
        let now = u64::try_from(object.modified.as_micros()).unwrap_or(u64::MAX);
        self.generation = now.max(self.generation + 1);
        object.generation = self.generation;
        let object = Arc::new(object);
        self.objects.insert(name.to_owned(), Arc::clone(&object));
        object
    }

    /// Whether there was one.
    pub(super) fn delete(&mut self, name: &str) -> bool {
        self.objects.remove(name).is_some()
    }

    pub(super) fn list(&self, listing: &Listing<'_>) -> Page {
        let mut page = Page::default();
        let mut last: Option<&str> = None;
        let first = listing.prefix.max(listing.start_after).max(listing.token);
        let candidates = self
            .objects
            .range::<str, _>((Bound::Included(first), Bound::Unbounded))
            .take_while(|(name, _)| name.starts_with(listing.prefix))
            .filter(|(name, _)| listing.start_after.is_empty() || name.as_str() > listing.start_after);
        for (name, object) in candidates {
            let common = listing.delimiter.and_then(|delimiter| {
                let end = name[listing.prefix.len()..].find(delimiter)? + delimiter.len();
                Some(&name[..listing.prefix.len() + end])
            });
            let entry = common.unwrap_or(name);
            // A common prefix is before all the names that it stands for, so that no page begins with one that is listed.
            if last == Some(entry) || (!listing.token.is_empty() && entry <= listing.token) {
                continue;
            }
            if page.objects.len() + page.prefixes.len() == listing.entries_max {
                page.next = last.map(str::to_owned);
                break;
            }
            match common {
                Some(common) => page.prefixes.push(common.to_owned()),
                None => page.objects.push((name.clone(), Arc::clone(object))),
            }
            last = Some(entry);
        }
        page
    }
}

/// An ETag that equal contents share, as they do in the service, where it is an MD5: it is no generation.
pub(super) fn etag(content: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    hasher.write(content);
    format!("\"{:016x}{:016x}\"", hasher.finish(), content.len())
}
