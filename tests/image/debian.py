"""Debian's packages for another processor, without touching this machine's own package system.

Owns a private apt (its lists, its archive, its idea that nothing is installed) under the cache folder, and the folders that
packages are unpacked into with `dpkg-deb -x`. Never runs a package's scripts and never installs anything on this machine. The
mirror is the one this machine's apt uses, or PASTCAM_MIRROR. What is fetched is checked by apt against Debian's signed lists."""

import hashlib
import os
import re
import subprocess
import time
import urllib.request
from pathlib import Path

SUITE = "trixie"
SOURCES = ("trixie", "sid")  # where sources are looked for; sid has RAUC as new as Buildroot's
WEEK_S = 7 * 86400


class Skip(Exception):
    """This machine cannot do it; the reason."""


def mirror():
    """The address of the Debian mirror that this machine uses."""
    if os.environ.get("PASTCAM_MIRROR"):
        return os.environ["PASTCAM_MIRROR"]
    facts = dict(line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line)
    here = facts.get("VERSION_CODENAME", "").strip('"')
    if facts.get("ID", "").strip('"') == "debian":
        said = subprocess.run(["apt-get", "indextargets", "--format", "$(REPO_URI) $(CODENAME)", "Created-By: Packages"],
                              capture_output=True, text=True)
        for line in said.stdout.splitlines():
            uri, _, codename = line.rpartition(" ")
            if codename == here:
                return uri
    raise Skip("no Debian mirror known; set PASTCAM_MIRROR")


class Apt:
    """A private apt for one processor (`arm64`, `armel`)."""

    def __init__(self, cache, arch):
        self.arch = arch
        self.home = Path(cache) / f"apt-{arch}"
        for part in ("lists/partial", "cache/archives/partial"):
            (self.home / part).mkdir(parents=True, exist_ok=True)
        (self.home / "status").touch()
        key = "/usr/share/keyrings/debian-archive-keyring.gpg"
        if not Path(key).exists():
            raise Skip("the package debian-archive-keyring is missing")
        where = mirror()
        lines = [f"deb [arch={arch} signed-by={key}] {where} {SUITE} main"]
        lines += [f"deb-src [signed-by={key}] {where} {suite} main" for suite in SOURCES]
        self.list = self.home / "sources.list"
        if not self.list.exists() or self.list.read_text().split() != " ".join(lines).split():
            self.list.write_text("\n".join(lines) + "\n")
            (self.home / "updated").unlink(missing_ok=True)
        self.update()

    def run(self, tool, *words, cwd=None):
        """Runs apt-get or apt-cache of this private apt; its output as text."""
        options = {
            "Dir::Etc::sourcelist": self.list, "Dir::Etc::sourceparts": "/dev/null", "Dir::State::lists": self.home / "lists",
            "Dir::State::status": self.home / "status", "Dir::Cache": self.home / "cache", "APT::Architecture": self.arch,
            "APT::Architectures": self.arch, "APT::Sandbox::User": "root", "APT::Install-Recommends": "false",
            "Acquire::Languages": "none", "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled": "false",
            "Acquire::Check-Valid-Until": "false",  # a mirror may be a snapshot of some weeks ago; it is signed all the same
        }
        given = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        done = subprocess.run([tool, *given, *words], cwd=cwd, capture_output=True, text=True)
        if done.returncode != 0:
            last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
            raise Skip(f"{tool} {words[0]} for {self.arch} failed: {' '.join(last)}")
        return done.stdout

    def update(self):
        """Fetches the lists unless they are of this week."""
        stamp = self.home / "updated"
        if not stamp.exists() or time.time() - stamp.stat().st_mtime > WEEK_S:
            self.run("apt-get", "update", "-qq")
            stamp.touch()

    def depends(self, package):
        """What a meta-package such as linux-image-arm64 stands for."""
        said = self.run("apt-cache", "depends", package)
        return re.search(r"Depends: (\S+)", said)[1].split(":")[0]

    def unpack(self, folder, packages, closure=True):
        """Unpacks packages, by default with all they depend on, into `folder`; a folder of the same packages is left as it is."""
        folder = Path(folder)
        words = ["install", "-y", *packages] if closure else ["download", *packages]
        wanted = [line.split() for line in self.run("apt-get", "--print-uris", *words).splitlines() if line.startswith("'")]
        key = hashlib.sha256("\n".join(sorted(line[1] for line in wanted)).encode()).hexdigest()
        stamp = folder / ".packages"
        if stamp.exists() and stamp.read_text() == key:
            return folder
        archive = self.home / "cache" / "archives"
        if closure:
            self.run("apt-get", "-qq", "--download-only", *words)
        else:
            self.run("apt-get", "-qq", *words, cwd=archive)
        subprocess.run(["rm", "-rf", folder], check=True)
        folder.mkdir(parents=True)
        # As on any Debian since 12: /bin and its like are links, so that a package of either layout finds its place.
        for name in ("bin", "sbin", "lib"):
            (folder / "usr" / name).mkdir(parents=True)
            (folder / name).symlink_to(f"usr/{name}")
        for _, name, *_ in wanted:
            unpacked = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", archive / name], stdout=subprocess.PIPE)
            subprocess.run(["tar", "-C", folder, "-x", "--keep-directory-symlink", "--exclude=./usr/share/doc", "--exclude=./usr/share/man",
                            "--exclude=./usr/share/locale", "--exclude=./usr/share/icons"], stdin=unpacked.stdout, check=True)
            if unpacked.wait() != 0:
                raise RuntimeError(f"dpkg-deb cannot read {name}")
            (archive / name).unlink()  # unpacked once is enough
        stamp.write_text(key)
        return folder

    def source(self, folder, package):
        """The newest upstream source of a package, unpacked: the original tarball, checked against Debian's list; Debian's patches are
        not applied. (`apt-get source` wants the .dsc too, which a snapshot may lack.) Gives folder and upstream version."""
        folder = Path(folder)
        best = None
        for record in self.run("apt-cache", "showsrc", package).split("\n\n"):
            fields = dict(re.findall(r"^(Package|Version|Directory): (.*)$", record, re.M))
            original = re.search(r"^ ([0-9a-f]{64}) \d+ (\S+\.orig\.tar\.\w+)$", record, re.M)
            if fields.get("Package") != package or not original:
                continue
            if best is None or subprocess.run(["dpkg", "--compare-versions", fields["Version"], "gt", best[0]]).returncode == 0:
                best = (fields["Version"], fields["Directory"], original[2], original[1])
        if best is None:
            raise Skip(f"no source of {package} in Debian's lists")
        version, directory, name, digest = best
        upstream = re.sub(r"^\d+:|[+]dfsg.*|-[^-]*$", "", version)
        target = folder / f"{package}-{upstream}"
        if (target / ".whole").exists():
            return target, upstream
        folder.mkdir(parents=True, exist_ok=True)
        tarball = folder / name
        try:
            with urllib.request.urlopen(f"{mirror().rstrip('/')}/{directory}/{name}", timeout=60) as answer:
                tarball.write_bytes(answer.read())
        except OSError as why:
            raise Skip(f"the source {name} cannot be fetched: {why}") from why
        if hashlib.sha256(tarball.read_bytes()).hexdigest() != digest:
            raise RuntimeError(f"{name} is not what Debian's signed list says")
        subprocess.run(["rm", "-rf", target], check=True)
        target.mkdir()
        subprocess.run(["tar", "-C", target, "-xf", tarball, "--strip-components=1"], check=True)
        tarball.unlink()
        (target / ".whole").touch()
        return target, upstream
