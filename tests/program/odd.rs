//! Owns an RTSP camera over TCP that does what no camera should: each of its faults is chosen, and every request it got is known.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app::AppSink;

/// What is odd about it.
#[derive(Clone, Copy, PartialEq)]
pub enum Odd {
    Nothing,
    /// It asks for a login in these ways, and accepts none.
    Asks(&'static [&'static str]),
    /// Each request needs a login with a nonce of its own, `OPTIONS` as well; the user `wrong` has none.
    FreshNonces,
    /// H.264 of 8192×8192.
    LargePictures,
    /// VP8 of 8192×8192.
    LargeVp8,
    /// 17 MiB of units that need a key frame come before it.
    LateKeyFrame,
    /// The answer to `SETUP` does not say on which channels the stream comes.
    NoChannels,
    /// It sends one unit without end instead of pictures.
    EndlessUnit,
    /// The description has no end.
    EndlessDescription,
    /// The heads of its answers have no end.
    EndlessHead,
}

/// The camera. See the module's first lines.
pub struct OddCamera {
    pub port: u16,
    /// Heads of the requests so far.
    pub requests: Arc<Mutex<Vec<String>>>,
    over: Arc<AtomicBool>,
}

/// Packets of RTP with three seconds of H.264, ten pictures a second.
fn packets() -> Vec<Vec<u8>> {
    pastcam::gst::init().unwrap();
    let line = "videotestsrc num-buffers=30 pattern=ball ! video/x-raw,width=320,height=240,framerate=10/1 \
                ! x264enc tune=zerolatency speed-preset=ultrafast threads=1 key-int-max=10 bitrate=400 \
                ! rtph264pay pt=96 config-interval=-1 timestamp-offset=0 seqnum-offset=0 ssrc=1 ! appsink name=out sync=false max-buffers=0";
    let pipeline = gst::parse::launch(line).unwrap().downcast::<gst::Pipeline>().unwrap();
    let out = pipeline.by_name("out").unwrap().downcast::<AppSink>().unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let all = std::iter::from_fn(|| Some(out.pull_sample().ok()?.buffer()?.map_readable().ok()?.to_vec())).collect();
    pipeline.set_state(gst::State::Null).unwrap();
    all
}

/// The same with a parameter set of 8192×8192, where it is one.
fn enlarged(packet: Vec<u8>) -> Vec<u8> {
    if packet[12] & 31 != 7 {
        return packet;
    }
    // Baseline, level 6.2, order of output 2, one reference, 512 by 512 macroblocks.
    let bits = "1 1 011 010 0 0000000001000000000 0000000001000000000 1 0 0 0 1".replace(' ', "");
    let byte = |b: &[u8]| u8::from_str_radix(&format!("{:0<8}", std::str::from_utf8(b).unwrap()), 2).unwrap();
    let set: Vec<u8> = bits.as_bytes().chunks(8).map(byte).collect();
    [&packet[..12], &[0x67, 66, 0xc0, 62], &set].concat()
}

/// A packet with the beginning of a key frame of VP8.
fn vp8() -> Vec<u8> {
    let head = [0x80, 0x80 | 0x60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    let frame = [0x10, 0x10, 0x02, 0, 0x9d, 0x01, 0x2a, 0, 0x20, 0, 0x20];
    [&head[..], &frame, &[0; 200]].concat()
}

fn interleaved(packet: &[u8]) -> Vec<u8> {
    [&[b'$', 0], &(packet.len() as u16).to_be_bytes()[..], packet].concat()
}

impl OddCamera {
    pub fn new(odd: Odd) -> OddCamera {
        let packets = Arc::new(match odd {
            Odd::LargeVp8 => vec![vp8()],
            Odd::LargePictures => packets().into_iter().map(enlarged).collect(),
            _ => packets(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (requests, over) = (Arc::<Mutex<Vec<String>>>::default(), Arc::new(AtomicBool::new(false)));
        let (seen, end) = (requests.clone(), over.clone());
        std::thread::spawn(move || {
            while !end.load(Ordering::Relaxed) {
                let Ok((client, _)) = listener.accept() else {
                    std::thread::sleep(Duration::from_millis(5));
                    continue;
                };
                client.set_nonblocking(false).unwrap();
                let (seen, packets) = (seen.clone(), packets.clone());
                // A client that has gone ends its thread.
                std::thread::spawn(move || serve(client, odd, &seen, &packets));
            }
        });
        OddCamera { port, requests, over }
    }

    pub fn url(&self, login: &str) -> String {
        format!("rtsp://{login}127.0.0.1:{}/live", self.port)
    }

    /// How many requests had a login with them.
    pub fn logins(&self) -> usize {
        self.requests.lock().unwrap().iter().filter(|r| r.contains("Authorization:")).count()
    }
}

impl Drop for OddCamera {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

/// The head of the next request; what else the client sends on the connection is passed over.
fn request(client: &mut TcpStream) -> std::io::Result<String> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        client.read_exact(&mut byte)?;
        if head.is_empty() && byte[0] == b'$' {
            let mut rest = [0; 3];
            client.read_exact(&mut rest)?;
            client.read_exact(&mut vec![0; usize::from(u16::from_be_bytes([rest[1], rest[2]]))])?;
        } else {
            head.push(byte[0]);
        }
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

fn serve(mut client: TcpStream, odd: Odd, seen: &Mutex<Vec<String>>, packets: &Arc<Vec<Vec<u8>>>) -> std::io::Result<()> {
    let mut nonce = 0;
    loop {
        let head = request(&mut client)?;
        seen.lock().unwrap().push(head.clone());
        let method = head.split(' ').next().unwrap_or_default();
        let count = head.lines().find_map(|l| l.strip_prefix("CSeq: ")).unwrap_or("0");
        let answer = |status: &str, more: &str| format!("RTSP/1.0 {status}\r\nCSeq: {count}\r\n{more}\r\n");
        if odd == Odd::EndlessHead {
            client.write_all(b"RTSP/1.0 200 OK\r\n")?;
            loop {
                client.write_all(&b"X-Filler: 0123456789012345678901234567890123456789\r\n".repeat(1000))?;
            }
        }
        if let (Odd::Asks(ways), true) = (odd, method != "OPTIONS") {
            let ways = format!("WWW-Authenticate: {}\r\n", ways.join("\r\nWWW-Authenticate: "));
            client.write_all(answer("401 Unauthorized", &ways).as_bytes())?;
            continue;
        }
        if odd == Odd::FreshNonces {
            let good = head.contains(&format!("nonce=\"{nonce}\"")) && !head.contains("username=\"wrong\"");
            nonce += 1;
            if !good {
                let stale = head.contains("Authorization: ") && !head.contains("username=\"wrong\"");
                let asks = format!("WWW-Authenticate: Digest realm=\"cam\", nonce=\"{nonce}\", stale={stale}\r\n");
                client.write_all(answer("401 Unauthorized", &asks).as_bytes())?;
                continue;
            }
        }
        match method {
            "OPTIONS" => client.write_all(answer("200 OK", "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n").as_bytes())?,
            "DESCRIBE" => {
                let coding = if odd == Odd::LargeVp8 { "VP8" } else { "H264" };
                let description = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=odd\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\na=control:*\r\n\
                                   m=video 0 RTP/AVP 96\r\na=rtpmap:96 CODING/90000\r\na=fmtp:96 packetization-mode=1\r\na=control:track\r\n"
                    .replace("CODING", coding);
                let endless = odd == Odd::EndlessDescription;
                let length = if endless { 4_000_000_000 } else { description.len() };
                let more = format!("Content-Type: application/sdp\r\nContent-Length: {length}\r\n");
                client.write_all((answer("200 OK", &more) + &description).as_bytes())?;
                if endless {
                    loop {
                        client.write_all(&b"a=filler:0123456789012345678901234567890123456789\r\n".repeat(1000))?;
                    }
                }
            }
            "SETUP" => {
                let channels = if odd == Odd::NoChannels { "" } else { ";interleaved=0-1" };
                let more = format!("Transport: RTP/AVP/TCP;unicast{channels};ssrc=00000001\r\nSession: odd\r\n");
                client.write_all(answer("200 OK", &more).as_bytes())?;
            }
            "PLAY" => {
                client.write_all(answer("200 OK", "Session: odd\r\n").as_bytes())?;
                let (out, packets) = (client.try_clone()?, packets.clone());
                std::thread::spawn(move || match odd {
                    Odd::EndlessUnit => fragments(out),
                    Odd::LateKeyFrame => late(out, &packets),
                    _ => pictures(out, &packets, 0),
                });
            }
            _ => client.write_all(answer("200 OK", "Session: odd\r\n").as_bytes())?,
        }
    }
}

/// The three seconds again and again, each picture in its time.
fn pictures(mut out: TcpStream, packets: &[Vec<u8>], mut sequence: u16) -> std::io::Result<()> {
    for turn in 0u32.. {
        for packet in packets {
            let mut packet = packet.clone();
            packet[2..4].copy_from_slice(&sequence.to_be_bytes());
            sequence = sequence.wrapping_add(1);
            let ticks = u32::from_be_bytes([packet[4], packet[5], packet[6], packet[7]]);
            packet[4..8].copy_from_slice(&ticks.wrapping_add(turn.wrapping_mul(30 * 9000)).to_be_bytes());
            let last = packet[1] & 0x80 != 0;
            out.write_all(&interleaved(&packet))?;
            if last {
                std::thread::sleep(Duration::from_millis(100));
            }
        }
    }
    Ok(())
}

/// Whole units that are no key frames, in fragments (FU-A), and then the pictures.
fn late(mut out: TcpStream, packets: &[Vec<u8>]) -> std::io::Result<()> {
    let mut sequence = 0u16;
    for unit in 0..17 {
        for part in 0..750 {
            let [high, low] = sequence.to_be_bytes();
            sequence += 1;
            let (first, last) = (u8::from(part == 0) << 7, u8::from(part == 749));
            let head = [0x80, last << 7 | 0x60, high, low, 0, 0, 0, unit, 0, 0, 0, 1, 0x5c, first | last << 6 | 1];
            out.write_all(&interleaved(&[&head[..], &[0x9a; 1400]].concat()))?;
        }
    }
    pictures(out, packets, sequence)
}

/// Fragments (FU-A) of one unit that never ends, as fast as they are taken.
fn fragments(mut out: TcpStream) -> std::io::Result<()> {
    for number in 0u64.. {
        let sequence = (number as u16).to_be_bytes();
        let first = if number == 0 { 0x80 } else { 0 };
        let head = [0x80, 96, sequence[0], sequence[1], 0, 0, 0, 0, 0, 0, 0, 1, 0x7c, first | 5];
        out.write_all(&interleaved(&[&head[..], &[0x5a; 1400]].concat()))?;
    }
    Ok(())
}
