//! Taking a store's URL apart, and showing one without its secrets.

use icecore_log::{Error, ErrorKind, Result};

/// The forms of URLs that this build knows.
const FORMS: &[&str] = &[
    #[cfg(feature = "file")]
    "memory:",
    #[cfg(feature = "file")]
    "file:PATH",
    #[cfg(feature = "sqlite")]
    "sqlite:PATH",
    #[cfg(feature = "postgres")]
    "postgres://USER@HOST/DATABASE",
    #[cfg(feature = "mysql")]
    "mysql://USER@HOST/DATABASE",
    #[cfg(feature = "object")]
    "s3://BUCKET/PREFIX",
    #[cfg(feature = "object")]
    "gs://BUCKET/PREFIX",
    #[cfg(feature = "object")]
    "az://CONTAINER/PREFIX",
    #[cfg(feature = "redis")]
    "redis://HOST:PORT",
    #[cfg(feature = "redis")]
    "redis+sentinel://HOST:PORT/PRIMARY",
    #[cfg(feature = "redis")]
    "redis+cluster://HOST:PORT",
    #[cfg(feature = "dynamodb")]
    "dynamodb://TABLE",
    #[cfg(feature = "mongodb")]
    "mongodb://HOST:PORT/DATABASE",
];

/// A URL's scheme and the rest.
pub(crate) fn split(url: &str) -> Result<(&str, &str)> {
    url.split_once(':').ok_or_else(|| {
        Error::new(ErrorKind::Invalid, "opening a store")
            .with("url", redact(url))
            .advise(format!("A store is named by a URL: {}", forms()))
    })
}

/// The path of `scheme:PATH`; two slashes before it are accepted and mean nothing.
pub(crate) fn path<'a>(url: &str, rest: &'a str) -> Result<&'a str> {
    let invalid = |advice: &str| {
        Err(Error::new(ErrorKind::Invalid, "opening a store").with("url", redact(url)).advise(advice))
    };
    let path = rest.strip_prefix("//").unwrap_or(rest);
    if path.is_empty() || path.contains('\0') {
        return invalid("A path follows the colon, such as file:./icecore-data");
    }
    if path.contains('?') {
        return invalid("A path has no options; name a place without a question mark");
    }
    if path == ":memory:" {
        return invalid("A store that is forgotten with its process is memory:");
    }
    Ok(path)
}

pub(crate) fn forms() -> String {
    FORMS.join(", ")
}

/// A URL as it may be shown: user name and password, and the values of its options, are left out.
///
/// ```
/// assert_eq!(icecore::redact("postgres://ada:secret@db/agents?sslkey=k"), "postgres://…@db/agents?sslkey=…");
/// ```
pub fn redact(url: &str) -> String {
    if PATHS.iter().any(|scheme| url.starts_with(scheme)) {
        return mask_options(url);
    }
    let scheme = url.split_once(':').map_or("", |(scheme, _)| scheme);
    let rest = url.get(scheme.len()..).and_then(|rest| rest.strip_prefix("://"));
    // Connection strings of other kinds have their secrets anywhere.
    let (Some(rest), true) = (rest, scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'+'))
    else {
        return "…".to_owned();
    };
    // A password may hold any character, so everything up to the last @ is left out.
    match rest.rsplit_once('@') {
        Some((hidden, shown)) if hidden.contains('?') => {
            format!("{scheme}://…@{}", mask_options(&format!("?{shown}")))
        }
        Some((_, shown)) => format!("{scheme}://…@{}", mask_options(shown)),
        None => format!("{scheme}://{}", mask_options(rest)),
    }
}

/// What follows these is a path.
const PATHS: &[&str] = &["memory:", "file:", "sqlite:"];

fn mask_options(text: &str) -> String {
    let Some((place, query)) = text.split_once('?') else {
        return text.to_owned();
    };
    let options = query.split('&').map(|option| match option.split_once('=') {
        Some((name, _)) => format!("{name}=…"),
        None => "…".to_owned(),
    });
    format!("{place}?{}", options.collect::<Vec<_>>().join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_form_of_a_url_shows_its_secret() {
        for url in [
            "postgres://ada:SECRET@db:5432/agents",
            "postgres://ada:SECRET@x@db/agents",
            "mariadb://ada:SECRET@db/agents?password_file=SECRET",
            "postgres://ada:SEC?RET@db/agents?password=SECRET",
            "s3://bucket/prefix?secret_access_key=SECRET&endpoint=SECRET",
            "s3://key:SECRET@bucket/prefix",
            "redis://:SECRET@cache/0",
            "rediss+sentinel://:SECRET@a,b/main?sentinel_password_file=SECRET",
            "az://container/prefix?SECRET",
            "dynamodb://agents?region=here&secret_access_key=SECRET",
            "dynamodb://key:SECRET@agents",
            "s3://bucket?user=a@b&key=SECRET",
            "file:somewhere?key=SECRET",
            "mongodb://ada:SECRET@a,b,c/agents?authSource=SECRET",
            "postgres:ada:SECRET@db/agents",
            "host=db password=SECRET",
            "DefaultEndpointsProtocol=https;AccountKey=SECRET;BlobEndpoint=https://x",
            "SECRET",
        ] {
            assert!(!redact(url).contains("SECRET"), "{}", redact(url));
        }
    }

    #[test]
    fn a_plain_path_is_shown_as_it_is() {
        assert_eq!(redact("file:./icecore-data"), "file:./icecore-data");
    }
}
