//! What stands between a store and its server, and does with its requests what a test says; and requests of the test's own.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use icecore_services::dynamodb::headers;
use serde_json::{Value, json};

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Twist {
    /// It is refused as one too many.
    Throttle,
    /// It is not carried out, and the service says that it failed.
    Fail,
    /// It is carried out, and the service says that it failed.
    FailAfter,
    /// It is carried out, and the connection ends before the answer.
    Lose,
    /// It waits until it is let go, and is then carried out.
    Hold,
}

#[derive(Debug)]
struct Rule {
    action: &'static str,
    twist: Twist,
    left: usize,
}

#[derive(Debug, Default)]
struct State {
    rules: Vec<Rule>,
    held: usize,
    is_let_go: bool,
}

/// A server of its own before another, for one table.
#[derive(Debug)]
pub struct Front {
    address: SocketAddr,
    server: String,
    url: String,
    state: Arc<(Mutex<State>, Condvar)>,
}

impl Front {
    /// Before the server of a store's URL.
    pub fn new(url: &str) -> Self {
        let server = server(url);
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new((Mutex::default(), Condvar::new()));
        let (shared, behind) = (Arc::clone(&state), server.clone());
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (shared, behind) = (Arc::clone(&shared), behind.clone());
                thread::spawn(move || serve(client, &behind, &shared));
            }
        });
        Self { address, server, url: url.to_owned(), state }
    }

    /// The store's URL, through this.
    pub fn url(&self) -> String {
        self.url.replace(&self.server, &self.address.to_string())
    }

    /// From now on, so many requests for an action are treated so.
    pub fn plan(&self, action: &'static str, twist: Twist, count: usize) {
        let mut state = self.state.0.lock().unwrap();
        state.rules.push(Rule { action, twist, left: count });
        (state.is_let_go, state.held) = (false, 0);
    }

    /// Requests are passed on, those that are held too.
    pub fn be_honest(&self) {
        let mut state = self.state.0.lock().unwrap();
        state.rules.clear();
        state.is_let_go = true;
        self.state.1.notify_all();
    }

    /// Waits until a request is held.
    pub async fn has_held(&self) {
        let state = Arc::clone(&self.state);
        let wait =
            move || drop(state.1.wait_while(state.0.lock().unwrap(), |state| state.held == 0).unwrap());
        tokio::task::spawn_blocking(wait).await.unwrap();
    }
}

/// `host:port` of a store's URL.
fn server(url: &str) -> String {
    let (_, rest) = url.split_once("endpoint=http://").unwrap();
    rest.split('&').next().unwrap().to_owned()
}

fn serve(mut client: TcpStream, server: &str, (state, changed): &(Mutex<State>, Condvar)) {
    let Some(request) = message(&mut client) else { return };
    let mut found = state.lock().unwrap();
    let is_for = |rule: &&mut Rule| {
        let wanted = format!("DynamoDB_20120810.{}\r\n", rule.action);
        rule.left > 0 && request.windows(wanted.len()).any(|part| part == wanted.as_bytes())
    };
    let twist = found.rules.iter_mut().find(is_for).map(|rule| {
        rule.left -= 1;
        rule.twist
    });
    if twist == Some(Twist::Hold) {
        found.held += 1;
        changed.notify_all();
        found = changed.wait_while(found, |state| !state.is_let_go).unwrap();
    }
    drop(found);
    let failed = |status, code| {
        let body = json!({ "__type": format!("com.amazonaws.dynamodb.v20120810#{code}"), "message": "" });
        let body = body.to_string();
        format!("HTTP/1.1 {status} x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len())
            .into_bytes()
    };
    let answer = match twist {
        Some(Twist::Throttle) => failed(400, "ThrottlingException"),
        Some(Twist::Fail) => failed(500, "InternalServerError"),
        twist => {
            let answer = pass_on(server, &request);
            match twist {
                Some(Twist::FailAfter) => failed(500, "InternalServerError"),
                Some(Twist::Lose) => return,
                _ => answer,
            }
        }
    };
    // Whoever does not wait any more does not read it.
    let _ = client.write_all(&answer);
}

/// The answer to a request, on a connection that ends with it.
fn pass_on(server: &str, request: &[u8]) -> Vec<u8> {
    let line = request.windows(2).position(|end| end == b"\r\n").unwrap() + 2;
    let mut stream = TcpStream::connect(server).unwrap();
    let request = [&request[..line], b"Connection: close\r\n", &request[line..]].concat();
    stream.write_all(&request).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    answer
}

/// One request, with its body.
fn message(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let (mut bytes, mut buffer) = (Vec::new(), vec![0; 64 << 10]);
    loop {
        if let Some(end) = bytes.windows(4).position(|end| end == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
            let length =
                head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
            let whole = end + 4 + length.unwrap_or(0);
            while bytes.len() < whole {
                let count = stream.read(&mut buffer).ok().filter(|count| *count > 0)?;
                bytes.extend_from_slice(&buffer[..count]);
            }
            return Some(bytes);
        }
        let count = stream.read(&mut buffer).ok().filter(|count| *count > 0)?;
        bytes.extend_from_slice(&buffer[..count]);
    }
}

/// Asks the server of a store's URL for an action on its table.
pub fn ask(url: &str, action: &str, request: Value) -> Value {
    let mut request = request;
    request["TableName"] = url.strip_prefix("dynamodb://").unwrap().split('?').next().unwrap().into();
    let (body, server) = (request.to_string(), server(url));
    let headers: String =
        headers(action).into_iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let head =
        format!("POST / HTTP/1.1\r\nHost: {server}\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
    let answer = String::from_utf8(pass_on(&server, format!("{head}{body}").as_bytes())).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(" 200 "), "{action}: {answer}");
    serde_json::from_str(body).unwrap()
}

/// The keys of every item of a table, as `PARTITION SORT`.
pub fn keys(url: &str) -> Vec<String> {
    let text = |item: &Value, name: &str| item[name]["S"].as_str().unwrap().to_owned();
    let (mut keys, mut request) = (Vec::new(), json!({ "ProjectionExpression": "pk, sk" }));
    loop {
        let mut found = ask(url, "Scan", request.clone());
        let items = found["Items"].as_array().unwrap().iter();
        keys.extend(items.map(|item| format!("{} {}", text(item, "pk"), text(item, "sk"))));
        request["ExclusiveStartKey"] = found["LastEvaluatedKey"].take();
        if request["ExclusiveStartKey"].is_null() {
            return keys;
        }
    }
}
