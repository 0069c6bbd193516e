//! Google Cloud Storage as far as the crate `object_store` asks for it: one bucket, in memory, that fails on command.
//!
//! No emulator that can be had keeps the service's preconditions, on which a backend's correctness rests. This server is written
//! from Google's documentation of the XML API and stands for the service only as far as these pages go; nobody has compared the
//! two: "Object upload", "Download an object", "List objects", those of `HEAD` and `DELETE` for objects, "Request preconditions",
//! "HTTP headers and query string parameters for XML API", and "HTTP status and error codes for XML".
//!
//! ```text
//! PUT    /BUCKET/NAME  x-goog-if-generation-match          200 | 412
//! GET    /BUCKET/NAME  Range, If-Match, If-None-Match,     200, 206 | 304, 404, 412, 416
//! HEAD                 ?generation                         the same, without a body
//! DELETE /BUCKET/NAME                                      204 | 404
//! GET    /BUCKET       ?list-type=2, prefix, delimiter,    200
//!                      start-after, continuation-token, max-keys
//! ```
//!
//! All else, such as copies, uploads in parts, dates as conditions, and headers or parameters beside these, is answered with 501,
//! and [`Server::unexpected`] tells of it. Absent as well: old generations, `x-goog-hash`, and the service's limits (an object's
//! name of 1,024 bytes, about one write a second to the same object). An ETag is a hash of the content, as the service's is.

mod bucket;
mod calls;
mod http;

use std::collections::BTreeMap;
use std::io::{BufReader, ErrorKind};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use self::bucket::Bucket;
use self::calls::Call;
use self::http::Request;
use crate::Result;

/// The one bucket.
pub const BUCKET: &str = "icecore-test";
/// What a client must bear: `Authorization: Bearer …`.
pub const TOKEN: &str = "icecore-test-token";

/// A server on a port of its own. Its objects and its connections end with it.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    state: Arc<State>,
}

/// How many requests came, those that failed among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Requests {
    /// `PUT` of an object.
    pub puts: u64,
    /// `GET` of an object.
    pub gets: u64,
    /// `HEAD` of an object.
    pub heads: u64,
    /// `DELETE` of an object.
    pub deletes: u64,
    /// `GET` of the bucket.
    pub lists: u64,
    /// Any other method.
    pub others: u64,
}

#[derive(Debug, Default)]
struct State {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    bucket: Bucket,
    requests: Requests,
    unexpected: Vec<String>,
    reads: Faults,
    writes: Faults,
    ignores_preconditions: bool,
    /// Every connection, by its number.
    ends: BTreeMap<u64, Arc<TcpStream>>,
    connections: u64,
    is_over: bool,
}

/// What becomes of the next requests of a kind.
#[derive(Debug, Default)]
struct Faults {
    failures: usize,
    status: u16,
    losses: usize,
}

/// What becomes of one request.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Answered,
    Failed(u16),
    Lost,
}

impl Faults {
    fn next(&mut self) -> Fate {
        if self.failures > 0 {
            self.failures -= 1;
            Fate::Failed(self.status)
        } else if self.losses > 0 {
            self.losses -= 1;
            Fate::Lost
        } else {
            Fate::Answered
        }
    }
}

impl State {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn count(&mut self, call: Call) {
        let count = match call {
            Call::Put => &mut self.requests.puts,
            Call::Get => &mut self.requests.gets,
            Call::Head => &mut self.requests.heads,
            Call::Delete => &mut self.requests.deletes,
            Call::List => &mut self.requests.lists,
            Call::Other => &mut self.requests.others,
        };
        *count += 1;
    }

    fn fate(&mut self, call: Call) -> Fate {
        if call.is_read() { self.reads.next() } else { self.writes.next() }
    }
}

impl Server {
    /// Starts one with an empty bucket.
    ///
    /// # Errors
    /// If there is no port to be had.
    pub fn start() -> Result<Self> {
        let failed = |error: std::io::Error| format!("starting a server for Google Cloud Storage: {error}");
        let listener = TcpListener::bind(("127.0.0.1", 0)).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let state = Arc::new(State::default());
        let accepting = Arc::clone(&state);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let client = Arc::new(client);
                let mut inner = accepting.lock();
                if inner.is_over {
                    return;
                }
                inner.connections += 1;
                let number = inner.connections;
                inner.ends.insert(number, Arc::clone(&client));
                drop(inner);
                let state = Arc::clone(&accepting);
                thread::spawn(move || {
                    serve(&state, &client);
                    // A connection that ended badly may be gone already.
                    let _ = client.shutdown(Shutdown::Both);
                    state.lock().ends.remove(&number);
                });
            }
        });
        Ok(Self { address, state })
    }

    /// Where it is: `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The next requests other than `GET` and `HEAD` do nothing and are answered with this status; 0 of them takes it back.
    pub fn fail_next(&self, requests: usize, status: u16) {
        let faults = &mut self.state.lock().writes;
        (faults.failures, faults.status) = (requests, status);
    }

    /// As [`Self::fail_next`], for `GET` and `HEAD`; listings are among them.
    pub fn fail_next_reads(&self, requests: usize, status: u16) {
        let faults = &mut self.state.lock().reads;
        (faults.failures, faults.status) = (requests, status);
    }

    /// The next requests other than `GET` and `HEAD` that are not told to fail are carried out, and their connections closed
    /// without an answer; 0 of them takes it back.
    pub fn lose_next_answers(&self, answers: usize) {
        self.state.lock().writes.losses = answers;
    }

    /// As [`Self::lose_next_answers`], for `GET` and `HEAD`; listings are among them.
    pub fn lose_next_read_answers(&self, answers: usize) {
        self.state.lock().reads.losses = answers;
    }

    /// Whether it writes without a look at `x-goog-if-generation-match`, as a store does that has no conditional writes.
    pub fn ignore_preconditions(&self, is_ignored: bool) {
        self.state.lock().ignores_preconditions = is_ignored;
    }

    /// How many requests have come.
    pub fn requests(&self) -> Requests {
        self.state.lock().requests
    }

    /// The requests that it does not stand for, in order, with the headers that change their meaning, such as
    /// `PUT /icecore-test/name x-goog-copy-source`. Each was answered with 501.
    pub fn unexpected(&self) -> Vec<String> {
        self.state.lock().unexpected.clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let mut inner = self.state.lock();
        inner.is_over = true;
        for end in inner.ends.values() {
            // It may have ended already.
            let _ = end.shutdown(Shutdown::Both);
        }
        drop(inner);
        // The thread that accepts looks up when somebody comes.
        let _ = TcpStream::connect(self.address);
    }
}

/// Answers one request after the other, until the client ends or loses an answer.
fn serve(state: &State, stream: &TcpStream) {
    // What is small and waits for an answer would wait for more of its kind.
    let _ = stream.set_nodelay(true);
    let mut reader = BufReader::with_capacity(64 << 10, stream);
    loop {
        let mut request = match Request::read(&mut reader) {
            Ok(Some(request)) => request,
            Err(error) if error.kind() == ErrorKind::InvalidData => {
                state.lock().unexpected.push(error.to_string());
                // Nobody knows where the next request begins, and the client may be gone.
                let _ = calls::failure(501).with("Connection", "close").write(false, stream);
                return;
            }
            Ok(None) | Err(_) => return,
        };
        let call = Call::of(&request);
        let mut inner = state.lock();
        inner.count(call);
        let fate = inner.fate(call);
        drop(inner);
        let is_last = request.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        let answer = match fate {
            Fate::Failed(status) => calls::failure(status),
            Fate::Answered | Fate::Lost => {
                let answer = calls::answer(state, call, &mut request);
                if answer.status == 501 {
                    state.lock().unexpected.push(calls::description(&request));
                }
                answer
            }
        };
        if matches!(fate, Fate::Lost) || answer.write(request.method == "HEAD", stream).is_err() || is_last {
            return;
        }
    }
}
