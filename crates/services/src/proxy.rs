//! A network that fails on command: a proxy between a client and a server, which holds, loses or cuts what passes through it.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::Result;

/// What becomes of what arrives from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Flow {
    /// It is passed on.
    #[default]
    Pass,
    /// It waits until it may pass, even if the connection that it came from has ended meanwhile.
    Hold,
    /// It is lost.
    Lose,
}

/// Which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From the client to the server.
    Requests,
    /// From the server to the client.
    Answers,
}

/// A proxy on a port of its own. Its connections end with it.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    inner: Mutex<Inner>,
    changed: Condvar,
    /// Where new connections lead.
    server: Mutex<String>,
}

#[derive(Debug, Default)]
struct Inner {
    requests: Flow,
    answers: Flow,
    /// New connections are closed at once.
    is_down: bool,
    /// The ends of every connection.
    ends: Vec<TcpStream>,
    /// What becomes of what arrives from the first request on that holds these bytes.
    later: Option<(Vec<u8>, Way, Flow)>,
    /// What was held and lost, each way.
    stopped: [usize; 2],
    is_over: bool,
}

impl State {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn flow(&mut self, way: Way) -> &mut Flow {
        match way {
            Way::Requests => &mut self.requests,
            Way::Answers => &mut self.answers,
        }
    }
}

impl Proxy {
    /// Starts one in front of `host:port`.
    ///
    /// # Errors
    /// If there is no port to be had.
    pub fn start(server: &str) -> Result<Self> {
        let failed = |error: std::io::Error| format!("starting a proxy: {error}");
        let listener = TcpListener::bind(("127.0.0.1", 0)).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let state = Arc::new(State { server: Mutex::new(server.to_owned()), ..State::default() });
        let accepting = Arc::clone(&state);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if accepting.lock().is_over {
                    return;
                }
                connect(&accepting, client);
            }
        });
        Ok(Self { address, state })
    }

    /// Its `host:port`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// What becomes of what arrives from now on, and of what is held.
    pub fn set(&self, way: Way, flow: Flow) {
        let mut inner = self.state.lock();
        *inner.flow(way) = flow;
        inner.later = None;
        inner.stopped[way as usize] = 0;
        self.state.changed.notify_all();
    }

    /// As [`Self::set`], from the first request on that holds this text; that request is one of them.
    pub fn set_from(&self, text: &str, way: Way, flow: Flow) {
        let mut inner = self.state.lock();
        inner.stopped[way as usize] = 0;
        inner.later = Some((text.as_bytes().to_vec(), way, flow));
    }

    /// Cuts every connection, and refuses new ones until [`Self::up`].
    pub fn down(&self) {
        let mut inner = self.state.lock();
        inner.is_down = true;
        cut(&mut inner);
        self.state.changed.notify_all();
    }

    /// Takes new connections again.
    pub fn up(&self) {
        self.state.lock().is_down = false;
    }

    /// Cuts every connection, and leads new ones to another server: a name that stands for who is the primary now.
    pub fn lead_to(&self, server: &str) {
        server.clone_into(&mut self.state.server.lock().unwrap_or_else(PoisonError::into_inner));
        self.down();
        self.up();
    }

    /// Refuses new connections, and leaves those that are there.
    pub fn refuse(&self) {
        self.state.lock().is_down = true;
    }

    /// Waits until something was held or lost since [`Self::set`].
    pub fn wait_until_stopped(&self, way: Way) {
        let mut inner = self.state.lock();
        while inner.stopped[way as usize] == 0 {
            inner = self.state.changed.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let mut inner = self.state.lock();
        inner.is_over = true;
        cut(&mut inner);
        self.state.changed.notify_all();
        drop(inner);
        // The thread that accepts looks up when somebody comes.
        let _ = TcpStream::connect(self.address);
    }
}

fn cut(inner: &mut Inner) {
    for end in inner.ends.drain(..) {
        // It may have ended already.
        let _ = end.shutdown(Shutdown::Both);
    }
}

fn connect(state: &Arc<State>, client: TcpStream) {
    if state.lock().is_down {
        return;
    }
    let server = state.server.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let Ok(server) = TcpStream::connect(server) else { return };
    let copies = (client.try_clone(), server.try_clone(), client.try_clone(), server.try_clone());
    let (Ok(from_client), Ok(to_server), Ok(client_end), Ok(server_end)) = copies else { return };
    // What is small and waits for an answer would wait for more of its kind.
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    state.lock().ends.extend([client_end, server_end]);
    let (requests, answers) = (Arc::clone(state), Arc::clone(state));
    thread::spawn(move || pump(&requests, Way::Requests, from_client, to_server));
    thread::spawn(move || pump(&answers, Way::Answers, server, client));
}

fn pump(state: &State, way: Way, mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count) = from.read(&mut buffer) {
        let is_end = count == 0;
        let mut inner = state.lock();
        let arrived = &buffer[..count];
        if let Some((_, later, flow)) = inner.later.take_if(|(text, ..)| {
            way == Way::Requests && arrived.windows(text.len()).any(|window| window == text)
        }) {
            *inner.flow(later) = flow;
        }
        let mut is_counted = false;
        while *inner.flow(way) == Flow::Hold && !inner.is_over {
            if !is_counted && !is_end {
                is_counted = true;
                inner.stopped[way as usize] += 1;
                state.changed.notify_all();
            }
            inner = state.changed.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
        let flow = *inner.flow(way);
        if flow == Flow::Lose && !is_end {
            inner.stopped[way as usize] += 1;
            state.changed.notify_all();
        }
        drop(inner);
        if is_end {
            break;
        }
        if flow == Flow::Pass && to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    // The other side sees the end when it has read what came before.
    let _ = to.shutdown(Shutdown::Write);
}
