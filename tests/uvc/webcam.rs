//! A USB webcam made of bytes: USB Video Class 1.1 over the kernel's USB/IP host controller (vhci-hcd), which takes one end
//! of a socket pair for a device. The kernel's own uvcvideo drives it, so everything above that is real.

use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

pub const PORT: &str = "/sys/devices/platform/vhci_hcd.0/attach";
/// Sizes, one for each format, so that the size asked for decides the format: NV12, YUYV, JPEG.
pub const SIZES: [(u16, u16); 3] = [(640, 480), (320, 240), (800, 600)];
/// A second size in NV12, so that the others lie between the two and yet cannot be had in it.
const LARGE: (u16, u16) = (1280, 960);
/// From frame to frame (100 ns).
const INTERVAL: u32 = 666_666;
/// Bytes of a payload, its header of two included.
const PAYLOAD: usize = 16_384;

/// A control of the camera: unit, selector, bytes, smallest, largest, default, value.
#[derive(Debug, Clone, Copy)]
pub struct Register {
    unit: u8,
    selector: u8,
    bytes: usize,
    min: i32,
    max: i32,
    default: i32,
    pub value: i32,
}

const fn register(unit: u8, selector: u8, bytes: usize, min: i32, max: i32, default: i32) -> Register {
    Register { unit, selector, bytes, min, max, default, value: default }
}

/// Places in [`Registers`].
pub const AE_MODE: usize = 0;
pub const EXPOSURE: usize = 1;
pub const BRIGHTNESS: usize = 2;
pub type Registers = [Register; 5];
/// Modes of auto-exposure: by hand, aperture priority.
pub const BY_HAND: i32 = 1;
const PRIORITY: i32 = 8;

/// A webcam that is plugged in until it is dropped.
pub struct Webcam {
    pub registers: Arc<Mutex<Registers>>,
    /// Makes it refuse every exposure time, whatever its mode.
    pub stubborn: Arc<AtomicBool>,
    line: UnixStream,
    thread: Option<JoinHandle<()>>,
}

impl Webcam {
    /// Plugs it in. `jpeg` makes a JPEG picture of a luma value.
    pub fn plug(jpeg: fn(u16, u16, u8) -> Vec<u8>) -> Webcam {
        let (line, kernel) = UnixStream::pair().unwrap();
        // Port 0, the descriptor, bus 1 device 2, high speed.
        std::fs::write(PORT, format!("0 {} {} 3", kernel.as_raw_fd(), 0x1_0002)).unwrap();
        let registers = Arc::new(Mutex::new([
            register(1, 0x02, 1, 1, PRIORITY | BY_HAND, PRIORITY),
            register(1, 0x04, 4, 1, 5000, 157),
            register(2, 0x02, 2, 0, 255, 128),
            register(2, 0x03, 2, 0, 100, 50),
            register(2, 0x07, 2, 0, 100, 50),
        ]));
        let stubborn = Arc::new(AtomicBool::new(false));
        let mut device = Device {
            line: line.try_clone().unwrap(),
            stubborn: Arc::clone(&stubborn),
            registers: Arc::clone(&registers),
            jpeg,
            probe: Probe { format: 1, frame: 1 },
            streaming: None,
            waiting: Vec::new(),
            picture: Vec::new(),
            sent: 0,
            toggle: 0,
        };
        let thread = std::thread::Builder::new().name("webcam".into()).spawn(move || device.run()).unwrap();
        Webcam { registers, stubborn, line, thread: Some(thread) }
    }

    pub fn value(&self, register: usize) -> i32 {
        self.registers.lock().unwrap()[register].value
    }
}

impl Drop for Webcam {
    fn drop(&mut self) {
        let _ = self.line.shutdown(std::net::Shutdown::Both);
        let _ = self.thread.take().unwrap().join();
    }
}

#[derive(Clone, Copy)]
struct Probe {
    format: u8,
    frame: u8,
}

impl Probe {
    fn size(self) -> (u16, u16) {
        if self.frame == 2 { LARGE } else { SIZES[usize::from(self.format) - 1] }
    }
    fn most_bytes(self) -> u32 {
        let (w, h) = self.size();
        let pixels = u32::from(w) * u32::from(h);
        if self.format == 1 { pixels * 3 / 2 } else { pixels * 2 }
    }
    fn bytes(self) -> [u8; 34] {
        let mut b = [0; 34];
        (b[2], b[3]) = (self.format, self.frame);
        b[4..8].copy_from_slice(&INTERVAL.to_le_bytes());
        b[18..22].copy_from_slice(&self.most_bytes().to_le_bytes());
        b[22..26].copy_from_slice(&(PAYLOAD as u32).to_le_bytes());
        b[26..30].copy_from_slice(&48_000_000u32.to_le_bytes());
        b[30] = 3;
        b
    }
}

struct Device {
    line: UnixStream,
    stubborn: Arc<AtomicBool>,
    registers: Arc<Mutex<Registers>>,
    jpeg: fn(u16, u16, u8) -> Vec<u8>,
    probe: Probe,
    /// When the next picture is due.
    streaming: Option<Instant>,
    /// Transfers that the kernel waits for: number, bytes.
    waiting: Vec<(u32, usize)>,
    picture: Vec<u8>,
    sent: usize,
    toggle: u8,
}

impl Device {
    fn run(&mut self) {
        loop {
            let wait = self.streaming.map_or(1000, |due| due.saturating_duration_since(Instant::now()).as_millis() as u16 + 1);
            let mut fds = [PollFd::new(self.line.as_fd(), PollFlags::POLLIN)];
            let ready = poll(&mut fds, PollTimeout::from(wait)).unwrap_or(0) > 0;
            if ready && self.serve().is_err() {
                return;
            }
            if self.streaming.is_some_and(|due| Instant::now() >= due) && self.sent >= self.picture.len() {
                self.streaming = Some(Instant::now() + Duration::from_nanos(u64::from(INTERVAL) * 100));
                self.draw();
            }
            if self.streaming.is_some() && self.feed().is_err() {
                return;
            }
        }
    }

    /// A picture whose luma is the brightness.
    fn draw(&mut self) {
        let luma = self.registers.lock().unwrap()[BRIGHTNESS].value as u8;
        let (w, h) = self.probe.size();
        let pixels = usize::from(w) * usize::from(h);
        self.picture = match self.probe.format {
            1 => [vec![luma; pixels], vec![128; pixels / 2]].concat(),
            2 => [luma, 128].repeat(pixels),
            _ => (self.jpeg)(w, h, luma),
        };
        (self.sent, self.toggle) = (0, self.toggle ^ 1);
    }

    /// Answers waiting transfers with the rest of the picture.
    fn feed(&mut self) -> std::io::Result<()> {
        while self.sent < self.picture.len() && !self.waiting.is_empty() {
            let (number, room) = self.waiting.remove(0);
            let end = self.picture.len().min(self.sent + room.min(PAYLOAD) - 2);
            let last = u8::from(end == self.picture.len());
            let mut data = vec![2, 0x80 | last << 1 | self.toggle];
            data.extend_from_slice(&self.picture[self.sent..end]);
            self.sent = end;
            self.answer(number, 0, data.len(), &data)?;
        }
        Ok(())
    }

    fn answer(&mut self, number: u32, status: i32, length: usize, data: &[u8]) -> std::io::Result<()> {
        let mut head = [0; 48];
        head[..4].copy_from_slice(&3u32.to_be_bytes());
        head[4..8].copy_from_slice(&number.to_be_bytes());
        head[20..24].copy_from_slice(&status.to_be_bytes());
        head[24..28].copy_from_slice(&(length as u32).to_be_bytes());
        self.line.write_all(&head)?;
        self.line.write_all(data)
    }

    /// One message of the kernel.
    fn serve(&mut self) -> std::io::Result<()> {
        let mut head = [0; 48];
        self.line.read_exact(&mut head)?;
        let word = |at: usize| u32::from_be_bytes(head[at..at + 4].try_into().unwrap());
        let (command, number, inwards, endpoint) = (word(0), word(4), word(12) == 1, word(16));
        if command == 2 {
            // Take a transfer back.
            let taken = self.waiting.iter().position(|(n, _)| *n == word(20)).map(|i| self.waiting.remove(i));
            let status = if taken.is_some() { -nix::libc::ECONNRESET } else { 0 };
            let mut reply = [0; 48];
            reply[..4].copy_from_slice(&4u32.to_be_bytes());
            reply[4..8].copy_from_slice(&number.to_be_bytes());
            reply[20..24].copy_from_slice(&status.to_be_bytes());
            return self.line.write_all(&reply);
        }
        let length = word(24) as usize;
        let mut data = vec![0; if inwards { 0 } else { length }];
        self.line.read_exact(&mut data)?;
        if endpoint != 0 {
            self.waiting.push((number, length));
            return Ok(());
        }
        let setup: [u8; 8] = head[40..48].try_into().unwrap();
        match self.control(setup, &data) {
            Some(mut reply) if inwards => {
                reply.truncate(usize::from(u16::from_le_bytes([setup[6], setup[7]])));
                self.answer(number, 0, reply.len(), &reply)
            }
            Some(_) => self.answer(number, 0, length, &[]),
            None => self.answer(number, -nix::libc::EPIPE, 0, &[]),
        }
    }

    fn control(&mut self, setup: [u8; 8], data: &[u8]) -> Option<Vec<u8>> {
        let [kind, request, index, value, interface, unit, ..] = setup;
        if kind & 0x60 == 0x20 {
            return if interface == 1 {
                Some(self.stream(request, value, data))
            } else {
                self.register(request, unit, value, data)
            };
        }
        match (request, value) {
            (6, 1) => Some(DEVICE.to_vec()),
            (6, 2) => Some(configuration()),
            (6, 3) if index == 0 => Some(vec![4, 3, 9, 4]),
            (6, 3) => {
                let text: Vec<u8> = ["Test", "Emulated webcam", "1"]
                    .get(usize::from(index) - 1)?
                    .encode_utf16()
                    .flat_map(u16::to_le_bytes)
                    .collect();
                Some([&[text.len() as u8 + 2, 3], &text[..]].concat())
            }
            (1, _) => {
                // The end of streaming, for a bulk endpoint.
                if kind == 2 {
                    self.streaming = None;
                    self.picture.clear();
                }
                Some(Vec::new())
            }
            (0, _) => Some(vec![0, 0]),
            (8 | 10, _) => Some(vec![u8::from(request == 8)]),
            (5 | 9 | 11, _) => Some(Vec::new()),
            _ => None,
        }
    }

    /// Probe (1) and commit (2).
    fn stream(&mut self, request: u8, selector: u8, data: &[u8]) -> Vec<u8> {
        match request {
            0x01 => {
                let format = data[2].clamp(1, 3);
                self.probe = Probe { format, frame: if format == 1 { data[3].clamp(1, 2) } else { 1 } };
                if selector == 2 {
                    self.streaming = Some(Instant::now());
                    self.picture.clear();
                    self.sent = 0;
                }
                Vec::new()
            }
            0x85 => vec![34, 0],
            0x86 => vec![3],
            _ => self.probe.bytes().to_vec(),
        }
    }

    fn register(&mut self, request: u8, unit: u8, selector: u8, data: &[u8]) -> Option<Vec<u8>> {
        if unit == 0 {
            return (request >= 0x80).then(|| vec![0]);
        }
        let mut registers = self.registers.lock().unwrap();
        let by_hand = registers[AE_MODE].value == BY_HAND;
        let place = registers.iter().position(|r| (r.unit, r.selector) == (unit, selector))?;
        let r = &mut registers[place];
        if request == 0x01 {
            if place == EXPOSURE && (!by_hand || self.stubborn.load(Ordering::Relaxed)) {
                return None; // as webcams do
            }
            let mut value = [0; 4];
            value[..r.bytes].copy_from_slice(&data[..r.bytes]);
            r.value = i32::from_le_bytes(value);
            return Some(Vec::new());
        }
        let value = match request {
            0x81 => r.value,
            0x82 => r.min,
            0x83 => r.max,
            // The modes that there are, for this control.
            0x84 => {
                if place == AE_MODE {
                    PRIORITY | BY_HAND
                } else {
                    1
                }
            }
            0x85 => return Some(vec![r.bytes as u8, 0]),
            0x86 => return Some(vec![3]),
            0x87 => r.default,
            _ => return None,
        };
        Some(value.to_le_bytes()[..r.bytes].to_vec())
    }
}

const DEVICE: [u8; 18] = [18, 1, 0, 2, 0xef, 2, 1, 64, 0x09, 0x12, 1, 0, 0, 1, 1, 2, 3, 1];

/// All descriptors of the one configuration, as USB Video Class 1.1 lays them out.
fn configuration() -> Vec<u8> {
    let mut vc = vec![13, 0x24, 1, 0x10, 1, 0, 0, 0, 0x6c, 0xdc, 2, 1, 1];
    // Camera: exposure mode and time. Processing: brightness, contrast, saturation. Output over USB.
    vc.extend([18, 0x24, 2, 1, 1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0x0a, 0, 0]);
    vc.extend([12, 0x24, 5, 2, 1, 0, 0, 2, 0x0b, 0, 0, 0]);
    vc.extend([9, 0x24, 3, 3, 1, 1, 0, 2, 0]);
    let total = (vc.len() as u16).to_le_bytes();
    vc[5..7].copy_from_slice(&total);
    let mut vs = vec![16, 0x24, 1, 3, 0, 0, 0x81, 0, 3, 0, 0, 0, 1, 0, 0, 0];
    for format in 1..=3 {
        let guid = |code: &[u8; 4]| [&code[..], &[0, 0, 0x10, 0, 0x80, 0, 0, 0xaa, 0, 0x38, 0x9b, 0x71]].concat();
        match format {
            1 => vs.extend([&[27, 0x24, 4, 1, 2][..], &guid(b"NV12"), &[12, 1, 0, 0, 0, 0]].concat()),
            2 => vs.extend([&[27, 0x24, 4, 2, 1][..], &guid(b"YUY2"), &[16, 1, 0, 0, 0, 0]].concat()),
            _ => vs.extend([11, 0x24, 6, 3, 1, 1, 1, 0, 0, 0, 0]),
        }
        for frame in 1..=if format == 1 { 2 } else { 1 } {
            let probe = Probe { format, frame };
            let (w, h) = probe.size();
            vs.extend([30, 0x24, if format == 3 { 7 } else { 5 }, frame, 0]);
            vs.extend(w.to_le_bytes().into_iter().chain(h.to_le_bytes()));
            let bits = probe.most_bytes() * 8 * 15;
            for number in [bits, bits, probe.most_bytes(), INTERVAL] {
                vs.extend(number.to_le_bytes());
            }
            vs.push(1);
            vs.extend(INTERVAL.to_le_bytes());
        }
        vs.extend([6, 0x24, 13, 1, 1, 4]);
    }
    let total = (vs.len() as u16).to_le_bytes();
    vs[4..6].copy_from_slice(&total);
    let mut all = vec![9, 2, 0, 0, 2, 1, 0, 0x80, 50];
    all.extend([8, 11, 0, 2, 0x0e, 3, 0, 2]);
    all.extend([9, 4, 0, 0, 0, 0x0e, 1, 0, 2]);
    all.extend(vc);
    all.extend([9, 4, 1, 0, 1, 0x0e, 2, 0, 0]);
    all.extend(vs);
    all.extend([7, 5, 0x81, 2, 0, 2, 0]);
    let total = (all.len() as u16).to_le_bytes();
    all[2..4].copy_from_slice(&total);
    all
}
