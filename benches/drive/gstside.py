#!/usr/bin/env python3
"""GStreamer beside pastcam, for `benches/drive/video.py`; a program of its own, since it needs python3-gi. One JSON line on stdout.

gstside.py alone RAW WIDTH HEIGHT FPS SECONDS ENCODER   encodes and decodes frames of a raw I420 file: ms from push to picture
gstside.py watch URL WIDTH HEIGHT SECONDS               a viewer over TCP: ms from the time in the picture to the picture
gstside.py serve PORT RAW WIDTH HEIGHT FPS ENCODER      what gst-rtsp-server's test-launch does, until it is killed
"""
import json
import sys
import time

import gi
gi.require_version("Gst", "1.0")
gi.require_version("GstVideo", "1.0")
from gi.repository import GLib, Gst, GstVideo  # noqa: E402

DECODER = "h264parse ! avdec_h264 max-threads=1 ! video/x-raw,format=(string){I420,Y42B,Y444} ! appsink name=out sync=false max-buffers=50"


def stamp(luma, stride, width):
    """The boot-time instant [µs] in a picture of the pattern, or None; see src/source/barcode.rs."""
    code = bytearray(12)
    for bit in range(96):
        x, y = bit % (width // 16) * 16 + 8, bit // (width // 16) * 16 + 8
        if sum(luma[(y + d) * stride + x + d] for d in (-2, 0, 2)) > 3 * 125:
            code[bit // 8] |= 0x80 >> bit % 8
    check = 0x5A
    for b in code[:11]:
        check ^= b
    return int.from_bytes(code[5:11], "big") if code[0] == 0xA5 and code[11] == check else None


def now_us():
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000


def alone(raw, width, height, fps, seconds, encoder):
    size = width * height * 3 // 2
    data = open(raw, "rb").read()
    frames = [Gst.Buffer.new_wrapped(data[k:k + size]) for k in range(0, len(data) - size + 1, size)]
    line = f"appsrc name=in format=time is-live=true caps=video/x-raw,format=I420,width={width},height={height},framerate={fps}/1,colorimetry=1:4:5:1"
    pipeline = Gst.parse_launch(f"{line} ! {encoder} ! h264parse config-interval=-1 ! {DECODER}")
    source, sink = pipeline.get_by_name("in"), pipeline.get_by_name("out")
    pipeline.set_state(Gst.State.PLAYING)
    took, due = [], time.monotonic()
    for n in range(int(seconds * fps)):
        due += 1 / fps
        time.sleep(max(0, due - time.monotonic()))
        buffer = frames[n % len(frames)].copy()
        buffer.pts = n * Gst.SECOND // fps
        begun = now_us()
        source.emit("push-buffer", buffer)
        sample = sink.emit("try-pull-sample", 5 * Gst.SECOND)
        if sample is None:
            raise SystemExit("the encoder or the decoder holds pictures back")
        took.append((now_us() - begun) / 1e3)
    pipeline.set_state(Gst.State.NULL)
    return took[3:]


def watch(url, width, height, seconds):
    pipeline = Gst.parse_launch(f"rtspsrc location={url} protocols=tcp latency=0 ! rtph264depay ! {DECODER}")
    sink = pipeline.get_by_name("out")
    pipeline.set_state(Gst.State.PLAYING)
    took, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        sample = sink.emit("try-pull-sample", Gst.SECOND)
        now = now_us()
        if sample is None:
            continue
        buffer = sample.get_buffer()
        meta = GstVideo.buffer_get_video_meta(buffer)
        found, mapped = buffer.map(Gst.MapFlags.READ)
        at = stamp(mapped.data, meta.stride[0] if meta else width, width)
        buffer.unmap(mapped)
        if at is not None:
            took.append((now - at) / 1e3)
    pipeline.set_state(Gst.State.NULL)
    return took[3:]


def serve(port, raw, width, height, fps, encoder):
    gi.require_version("GstRtspServer", "1.0")
    from gi.repository import GstRtspServer
    server, factory = GstRtspServer.RTSPServer(), GstRtspServer.RTSPMediaFactory()
    server.set_address("127.0.0.1")
    server.set_service(port)
    # The frames are read and paced on a thread of their own, which is not counted, as the drawing of the pattern is not.
    factory.set_launch(
        f"( multifilesrc location={raw} loop=true ! rawvideoparse width={width} height={height} format=i420 framerate={fps}/1 colorimetry=1:4:5:1"
        f" ! identity sync=true ! queue max-size-buffers=2 leaky=downstream ! {encoder} ! h264parse config-interval=-1"
        " ! rtph264pay name=pay0 pt=96 config-interval=0 aggregate-mode=zero-latency )")
    factory.set_shared(True)
    server.get_mount_points().add_factory("/stream", factory)
    server.attach(None)
    print("ready", flush=True)
    GLib.MainLoop().run()


if __name__ == "__main__":
    Gst.init(None)
    mode, *a = sys.argv[1:]
    if mode == "alone":
        print(json.dumps(alone(a[0], int(a[1]), int(a[2]), int(a[3]), float(a[4]), a[5])))
    elif mode == "watch":
        print(json.dumps(watch(a[0], int(a[1]), int(a[2]), float(a[3]))))
    else:
        serve(a[0], a[1], int(a[2]), int(a[3]), int(a[4]), a[5])
