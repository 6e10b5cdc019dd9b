//! Owns cameras of strangers: an RTSP server made of plain `GStreamer` whose every byte is known, and one that answers each HTTP
//! request with a single JPEG. Both ask for a login where they are told to.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use gstreamer as gst;
use gstreamer::glib;
use gstreamer::prelude::*;
use gstreamer_app::AppSink;
use gstreamer_rtsp_server as rtsp;
use gstreamer_rtsp_server::gst_rtsp::{RTSPAuthMethod, RTSPLowerTrans};
use gstreamer_rtsp_server::prelude::*;

/// Units of H.264 without start codes.
pub fn units(bytes: &[u8]) -> Vec<Vec<u8>> {
    let starts: Vec<usize> = bytes.windows(3).enumerate().filter(|(_, w)| *w == [0, 0, 1]).map(|(i, _)| i + 3).collect();
    let ends = starts.iter().skip(1).map(|s| s - 3).chain([bytes.len()]);
    let cut = |(from, to): (&usize, usize)| {
        let end = bytes[*from..to].iter().rposition(|b| *b != 0).map_or(*from, |i| from + i + 1);
        bytes[*from..end].to_vec()
    };
    starts.iter().zip(ends).map(cut).collect()
}

/// What an RTSP camera is to be.
#[derive(Clone)]
pub struct Make {
    pub key_frames: u32,
    pub transport: RTSPLowerTrans,
    /// User, password, and the way to ask for them.
    pub login: Option<(&'static str, &'static str, RTSPAuthMethod)>,
    /// Instead of H.264 without B frames.
    pub encoder: Option<&'static str>,
}

impl Default for Make {
    fn default() -> Self {
        Make { key_frames: 10, transport: RTSPLowerTrans::TCP | RTSPLowerTrans::UDP, login: None, encoder: None }
    }
}

/// An RTSP camera of 320×240 and ten pictures a second: a moving ball.
pub struct Peer {
    pub port: u16,
    context: glib::MainContext,
    main: glib::MainLoop,
    thread: Option<JoinHandle<()>>,
    parts: Arc<Mutex<HashMap<String, gst::Element>>>,
    /// Units of H.264 as they were sent, in order.
    pub sent: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Peer {
    pub fn new(port: u16, make: &Make) -> Peer {
        pastcam::gst::init().unwrap();
        let context = glib::MainContext::new();
        let main = glib::MainLoop::new(Some(&context), false);
        let (parts, sent): (Arc<Mutex<HashMap<_, _>>>, Arc<Mutex<Vec<_>>>) = (Arc::default(), Arc::default());
        let factory = rtsp::RTSPMediaFactory::new();
        let coded = make.encoder.map_or_else(
            || {
                format!(
                    "x264enc tune=zerolatency speed-preset=ultrafast threads=1 key-int-max={0} bitrate=400 \
                     ! h264parse name=parse config-interval=-1 ! video/x-h264,stream-format=byte-stream,alignment=au \
                     ! rtph264pay name=pay0 pt=96 config-interval=0",
                    make.key_frames
                )
            },
            String::from,
        );
        factory.set_launch(&format!(
            "( videotestsrc name=src is-live=true pattern=ball ! capsfilter name=size caps=video/x-raw,format=I420,width=320,height=240,framerate=10/1 ! {coded} )"
        ));
        factory.set_shared(true);
        factory.set_protocols(make.transport);
        let (known, record) = (parts.clone(), sent.clone());
        factory.connect_media_configure(move |_, media| {
            let bin = media.element().downcast::<gst::Bin>().unwrap();
            for name in ["src", "size", "parse"] {
                known.lock().unwrap().extend(bin.by_name(name).map(|e| (name.to_string(), e)));
            }
            if let Some(parse) = bin.by_name("parse") {
                let record = record.clone();
                parse.static_pad("src").unwrap().add_probe(gst::PadProbeType::BUFFER, move |_, info| {
                    let bytes = info.buffer().unwrap().map_readable().unwrap().to_vec();
                    record.lock().unwrap().extend(units(&bytes));
                    gst::PadProbeReturn::Ok
                });
            }
        });
        let server = rtsp::RTSPServer::new();
        server.set_address("127.0.0.1");
        server.set_service(&port.to_string());
        if let Some((user, password, method)) = make.login {
            let auth = rtsp::RTSPAuth::new();
            auth.set_supported_methods(method);
            let token = rtsp::RTSPToken::builder().field("media.factory.role", "viewer").build();
            if method == RTSPAuthMethod::Digest {
                auth.add_digest(user, password, &token);
            } else {
                auth.add_basic(&rtsp::RTSPAuth::make_basic(user, password), &token);
            }
            server.set_auth(Some(&auth));
            let role = gst::Structure::builder("viewer")
                .field("media.factory.access", true)
                .field("media.factory.construct", true)
                .build();
            factory.add_role_from_structure(&role);
        }
        let mounts = rtsp::RTSPMountPoints::new();
        mounts.add_factory("/live", factory);
        server.set_mount_points(Some(&mounts));
        let (own, runs) = (context.clone(), main.clone());
        let thread = std::thread::spawn(move || {
            own.with_thread_default(|| {
                let source = server.attach(Some(&own)).unwrap();
                runs.run();
                server.client_filter(Some(&mut |_, _| rtsp::RTSPFilterResult::Remove));
                source.remove_in(&own);
            })
            .unwrap();
        });
        Peer { port, context, main, thread: Some(thread), parts, sent }
    }

    pub fn url(&self, login: &str) -> String {
        format!("rtsp://{login}127.0.0.1:{}/live", self.port)
    }

    fn part(&self, name: &str) -> gst::Element {
        self.parts.lock().unwrap()[name].clone()
    }

    /// From now on the picture stands still, or moves again.
    pub fn freeze(&self, frozen: bool) {
        self.part("src").set_property_from_str("pattern", if frozen { "smpte100" } else { "ball" });
    }

    /// From now on each picture is all noise.
    pub fn snow(&self) {
        self.part("src").set_property_from_str("pattern", "snow");
    }

    /// From now on pictures have this size.
    pub fn resize(&self, width: i32, height: i32) {
        let caps = format!("video/x-raw,format=I420,width={width},height={height},framerate=10/1");
        self.part("size").set_property_from_str("caps", &caps);
    }
}

trait RemoveIn {
    fn remove_in(self, context: &glib::MainContext);
}

impl RemoveIn for glib::SourceId {
    fn remove_in(self, context: &glib::MainContext) {
        if let Some(source) = context.find_source_by_id(&self) {
            source.destroy();
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let main = self.main.clone();
        self.context.invoke(move || main.quit());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A camera that answers each request with one JPEG.
pub struct Snapshots {
    pub port: u16,
    pub requests: Arc<AtomicUsize>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Snapshots {
    /// `login`: what `Authorization` must be.
    pub fn new(login: Option<&'static str>) -> Snapshots {
        pastcam::gst::init().unwrap();
        let line = "videotestsrc num-buffers=20 pattern=ball ! video/x-raw,width=320,height=240 ! jpegenc ! appsink name=out sync=false max-buffers=0";
        let pipeline = gst::parse::launch(line).unwrap().downcast::<gst::Pipeline>().unwrap();
        let out = pipeline.by_name("out").unwrap().downcast::<AppSink>().unwrap();
        pipeline.set_state(gst::State::Playing).unwrap();
        let pictures: Vec<Vec<u8>> =
            std::iter::from_fn(|| Some(out.pull_sample().ok()?.buffer()?.map_readable().ok()?.to_vec())).collect();
        pipeline.set_state(gst::State::Null).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (over, requests) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (end, count) = (over.clone(), requests.clone());
        let thread = std::thread::spawn(move || {
            while !end.load(Ordering::Relaxed) {
                let Ok((mut client, _)) = listener.accept() else {
                    std::thread::sleep(Duration::from_millis(5));
                    continue;
                };
                client.set_nonblocking(false).unwrap();
                client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
                let (mut head, mut byte) = (Vec::new(), [0]);
                while !head.ends_with(b"\r\n\r\n") && client.read_exact(&mut byte).is_ok() {
                    head.push(byte[0]);
                }
                let head = String::from_utf8_lossy(&head).into_owned();
                // A client that has gone is no concern of the next one.
                let _ = if login.is_some_and(|l| !head.contains(&format!("Authorization: {l}"))) {
                    client.write_all(b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"cam\"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                } else {
                    let picture = &pictures[count.fetch_add(1, Ordering::Relaxed) % pictures.len()];
                    let head = format!(
                        "HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                        picture.len()
                    );
                    client.write_all(&[head.as_bytes(), picture].concat())
                };
            }
        });
        Snapshots { port, requests, over, thread: Some(thread) }
    }
}

impl Drop for Snapshots {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
