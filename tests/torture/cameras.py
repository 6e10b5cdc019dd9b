"""Small HTTP cameras with faults. Their pictures are a pastcam's own."""
import socket
import threading
import time


class Camera:
    """Listens on `port`; `serve(connection, number)` answers the request with that number. `down` lets it refuse everybody."""

    def __init__(self, port, serve):
        self.port, self.serve, self.requests, self.connections, self.on = port, serve, 0, 0, True
        self.listener = socket.create_server(("127.0.0.1", port), backlog=50)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while self.on:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection):
        buffered = b""
        try:
            while self.on:
                while b"\r\n\r\n" not in buffered:
                    chunk = connection.recv(65536)
                    if not chunk:
                        return
                    buffered += chunk
                _, buffered = buffered.split(b"\r\n\r\n", 1)
                self.requests += 1
                if self.serve(connection, self.requests) == "close":
                    return
        except OSError:
            pass
        finally:
            connection.close()

    def close(self):
        self.on = False
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


def answer(connection, body, code="200 OK", kind="image/jpeg"):
    connection.sendall(f"HTTP/1.1 {code}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)


def stills(pictures, bad=None):
    """One picture a request; `bad(number)` returns the bytes of another body, a (code, body), or None for a picture."""
    def serve(connection, number):
        other = bad(number) if bad else None
        if other is None:
            answer(connection, pictures[number % len(pictures)])
        elif isinstance(other, tuple):
            answer(connection, other[1], other[0], "text/plain")
        else:
            answer(connection, other)
    return serve


def mjpeg(pictures, fps=10, closes_after=None, then=None):
    """Pictures without end, or so many; `then(connection)` is sent after those."""
    def serve(connection, _):
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=part\r\n\r\n")
        begun, n = time.monotonic(), 0
        while closes_after is None or n < closes_after:
            picture = pictures[n % len(pictures)]
            connection.sendall(b"--part\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(picture) + picture + b"\r\n")
            n += 1
            time.sleep(max(0, begun + n / fps - time.monotonic()))
        if then:
            then(connection)
        return "close"
    return serve


def endless(connection, mib=400):
    """A part that never ends, or for so many MiB."""
    connection.sendall(b"--part\r\nContent-Type: image/jpeg\r\n\r\n\xff\xd8\xff\xda\x00\x02")
    block = b"\x55" * (1 << 20)
    for _ in range(mib):
        connection.sendall(block)
