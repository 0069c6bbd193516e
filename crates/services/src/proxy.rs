//! A network that fails on command: a proxy between a client and a server, which holds, loses, cuts or changes what passes through it.

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
    /// What becomes of one exchange.
    swap: Option<Swap>,
    /// What was held and lost, each way.
    stopped: [usize; 2],
    is_over: bool,
}

/// An exchange that goes otherwise: of the first request that holds a text.
#[derive(Debug)]
struct Swap {
    text: Vec<u8>,
    /// What the server gets in its place; the request itself if `None`.
    request: Option<Vec<u8>>,
    /// What the client gets, whatever the server says.
    answer: Vec<u8>,
}

/// The answer that the client of a connection gets in the place of the next one.
type Pending = Arc<Mutex<Option<Vec<u8>>>>;

impl State {
    /// What goes on in the place of what arrived, if not that itself.
    fn swapped(&self, way: Way, arrived: &[u8], pending: &Pending) -> Option<Vec<u8>> {
        let mut pending = pending.lock().unwrap_or_else(PoisonError::into_inner);
        if way == Way::Answers {
            return pending.take();
        }
        let is_it = |swap: &mut Swap| holds(arrived, &swap.text);
        let swap = self.lock().swap.take_if(is_it)?;
        *pending = Some(swap.answer);
        swap.request
    }

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

    /// The next request that holds this text is answered with these bytes once the server has answered it, or what it gets in its place.
    pub fn swap(&self, text: &str, request: Option<&[u8]>, answer: &[u8]) {
        let (request, answer) = (request.map(<[u8]>::to_vec), answer.to_vec());
        self.state.lock().swap = Some(Swap { text: text.as_bytes().to_vec(), request, answer });
    }

    /// Whether nothing is left that [`Self::swap`] waits for.
    pub fn has_swapped(&self) -> bool {
        self.state.lock().swap.is_none()
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
    let asked = Pending::default();
    let pending = Arc::clone(&asked);
    thread::spawn(move || pump(&requests, Way::Requests, from_client, to_server, &pending));
    thread::spawn(move || pump(&answers, Way::Answers, server, client, &asked));
}

fn holds(bytes: &[u8], text: &[u8]) -> bool {
    bytes.windows(text.len()).any(|window| window == text)
}

fn pump(state: &State, way: Way, mut from: TcpStream, mut to: TcpStream, pending: &Pending) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count) = from.read(&mut buffer) {
        let is_end = count == 0;
        let arrived = &buffer[..count];
        let swapped = if is_end { None } else { state.swapped(way, arrived, pending) };
        let mut inner = state.lock();
        if let Some((_, later, flow)) =
            inner.later.take_if(|(text, ..)| way == Way::Requests && holds(arrived, text))
        {
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
        if flow == Flow::Pass && to.write_all(swapped.as_deref().unwrap_or(arrived)).is_err() {
            break;
        }
    }
    // The other side sees the end when it has read what came before.
    let _ = to.shutdown(Shutdown::Write);
}
