//! The server for Google Cloud Storage answers as Google's documentation says, and fails when it is told to.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use icecore_services::gcs::{BUCKET, Server, TOKEN};

/// One connection, which is used for every request in turn.
struct Client {
    stream: BufReader<TcpStream>,
}

#[derive(Debug, Default)]
struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        headers.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    fn generation(&self) -> u64 {
        self.header("x-goog-generation").unwrap().parse().unwrap()
    }

    fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    /// What stands in every element of this name.
    fn elements(&self, name: &str) -> Vec<String> {
        let (start, end) = (format!("<{name}>"), format!("</{name}>"));
        let text = self.text();
        text.split(&start).skip(1).map(|piece| piece.split_once(&end).unwrap().0.to_owned()).collect()
    }
}

impl Client {
    fn new(server: &Server) -> Self {
        let url = server.url();
        let stream = TcpStream::connect(url.strip_prefix("http://").unwrap()).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream: BufReader::new(stream) }
    }

    /// `None` if the connection ends without an answer.
    fn raw(&mut self, head: &str, body: &[u8]) -> Option<Answer> {
        self.stream.get_mut().write_all(head.as_bytes()).ok()?;
        self.stream.get_mut().write_all(body).ok()?;
        self.read(head.starts_with("HEAD"))
    }

    fn read(&mut self, is_head: bool) -> Option<Answer> {
        let mut answer = Answer::default();
        let mut line = String::new();
        if self.stream.read_line(&mut line).unwrap_or(0) == 0 {
            return None;
        }
        answer.status = line.split(' ').nth(1).unwrap().parse().unwrap();
        loop {
            line.clear();
            self.stream.read_line(&mut line).unwrap();
            let Some((name, value)) = line.trim_end().split_once(": ") else { break };
            answer.headers.push((name.to_owned(), value.to_owned()));
        }
        let length = answer.header("content-length").map_or(0, |length| length.parse().unwrap());
        answer.body = vec![0; if is_head { 0 } else { length }];
        self.stream.read_exact(&mut answer.body).unwrap();
        Some(answer)
    }

    fn send(&mut self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Option<Answer> {
        let mut head =
            format!("{method} {target} HTTP/1.1\r\nhost: test\r\nauthorization: Bearer {TOKEN}\r\n");
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        head += &format!("content-length: {}\r\n\r\n", body.len());
        self.raw(&head, body)
    }

    fn ask(&mut self, method: &str, name: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        self.send(method, &format!("/{BUCKET}/{name}"), headers, body).unwrap()
    }

    fn put(&mut self, name: &str, body: &[u8]) -> Answer {
        self.ask("PUT", name, &[], body)
    }

    fn put_if(&mut self, name: &str, generation: u64, body: &[u8]) -> Answer {
        self.ask("PUT", name, &[("x-goog-if-generation-match", &generation.to_string())], body)
    }

    fn get(&mut self, name: &str, headers: &[(&str, &str)]) -> Answer {
        self.ask("GET", name, headers, b"")
    }

    fn list(&mut self, query: &str) -> Answer {
        let answer = self.send("GET", &format!("/{BUCKET}?list-type=2{query}"), &[], b"").unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer
    }
}

fn start() -> (Server, Client) {
    let server = Server::start().unwrap();
    let client = Client::new(&server);
    (server, client)
}

#[test]
fn an_object_comes_back_as_it_was_put_and_is_gone_when_it_is_deleted() {
    let (server, mut client) = start();

    // As `object_store` writes the bucket's name and the object's.
    let target = "/icecore%2Dtest/a%2Fb%2520c%2B";
    let headers = [("content-type", "text/plain"), ("x-goog-meta-kind", "commit")];
    let put = client.send("PUT", target, &headers, b"\0bytes\xff").unwrap();
    assert_eq!((put.status, put.body.len()), (200, 0));
    let got = client.get("a/b%2520c+", &[]);
    assert_eq!((got.status, got.body.as_slice()), (200, b"\0bytes\xff".as_slice()));
    assert_eq!(got.header("content-type"), Some("text/plain"));
    assert_eq!(got.header("x-goog-meta-kind"), Some("commit"));
    assert_eq!(got.header("etag"), put.header("etag"));
    assert_eq!(got.generation(), put.generation());
    let modified = got.header("last-modified").unwrap();
    assert!(modified.len() == 29 && modified.ends_with(" GMT"), "{modified}");

    let head = client.ask("HEAD", "a%2Fb%2520c%2B", &[], b"");
    assert_eq!((head.status, head.header("content-length")), (200, Some("7")));
    assert_eq!(head.header("etag"), put.header("etag"));
    assert_eq!(head.generation(), put.generation());

    assert_eq!(client.ask("DELETE", "a%2Fb%2520c%2B", &[], b"").status, 204);
    for method in ["GET", "HEAD", "DELETE"] {
        let answer = client.ask(method, "a%2Fb%2520c%2B", &[], b"");
        assert_eq!(answer.status, 404);
        if method != "HEAD" {
            assert_eq!(answer.elements("Code"), ["NoSuchKey"]);
        }
    }
    assert_eq!(server.unexpected(), [""; 0]);
}

#[test]
fn an_empty_object_and_a_large_one_come_back_whole() {
    let (_server, mut client) = start();
    let large: Vec<u8> = (0..20_000_003_u32).map(|index| (index % 251) as u8).collect();

    client.put("empty", b"");
    client.put("large", &large);

    let empty = client.get("empty", &[]);
    assert_eq!((empty.status, empty.body.len(), empty.header("content-length")), (200, 0, Some("0")));
    assert_eq!(empty.header("content-type"), Some("application/octet-stream"));
    assert!(client.get("large", &[]).body == large);
    let end = client.get("large", &[("range", "bytes=19000000-")]);
    assert!(end.body == large[19_000_000..]);
}

#[test]
fn a_body_that_waits_to_be_asked_for_is_asked_for() {
    let (_server, mut client) = start();

    let head = format!(
        "PUT /{BUCKET}/name HTTP/1.1\r\nauthorization: Bearer {TOKEN}\r\ncontent-length: 4\r\nexpect: 100-continue\r\n\r\n"
    );
    assert_eq!(client.raw(&head, b"").unwrap().status, 100);
    client.stream.get_mut().write_all(b"body").unwrap();

    assert_eq!(client.read(false).unwrap().status, 200);
    assert_eq!(client.get("name", &[]).body, b"body");
}

#[test]
fn an_object_is_created_once_and_replaced_only_at_its_generation() {
    let (_server, mut client) = start();

    let first = client.put_if("name", 0, b"first");
    assert_eq!(first.status, 200);
    let refused = client.put_if("name", 0, b"second");
    assert_eq!((refused.status, refused.elements("Code")), (412, vec!["PreconditionFailed".to_owned()]));
    assert_eq!(client.put_if("name", first.generation() + 1, b"second").status, 412);
    assert_eq!(client.put_if("absent", first.generation(), b"second").status, 412);
    assert_eq!(client.get("name", &[]).body, b"first");
    assert_eq!(client.get("absent", &[]).status, 404);

    let second = client.put_if("name", first.generation(), b"second");
    assert_eq!(second.status, 200);
    assert_eq!(client.put_if("name", first.generation(), b"third").status, 412);
    assert_eq!(client.get("name", &[]).body, b"second");
    assert_eq!(client.put("name", b"third").status, 200);
    assert_eq!(client.ask("DELETE", "name", &[], b"").status, 204);
    assert_eq!(client.put_if("name", 0, b"fourth").status, 200);

    let wrong = client.ask("PUT", "name", &[("x-goog-if-generation-match", "one")], b"");
    assert_eq!(wrong.status, 400);
}

#[test]
fn generations_rise_over_all_names_and_equal_contents_share_an_etag() {
    let (_server, mut client) = start();

    let answers: Vec<Answer> = ["a", "b", "a", "c"].iter().map(|name| client.put(name, b"same")).collect();

    assert!(answers.is_sorted_by(|one, other| one.generation() < other.generation()));
    assert!(answers.iter().all(|answer| answer.header("etag") == answers[0].header("etag")));
    assert_ne!(client.put("a", b"other").header("etag"), answers[0].header("etag"));
}

#[test]
fn one_of_many_wins_each_name() {
    const THREADS: usize = 6;
    const NAMES: usize = 20;
    let server = Server::start().unwrap();

    let wins: Vec<(usize, usize)> = std::thread::scope(|scope| {
        let race = |thread: usize| {
            let mut client = Client::new(&server);
            let wins = (0..NAMES).filter(|name| {
                let answer = client.put_if(&format!("race%2F{name:02}"), 0, &[thread as u8]);
                assert!(matches!(answer.status, 200 | 412));
                answer.status == 200
            });
            wins.map(|name| (name, thread)).collect::<Vec<_>>()
        };
        let threads: Vec<_> = (0..THREADS).map(|thread| scope.spawn(move || race(thread))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });

    assert_eq!(wins.len(), NAMES);
    let mut client = Client::new(&server);
    for (name, thread) in wins {
        assert_eq!(client.get(&format!("race%2F{name:02}"), &[]).body, [thread as u8]);
    }
    assert_eq!(server.requests().puts, (THREADS * NAMES) as u64);
    assert_eq!(server.requests().gets, NAMES as u64);
}

#[test]
fn a_range_is_cut_to_what_is_there_and_refused_where_nothing_is() {
    let (server, mut client) = start();
    client.put("name", b"0123456789");
    client.put("empty", b"");

    for (range, body, header) in [
        ("bytes=0-0", "0", "bytes 0-0/10"),
        ("bytes=2-4", "234", "bytes 2-4/10"),
        ("bytes=8-99", "89", "bytes 8-9/10"),
        ("bytes=7-", "789", "bytes 7-9/10"),
        ("bytes=-3", "789", "bytes 7-9/10"),
        ("bytes=-99", "0123456789", "bytes 0-9/10"),
    ] {
        let answer = client.get("name", &[("range", range)]);
        assert_eq!((answer.status, answer.text().as_str()), (206, body), "{range}");
        assert_eq!(answer.header("content-range"), Some(header));
        let head = client.ask("HEAD", "name", &[("range", range)], b"");
        assert_eq!((head.status, head.header("content-range")), (206, Some(header)));
    }
    for (name, range) in
        [("name", "bytes=10-"), ("name", "bytes=10-12"), ("name", "bytes=-0"), ("empty", "bytes=0-")]
    {
        let answer = client.get(name, &[("range", range)]);
        assert_eq!(
            (answer.status, answer.elements("Code")),
            (416, vec!["InvalidRange".to_owned()]),
            "{range}"
        );
    }
    assert_eq!(server.unexpected(), [""; 0]);
    assert_eq!(client.get("name", &[("range", "bytes=0-1,3-4")]).status, 501);
    assert_eq!(server.unexpected(), ["GET /icecore-test/name range"]);
}

#[test]
fn an_object_is_read_only_under_the_conditions_that_hold() {
    let (_server, mut client) = start();
    let first = client.put("name", b"first");
    let second = client.put("name", b"second");
    let (old, new) = (first.header("etag").unwrap(), second.header("etag").unwrap());

    assert_eq!(client.get("name", &[("if-match", new)]).status, 200);
    assert_eq!(client.get("name", &[("if-match", "*")]).status, 200);
    assert_eq!(client.get("name", &[("if-match", old)]).status, 412);
    assert_eq!(client.get("name", &[("if-none-match", old)]).status, 200);
    let same = client.get("name", &[("if-none-match", new)]);
    assert_eq!((same.status, same.header("etag"), same.body.len()), (304, Some(new), 0));
    assert_eq!(client.get("absent", &[("if-match", "*")]).status, 404);

    let current = format!("name?generation={}", second.generation());
    assert_eq!(client.get(&current, &[]).body, b"second");
    let gone = format!("name?generation={}", first.generation());
    assert_eq!(client.get(&gone, &[]).status, 404);
    assert_eq!(client.ask("HEAD", &gone, &[], b"").status, 404);
}

#[test]
fn a_listing_is_in_the_order_of_bytes_and_keeps_to_its_prefix() {
    let (server, mut client) = start();
    for name in ["b", "a%2F1", "a%2F10", "a%2F2", "a", "a%2D1", "%C3%A4", "Z", "b%3C%26%3E%22%27%20+"] {
        assert_eq!(client.put(name, b"12345").status, 200);
    }

    let all = client.list("");
    let names = ["Z", "a", "a-1", "a/1", "a/10", "a/2", "b", "b&lt;&amp;&gt;&quot;&apos; +", "ä"];
    assert_eq!(all.elements("Key"), names);
    assert_eq!(all.elements("Size"), ["5"; 9]);
    assert_eq!(
        (all.elements("KeyCount"), all.elements("IsTruncated")),
        (vec!["9".into()], vec!["false".into()])
    );
    assert_eq!(all.elements("NextContinuationToken"), [""; 0]);
    let generations: Vec<u64> =
        all.elements("Generation").iter().map(|generation| generation.parse().unwrap()).collect();
    assert_eq!(generations[0], client.get("Z", &[]).generation());
    assert!(all.elements("LastModified").iter().all(|time| time.len() == 24 && time.ends_with('Z')));
    let etag = client.get("a", &[]).header("etag").unwrap().replace('"', "&quot;");
    assert_eq!(all.elements("ETag")[1], etag);

    assert_eq!(client.list("&prefix=a%2F").elements("Key"), ["a/1", "a/10", "a/2"]);
    assert_eq!(client.list("&prefix=a%2F1").elements("Key"), ["a/1", "a/10"]);
    assert_eq!(client.list("&prefix=c").elements("Key"), [""; 0]);
    assert_eq!(client.list("&start-after=a%2F2").elements("Key"), names[6..]);
    assert_eq!(client.list("&start-after=a%2F0&prefix=a%2F&max-keys=2").elements("Key"), ["a/1", "a/10"]);
    assert_eq!(client.list("&prefix=b%3C%26%3E%22%27+%2B").elements("KeyCount"), ["1"]);

    let folders = client.list("&delimiter=%2F&prefix=a");
    assert_eq!(folders.elements("Key"), ["a", "a-1"]);
    assert_eq!(folders.elements("CommonPrefixes"), ["<Prefix>a/</Prefix>"]);
    assert_eq!(folders.elements("KeyCount"), ["3"]);
    assert_eq!(client.list("&delimiter=%2F&prefix=a%2F").elements("Key"), ["a/1", "a/10", "a/2"]);
    assert_eq!(server.requests().lists, 9);
    assert_eq!(server.unexpected(), [""; 0]);
}

#[test]
fn pages_leave_nothing_out_and_repeat_nothing() {
    let (_server, mut client) = start();
    for folder in 0..4 {
        client.put(&format!("p%2F{folder}"), b"");
        for file in 0..3 {
            client.put(&format!("p%2F{folder}%2F{file}"), b"");
        }
    }
    client.put("p%2F", b"");
    client.put("q", b"");

    for (delimiter, expected) in [("", 17), ("&delimiter=%2F", 9)] {
        for size in [1, 2, 3, 4, 8, 17, 1_000] {
            let mut found = Vec::new();
            let mut token = String::new();
            loop {
                // `object_store` sends `start-after` with every page.
                let page =
                    client.list(&format!("&prefix=p%2F&start-after=p&max-keys={size}{delimiter}{token}"));
                let mut entries = page.elements("Key");
                entries.extend(page.elements("CommonPrefixes"));
                assert!(entries.len() <= size);
                assert_eq!(page.elements("KeyCount"), [entries.len().to_string()]);
                found.extend(entries);
                let next = page.elements("NextContinuationToken");
                assert_eq!(page.elements("IsTruncated"), [(!next.is_empty()).to_string()]);
                let Some(next) = next.first() else { break };
                token = format!("&continuation-token={next}");
            }
            assert_eq!(found.len(), expected, "{size} {delimiter}: {found:?}");
            assert_eq!(found.iter().collect::<BTreeSet<_>>().len(), expected);
        }
    }
}

#[test]
fn a_page_has_a_thousand_entries_at_most() {
    let (_server, mut client) = start();
    for index in 0..1_001 {
        client.put(&format!("{index:04}"), b"");
    }

    for query in ["", "&max-keys=5000"] {
        let page = client.list(query);
        assert_eq!((page.elements("Key").len(), page.elements("IsTruncated")), (1_000, vec!["true".into()]));
        let next = page.elements("NextContinuationToken");
        assert_eq!(client.list(&format!("&continuation-token={}", next[0])).elements("Key"), ["1000"]);
    }
}

#[test]
fn only_the_token_opens_and_only_one_bucket_is_there() {
    let (server, mut client) = start();
    client.put("name", b"");

    for authorization in
        ["", "authorization: Bearer wrong\r\n", "authorization: Basic icecore-test-token\r\n"]
    {
        let head = format!("GET /{BUCKET}/name HTTP/1.1\r\n{authorization}\r\n");
        let answer = client.raw(&head, b"").unwrap();
        assert_eq!((answer.status, answer.elements("Code")), (401, vec!["AuthenticationRequired".into()]));
    }
    for target in ["/other/name", "/other?list-type=2"] {
        let answer = client.send("GET", target, &[], b"").unwrap();
        assert_eq!((answer.status, answer.elements("Code")), (404, vec!["NoSuchBucket".into()]));
    }
    assert_eq!(server.unexpected(), [""; 0]);
}

#[test]
fn what_it_does_not_stand_for_is_refused_and_told() {
    let (server, mut client) = start();
    client.put("name", b"kept");

    let copy = [("x-goog-copy-source", "icecore-test/other")];
    assert_eq!(client.ask("PUT", "name", &copy, b"").status, 501);
    assert_eq!(client.ask("POST", "name?uploads=", &[], b"").status, 501);
    assert_eq!(client.ask("PUT", "name?partNumber=1&uploadId=1", &[], b"part").status, 501);
    assert_eq!(client.send("GET", &format!("/{BUCKET}"), &[], b"").unwrap().status, 501);
    assert_eq!(client.send("DELETE", &format!("/{BUCKET}"), &[], b"").unwrap().status, 501);
    assert_eq!(client.send("HEAD", &format!("/{BUCKET}"), &[], b"").unwrap().status, 501);

    assert_eq!(client.get("name", &[]).body, b"kept");
    assert_eq!(
        server.unexpected(),
        [
            "PUT /icecore-test/name x-goog-copy-source",
            "POST /icecore-test/name?uploads=",
            "PUT /icecore-test/name?partNumber=1&uploadId=1",
            "GET /icecore-test",
            "DELETE /icecore-test",
            "HEAD /icecore-test",
        ]
    );
    assert_eq!(server.requests().others, 3);

    let chunked = format!("PUT /{BUCKET}/name HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n");
    assert_eq!(client.raw(&chunked, b"").unwrap().status, 501);
    assert!(client.read(false).is_none());
    assert_eq!(server.unexpected().len(), 7);
}

#[test]
fn what_is_told_to_fail_does_nothing() {
    let (server, mut client) = start();
    client.put("name", b"kept");

    server.fail_next(2, 503);
    assert_eq!(client.put("name", b"lost").status, 503);
    assert_eq!(client.get("name", &[]).body, b"kept");
    assert_eq!(client.ask("DELETE", "name", &[], b"").status, 503);
    assert_eq!(client.put("name", b"put").status, 200);

    server.fail_next_reads(3, 429);
    assert_eq!(client.put("other", b"put").status, 200);
    assert_eq!(client.get("name", &[]).elements("Code"), ["SlowDown"]);
    assert_eq!(client.ask("HEAD", "name", &[], b"").status, 429);
    assert_eq!(client.send("GET", &format!("/{BUCKET}?list-type=2"), &[], b"").unwrap().status, 429);
    assert_eq!(client.get("name", &[]).body, b"put");

    server.fail_next(5, 500);
    server.fail_next(0, 500);
    assert_eq!(client.put("name", b"again").status, 200);
}

#[test]
fn what_loses_its_answer_is_carried_out() {
    let (server, mut client) = start();

    server.lose_next_answers(2);
    assert!(client.send("PUT", &format!("/{BUCKET}/name"), &[], b"put").is_none());
    let mut client = Client::new(&server);
    assert_eq!(client.get("name", &[]).body, b"put");
    let headers = [("x-goog-if-generation-match", "0")];
    assert!(client.send("PUT", &format!("/{BUCKET}/name"), &headers, b"again").is_none());
    let mut client = Client::new(&server);
    assert_eq!(client.put_if("name", 0, b"again").status, 412);

    server.lose_next_read_answers(1);
    assert!(client.send("GET", &format!("/{BUCKET}/name"), &[], b"").is_none());
    let mut client = Client::new(&server);
    assert_eq!(client.get("name", &[]).body, b"put");
    assert_eq!(server.requests().gets, 3);
}

#[test]
fn a_store_without_conditional_writes_writes_over_what_is_there() {
    let (server, mut client) = start();
    let first = client.put_if("name", 0, b"first");

    server.ignore_preconditions(true);
    assert_eq!(client.put_if("name", 0, b"second").status, 200);
    assert_eq!(client.put_if("name", first.generation(), b"third").status, 200);
    server.ignore_preconditions(false);

    assert_eq!(client.put_if("name", 0, b"fourth").status, 412);
    assert_eq!(client.get("name", &[]).body, b"third");
}

#[test]
fn a_hundred_connections_are_served_at_once_and_end_with_the_server() {
    let server = Server::start().unwrap();
    let mut clients: Vec<Client> = (0..100).map(|_| Client::new(&server)).collect();

    for (index, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.put(&format!("{index}"), b"").status, 200);
    }
    assert_eq!(clients[0].list("").elements("KeyCount"), ["100"]);

    drop(server);
    for client in &mut clients {
        assert!(client.send("GET", &format!("/{BUCKET}/0"), &[], b"").is_none());
    }
}
