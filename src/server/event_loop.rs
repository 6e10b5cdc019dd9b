//! Owns the listeners and every connection: waits for all of them with one `poll`, hands lines over, sends answers, keeps
//! the limits. Never runs a slow command itself. Thread `server`; what bounds its wait is the nearest deadline.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use log::{debug, error, info, warn};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::answer::{Answer, Wire};
use super::conn::{Conn, Phase, Subscription};
use super::line::{Framer, Item, LINE_MAX, Rules};
use super::reply::{Message, Reply, Target};
use super::{Channel, Handler, Request, Settings, Shared};
use crate::clock::{BootUs, Clock, SystemClock};
use crate::error::Kind;
use crate::logging::Tally;
use crate::net::{AllowList, Slowdown};
use crate::threads::{self, Thread};
use crate::verbs::{self, Verb};

/// Connections taken per turn, so that those already here are read in between.
const ACCEPTS: usize = 64;
/// Datagrams taken per turn.
const DATAGRAMS: usize = 32;
/// Bytes taken per read; eight of the longest lines.
const READ: usize = 8 * LINE_MAX;
/// Pause of accepting when descriptors or memory have run out and no idle connection can make room.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Datagrams being worked on at once.
const DATAGRAMS_BUSY: usize = 64;
/// Longest delay of a refusal: shorter than the patience of a client that only has a wrong token.
const DENIED_LATE: Duration = Duration::from_secs(2);
/// Refusals held back at once, of one address and in all. Beyond, a connection is closed without an answer.
const HELD_BACK_PER_ADDRESS: usize = 8;
const HELD_BACK: usize = 64;
/// Without a shortage of descriptors for so long, clients are accepted again.
const SHORT_OVER: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy)]
enum Source {
    Bell,
    Listener(usize),
    Datagrams(usize),
    Connection(u64),
}

pub(super) struct EventLoop {
    handler: Arc<dyn Handler>,
    shared: Arc<Shared>,
    settings: Settings,
    allow: Arc<AllowList>,
    listeners: Vec<(TcpListener, Channel)>,
    datagrams: Vec<UdpSocket>,
    /// By number, which grows: the first is the oldest.
    conns: BTreeMap<u64, Conn>,
    /// Connections that may be able to go on.
    todo: VecDeque<u64>,
    mail: VecDeque<Message>,
    ready: Vec<(Source, PollFlags)>,
    buffer: Vec<u8>,
    accept_paused: Option<BootUs>,
    /// When accepting failed last for want of descriptors or memory.
    short: Option<BootUs>,
    /// A silent connection has come or has come of age.
    crowded: bool,
    datagrams_busy: usize,
    refused: Tally,
    /// Strangers and wrong tokens.
    slowdown: Slowdown,
    /// Once stopping: when the grace is over.
    stop_at: Option<BootUs>,
}

fn now() -> BootUs {
    SystemClock.boot()
}

impl EventLoop {
    pub(super) fn new(
        settings: Settings,
        handler: Arc<dyn Handler>,
        shared: Arc<Shared>,
        listeners: Vec<(TcpListener, Channel)>,
        datagrams: Vec<UdpSocket>,
    ) -> Self {
        EventLoop {
            handler,
            allow: shared.allow(),
            shared,
            settings,
            listeners,
            datagrams,
            conns: BTreeMap::new(),
            todo: VecDeque::new(),
            mail: VecDeque::new(),
            ready: Vec::new(),
            buffer: vec![0; READ],
            accept_paused: None,
            short: None,
            crowded: false,
            datagrams_busy: 0,
            refused: Tally::default(),
            slowdown: Slowdown::default(),
            stop_at: None,
        }
    }

    /// Serves until the stop. Called again after a panic, it has lost its clients and goes on with the ports.
    pub(super) fn run(&mut self) {
        self.shared.mailbox.read_by(Some(std::thread::current().id()));
        (self.conns, self.todo, self.ready) = Default::default();
        self.datagrams_busy = 0;
        loop {
            self.obey();
            self.work();
            self.show();
            if self.stop_at.is_some_and(|at| now() >= at || (self.conns.is_empty() && self.datagrams_busy == 0)) {
                break;
            }
            Thread::Server.rests();
            self.wait();
            Thread::Server.works();
            threads::fault("work");
            let ready = std::mem::take(&mut self.ready);
            for &(source, flags) in &ready {
                match source {
                    // Only the counter is read; the messages are fetched in `work`.
                    Source::Bell => drop(self.shared.mailbox.bell.read()),
                    Source::Connection(id) => self.serve(id, flags),
                    Source::Datagrams(i) => self.receive(i),
                    // Last in the list: whoever has sent something by now is no longer silent when room is needed.
                    Source::Listener(i) => self.accept(i),
                }
            }
            self.ready = ready;
            // After the reads: a line whose end is here already must not be taken for one that fell silent, however late
            // this thread got its turn.
            self.tick();
            self.make_room();
        }
        self.conns.clear();
        self.show();
        self.shared.mailbox.read_by(None);
    }

    /// Waits for the next event or deadline and lists what is ready.
    fn wait(&mut self) {
        self.ready.clear();
        let grace = self.settings.limits.silent_grace;
        let mut due = self.stop_at.into_iter().chain(self.accept_paused).min();
        let mut sources = Vec::with_capacity(self.conns.len() + self.listeners.len() + self.datagrams.len() + 1);
        let mut fds = Vec::with_capacity(sources.capacity());
        let mut add = |source, fd, wanted| {
            sources.push(source);
            fds.push(PollFd::new(fd, wanted));
        };
        add(Source::Bell, self.shared.mailbox.bell.as_fd(), PollFlags::POLLIN);
        for (&id, conn) in &self.conns {
            due = due.into_iter().chain(conn.deadline(grace)).min();
            if let Some((stream, wanted)) = conn.interest() {
                add(Source::Connection(id), stream.as_fd(), wanted);
            }
        }
        if self.stop_at.is_none() {
            for (i, socket) in self.datagrams.iter().enumerate() {
                add(Source::Datagrams(i), socket.as_fd(), PollFlags::POLLIN);
            }
            for (i, (listener, _)) in self.listeners.iter().enumerate().filter(|_| self.accept_paused.is_none()) {
                add(Source::Listener(i), listener.as_fd(), PollFlags::POLLIN);
            }
        }
        // Rounded up: waking a little early would only go round once more.
        let timeout = due.map_or(PollTimeout::NONE, |d| {
            let ms = d.since(now()).as_micros().div_ceil(1000);
            PollTimeout::try_from(ms).unwrap_or(PollTimeout::MAX)
        });
        match poll(&mut fds, timeout) {
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => {
                let flags = fds.iter().map(|fd| fd.revents().unwrap_or(PollFlags::all()));
                self.ready.extend(sources.into_iter().zip(flags).filter(|(_, flags)| !flags.is_empty()));
            }
            Err(e) => {
                // Out of memory, or more descriptors than a lowered limit allows: fewer connections help both.
                error!("wait for {} sockets of the trigger port: {e}; the oldest connection is closed", fds.len());
                drop(fds);
                self.conns.pop_first();
            }
        }
    }

    /// Orders from outside: a new allow list, the stop.
    fn obey(&mut self) {
        if self.shared.allow_changed.swap(false, Ordering::AcqRel) {
            self.allow = self.shared.allow();
            info!("the trigger port now serves {}", self.allow);
            let allow = Arc::clone(&self.allow);
            self.end_lines(|conn| !allow.contains(conn.peer.ip()));
        }
        if self.stop_at.is_none() {
            if let Some(grace) = self.shared.stop_asked() {
                self.stop_at = Some(now() + grace);
                self.listeners.clear();
                self.end_lines(|_| true);
            }
        }
    }

    /// Takes no further line from these connections; what runs may still answer.
    fn end_lines(&mut self, which: impl Fn(&Conn) -> bool) {
        for (&id, conn) in self.conns.iter_mut().filter(|(_, c)| c.phase == Phase::Open && which(c)) {
            conn.framer.close();
            conn.last = true;
            conn.subscription = Subscription::No;
            self.todo.push_back(id);
        }
    }

    /// Delivers the mail and moves connections on until both have come to rest.
    fn work(&mut self) {
        loop {
            self.shared.mailbox.empty(&mut self.mail);
            while let Some(message) = self.mail.pop_front() {
                self.deliver(message);
            }
            match self.todo.pop_front() {
                Some(id) => self.step(id),
                None => return,
            }
        }
    }

    fn deliver(&mut self, message: Message) {
        let now = now();
        match message {
            Message::Answer(Target::Connection(id), answer) => {
                // An unknown number: the connection was closed under the command, by a stop.
                if let Some(conn) = self.conns.get_mut(&id) {
                    debug!("{} {} <- {}", conn.channel.word(), conn.peer, answer.line);
                    if answer.is_denied() {
                        return self.deny(id, answer);
                    }
                    conn.answer(&answer, now);
                    self.todo.push_back(id);
                }
            }
            Message::Answer(Target::Datagram(socket, peer), answer) => {
                self.datagrams_busy = self.datagrams_busy.saturating_sub(1);
                // A datagram is not answered late, but not at all.
                if !answer.is_denied() || self.slowdown.failed(peer.ip(), now).is_zero() {
                    self.send_datagram(socket, peer, &answer);
                }
            }
            Message::Event(line) => {
                for (&id, conn) in self.conns.iter_mut().filter(|(_, c)| c.subscription != Subscription::No) {
                    conn.event(&line, now);
                    self.todo.push_back(id);
                }
            }
            Message::EventsLost => {
                warn!("more events at once than can wait: subscribers are cut off so that they notice");
                for (&id, conn) in self.conns.iter_mut().filter(|(_, c)| c.subscription != Subscription::No) {
                    conn.lose(now);
                    self.todo.push_back(id);
                }
            }
        }
    }

    /// Moves one connection on: gives it a place, hands its next line over, or ends it.
    fn step(&mut self, id: u64) {
        let places = self.settings.limits.active;
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let now = now();
        let newly_active = conn.phase == Phase::Open && !conn.active && !conn.framer.is_silent() && !conn.last;
        if newly_active {
            conn.active = true;
            let taken = self.conns.values().filter(|c| c.active && c.phase == Phase::Open).count();
            if taken > places && !self.make_place(id) {
                return self.refuse(id, &Answer::error(Kind::Busy, "too many clients"));
            }
        }
        let Some(conn) = self.conns.get_mut(&id) else { return };
        if conn.may_proceed() {
            match conn.framer.next_item() {
                Some(Item::Line { text, first }) => {
                    conn.busy = true;
                    if conn.channel == Channel::Persistent
                        && conn.subscription == Subscription::No
                        && text.split(' ').next().is_some_and(|w| {
                            verbs::named(self.settings.verbs, w.as_bytes()).is_some_and(|v| v.verb == Verb::Subscribe)
                        })
                    {
                        conn.subscription = Subscription::Asked;
                    }
                    let (peer, channel) = (conn.peer, conn.channel);
                    // Only the last line of a connection has a body, and lines are taken in order.
                    let body = if conn.framer.has_items() { None } else { conn.take_body() };
                    self.hand_over(Request { line: text, trigger: first, peer, channel, body }, Target::Connection(id));
                }
                Some(failure) => {
                    let (answer, peer) = (framing_error(&failure), conn.peer);
                    conn.answer(&answer, now);
                    self.todo.push_back(id);
                    self.tell_refused(peer, &answer);
                }
                None if conn.has_ended() => {
                    if conn.has_more(&mut self.buffer, now) {
                        self.todo.push_back(id);
                    } else {
                        conn.finish(now);
                    }
                }
                None => {}
            }
        }
        self.bury(id);
    }

    /// Takes the place of a client that dawdles for `newcomer`, so that some who never finish a line cannot close the port:
    /// the oldest one of the address that has most of them. False where there is none.
    fn make_place(&mut self, newcomer: u64) -> bool {
        let dawdlers = || self.conns.iter().filter(|&(&id, c)| id != newcomer && c.dawdles()).map(|(&id, c)| (id, c.peer.ip()));
        let mut of_address: HashMap<IpAddr, usize> = HashMap::new();
        dawdlers().for_each(|(_, ip)| *of_address.entry(ip).or_default() += 1);
        let chosen = dawdlers().max_by_key(|(id, ip)| (of_address[ip], Reverse(*id)));
        if let Some((id, _)) = chosen {
            self.refuse(id, &Answer::error(Kind::Busy, "too many clients, and this line was not finished"));
        }
        chosen.is_some()
    }

    /// Drops a connection that has closed, or the oldest closing one where too many are.
    fn bury(&mut self, id: u64) {
        match self.conns.get(&id).map(|c| c.phase) {
            None | Some(Phase::Open) => {}
            Some(Phase::Closed) => drop(self.conns.remove(&id)),
            Some(_) => {
                let mut draining = self.conns.iter().filter(|(_, c)| matches!(c.phase, Phase::Draining { .. }));
                let oldest = draining.next().map(|(&id, _)| id);
                if draining.count() >= self.settings.limits.closing {
                    oldest.map(|id| self.conns.remove(&id));
                }
            }
        }
    }

    /// Refuses a stranger or a wrong token: after the first few of an address later and later. Only the refusal waits, so a right
    /// token from the same address is as quick as ever.
    fn deny(&mut self, id: u64, answer: Answer) {
        let Some(ip) = self.conns.get(&id).map(|c| c.peer.ip()) else { return };
        let now = now();
        let wait = self.slowdown.failed(ip, now).min(DENIED_LATE);
        let held_back = || self.conns.values().filter(|c| c.is_held_back());
        let room = held_back().filter(|c| c.peer.ip() == ip).count() < HELD_BACK_PER_ADDRESS && held_back().count() < HELD_BACK;
        let Some(conn) = self.conns.get_mut(&id) else { return };
        match wait {
            Duration::ZERO => conn.answer(&answer, now),
            _ if room => conn.hold_back(answer, now + wait),
            _ => conn.dismiss(now),
        }
        self.todo.push_back(id);
    }

    /// Answers without handing anything over, and closes.
    fn refuse(&mut self, id: u64, answer: &Answer) {
        if let Some(conn) = self.conns.get_mut(&id) {
            debug!("{} {} refused: {}", conn.channel.word(), conn.peer, answer.line);
            let line = match conn.framer.next_item() {
                Some(Item::Line { text, .. }) => text,
                _ => String::new(),
            };
            conn.framer.close();
            conn.last = true;
            conn.answer(&answer.clone().with_id(verbs::id_of(&line)), now());
        }
        self.bury(id);
    }

    /// Logs what was refused here; of each address and reason one a minute, for it may come in floods.
    fn tell_refused(&self, peer: SocketAddr, answer: &Answer) {
        let subject = format!("{} {}", peer.ip(), answer.line);
        self.refused.log_about(log::Level::Info, &subject, &format!("Refused {peer}: {}", answer.line));
    }

    fn hand_over(&self, request: Request, target: Target) {
        // What a command says of the clients is true of the moment it runs.
        self.show();
        // The line itself may hold a token: showing it is left to the handler, which knows.
        let reply = Reply::new(target, &request.line, Arc::clone(&self.shared.mailbox));
        // The port must outlive a command's bug. The reply is dropped on the way and so answers the failure.
        let _ = threads::guarded("command", || self.handler.handle(request, reply));
    }

    fn serve(&mut self, id: u64, flags: PollFlags) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let now = now();
        if flags.contains(PollFlags::POLLOUT) {
            conn.flush(now);
        }
        if flags.intersects(PollFlags::POLLIN | PollFlags::POLLHUP | PollFlags::POLLERR | PollFlags::POLLNVAL) {
            conn.read(&mut self.buffer, now);
            // Both halves are gone and the input was at its end already: no read will ever say so.
            if flags.intersects(PollFlags::POLLHUP | PollFlags::POLLERR) && conn.interest().is_some_and(|(_, w)| w.is_empty()) {
                conn.lose(now);
            }
        }
        self.todo.push_back(id);
        self.work();
    }

    /// Deadlines.
    fn tick(&mut self) {
        let now = now();
        let grace = self.settings.limits.silent_grace;
        self.accept_paused = self.accept_paused.filter(|&until| now < until);
        for (&id, conn) in self.conns.iter_mut().filter(|(_, c)| c.deadline(grace).is_some_and(|due| now >= due)) {
            conn.tick(now, grace);
            self.crowded |= conn.is_silent();
            self.todo.push_back(id);
        }
    }

    fn accept(&mut self, index: usize) {
        for _ in 0..ACCEPTS {
            let (listener, channel) = &self.listeners[index];
            match listener.accept() {
                Ok((stream, peer)) => {
                    let channel = *channel;
                    if self.short.take_if(|short| now().since(*short) >= SHORT_OVER).is_some() {
                        info!("clients are accepted again");
                    }
                    if stream.set_nonblocking(true).is_ok() {
                        self.admit(stream, SocketAddr::new(peer.ip().to_canonical(), peer.port()), channel);
                    }
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => return,
                Err(e) => match e.raw_os_error().map(Errno::from_raw) {
                    Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM) => {
                        if self.short.replace(now()).is_none() {
                            warn!("accept a client: {e}; idle connections are closed to make room (raise LimitNOFILE)");
                        }
                        if !self.close_one() {
                            self.accept_paused = Some(now() + ACCEPT_PAUSE);
                            return;
                        }
                    }
                    // The client has gone before it was accepted, or its network has: accept(2) says to go on.
                    _ => debug!("accept a client: {e}"),
                },
            }
        }
    }

    /// Closes the oldest connection that is idle, else one that dawdles; false where all are at work.
    fn close_one(&mut self) -> bool {
        let idle = |c: &Conn| c.is_silent() || matches!(c.phase, Phase::Draining { .. });
        let oldest = |conns: &BTreeMap<u64, Conn>| conns.iter().find(|(_, c)| idle(c)).map(|(&id, _)| id);
        // A dawdler is told why, which leaves it idle.
        let found = oldest(&self.conns).or_else(|| self.make_place(u64::MAX).then(|| oldest(&self.conns))?);
        found.and_then(|id| self.conns.remove(&id)).is_some()
    }

    fn admit(&mut self, stream: TcpStream, peer: SocketAddr, channel: Channel) {
        let (limits, now) = (self.settings.limits, now());
        if self.conns.len() >= limits.open && !self.close_one() {
            debug!("{} {peer} finds no place", channel.word());
            return;
        }
        let stays_open = channel == Channel::Persistent;
        let rules = self.rules(limits.lines, stays_open);
        let wire = if stays_open { self.settings.wire() } else { Wire::default() };
        let id = self.shared.next_number();
        self.conns.insert(id, Conn::new(stream, peer, channel, rules, wire, limits.drain, now));
        if self.allow.contains(peer.ip()) {
            // Mostly the line is here already.
            self.serve(id, PollFlags::POLLIN);
            self.crowded = true;
        } else {
            let answer = stranger();
            self.tell_refused(peer, &answer);
            if let Some(conn) = self.conns.get_mut(&id) {
                conn.framer.close();
                conn.last = true;
            }
            self.deny(id, answer);
            self.work();
        }
    }

    /// Keeps the limits of silent connections: the oldest makes room. Connections younger than the grace count only where
    /// there are so many that descriptors could run out, for a burst connects faster than it sends.
    fn make_room(&mut self) {
        if !std::mem::take(&mut self.crowded) {
            return;
        }
        let limits = self.settings.limits;
        let silent: Vec<(u64, IpAddr, bool)> =
            self.conns.iter().filter(|(_, c)| c.is_silent()).map(|(&id, c)| (id, c.peer.ip(), c.aged)).collect();
        let mut per_address: HashMap<IpAddr, usize> = HashMap::new();
        silent.iter().filter(|s| s.2).for_each(|s| *per_address.entry(s.1).or_default() += 1);
        let mut aged = silent.iter().filter(|s| s.2).count();
        let mut all = self.conns.len();
        for (id, ip, is_aged) in silent {
            let of_address = per_address.entry(ip).or_default();
            let too_many_aged = is_aged && (*of_address > limits.silent_per_address || aged > limits.silent);
            if too_many_aged || all > limits.open {
                debug!("a silent connection from {ip} makes room");
                self.conns.remove(&id);
                all -= 1;
                if is_aged {
                    *of_address -= 1;
                    aged -= 1;
                }
            }
        }
    }

    fn receive(&mut self, index: usize) {
        for _ in 0..DATAGRAMS {
            let (size, peer) = match self.datagrams[index].recv_from(&mut self.buffer) {
                Ok(received) => received,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return,
                // An ICMP refusal of an earlier answer; it concerns nobody here.
                Err(e) => {
                    debug!("receive a datagram: {e}");
                    continue;
                }
            };
            let ip = peer.ip().to_canonical();
            if !self.allow.contains(ip) {
                // A sender's address can be forged, so it gets no answer.
                debug!("udp {peer} is not in network.allow");
                self.tell_refused(peer, &stranger());
                continue;
            }
            // What is answered must be a command, and no answer begins like one: else a datagram with a forged sender could
            // bounce between two of these ports for ever.
            let own = |s: &UdpSocket| s.local_addr().is_ok_and(|own| is_same(own, peer));
            if self.datagrams.iter().any(own) {
                debug!("udp {peer} is this port itself");
                continue;
            }
            let now = now();
            let mut framer = Framer::new(self.rules(2, false));
            framer.feed(&self.buffer[..size], now);
            framer.end(now);
            let (item, further) = (framer.next_item(), framer.next_item());
            let known = match &item {
                Some(Item::Line { text, .. }) => self.is_command(text.as_bytes()),
                _ => self.is_command(&self.buffer[..size]),
            };
            if !known {
                debug!("udp {peer} sent no command");
                continue;
            }
            match (item, further) {
                (Some(Item::Line { text, first }), None) => {
                    if self.datagrams_busy >= DATAGRAMS_BUSY {
                        self.send_datagram(index, peer, &Answer::error(Kind::Busy, "too many clients"));
                        continue;
                    }
                    self.datagrams_busy += 1;
                    let source = SocketAddr::new(ip, peer.port());
                    let request = Request { line: text, trigger: first, peer: source, channel: Channel::Udp, body: None };
                    self.hand_over(request, Target::Datagram(index, peer));
                    self.work();
                }
                (Some(Item::Line { .. }), Some(_)) => {
                    self.send_datagram(index, peer, &Answer::error(Kind::Usage, "one datagram holds one line"));
                }
                (Some(failure), _) => {
                    let answer = framing_error(&failure);
                    self.tell_refused(peer, &answer);
                    self.send_datagram(index, peer, &answer);
                }
                (None, _) => {}
            }
        }
    }

    /// Whether the first word is one of the commands.
    fn is_command(&self, bytes: &[u8]) -> bool {
        let first = bytes.split(|b| !b.is_ascii_graphic()).find(|word| !word.is_empty()).unwrap_or_default();
        verbs::named(self.settings.verbs, first).is_some()
    }

    fn rules(&self, lines: usize, stays_open: bool) -> Rules {
        let s = &self.settings;
        Rules { idle: s.idle, verbs: s.verbs, at_once: s.at_once, lines, stays_open }
    }

    fn send_datagram(&mut self, socket: usize, peer: SocketAddr, answer: &Answer) {
        let mut out = Vec::new();
        Wire::DATAGRAM.append(answer, &mut out);
        debug!("udp {peer} <- {}", answer.line);
        // Datagrams may be lost anyway; a full buffer is one more way.
        // No such socket: the answer is left over from a server stopped before.
        if let Some(Err(e)) = self.datagrams.get(socket).map(|s| s.send_to(&out, peer)) {
            debug!("answer datagram of {peer}: {e}");
        }
    }

    /// Sets the gauges.
    fn show(&self) {
        let (mut silent, mut active, mut subscribers) = (0, 0, 0);
        for conn in self.conns.values().filter(|c| c.phase == Phase::Open) {
            silent += usize::from(conn.is_silent());
            active += usize::from(conn.active);
            subscribers += usize::from(conn.subscription != Subscription::No);
        }
        let gauges = &self.shared.gauges;
        gauges.open.store(self.conns.len(), Ordering::Relaxed);
        gauges.silent.store(silent, Ordering::Relaxed);
        gauges.active.store(active, Ordering::Relaxed);
        gauges.subscribers.store(subscribers, Ordering::Relaxed);
    }
}

/// Whether a sender's address is that of a socket bound to `own`, perhaps to every address of this machine.
fn is_same(own: SocketAddr, sender: SocketAddr) -> bool {
    // Only an address of this machine can be bound.
    let is_here = || UdpSocket::bind(SocketAddr::new(sender.ip(), 0)).is_ok();
    own.port() == sender.port() && (own.ip() == sender.ip() || (own.ip().is_unspecified() && is_here()))
}

fn stranger() -> Answer {
    Answer::error(Kind::Denied, "this address is not in network.allow")
}

fn framing_error(item: &Item) -> Answer {
    match item {
        Item::TooSlow => Answer::error(Kind::Timeout, "line not finished within 60 s"),
        Item::TooMany => Answer::error(Kind::Busy, "too many lines wait on this connection"),
        Item::TooLong | Item::Line { .. } => Answer::error(Kind::Usage, "line longer than 1024 bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_knows_its_own_address() {
        let same = |own: &str, sender: &str| is_same(own.parse().unwrap(), sender.parse().unwrap());
        assert!(same("127.0.0.1:9", "127.0.0.1:9") && same("0.0.0.0:9", "127.0.0.1:9"));
        // 192.0.2.0/24 is nobody's: RFC 5737.
        for (own, sender) in [("127.0.0.1:9", "127.0.0.2:9"), ("0.0.0.0:9", "127.0.0.1:10"), ("0.0.0.0:9", "192.0.2.1:9")] {
            assert!(!same(own, sender), "{own} {sender}");
        }
    }
}
