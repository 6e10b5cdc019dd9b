"""What an image must do, step by step, on an emulated board: each step begins with the card the one before left.

Owns the judgement. A step ends on what it waits for; its limit is only for a board that never gets there. What a picture holds is
judged by a decoder of this machine, from the card after the power was cut."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import card as cards
from machine import Failed, Machine, Storm

TOKEN = "river-stone-42"
CONFIG = {"camera": {"source": "pattern", "width": 320, "height": 240, "framerate": 4}, "ring": {"size": 40}, "network": {"token": TOKEN},
          "export": {"save_before_s": 1.0, "auto_save_interval_s": 0}}
# Longest wait for an answer after power-on [s of this machine]: ten times what a calm machine needs.
BOOT = 600
CUTS = 10


def demand(good, reason):
    if not good:
        raise Failed(reason)


def notes(machine):
    answer = machine.ask(f"status json token={TOKEN}")
    return json.loads(answer).get("notes", []) if answer and answer.startswith("{") else None


def healthy(machine, limit=BOOT):
    """Waits for the first health; how long it took since power-on [s] and the guest's own time since its kernel began [s]."""
    machine.until(f"health token={TOKEN}", lambda answer: answer.startswith("RSS="), limit)
    return machine.seconds()


def decodes(path):
    """Whether a picture can be decoded from its first byte to its last without a complaint; else the complaint."""
    said = subprocess.run(["ffmpeg", "-v", "error", "-xerror", "-i", path, "-f", "null", "-"], capture_output=True, text=True)
    if said.returncode != 0 or said.stderr:
        return (said.stderr.strip().splitlines() or ["the decoder gave up"])[0]
    # A decoder forgives a picture whose last rows are missing; the file's own end does not.
    end = path.read_bytes()[-12:]
    whole = end.endswith(b"\xff\xd9") if path.suffix == ".jpg" else b"IEND" in end
    return None if whole else "its end is missing"


class Suite:
    """The steps, and what they share."""

    def __init__(self, board, work, report):
        self.board, self.work, self.report = board, Path(work), report
        self.card = cards.Card.new(self.work / "card.img", board["image"])
        self.config = {part: {key: value for key, value in {**keys, **board.get("config", {}).get(part, {})}.items() if value is not None}
                       for part, keys in CONFIG.items()}
        self.card.put("config.json", json.dumps(self.config).encode())
        self.boots = 0
        self.pictures = []  # acknowledged, by their paths on the board
        self.boot_seconds = None

    def power(self):
        self.boots += 1
        return Machine(self.board["start"], self.card, self.work, f"boot-{self.boots}")

    def look(self, card, acknowledged):
        """Every picture under its final name is whole, every acknowledged one is there; how many there are."""
        folder = self.work / "data"
        code, said = card.data(folder)
        demand(code in (0, 1), f"e2fsck -p of the data partition ended with {code}: {said}")
        pictures = sorted(path for path in (folder / "captures").glob("*") if path.suffix in (".jpg", ".png") and not path.name.startswith(".") and not path.is_symlink())
        for path in pictures:
            why = decodes(path)
            demand(why is None, f"{path.name} lies on the card under its final name and is not whole: {why}")
        names = {path.name for path in pictures}
        lost = [path for path in acknowledged if Path(path).name not in names]
        demand(not lost, f"{len(lost)} of {len(acknowledged)} acknowledged pictures are not on the card: {lost[:3]}")
        return len(pictures)

    def environment(self, **wanted):
        found = self.card.environment()
        demand(found is not None, "U-Boot's environment is in neither place")
        for name, value in wanted.items():
            demand(found.get(name) == value, f"{name} is {found.get(name)!r} in U-Boot's environment, not {value!r}")

    # The steps

    def first_boot(self):
        """Boots a fresh card to the first health, saves, grows its data partition, gives its try back."""
        with self.power() as board:
            took = self.boot_seconds = healthy(board)
            up = re.findall(r"\[ *(\d+\.\d+)\]", board.console())[-1:]
            self.report.figure(f"power-on to the first health: {took:.0f} s of this machine, U-Boot's share included; kernel's own time about {up[0] if up else '?'} s")
            # Before the first frame there is nothing to save.
            answer = board.until(f"save jpg token={TOKEN}", lambda said: said.startswith("Saved"), 120)
            self.pictures.append(re.search(r"image: (\S+)", answer)[1])
            answer = board.until(f"pastStack png token={TOKEN}", lambda said: said.startswith("Saved"), 120)
            self.pictures.append(re.search(r"image: (\S+)", answer)[1])
            board.until(f"status token={TOKEN}", lambda said: "state=RUNNING" in said, 60)
            self.settled(board, BOOT_A_LEFT="3")
            self.seen_in_report(board, b"slot:        A")
        self.environment(BOOT_ORDER="A B", BOOT_A_LEFT="3", BOOT_B_LEFT="3")
        begin, length = self.card.partition(4)
        demand(begin + length > cards.CARD_BYTES - (8 << 20), f"the data partition ends at {begin + length} on a card of {cards.CARD_BYTES} bytes")
        self.look(self.card, self.pictures)
        blocks = subprocess.run(["debugfs", "-R", "stats -h", f"{self.card.path}?offset={begin}"], capture_output=True, text=True).stdout
        size = int(re.search(r"Block count:\s+(\d+)", blocks)[1]) * int(re.search(r"Block size:\s+(\d+)", blocks)[1])
        demand(size > length - (8 << 20), f"the file system has {size} bytes in a partition of {length}")

    def second_boot(self):
        """Boots the same card again: U-Boot goes on from the environment it saved, counts on, saves a picture, gives the tries back."""
        # One try less than the first boot left, so that an environment that was not read shows.
        self.card.set_environment({**self.card.environment(), "BOOT_A_LEFT": "2"})
        with self.power() as board:
            board.wait_console("pastcam: root A, 1 tries left", 120)
            healthy(board)
            answer = board.until(f"save jpg token={TOKEN}", lambda said: said.startswith("Saved"), 120)
            self.pictures.append(re.search(r"image: (\S+)", answer)[1])
            self.settled(board, BOOT_A_LEFT="3")
        self.environment(BOOT_ORDER="A B", BOOT_A_LEFT="3", BOOT_B_LEFT="3")
        self.look(self.card, self.pictures)

    def pinned_tree(self):
        """With the serial line as the pinned kernel's device tree names it U-Boot gets as far as the card."""
        card = self.card.copy(self.work / "pinned.img")
        with Machine(self.board["start_pinned"], card, self.work, "pinned") as board:
            # On whichever line: the firmware has not switched this one on here.
            board.wait_console(r"MMC: +mmc@", 120)
        card.path.unlink()

    def settled(self, board, **wanted):
        """Waits until the running board has written these variables of U-Boot."""
        end = time.monotonic() + 180
        while time.monotonic() < end:
            found = self.card.environment() or {}
            if all(found.get(name) == value for name, value in wanted.items()):
                return
            demand(board.process.poll() is None, "QEMU has ended")
            time.sleep(0.5)
        raise Failed(f"U-Boot's environment never came to {wanted}; it holds {self.card.environment()}")

    def power_cuts(self):
        """A storm of saves; the card as it is at ten random moments of it, which is what a cut leaves."""
        with self.power() as board:
            healthy(board)
            board.until(f"save jpg token={TOKEN}", lambda said: said.startswith("Saved"), 120)
            storm = Storm(board, [f"save jpg token={TOKEN}", f"save png token={TOKEN}", f"pastStack jpg png before=1 count=2 token={TOKEN}"])
            moments = []
            try:
                while len(moments) < CUTS - 1:
                    time.sleep(random.uniform(0.5, 3.0))
                    acknowledged = list(storm.saved)
                    board.process.send_signal(signal.SIGSTOP)
                    copy = self.card.copy(self.work / f"cut-{len(moments)}.img")
                    board.process.send_signal(signal.SIGCONT)
                    moments.append((copy, acknowledged))
                time.sleep(random.uniform(0.5, 3.0))
                acknowledged = list(storm.saved)
                board.cut()
            finally:
                board.process.send_signal(signal.SIGCONT) if board.process.poll() is None else None
                storm.going = False
                board.cut()
                storm.end()
        self.pictures += acknowledged
        moments.append((self.card, acknowledged))
        demand(len(acknowledged) >= CUTS, f"only {len(acknowledged)} pictures were saved in the storm")
        counts = []
        for copy, acknowledged in moments:
            counts.append(self.look(copy, acknowledged))
            if copy is not self.card:
                copy.path.unlink()
        self.report.figure(f"pictures on the card at the ten moments: {' '.join(map(str, counts))}, all whole; {len(acknowledged)} acknowledged, none missing")

    def broken_settings(self):
        """A config.json that is no JSON, and a host name that is none: the board runs with what was good before, and says why."""
        self.card.put("config.json", b'{"camera": {"width": 320,\n')
        self.card.put("hostname", b"not a host name!\n")
        with self.power() as board:
            # The old token still counts: the last good settings are in force.
            healthy(board)
            told = notes(board)
            demand(told and any("config.json" in note for note in told), f"status json does not name config.json: {told}")
            answer = board.ask(f"status token={TOKEN}")
            demand("notes=" in answer, f"status has no notes: {answer}")
            deadline = time.monotonic() + 180
            while not (report := self.card.get("PASTCAM-REPORT.TXT") or b"").count(b"config.json"):
                demand(time.monotonic() < deadline, f"the report on the FAT partition does not name config.json: {report!r}")
                time.sleep(1)
        demand(b"hostname" in report, f"the report does not name the host name: {report!r}")
        self.card.put("config.json", json.dumps(self.config).encode())
        self.card.fat("mdel", "::hostname")
        self.look(self.card, self.pictures)

    def wrong_signature(self, board):
        """An update signed by a stranger, and one for another board, are refused; the running slot stays."""
        for name, why in (("stranger", "signature"), ("other", "ompatible")):
            before = self.card.environment()
            answer = board.send_file(f"update {self.board[name].stat().st_size} token={TOKEN}", self.board[name].read_bytes(), 600)
            demand(answer.startswith("ERR update") and why in answer, f"the update '{name}' was answered with {answer!r}")
            self.report.figure(f"{name}: {answer}")
            after = self.card.environment()
            demand(all(before.get(key) == after.get(key) for key in ("BOOT_ORDER", "BOOT_A_LEFT", "BOOT_B_LEFT")), f"U-Boot's environment changed: {before} {after}")

    def good_update(self):
        """Over the network: refused ones first, then a good one, which boots, proves itself, and keeps pictures and settings."""
        with self.power() as board:
            healthy(board)
            self.settled(board, BOOT_A_LEFT="3")
            self.wrong_signature(board)
            begin = time.monotonic()
            answer = board.send_file(f"update {self.board['good'].stat().st_size} token={TOKEN}", self.board["good"].read_bytes(), 900)
            demand(answer.startswith("OK update"), f"the good update was answered with {answer!r}")
            self.report.figure(f"{answer} ({time.monotonic() - begin:.0f} s for {self.board['good'].stat().st_size >> 20} MiB)")
            board.wait_console("pastcam: root B, 2 tries left", 120)
            board.until(f"health token={TOKEN}", lambda said: said.startswith("RSS="), BOOT)
            self.settled(board, BOOT_ORDER="B A", BOOT_B_LEFT="3")
            board.until(f"save jpg token={TOKEN}", lambda said: said.startswith("Saved"), 120)
            self.seen_in_report(board, b"is good in slot B")
        self.environment(BOOT_ORDER="B A", BOOT_B_LEFT="3")
        self.look(self.card, self.pictures)

    def seen_in_report(self, board, words, limit=180):
        deadline = time.monotonic() + limit
        while words not in (report := self.card.get("PASTCAM-REPORT.TXT") or b""):
            demand(time.monotonic() < deadline and board.process.poll() is None, f"the report on the FAT partition does not say {words!r}: {report!r}")
            time.sleep(1)
        return report

    def kernel_that_does_not_boot(self):
        """From the FAT partition: the new slot's kernel is no kernel; the boot loader goes on with the old slot at once."""
        self.card.put("dead.raucb", self.board["dead_kernel"].read_bytes())
        with self.power() as board:
            # Behind the boot that installs it.
            board.wait_console(r"(?s)pastcam: root A, 2 tries left.*pastcam: root A does not start.*pastcam: root B, 2 tries left", BOOT)
            report = self.seen_in_report(board, b"did not prove itself in slot A", BOOT)
            healthy(board)
            self.settled(board, BOOT_B_LEFT="3")
        self.card.fat("mdel", "::dead.raucb")
        self.report.figure(re.search(rb"last update: (.*)\r", report)[1].decode())
        self.look(self.card, self.pictures)

    def program_that_does_not_run(self):
        """From the FAT partition: the new slot boots, but its program never answers; after three tries the old one runs again."""
        self.card.put("mute.raucb", self.board["mute"].read_bytes())
        with self.power() as board:
            tries = "".join(f".*pastcam: root A, {left} tries left" for left in (2, 1, 0))
            board.wait_console(f"(?s){tries}.*pastcam: root B, 2 tries left", 4 * BOOT)
            self.seen_in_report(board, b"did not prove itself in slot A", BOOT)
            board.until(f"health token={TOKEN}", lambda said: said.startswith("RSS="), BOOT)
            told = notes(board)
            demand(told and any("did not prove itself" in note for note in told), f"status json does not tell of the update: {told}")
            self.settled(board, BOOT_B_LEFT="3")
        self.card.fat("mdel", "::mute.raucb")
        self.look(self.card, self.pictures)

    def cut_while_updating(self):
        """The power goes while an update is written: the slot that ran boots again, and the update can be sent anew."""
        with self.power() as board:
            healthy(board)
            self.settled(board, BOOT_B_LEFT="3")
            spare, length = self.card.partition(2)
            before = self.sample(spare, length)
            data = self.board["good"].read_bytes()
            import threading
            sender = threading.Thread(target=lambda: self.quietly(board, data))
            sender.start()
            # RAUC has begun to write when the spare slot changes.
            deadline = time.monotonic() + 900
            while self.sample(spare, length) == before:
                demand(time.monotonic() < deadline and board.process.poll() is None, "RAUC never wrote to the spare slot")
                time.sleep(0.05)
            time.sleep(random.uniform(0, 2))
            board.cut()
            sender.join()
        with self.power() as board:
            board.wait_console("pastcam: root B, 2 tries left", 120)
            healthy(board)
            demand("root A" not in board.console(), "the half-written root was tried")
        self.look(self.card, self.pictures)

    def quietly(self, board, data):
        try:
            board.send_file(f"update {len(data)} token={TOKEN}", data, 900)
        except OSError:
            pass  # cut off, as meant

    def sample(self, begin, length):
        """Some bytes of each MiB of a partition."""
        with open(self.card.path, "rb") as disk:
            return b"".join(os.pread(disk.fileno(), 64, begin + place) for place in range(0, length, 1 << 20))

    def nothing_left(self):
        """Both roots have lost their tries: they get three again and the board boots, with a count."""
        # As the third failure of the second root leaves it; written the way fw_setenv does.
        found = self.card.environment()
        found.update(BOOT_A_LEFT="0", BOOT_B_LEFT="0")
        self.card.set_environment(found)
        with self.power() as board:
            board.wait_console("both get three tries again", 120)
            healthy(board)
            told = notes(board)
            demand(told and any("neither slot had a try left" in note for note in told), f"status json does not tell of it: {told}")
            self.settled(board, BOOT_A_LEFT="3", BOOT_ROUNDS=None)
        demand("pastcam.rounds=1" in board.console(), "the kernel was not told of the round")
