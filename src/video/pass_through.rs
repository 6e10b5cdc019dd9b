//! Owns the pass-through: whether a camera's own stream goes out as it comes, and how it becomes access units for subscribers: key
//! frames found, both clocks put on. Never decodes, encodes or waits. `take` is called on the source's threads, the rest on any.

use std::sync::Arc;

use gstreamer as gst;

use super::CODEC;
use super::access_unit::AccessUnit;
use super::hub::Hub;
use super::settings::Stream;
use crate::clock::{Clock, WallUs};
use crate::frame::Layout;
use crate::lock::{Guard, Ordered, Rank};
use crate::source::{Coded, CodedAccessUnit};

/// What becomes of the camera's own stream: the word in `status json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PassThroughState {
    /// It is passed through.
    Yes,
    /// `video.pass_through` is off.
    Off,
    /// `video.overlay` is set, which only an encoder can draw.
    Overlay,
    /// `video.width` is set, which only an encoder can make.
    Size,
    /// `rtsp.audio.device` is set: the sound belongs to one media that all viewers share, and a stream that is passed on gives
    /// each one of its own.
    Sound,
    /// The camera sends another codec than the stream's.
    Codec,
    /// `camera.rotation`, `camera.hflip` or `camera.vflip` is set, and viewers cannot be told to turn a stream.
    Turned,
    /// Its pictures come in another order than they are shown in, which files and stamps here do not know.
    Order,
    /// Nothing has come yet, or nothing comes now.
    Waiting,
}

impl PassThroughState {
    /// The word in `status json`.
    pub fn word(self) -> &'static str {
        match self {
            PassThroughState::Yes => "yes",
            PassThroughState::Off => "off",
            PassThroughState::Overlay => "overlay",
            PassThroughState::Size => "size",
            PassThroughState::Sound => "sound",
            PassThroughState::Codec => "codec",
            PassThroughState::Turned => "turned",
            PassThroughState::Order => "order",
            PassThroughState::Waiting => "waiting",
        }
    }
}

#[derive(Default)]
struct Inside {
    /// Why the configuration does not let it through.
    refused: Option<PassThroughState>,
    /// Why the camera's stream cannot be passed.
    unfit: Option<PassThroughState>,
    /// A unit has come since the stream began.
    came: bool,
    size: Option<Layout>,
}

/// See the module's first lines.
pub struct PassThrough {
    hub: Arc<Hub>,
    clock: Arc<dyn Clock>,
    remote: bool,
    inside: Ordered<Inside>,
}

fn refused(stream: &Stream) -> Option<PassThroughState> {
    let v = &stream.keys;
    match () {
        () if !v.pass_through => Some(PassThroughState::Off),
        () if !v.overlay.is_empty() => Some(PassThroughState::Overlay),
        () if v.width > 0 => Some(PassThroughState::Size),
        () if stream.turned => Some(PassThroughState::Turned),
        () if stream.sound => Some(PassThroughState::Sound),
        () => None,
    }
}

impl PassThrough {
    /// By this configuration; `remote`: the source is a camera that may encode by itself.
    pub fn new(hub: Arc<Hub>, clock: Arc<dyn Clock>, stream: &Stream, remote: bool) -> PassThrough {
        let inside = Inside { refused: refused(stream), ..Inside::default() };
        PassThrough { hub, clock, remote, inside: Ordered::new(Rank::PassThrough, inside) }
    }

    fn lock(&self) -> Guard<'_, Inside> {
        // Whole at every point where a panic could strike.
        self.inside.lock()
    }

    /// Takes over what the configuration says now.
    pub fn set(&self, stream: &Stream) {
        let refused = refused(stream);
        // Held until the hub knows: a unit that comes meanwhile must not begin anew.
        let mut i = self.lock();
        let before = std::mem::replace(&mut i.refused, refused);
        if refused.is_some() {
            self.hub.end_pass_through();
        }
        drop(i);
        if self.remote && before != refused {
            match refused {
                None => log::info!("The camera's own H.264 is passed on from its next key frame"),
                Some(why) => log::info!("The camera's own H.264 is not passed on any more ({})", why.word()),
            }
        }
    }

    /// Whether the camera's own stream may go out, now or later: viewers then need a subscription each, to catch up with its GOP.
    pub fn may(&self) -> bool {
        self.remote && self.lock().refused.is_none()
    }

    /// What becomes of the camera's own stream; `None` where the source has none.
    pub fn state(&self) -> Option<PassThroughState> {
        let i = self.lock();
        self.remote
            .then(|| i.refused.or(i.unfit).unwrap_or(if i.came { PassThroughState::Yes } else { PassThroughState::Waiting }))
    }

    /// The size of the camera's own stream, when one was last seen.
    pub fn size(&self) -> Option<Layout> {
        self.lock().size
    }

    /// Takes what the camera sends.
    pub fn take(&self, coded: Coded) {
        match coded {
            Coded::AccessUnit(unit) if std::ptr::eq(unit.codec, CODEC) => self.unit(unit),
            Coded::AccessUnit(_) | Coded::OtherCodec => self.lock().unfit = Some(PassThroughState::Codec),
            Coded::End => {
                let mut i = self.lock();
                (i.came, i.unfit) = (false, None);
                self.hub.end_pass_through();
            }
        }
    }

    fn unit(&self, coded: CodedAccessUnit) {
        let CodedAccessUnit { codec, mut buffer, caps, key, id, boot } = coded;
        let (key, ahead) = {
            let Ok(map) = buffer.map_readable() else { return };
            (key && (codec.is_random_access)(&map), !key && (codec.is_b_picture)(&map))
        };
        let mut i = self.lock();
        if key {
            let pixels = |name| caps.structure(0).and_then(|s| s.get::<i32>(name).ok()).map_or(0, |n| n as u32 / 2 * 2);
            let size = Layout::new(pixels("width"), pixels("height"));
            // One that claims more is not drawn for while its camera is away.
            let believed = Some(size).filter(|s| s.pixels() <= codec.max_pixels);
            if std::mem::replace(&mut i.size, believed) != believed && self.remote {
                log::info!("The camera sends {} of {}x{}", codec.name, size.width, size.height);
            }
        }
        i.came = true;
        if ahead && i.unfit.is_none() {
            i.unfit = Some(PassThroughState::Order);
            log::warn!(
                "The camera's pictures come out of order (B frames), so they are encoded anew; switch B frames off in the camera"
            );
            self.hub.end_pass_through();
            return;
        }
        if i.refused.is_some() || i.unfit.is_some() {
            return;
        }
        let time = gst::ClockTime::from_useconds(boot.0);
        // The bytes are shared with the decoder; only the stamps are new.
        let b = buffer.make_mut();
        b.set_pts(time);
        b.set_dts(time);
        b.set_duration(gst::ClockTime::NONE);
        // The wall clock of that instant, as it stands now.
        let wall = WallUs(self.clock.wall().0 - (self.clock.boot() - boot));
        // Under the lock, as above.
        self.hub.pass_through(&AccessUnit { buffer, caps, keyframe: key, id, wall, behind: 0 });
        drop(i);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{BootUs, SystemClock};
    use crate::config::Config;

    #[test]
    fn a_size_that_no_camera_has_is_not_believed() {
        crate::gst::init().unwrap();
        let pass = PassThrough::new(Hub::new(|| {}), Arc::new(SystemClock), &Config::default().stream(), true);
        let size_of = |width: i32, height: i32| {
            let caps = gst::Caps::builder("video/x-h264").field("width", width).field("height", height).build();
            let buffer = gst::Buffer::from_slice([0, 0, 1, 0x65, 0x88]);
            pass.take(Coded::AccessUnit(CodedAccessUnit { codec: CODEC, buffer, caps, key: true, id: 1, boot: BootUs(1) }));
            pass.size()
        };
        assert_eq!(size_of(3840, 2160), Some(Layout::new(3840, 2160)));
        assert_eq!(size_of(65_520, 65_520), None);
        assert_eq!(size_of(-2, -2), None);
        assert_eq!(size_of(640, 480), Some(Layout::new(640, 480)));
    }

    #[test]
    fn what_only_an_encoder_can_do_ends_the_passing() {
        let of = |text: &str| refused(&Config::parse(text.as_bytes()).unwrap().stream());
        assert_eq!(of("{}"), None);
        assert_eq!(of(r#"{"video": {"pass_through": false}}"#), Some(PassThroughState::Off));
        assert_eq!(of(r#"{"video": {"overlay": "gate"}}"#), Some(PassThroughState::Overlay));
        assert_eq!(of(r#"{"video": {"width": 640, "height": 480}}"#), Some(PassThroughState::Size));
        assert_eq!(of(r#"{"camera": {"rotation": 90}}"#), Some(PassThroughState::Turned));
        assert_eq!(of(r#"{"camera": {"rotation": 180, "hflip": true, "vflip": true}}"#), None, "it comes to nothing");
        assert_eq!(of(r#"{"rtsp": {"enable": true, "audio": {"device": "hw:1"}}}"#), Some(PassThroughState::Sound));
        assert_eq!(of(r#"{"rtsp": {"audio": {"device": "hw:1"}}}"#), None, "nobody is served, so nobody hears");
    }
}
