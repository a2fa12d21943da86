//! Who watches, and to whom the newest picture is due. A plain register: no socket, no clock of its own, no pixels.
//!
//! A viewer gets a picture, answers it, and gets the next one that is newer. One that is not answered within
//! [`RESEND`] is followed by the newest there is, the same again if there is no other: the first datagram of a viewer
//! that binds its port late is always lost. Since an answer is needed for more, a viewer that never answers gets
//! one picture per second until it is dropped, and nobody else can be sent anything: pictures go to the address from which the
//! TCP connection came.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use meerkat_base::MonoTime;
use meerkat_wire::watch::Answer;

use crate::session::counted_address;

/// A picture that is not answered for so long is followed by the newest one.
pub(super) const RESEND: Duration = Duration::from_secs(1);

/// What holds for every viewer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ViewerRules {
    /// A viewer that answers nothing for so long is dropped.
    pub silence: Duration,
    /// Viewers per address (IPv6: per /64).
    pub max_per_address: usize,
}

/// Names one viewer; never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct ViewerId(u64);

/// Why a viewer watches no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Left {
    /// It said `end`.
    Ended,
    /// Its TCP connection is closed.
    Closed,
    /// It answered nothing for too long.
    Silent,
    /// The same address and port joined anew.
    Replaced,
    /// It kept talking over TCP, where there is nothing to say.
    Talkative,
    /// The node is going down.
    Shutdown,
}

impl Left {
    /// Every reason.
    pub const ALL: [Left; 6] =
        [Left::Ended, Left::Closed, Left::Silent, Left::Replaced, Left::Talkative, Left::Shutdown];

    /// The word used as a metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Left::Ended => "end",
            Left::Closed => "closed",
            Left::Silent => "silent",
            Left::Replaced => "replaced",
            Left::Talkative => "talkative",
            Left::Shutdown => "shutdown",
        }
    }
}

/// A viewer that is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gone {
    pub id: ViewerId,
    /// The other end of its TCP connection.
    pub peer: SocketAddr,
    pub why: Left,
}

/// What a datagram was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    /// It answered a picture.
    Answered,
    /// Nobody waited for it: an unknown address, or no picture was under way there.
    Stray,
    /// It was a viewer's last word.
    Left(Gone),
}

/// The address has as many viewers as it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooMany;

/// Address (IPv4 also where it travels as IPv6) and UDP port.
type Key = (IpAddr, u16);

fn key(address: SocketAddr) -> Key {
    (address.ip().to_canonical(), address.port())
}

#[derive(Debug)]
struct Viewer {
    id: ViewerId,
    peer: SocketAddr,
    /// Where its pictures go, in the form of the socket that sends them.
    target: SocketAddr,
    /// Number of the last picture that was sent; 0: none.
    last: u64,
    /// When the picture that waits for an answer was sent.
    sent: Option<MonoTime>,
    /// When the first picture was sent that was not answered yet.
    silent_since: Option<MonoTime>,
}

impl Viewer {
    /// Whether it may be sent something newer than it has, or again what it did not answer.
    fn is_ready(&self, now: MonoTime) -> bool {
        self.sent.is_none_or(|at| now.since(at) >= RESEND)
    }
}

/// Pictures that are to be sent now.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Due {
    /// Where to.
    pub targets: Vec<SocketAddr>,
    /// How many of them follow a picture that was never answered.
    pub lost: u64,
}

/// The register.
#[derive(Debug)]
pub(super) struct Viewers {
    rules: ViewerRules,
    viewers: BTreeMap<Key, Viewer>,
    /// Where a picture went that nobody answered before its viewer left, and when: none follows within [`RESEND`],
    /// however often somebody joins with that port.
    unanswered: BTreeMap<Key, MonoTime>,
    next_id: u64,
}

impl Viewers {
    /// Nobody watches.
    pub fn new(rules: ViewerRules) -> Self {
        Self { rules, viewers: BTreeMap::new(), unanswered: BTreeMap::new(), next_id: 1 }
    }

    /// What holds from now on, also for those who are here; nobody has to go because fewer may come.
    pub fn set_rules(&mut self, rules: ViewerRules) {
        self.rules = rules;
    }

    /// Viewers there are.
    pub fn len(&self) -> usize {
        self.viewers.len()
    }

    /// Enters the viewer at the other end of a TCP connection, with its UDP port there. One with the same address and
    /// port is replaced: it is the same program, started anew.
    pub fn join(&mut self, peer: SocketAddr, port: u16) -> Result<(ViewerId, Option<Gone>), TooMany> {
        let mut target = peer;
        target.set_port(port);
        let replaced = self.remove(key(target));
        let site = counted_address(peer.ip());
        let here = self.viewers.values().filter(|viewer| counted_address(viewer.peer.ip()) == site).count();
        if replaced.is_none() && here >= self.rules.max_per_address {
            return Err(TooMany);
        }
        let id = ViewerId(self.next_id);
        self.next_id += 1;
        let sent = self.unanswered.remove(&key(target));
        let viewer = Viewer { id, peer, target, last: 0, sent, silent_since: None };
        self.viewers.insert(key(target), viewer);
        Ok((id, replaced.map(|old| Gone { id: old.id, peer: old.peer, why: Left::Replaced })))
    }

    /// Takes what came from an address.
    pub fn hear(&mut self, from: SocketAddr, answer: Answer) -> Heard {
        let Some(viewer) = self.viewers.get_mut(&key(from)) else { return Heard::Stray };
        if answer.is_end() {
            let gone = Gone { id: viewer.id, peer: viewer.peer, why: Left::Ended };
            self.remove(key(from));
            return Heard::Left(gone);
        }
        if viewer.sent.take().is_none() {
            return Heard::Stray;
        }
        viewer.silent_since = None;
        Heard::Answered
    }

    /// Takes a viewer out, if it is here still.
    pub fn leave(&mut self, id: ViewerId, why: Left) -> Option<Gone> {
        let key = self.viewers.iter().find(|(_, viewer)| viewer.id == id).map(|(key, _)| *key)?;
        let viewer = self.remove(key)?;
        Some(Gone { id, peer: viewer.peer, why })
    }

    fn remove(&mut self, key: Key) -> Option<Viewer> {
        let viewer = self.viewers.remove(&key)?;
        if let Some(sent) = viewer.sent {
            self.unanswered.insert(key, sent);
        }
        Some(viewer)
    }

    /// Takes out who has been silent for too long.
    pub fn drop_silent(&mut self, now: MonoTime) -> Vec<Gone> {
        self.unanswered.retain(|_, sent| now.since(*sent) < RESEND);
        let limit = self.rules.silence;
        let mut gone = Vec::new();
        self.viewers.retain(|key, viewer| {
            let is_silent = viewer.silent_since.is_some_and(|since| now.since(since) >= limit);
            if is_silent {
                self.unanswered.extend(viewer.sent.map(|sent| (*key, sent)));
                gone.push(Gone { id: viewer.id, peer: viewer.peer, why: Left::Silent });
            }
            !is_silent
        });
        gone
    }

    /// Whether anybody would take a new picture now.
    pub fn is_wanted(&self, now: MonoTime) -> bool {
        self.viewers.values().any(|viewer| viewer.is_ready(now))
    }

    /// To whom the newest picture, whose number grows from 1 with each, is to be sent now; with `repeat` also to those
    /// that did not answer this very one. Whoever is named counts as sent to.
    pub fn due(&mut self, picture: u64, now: MonoTime, repeat: bool) -> Due {
        let mut due = Due::default();
        for viewer in self.viewers.values_mut() {
            let is_again = viewer.sent.is_some();
            let is_new = viewer.last < picture;
            if !viewer.is_ready(now) || !(is_new || (is_again && repeat)) {
                continue;
            }
            due.lost += u64::from(is_again);
            due.targets.push(viewer.target);
            viewer.last = picture;
            viewer.sent = Some(now);
            viewer.silent_since.get_or_insert(now);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SILENCE: Duration = Duration::from_secs(10);

    fn viewers() -> Viewers {
        Viewers::new(ViewerRules { silence: SILENCE, max_per_address: 4 })
    }

    fn at(millis: u64) -> MonoTime {
        MonoTime(millis * 1_000_000)
    }

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    /// A viewer at this address, whose TCP port says nothing.
    fn join(viewers: &mut Viewers, target: &str) -> ViewerId {
        let target = address(target);
        viewers.join(SocketAddr::new(target.ip(), 40_000), target.port()).unwrap().0
    }

    fn due(viewers: &mut Viewers, picture: u64, millis: u64) -> Vec<String> {
        viewers.due(picture, at(millis), true).targets.iter().map(ToString::to_string).collect()
    }

    fn answer(viewers: &mut Viewers, from: &str) -> Heard {
        viewers.hear(address(from), Answer::Continue)
    }

    const ONE: &str = "10.0.0.1:5001";
    const TWO: &str = "10.0.0.1:5002";

    #[test]
    fn the_next_picture_goes_out_after_the_answer() {
        let mut viewers = viewers();
        join(&mut viewers, ONE);
        assert!(viewers.is_wanted(at(0)));
        assert_eq!(due(&mut viewers, 1, 0), [ONE]);
        assert!(!viewers.is_wanted(at(10)));
        assert_eq!(due(&mut viewers, 2, 100), [""; 0], "not answered yet");
        assert_eq!(answer(&mut viewers, ONE), Heard::Answered);
        assert!(viewers.is_wanted(at(150)));
        assert_eq!(due(&mut viewers, 2, 150), [ONE]);
        assert_eq!(answer(&mut viewers, ONE), Heard::Answered);
        assert_eq!(due(&mut viewers, 2, 160), [""; 0], "nothing newer than what it has");
        assert_eq!(due(&mut viewers, 3, 200), [ONE]);
    }

    #[test]
    fn a_lost_picture_is_followed_after_a_second_by_a_newer_one_or_by_itself() {
        let mut viewers = viewers();
        join(&mut viewers, ONE);
        assert_eq!(viewers.due(1, at(0), true), Due { targets: vec![address(ONE)], lost: 0 });
        for millis in [100, 500, 999] {
            assert_eq!(due(&mut viewers, millis, millis), [""; 0], "one a second until the first answer");
        }
        assert_eq!(viewers.due(7, at(1_000), true), Due { targets: vec![address(ONE)], lost: 1 });
        assert_eq!(due(&mut viewers, 7, 1_999), [""; 0]);
        assert_eq!(viewers.due(7, at(2_000), false), Due::default(), "a newer one is being made");
        assert_eq!(due(&mut viewers, 7, 2_000), [ONE], "the camera stands still");
        assert_eq!(answer(&mut viewers, ONE), Heard::Answered);
        assert_eq!(due(&mut viewers, 7, 9_000), [""; 0]);
        assert_eq!(viewers.due(8, at(9_000), true).lost, 0, "that it was late once is forgotten");
    }

    #[test]
    fn one_that_is_silent_is_dropped_and_one_that_has_nothing_to_answer_is_not() {
        let mut viewers = viewers();
        let id = join(&mut viewers, ONE);
        assert_eq!(viewers.drop_silent(at(3_600_000)), [], "no picture, no answer");
        let sent: usize = (0..200).map(|n| due(&mut viewers, n + 1, 4_000_000 + n * 50).len()).sum();
        assert_eq!(sent, 10, "one a second");
        assert_eq!(viewers.drop_silent(at(4_009_999)), []);
        let gone = viewers.drop_silent(at(4_010_000));
        assert_eq!(gone, [Gone { id, peer: address("10.0.0.1:40000"), why: Left::Silent }]);
        assert_eq!(viewers.len(), 0);
        assert_eq!(due(&mut viewers, 999, 4_020_000), [""; 0], "it costs nothing any more");
        assert_eq!(answer(&mut viewers, ONE), Heard::Stray, "and cannot come back by an answer");

        join(&mut viewers, TWO);
        for second in 0..60 {
            assert_eq!(due(&mut viewers, 1_000 + second, second * 1_000), [TWO]);
            assert_eq!(viewers.drop_silent(at(second * 1_000 + 900)), []);
            answer(&mut viewers, TWO);
        }
    }

    #[test]
    fn answers_are_of_those_who_sent_them() {
        let mut viewers = viewers();
        join(&mut viewers, ONE);
        join(&mut viewers, TWO);
        join(&mut viewers, "10.0.0.2:5001");
        assert_eq!(due(&mut viewers, 1, 0), [ONE, TWO, "10.0.0.2:5001"]);
        assert_eq!(answer(&mut viewers, TWO), Heard::Answered);
        assert_eq!(answer(&mut viewers, "10.0.0.1:40000"), Heard::Stray, "its TCP port is no UDP port");
        assert_eq!(answer(&mut viewers, "10.0.0.3:5001"), Heard::Stray);
        assert_eq!(due(&mut viewers, 2, 10), [TWO]);
        assert_eq!(answer(&mut viewers, "[::ffff:10.0.0.1]:5001"), Heard::Answered, "IPv4 inside IPv6");
        assert_eq!(due(&mut viewers, 2, 20), [ONE]);
    }

    #[test]
    fn a_stray_continue_buys_nothing() {
        let mut viewers = viewers();
        join(&mut viewers, ONE);
        assert_eq!(answer(&mut viewers, ONE), Heard::Stray, "before any picture");
        assert_eq!(due(&mut viewers, 1, 0), [ONE]);
        assert_eq!(answer(&mut viewers, ONE), Heard::Answered);
        assert_eq!(answer(&mut viewers, ONE), Heard::Stray);
        assert_eq!(due(&mut viewers, 2, 10), [ONE]);
        assert_eq!(due(&mut viewers, 3, 20), [""; 0], "one answer, one picture");
    }

    #[test]
    fn end_is_the_last_word_with_or_without_continue() {
        let mut viewers = viewers();
        for words in [&[Answer::Continue, Answer::End][..], &[Answer::End], &[Answer::ContinueEnd]] {
            let id = join(&mut viewers, ONE);
            due(&mut viewers, 1, 0);
            let heard = words.iter().map(|word| viewers.hear(address(ONE), *word)).last();
            let gone = Gone { id, peer: address("10.0.0.1:40000"), why: Left::Ended };
            assert_eq!(heard, Some(Heard::Left(gone)), "{words:?}");
            assert_eq!(viewers.hear(address(ONE), Answer::End), Heard::Stray, "once");
            assert_eq!(viewers.leave(id, Left::Closed), None, "its connection closes after that");
            assert_eq!(due(&mut viewers, 2, 5_000), [""; 0]);
        }
    }

    #[test]
    fn who_joins_again_and_again_gets_no_more_for_it() {
        let mut viewers = viewers();
        let mut sent = 0;
        for n in 0..50_u64 {
            let id = join(&mut viewers, ONE);
            sent += due(&mut viewers, n + 1, n * 100).len();
            if n % 2 == 1 {
                viewers.leave(id, Left::Closed);
            }
            viewers.drop_silent(at(n * 100));
        }
        assert_eq!(sent, 5, "one a second, as long as nothing is answered");
        viewers.drop_silent(at(60_000));
        assert!(viewers.unanswered.is_empty());
        // Whoever answered before it left is served at once.
        let id = join(&mut viewers, TWO);
        assert_eq!(due(&mut viewers, 99, 60_000), [TWO]);
        answer(&mut viewers, TWO);
        viewers.leave(id, Left::Closed);
        join(&mut viewers, TWO);
        assert_eq!(due(&mut viewers, 100, 60_010), [TWO]);
    }

    #[test]
    fn a_closed_connection_ends_it() {
        let mut viewers = viewers();
        let (one, two) = (join(&mut viewers, ONE), join(&mut viewers, TWO));
        assert_eq!(viewers.leave(one, Left::Closed).map(|gone| gone.why), Some(Left::Closed));
        assert_eq!(due(&mut viewers, 1, 0), [TWO]);
        assert!(viewers.leave(two, Left::Closed).is_some());
        assert!(!viewers.is_wanted(at(0)));
    }

    #[test]
    fn an_address_has_so_many_viewers_and_the_same_port_is_the_same_viewer() {
        let mut viewers = viewers();
        let ids: Vec<ViewerId> = (5001..5005).map(|n| join(&mut viewers, &format!("10.0.0.1:{n}"))).collect();
        let peer = address("10.0.0.1:41000");
        assert_eq!(viewers.join(peer, 5_005).unwrap_err(), TooMany);
        assert_eq!(viewers.join(address("[::ffff:10.0.0.1]:41000"), 5_005).unwrap_err(), TooMany);
        join(&mut viewers, "10.0.0.2:5001");
        let (id, replaced) = viewers.join(peer, 5_001).unwrap();
        assert_eq!(replaced.map(|gone| (gone.id, gone.why)), Some((ids[0], Left::Replaced)));
        assert_eq!(viewers.leave(ids[0], Left::Closed), None, "the old connection takes nobody with it");
        assert!(viewers.leave(id, Left::Closed).is_some());
        join(&mut viewers, "10.0.0.1:5009");
        for n in 1..5 {
            join(&mut viewers, &format!("[fd00::{n}]:5000"));
        }
        assert_eq!(viewers.join(address("[fd00::9]:41000"), 5_000).unwrap_err(), TooMany, "one /64");
    }

    #[derive(Debug, Clone)]
    enum Act {
        Join(u16),
        Answer(u16),
        End(u16),
        Picture,
        Pass(u64),
    }

    fn act() -> impl Strategy<Value = Act> {
        let port = 5_000..5_006u16;
        prop_oneof![
            1 => port.clone().prop_map(Act::Join),
            4 => port.clone().prop_map(Act::Answer),
            1 => port.prop_map(Act::End),
            4 => Just(Act::Picture),
            4 => (1..700u64).prop_map(Act::Pass),
        ]
    }

    proptest! {
        /// Whatever anybody does: a viewer gets a picture only after an answer or a second, one answer buys one, and
        /// never more than the limit watch.
        #[test]
        fn nobody_gets_more_than_it_answers_for(acts in proptest::collection::vec(act(), 0..200)) {
            let (mut viewers, mut now, mut picture) = (viewers(), 0, 0);
            let mut last: BTreeMap<u16, (u64, bool)> = BTreeMap::new();
            for act in acts {
                match act {
                    Act::Join(port) => {
                        let peer = address("10.0.0.1:40000");
                        let _ = viewers.join(peer, port);
                    }
                    Act::Answer(port) => {
                        let target = format!("10.0.0.1:{port}");
                        if answer(&mut viewers, &target) == Heard::Answered {
                            let entry = last.get_mut(&port).expect("it was sent something");
                            prop_assert!(!entry.1, "one answer for one picture");
                            entry.1 = true;
                        }
                    }
                    Act::End(port) => {
                        viewers.hear(SocketAddr::new("10.0.0.1".parse().unwrap(), port), Answer::End);
                    }
                    Act::Picture => {
                        picture += 1;
                        for target in viewers.due(picture, at(now), true).targets {
                            if let Some((sent, answered)) = last.get(&target.port()) {
                                prop_assert!(*answered || now - sent >= 1_000);
                            }
                            last.insert(target.port(), (now, false));
                        }
                    }
                    Act::Pass(millis) => now += millis,
                }
                for gone in viewers.drop_silent(at(now)) {
                    prop_assert_eq!(gone.why, Left::Silent);
                }
                prop_assert!(viewers.len() <= 4);
            }
        }
    }
}
