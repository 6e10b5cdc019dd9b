"""File systems that fill, turn read-only, vanish or hang. They are mounted, which needs root."""
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time


def run(*command):
    return subprocess.run(command, capture_output=True).returncode == 0


class Memory:
    """A tmpfs at `at`."""

    def __init__(self, at, mib=64):
        self.at, self.size = at, f"size={mib}m"
        self.mount()

    def mount(self):
        if not run("mount", "-t", "tmpfs", "-o", self.size, "tmpfs", str(self.at)):
            raise NotImplementedError("mounting a tmpfs needs root")

    def remount(self, word):
        # Busy for a moment while somebody writes.
        while not run("mount", "-o", f"remount,{word}", str(self.at)):
            time.sleep(0.01)

    def detach(self):
        run("umount", "-l", str(self.at))

    def fill(self):
        try:
            with open(self.at / "filler", "ab", buffering=0) as f:
                while f.write(b"\x5a" * 65536):
                    pass
        except OSError:
            pass

    def empty(self):
        (self.at / "filler").unlink(missing_ok=True)

    def close(self):
        self.detach()


class Remote:
    """An ext4 behind nbdkit: with that process stopped, the kernel's own reads and writes hang."""

    def __init__(self, at):
        for tool in ("nbdkit", "nbdfuse", "mkfs.ext4"):
            if not shutil.which(tool):
                raise NotImplementedError(f"{tool} is not installed (nbdkit, libnbd-bin, e2fsprogs)")
        self.at, self.dir = at, pathlib.Path(tempfile.mkdtemp(prefix="pastcam-torture-disk-"))
        image, sock, over = self.dir / "image", self.dir / "socket", self.dir / "over"
        over.mkdir()
        with open(image, "wb") as f:
            f.truncate(256 << 20)
        run("mkfs.ext4", "-q", str(image))
        self.server = subprocess.Popen(["nbdkit", "-f", "-U", str(sock), "file", str(image)])
        while not sock.exists():
            time.sleep(0.01)
        self.device = over / "disk"
        self.file = subprocess.Popen(["nbdfuse", str(self.device), "--unix", str(sock)], stderr=subprocess.DEVNULL)
        while not self.device.exists() and self.file.poll() is None:
            time.sleep(0.01)
        if not self.attach():
            self.close()
            raise NotImplementedError("mounting a loop device over FUSE is not allowed here")

    def attach(self):
        return run("mount", "-o", "loop", str(self.device), str(self.at))

    def detach(self):
        run("umount", "-l", str(self.at))

    def hang(self):
        self.server.send_signal(signal.SIGSTOP)

    def go_on(self):
        self.server.send_signal(signal.SIGCONT)

    def close(self):
        self.go_on()
        self.detach()
        for process in (self.file, self.server):
            process.terminate()
            process.wait()
        run("umount", "-l", str(self.device))
        shutil.rmtree(self.dir, ignore_errors=True)
