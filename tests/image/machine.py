"""A board in QEMU, from power-on to power-cut, and what can be asked of it from outside.

Owns the QEMU process and its serial lines. Power-off is SIGKILL: what the guest has not yet given to the card is lost, and a write
of several sectors may end after any of them, as with a real card (QEMU's SD card takes sector by sector and has no cache of its own).
The program's ports are reached through QEMU's user network on 127.0.0.1."""

import re
import select
import socket
import subprocess
import threading
import time
from pathlib import Path


class Failed(Exception):
    """The board did not do what it must; the reason."""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Machine:
    """One boot of a board with a card. `start` is QEMU's command line without its serial lines, with {card} and {port} in it."""

    def __init__(self, start, card, logs, name):
        self.port = free_port()
        self.serial = Path(logs) / f"{name}.serial"
        self.serial.unlink(missing_ok=True)
        command = [*(str(word).replace("{card}", str(card.path)).replace("{port}", str(self.port)) for word in start), "-display", "none", "-monitor", "none",
                   # Both lines into one file: U-Boot and the kernel do not always agree on which is theirs.
                   "-chardev", f"file,id=line0,path={self.serial},append=on", "-chardev", f"file,id=line1,path={self.serial},append=on",
                   "-serial", "chardev:line0", "-serial", "chardev:line1"]
        self.begin = time.monotonic()
        self.errors = open(Path(logs) / f"{name}.qemu", "wb")
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.errors, stderr=self.errors)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.cut()

    def cut(self):
        """Power off, now."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.errors.close()

    def console(self):
        return self.serial.read_text(errors="replace") if self.serial.exists() else ""

    def seconds(self):
        return time.monotonic() - self.begin

    def wait_console(self, pattern, limit):
        """Until the serial line has said it; the match. It is searched from the power-on."""
        end = time.monotonic() + limit
        while time.monotonic() < end:
            found = re.search(pattern, self.console())
            if found:
                return found
            if self.process.poll() is not None:
                break
            time.sleep(0.2)
        raise Failed(f"the serial line did not say {pattern!r} within {limit} s; it is in {self.serial}")

    def ask(self, line, limit=30.0):
        """One line to the program; its answer, or None where none came."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=limit) as link:
                link.settimeout(limit)
                link.sendall(line.encode() + b"\n")
                answer = b""
                while not answer.endswith(b"\n"):
                    some = link.recv(65536)
                    if not some:
                        break
                    answer += some
        except OSError:
            return None
        return answer.decode(errors="replace").rstrip("\n") if answer.endswith(b"\n") else None

    def until(self, line, good, limit):
        """Asks again and again until an answer is good; that answer."""
        end, last = time.monotonic() + limit, None
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise Failed(f"QEMU has ended; see {self.errors.name}")
            # QEMU takes the connection before the board does: a short wait, so that the first real answer is not missed by long.
            answer = self.ask(line, 5.0)
            if answer is not None:
                last = answer
                if good(answer):
                    return answer
            time.sleep(0.2)
        raise Failed(f"{line!r} was not answered as it must within {limit:.0f} s; the last answer was {last!r}; the serial line is in {self.serial}")

    def send_file(self, head, data, limit):
        """A line and a file on one connection (the update verb); the answer."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=limit) as link:
            link.settimeout(limit)
            link.sendall(head.encode() + b"\n")
            # The refusal of a file may come before the whole of it was sent.
            view, answer = memoryview(data), b""
            while view and not answer.endswith(b"\n"):
                readable, writable, _ = select.select([link], [link], [], limit)
                if readable:
                    some = link.recv(65536)
                    if not some:
                        break
                    answer += some
                if writable:
                    view = view[link.send(view[:65536]):]
            while not answer.endswith(b"\n"):
                some = link.recv(65536)
                if not some:
                    break
                answer += some
        return answer.decode(errors="replace").rstrip("\n")


class Storm:
    """Clients that ask for pictures as fast as they are answered, until they are stopped; remembers what was acknowledged."""

    def __init__(self, machine, lines):
        self.machine, self.lines = machine, lines
        self.saved, self.going = [], True
        self.threads = [threading.Thread(target=self.run, args=(number,)) for number in range(len(lines))]
        for thread in self.threads:
            thread.start()

    def run(self, number):
        while self.going:
            answer = self.machine.ask(self.lines[number], 20.0)
            if answer is None:
                if self.machine.process.poll() is not None:
                    return
                time.sleep(0.1)
                continue
            for path in re.findall(r"image: (\S+)", answer):
                self.saved.append(path)

    def end(self):
        self.going = False
        for thread in self.threads:
            thread.join()
        return list(self.saved)
