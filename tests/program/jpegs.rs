//! Owns a network camera of the very JPEG pictures it is given: as MJPEG, or one for each request.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

/// What the address answers with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Mjpeg,
    Stills,
}

pub struct Jpegs {
    pub url: String,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Jpegs {
    /// Ten of them a second, in turn.
    pub fn new(kind: Kind, pictures: Vec<Vec<u8>>) -> Jpegs {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let url = format!("http://{}/camera", listener.local_addr().unwrap());
        let over = Arc::new(AtomicBool::new(false));
        let end = over.clone();
        let thread = std::thread::spawn(move || {
            let mut turn = (0..pictures.len()).cycle();
            while !end.load(Relaxed) {
                match listener.accept() {
                    // A client that has gone is no concern of the next one.
                    Ok((client, _)) => drop(serve(client, kind, &pictures, &mut turn, &end)),
                    Err(_) => std::thread::sleep(Duration::from_millis(5)),
                }
            }
        });
        Jpegs { url, over, thread: Some(thread) }
    }
}

fn serve(
    mut client: TcpStream,
    kind: Kind,
    pictures: &[Vec<u8>],
    turn: &mut impl Iterator<Item = usize>,
    end: &AtomicBool,
) -> std::io::Result<()> {
    client.set_nonblocking(false)?;
    client.set_read_timeout(Some(Duration::from_secs(5)))?;
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        client.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let mut next = || &pictures[turn.next().unwrap()];
    if kind == Kind::Stills {
        let picture = next();
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            picture.len()
        );
        return client.write_all(&[head.as_bytes(), picture].concat());
    }
    client.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace;boundary=next\r\nConnection: close\r\n\r\n")?;
    while !end.load(Relaxed) {
        let picture = next();
        write!(client, "--next\r\nContent-Type: image/jpeg\r\nContent-Length: {}\r\n\r\n", picture.len())?;
        client.write_all(picture)?;
        client.write_all(b"\r\n")?;
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

impl Drop for Jpegs {
    fn drop(&mut self) {
        self.over.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
