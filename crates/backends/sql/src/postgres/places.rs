//! A URL that names several servers: one of its own for each, since the driver knows none with more.

use icecore_log::Result;

use crate::server::config::invalid;

/// The options that name a server.
const OF_A_SERVER: [&str; 3] = ["host", "hostaddr", "port"];

/// The URL, once for each `HOST:PORT` that stands in it, one behind the other with commas between them.
pub(super) fn places(url: &str) -> Result<Vec<String>> {
    let (place, query) = url.split_once('?').unwrap_or((url, ""));
    let of_a_server = query.split('&').filter_map(|option| {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        OF_A_SERVER.contains(&name).then_some(value)
    });
    let (scheme, rest) = place.split_once("://").unwrap_or(("postgres", place));
    let (authority, path) = rest
        .split_once('/')
        .map_or((rest, String::new()), |(authority, path)| (authority, format!("/{path}")));
    let (user, hosts) = authority
        .rsplit_once('@')
        .map_or((String::new(), authority), |(user, hosts)| (format!("{user}@"), hosts));
    let hosts: Vec<&str> = hosts.split(',').collect();
    let options: Vec<&str> = of_a_server.collect();
    let is_list = |value: &str| value.contains(',') || value.to_ascii_lowercase().contains("%2c");
    if options.iter().any(|value| is_list(value)) || (hosts.len() > 1 && !options.is_empty()) {
        return Err(invalid(
            "Several servers are named in the place of one: postgres://USER@HOST:PORT,HOST:PORT/DATABASE",
        ));
    }
    if hosts.len() > 1 && hosts.iter().any(|host| host.is_empty() || host.starts_with(':')) {
        return Err(invalid("Between two commas there is a HOST, or HOST:PORT"));
    }
    let query = if query.is_empty() { String::new() } else { format!("?{query}") };
    Ok(hosts.into_iter().map(|host| format!("{scheme}://{user}{host}{path}{query}")).collect())
}
