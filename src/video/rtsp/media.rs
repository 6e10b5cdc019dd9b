//! Owns the media that give the hub's units to viewers: the factory, time stamps, and for how long the encoder outlives the last of
//! them. Never speaks to a viewer. Runs on the server library's threads and on those that hand units round.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;
use gstreamer_rtsp_server as rtsp;
use gstreamer_rtsp_server::prelude::*;

use super::super::CODEC;
use super::super::access_unit::AccessUnit;
use super::super::gop;
use super::super::hub::{Hub, Subscription};
use super::super::settings::Audio;
use super::auth::VIEWER;
use super::sound::{self, Sound};
use super::unprepare::Unpreparing;
use crate::clock::{Clock, SystemClock, monotonic_us};

/// Units that may wait for the senders (bytes): a megabyte more than who joins a camera's stream is given at once. More means
/// that they hang.
const WAITING: u64 = (1 << 20) + gop::MOST as u64;

/// The encoder works on for so long without a viewer: whoever asks for the description again and again, or comes back at once, does
/// not make it start each time.
const LINGER: Duration = Duration::from_secs(2);

/// The subscription that keeps the encoder at work after the last viewer.
#[derive(Default)]
pub(super) struct Lingers(Mutex<Option<(Subscription, Instant)>>);

impl Lingers {
    fn begin(&self, hub: &Arc<Hub>) {
        let keeps = (hub.subscribe(Box::new(|_| true)), Instant::now());
        let before = self.0.lock().unwrap_or_else(PoisonError::into_inner).replace(keeps);
        drop(before);
    }

    /// Ends it when its time is over; true while it is there.
    pub fn look(&self) -> bool {
        let mut keeps = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let over = keeps.take_if(|(_, since)| since.elapsed() > LINGER);
        let stays = keeps.is_some();
        drop(keeps);
        drop(over);
        stays
    }
}

/// The factory of the one media that all viewers share.
pub(super) fn factory(
    hub: &Arc<Hub>,
    encrypted: bool,
    sound: Option<&Audio>,
    unpreparing: &Arc<Unpreparing>,
    lingers: &Arc<Lingers>,
) -> rtsp::RTSPMediaFactory {
    let factory = rtsp::RTSPMediaFactory::new();
    let (pay, how) = CODEC.payloader;
    let pictures = format!("appsrc name=in is-live=true format=time max-bytes=0 ! {pay} name=pay0 pt=96 {how}");
    let beside = sound.map_or(String::new(), |_| {
        let room = sound::WAITING;
        format!("appsrc name=sound is-live=true format=time max-bytes={room} leaky-type=downstream ! rtpmp4gpay name=pay1 pt=97")
    });
    factory.set_launch(&format!("( {pictures} {beside} )"));
    factory.set_shared(true);
    // `Reset` would take the source apart at each pause.
    factory.set_suspend_mode(rtsp::RTSPSuspendMode::None);
    let udp = rtsp::gst_rtsp::RTSPLowerTrans::UDP;
    // Datagrams would go past the encryption.
    let datagrams = if encrypted { rtsp::gst_rtsp::RTSPLowerTrans::empty() } else { udp };
    factory.set_protocols(rtsp::gst_rtsp::RTSPLowerTrans::TCP | datagrams);
    // A key frame of the largest pictures fits into it.
    factory.set_buffer_size(512 << 10);
    factory.add_role_from_structure(
        &gst::Structure::builder(VIEWER)
            .field(rtsp::RTSP_PERM_MEDIA_FACTORY_ACCESS, true)
            .field(rtsp::RTSP_PERM_MEDIA_FACTORY_CONSTRUCT, true)
            .build(),
    );
    let (hub, sound, unpreparing, lingers) = (hub.clone(), sound.cloned(), unpreparing.clone(), lingers.clone());
    factory.connect_media_configure(move |_, media| {
        unpreparing.watch(media);
        let named = |name: &str| {
            let element = media.element().downcast::<gst::Bin>().ok()?.by_name(name)?;
            element.downcast::<gst_app::AppSrc>().ok()
        };
        let Some(source) = named("in") else { return };
        if let Some(pipeline) = source.parent().and_then(|bin| bin.parent()).and_then(|p| p.downcast::<gst::Bin>().ok()) {
            // Sinks allow themselves 20 ms of work and so send every picture 20 ms late once two ways of transport are in use.
            pipeline.connect_deep_element_added(|_, _, element| {
                if element.has_property_with_type("processing-deadline", u64::static_type()) {
                    element.set_property("processing-deadline", 0u64);
                }
            });
        }
        let heard = sound
            .clone()
            .zip(named("sound"))
            .and_then(|(settings, to)| Sound::start(settings, to).inspect_err(|e| log::warn!("RTSP: {e}")).ok());
        let place = Mutex::new(Some((subscribe(&hub, source), heard)));
        let (hub, lingers) = (hub.clone(), lingers.clone());
        media.connect_unprepared(move |_| {
            let place: Option<(Subscription, Option<Sound>)> = place.lock().unwrap_or_else(PoisonError::into_inner).take();
            if place.is_some() {
                lingers.begin(&hub);
            }
            drop(place);
        });
    });
    factory
}

/// Between time stamps, at least (ns): one tick of RTP's clock and a little.
const TICK: u64 = 12_000;
/// Between units that are given to who joins, each (ns) and for each byte of the one before (ns): 40 Mbit/s. A player runs through
/// them and is then in the present; sent all at once, they would not fit into the buffer of one that watches over UDP.
const CATCH_UP: (u64, u64) = (1_000_000, 200);

/// Hands units to the media from the moment it runs.
fn subscribe(hub: &Arc<Hub>, source: gst_app::AppSrc) -> Subscription {
    let joins = Arc::downgrade(hub);
    let wants = move |_: &gst_app::AppSrc, _| {
        if let Some(hub) = joins.upgrade() {
            hub.catch_up();
        }
    };
    source.set_callbacks(gst_app::AppSrcCallbacks::builder().need_data(wants).build());
    // Until a key frame has gone in nothing may.
    let (mut broken, mut next) = (true, gst::ClockTime::ZERO);
    hub.subscribe(Box::new(move |unit: &AccessUnit| {
        // Units before it runs have no time in it.
        let runs = [source.current_state(), source.pending_state()].contains(&gst::State::Playing);
        let Some(base) = source.base_time().filter(|_| runs) else {
            broken = true;
            return false;
        };
        broken = (broken && !unit.keyframe) || source.current_level_bytes() > WAITING;
        if broken {
            return true;
        }
        // The boot-time clock counts suspend, GStreamer's does not.
        let now = SystemClock.boot().0;
        let suspended = now.saturating_sub(monotonic_us());
        let of = if unit.behind == 0 { unit.time() } else { gst::ClockTime::from_useconds(now) };
        let time = of.saturating_sub(gst::ClockTime::from_useconds(suspended)).saturating_sub(base).max(next);
        let pause = if unit.behind == 0 { TICK } else { CATCH_UP.0.max(CATCH_UP.1 * unit.buffer.size() as u64) };
        next = time + gst::ClockTime::from_nseconds(pause);
        let mut buffer = unit.buffer.clone();
        let b = buffer.make_mut();
        b.set_pts(time);
        b.set_dts(time);
        if source.caps().as_ref() != Some(&unit.caps) {
            source.set_caps(Some(&unit.caps));
        }
        // Refused only while the media is being put away.
        let _ = source.push_buffer(buffer);
        true
    }))
}
