//! Conditions, and what becomes of those that do not hold; and calls that are tried until they are told what became of them.

use super::*;

/// Versions are relative to those of the model, so that about half of the conditions hold.
#[derive(Debug, Clone, Copy)]
pub enum Ask {
    Log(i64),
    Document(usize, i64),
    Absent(usize),
    Exists(usize),
}

/// Of documents by their numbers.
pub fn ask(key: impl Strategy<Value = usize> + Clone) -> impl Strategy<Value = Ask> {
    let off = prop::sample::select(vec![0, 0, 0, -1, 1]);
    prop_oneof![
        off.clone().prop_map(Ask::Log),
        (key.clone(), off).prop_map(|(key, off)| Ask::Document(key, off)),
        key.clone().prop_map(Ask::Absent),
        key.prop_map(Ask::Exists),
    ]
}

/// What conditions are judged by.
pub trait Versions {
    /// Where the log ends.
    fn head(&self) -> u64;
    /// That of a document, as the next commit sees it; 0 if there is none.
    fn version_of(&self, key: &str) -> u64;
}

impl Ask {
    pub fn condition(self, keys: &[&str], of: &impl Versions) -> Condition {
        let off = |version: u64, off: i64| Version(version.saturating_add_signed(off));
        match self {
            Self::Log(by) => Condition::Log(off(of.head(), by)),
            Self::Document(key, by) => {
                Condition::Document { key: keys[key].to_owned(), version: off(of.version_of(keys[key]), by) }
            }
            Self::Absent(key) => Condition::Absent(keys[key].to_owned()),
            Self::Exists(key) => Condition::Exists(keys[key].to_owned()),
        }
    }
}

/// Which fail, and what is found, in order.
pub fn failing(conditions: &[Condition], of: &impl Versions) -> Vec<String> {
    let mut failing = Vec::new();
    for condition in conditions {
        let (holds, said, found) = match condition {
            Condition::Log(Version(version)) => {
                (*version == of.head(), format!("log at {version}"), of.head())
            }
            Condition::Document { key, version } => {
                let found = of.version_of(key);
                (found != 0 && found == version.0, format!("{key} at {version}"), found)
            }
            Condition::Absent(key) => {
                let found = of.version_of(key);
                (found == 0, format!("{key} absent"), found)
            }
            Condition::Exists(key) => {
                let found = of.version_of(key);
                (found != 0, format!("{key} exists"), found)
            }
        };
        if !holds {
            failing.extend([said, found.to_string()]);
        }
    }
    failing
}

/// What a conflict names, and what was found.
pub fn failed(error: &Error) -> Vec<String> {
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    let facts = error.facts().filter(|(name, _)| ["failed", "found"].contains(name));
    facts.map(|(_, value)| value.to_owned()).collect()
}

/// Tries until it is told, where answers are lost; each try has its number. And how often it was told that nobody knows.
pub async fn until_told<T>(
    is_faulty: bool,
    what: &str,
    mut attempt: impl AsyncFnMut(usize) -> Result<T>,
) -> (Result<T>, usize) {
    let mut unknown = 0;
    for number in 0..200 {
        match attempt(number).await {
            Err(error)
                if is_faulty && [ErrorKind::Unknown, ErrorKind::Unavailable].contains(&error.kind()) =>
            {
                unknown += usize::from(error.kind() == ErrorKind::Unknown);
            }
            told => return (told, unknown),
        }
    }
    unreachable!("{what}: never told");
}
