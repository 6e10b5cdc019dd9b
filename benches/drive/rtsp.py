"""A viewer over RTSP and TCP that decodes nothing: it tells when the first key frame came and reads on."""
import socket
import struct
import threading
import time


class Viewer:
    """Playing from the first key frame on. With `udp` the pictures come over UDP; without `drain` nothing more is read."""

    def __init__(self, port, udp=False, drain=True):
        self.udp = []
        self.began = time.monotonic()
        self.url = f"rtsp://127.0.0.1:{port}/stream"
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self.bytes, self.asked, self.session = b"", 0, None
        self._ask("DESCRIBE", self.url, "Accept: application/sdp\r\n")
        way = "RTP/AVP/TCP;unicast;interleaved=0-1"
        if udp:
            self.udp = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
            for one in self.udp:
                one.bind(("127.0.0.1", 0))
                one.settimeout(30)
            way = "RTP/AVP;unicast;client_port=" + "-".join(str(one.getsockname()[1]) for one in self.udp)
        self._ask("SETUP", self.url + "/stream=0", f"Transport: {way}\r\n")
        self._ask("PLAY", self.url, "Range: npt=now-\r\n")
        while not self._is_key((0, self.udp[0].recv(65536)) if udp else self._packet()):
            pass
        self.first_ms = (time.monotonic() - self.began) * 1e3
        # The longest time between two pieces of the stream.
        self.worst_s, self.last = 0, time.monotonic()
        if drain and not udp:
            threading.Thread(target=self._drain, daemon=True).start()

    def _more(self):
        got = self.socket.recv(65536)
        if not got:
            raise RuntimeError("the server closed the connection")
        self.bytes += got

    def _take(self, n):
        while len(self.bytes) < n:
            self._more()
        taken, self.bytes = self.bytes[:n], self.bytes[n:]
        return taken

    def _packet(self):
        head = self._take(4)
        return head[1], self._take(struct.unpack(">H", head[2:])[0])

    @staticmethod
    def _is_key(packet):
        channel, p = packet
        kind = [b & 31 for b in p[12:14]]
        return channel == 0 and len(kind) == 2 and (kind[0] == 5 or kind == [28, 5])

    def _ask(self, method, url, more):
        self.asked += 1
        session = f"Session: {self.session}\r\n" if self.session else ""
        self.socket.sendall(f"{method} {url} RTSP/1.0\r\nCSeq: {self.asked}\r\n{session}{more}\r\n".encode())
        while True:
            while not self.bytes:
                self._more()
            if self.bytes[:1] != b"$":
                break
            self._packet()
        while b"\r\n\r\n" not in self.bytes:
            self._more()
        head, self.bytes = self.bytes.split(b"\r\n\r\n", 1)
        lines = head.decode().split("\r\n")
        if " 200 " not in lines[0]:
            raise RuntimeError(f"{method}: {lines[0]}")
        fields = {k.lower(): v.strip() for k, v in (line.split(":", 1) for line in lines[1:])}
        self.session = fields.get("session", self.session or "").split(";")[0]
        self._take(int(fields.get("content-length", 0)))

    def _drain(self):
        try:
            while self.socket.recv(65536):
                now = time.monotonic()
                self.worst_s, self.last = max(self.worst_s, now - self.last), now
        except OSError:
            pass

    def close(self):
        try:
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.socket.close()

    def vanish(self):
        """Gone with a reset, and its UDP ports with it."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        for one in (self.socket, *self.udp):
            one.close()
