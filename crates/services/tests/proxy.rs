//! The proxy passes, holds, loses and cuts what it is told to.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};

use icecore_services::proxy::{Flow, Proxy, Way};

/// A server that answers each line with the same line.
fn echo() -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut writer = stream.try_clone().unwrap();
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    if writer.write_all(format!("{line}\n").as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

fn line(stream: &mut BufReader<TcpStream>) -> String {
    let mut line = String::new();
    stream.read_line(&mut line).unwrap();
    line
}

#[test]
fn what_is_held_passes_later_and_what_is_lost_does_not() {
    let proxy = Proxy::start(&echo()).unwrap();
    let mut stream = BufReader::new(TcpStream::connect(proxy.address()).unwrap());
    stream.get_mut().write_all(b"passed\n").unwrap();
    assert_eq!(line(&mut stream), "passed\n");

    proxy.set(Way::Answers, Flow::Lose);
    stream.get_mut().write_all(b"lost\n").unwrap();
    proxy.wait_until_stopped(Way::Answers);
    proxy.set(Way::Answers, Flow::Hold);
    stream.get_mut().write_all(b"held\n").unwrap();
    proxy.wait_until_stopped(Way::Answers);
    proxy.set(Way::Answers, Flow::Pass);

    assert_eq!(line(&mut stream), "held\n");
}

#[test]
fn what_is_cut_ends_and_nobody_gets_in_until_it_is_up() {
    let proxy = Proxy::start(&echo()).unwrap();
    let mut stream = BufReader::new(TcpStream::connect(proxy.address()).unwrap());
    stream.get_mut().write_all(b"passed\n").unwrap();
    assert_eq!(line(&mut stream), "passed\n");

    proxy.down();
    assert!(!matches!(stream.read(&mut [0]), Ok(1)));
    let mut refused = TcpStream::connect(proxy.address()).unwrap();
    assert!(!matches!(refused.read(&mut [0]), Ok(1)));
    proxy.up();

    let mut stream = BufReader::new(TcpStream::connect(proxy.address()).unwrap());
    stream.get_mut().write_all(b"again\n").unwrap();
    assert_eq!(line(&mut stream), "again\n");
}

#[test]
fn one_exchange_goes_otherwise_and_the_next_as_it_is() {
    let proxy = Proxy::start(&echo()).unwrap();
    let mut stream = BufReader::new(TcpStream::connect(proxy.address()).unwrap());
    proxy.swap("COMMIT", Some(b"ROLLBACK\n"), b"no\n");
    for (request, answer) in [("BEGIN\n", "BEGIN\n"), ("COMMIT\n", "no\n"), ("COMMIT\n", "COMMIT\n")] {
        assert_eq!(proxy.has_swapped(), request == answer && request == "COMMIT\n");
        stream.get_mut().write_all(request.as_bytes()).unwrap();
        assert_eq!(line(&mut stream), answer);
    }
}
