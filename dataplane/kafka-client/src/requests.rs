//! Requests of users that are not Produce: where they go, until when, and who gets the answer.
//!
//! ```text
//!   accept() ─> Arrived ──place()──> Line of a (broker, lane) ──send()──> sent, or the hub's ──answer()──> poll_reply()
//!                  ^        └──────> Unknown, Coordinator ──news──┘
//!                  └──────────────────────────────────────────┘
//! ```
//!
//! A request that cannot be sent is not looked at again until there is news: its line moves, its coordinator is found, the
//! metadata changed. Thousands of groups wait here, so nothing is searched: each step costs O(log n).
//!
//! Invariants:
//! - Every token has exactly one entry until it is answered or forgotten, and the entry's deadline is in `deadlines`.
//! - A waiting request is in the set of its place and, when it goes to a coordinator, in that of its group.
//! - Every reply leaves through [`Requests::answer`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use kafka_wire::api_key::ApiKey;
use kafka_wire::cold::RequestKind;

use crate::types::{Asker, ConnId, Lane, Request, RequestError, RequestToken, Response, Target};

/// [`Target`] with its own strings.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Destination {
    Any,
    Controller,
    Broker(i32),
    Coordinator(String),
}

impl From<Target<'_>> for Destination {
    fn from(target: Target<'_>) -> Destination {
        match target {
            Target::Any => Destination::Any,
            Target::Controller => Destination::Controller,
            Target::Broker(node) => Destination::Broker(node),
            Target::Coordinator(group) => Destination::Coordinator(group.to_owned()),
        }
    }
}

/// Not sent yet.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub destination: Destination,
    pub lane: Lane,
    pub request: Request,
    pub timeout: Duration,
    pub deadline: Instant,
    /// Metadata answers seen when it was made: an unknown broker is believed only after a newer one.
    pub generation: u64,
}

/// Who takes the requests that stand behind each other; `broker` is None for what anybody can answer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Line {
    pub broker: Option<u32>,
    pub lane: Lane,
}

/// Where a request waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    /// To be placed by the next flush.
    Arrived,
    /// For metadata that name its broker, or the controller.
    Unknown,
    /// For its group's coordinator to be found.
    Coordinator,
    /// For room on a connection.
    Line(Line),
}

#[derive(Debug)]
enum Stage {
    Waiting(Place, Box<Waiting>),
    Taken(Holder),
}

/// Who has a request that waits no more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Holder {
    /// Sent on this connection.
    Connection(ConnId),
    /// The fetch hub.
    Hub,
}

#[derive(Debug)]
struct Entry {
    deadline: Instant,
    stage: Stage,
}

/// Tokens in the order they were given out.
type Order = BTreeMap<u64, RequestToken>;

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    entries: foldhash::HashMap<RequestToken, Entry>,
    deadlines: BTreeSet<(Instant, RequestToken)>,
    waiting_count: usize,
    arrived: Order,
    unknown: Order,
    lines: BTreeMap<Line, Order>,
    /// Of those that wait, wherever, the ones for this group's coordinator.
    by_group: foldhash::HashMap<String, Order>,
    /// What `unknown` was last placed with; see [`Requests::news`].
    placed_with: (u64, usize),
    replies: VecDeque<(RequestToken, Result<Response, RequestError>)>,
    /// Tokens in `replies`, without those that were cancelled meanwhile.
    answered: foldhash::HashSet<RequestToken>,
    token_next: u64,
    /// Who makes the requests of now.
    pub asker: Asker,
}

impl Requests {
    pub fn next_token(&mut self) -> RequestToken {
        self.token_next += 1;
        RequestToken::new(self.asker, self.token_next)
    }

    /// Not sent yet.
    pub fn waiting_count(&self) -> usize {
        self.waiting_count
    }

    /// Neither answered nor cancelled.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    // ---- until it is sent

    pub fn accept(&mut self, token: RequestToken, waiting: Waiting) {
        if let Destination::Coordinator(group) = &waiting.destination {
            order_of(&mut self.by_group, group).insert(token.number(), token);
        }
        self.arrived.insert(token.number(), token);
        self.deadlines.insert((waiting.deadline, token));
        self.waiting_count += 1;
        let deadline = waiting.deadline;
        self.entries.insert(token, Entry { deadline, stage: Stage::Waiting(Place::Arrived, Box::new(waiting)) });
    }

    /// The oldest request without a place.
    pub fn first_arrived(&self) -> Option<RequestToken> {
        self.arrived.first_key_value().map(|(_, token)| *token)
    }

    pub fn waiting(&self, token: RequestToken) -> Option<&Waiting> {
        match &self.entries.get(&token)?.stage {
            Stage::Waiting(_, waiting) => Some(waiting),
            Stage::Taken(_) => None,
        }
    }

    /// Moves a waiting request.
    pub fn place(&mut self, token: RequestToken, place: Place) {
        let Some(Entry { stage: Stage::Waiting(before, _), .. }) = self.entries.get_mut(&token) else { return };
        let before = std::mem::replace(before, place);
        self.leave(token, before);
        match place {
            Place::Arrived => self.arrived.insert(token.number(), token),
            Place::Unknown => self.unknown.insert(token.number(), token),
            Place::Coordinator => None, // in `by_group` as long as it waits
            Place::Line(line) => self.lines.entry(line).or_default().insert(token.number(), token),
        };
    }

    fn leave(&mut self, token: RequestToken, place: Place) {
        match place {
            Place::Arrived => {
                self.arrived.remove(&token.number());
            }
            Place::Unknown => {
                self.unknown.remove(&token.number());
            }
            Place::Coordinator => {}
            Place::Line(line) => {
                if let Some(order) = self.lines.get_mut(&line) {
                    order.remove(&token.number());
                    if order.is_empty() {
                        self.lines.remove(&line);
                    }
                }
            }
        }
    }

    /// The lines somebody stands in.
    pub fn lines(&self) -> Vec<Line> {
        self.lines.keys().copied().collect()
    }

    pub fn line_length(&self, line: Line) -> usize {
        self.lines.get(&line).map_or(0, BTreeMap::len)
    }

    /// The oldest of a line.
    pub fn first_of(&self, line: Line) -> Option<RequestToken> {
        self.lines.get(&line)?.first_key_value().map(|(_, token)| *token)
    }

    /// Metadata answers so far, and brokers known: when either has grown, those that wait for a broker are placed again.
    pub fn news(&mut self, generation: u64, broker_count: usize) {
        if std::mem::replace(&mut self.placed_with, (generation, broker_count)) != (generation, broker_count) {
            let unknown: Vec<RequestToken> = self.unknown.values().copied().collect();
            unknown.into_iter().for_each(|token| self.place(token, Place::Arrived));
        }
    }

    /// This group's coordinator is another one, or none, than those that wait for it thought.
    pub fn replace_group(&mut self, group: &str) {
        for token in self.of_group(group) {
            self.place(token, Place::Arrived);
        }
    }

    /// What waits for this group's coordinator, in order.
    pub fn of_group(&self, group: &str) -> Vec<RequestToken> {
        self.by_group.get(group).map(|order| order.values().copied().collect()).unwrap_or_default()
    }

    /// Everything that waits, in order.
    pub fn all_waiting(&self) -> Vec<RequestToken> {
        let waiting = self.entries.iter().filter(|(_, entry)| matches!(entry.stage, Stage::Waiting(..)));
        let mut tokens: Vec<RequestToken> = waiting.map(|(token, _)| *token).collect();
        tokens.sort_unstable_by_key(|token| token.number());
        tokens
    }

    /// Takes a request out of its place, to be sent.
    pub fn take(&mut self, token: RequestToken) -> Option<Waiting> {
        let entry = self.remove(token)?;
        match entry.stage {
            Stage::Waiting(_, waiting) => Some(*waiting),
            Stage::Taken(_) => None,
        }
    }

    // ---- from then on

    /// It was taken and sent; the answer comes on `conn`.
    pub fn sent(&mut self, token: RequestToken, conn: ConnId, deadline: Instant) {
        self.hold(token, Holder::Connection(conn), deadline);
    }

    /// It was taken and given to the fetch hub.
    pub fn shared(&mut self, token: RequestToken, deadline: Instant) {
        self.hold(token, Holder::Hub, deadline);
    }

    fn hold(&mut self, token: RequestToken, holder: Holder, deadline: Instant) {
        self.deadlines.insert((deadline, token));
        self.entries.insert(token, Entry { deadline, stage: Stage::Taken(holder) });
    }

    fn remove(&mut self, token: RequestToken) -> Option<Entry> {
        let entry = self.entries.remove(&token)?;
        self.deadlines.remove(&(entry.deadline, token));
        if let Stage::Waiting(place, waiting) = &entry.stage {
            self.waiting_count -= 1;
            self.leave(token, *place);
            if let Destination::Coordinator(group) = &waiting.destination
                && let Some(order) = self.by_group.get_mut(group)
            {
                order.remove(&token.number());
                if order.is_empty() {
                    self.by_group.remove(group);
                }
            }
        }
        Some(entry)
    }

    /// The request is over, and its asker is told: the one way out.
    pub fn answer(&mut self, token: RequestToken, result: Result<Response, RequestError>) {
        self.remove(token);
        self.answered.insert(token);
        self.replies.push_back((token, result));
    }

    /// Nobody waits for it any more. Gives who has it.
    pub fn forget(&mut self, token: RequestToken) -> Option<Holder> {
        self.answered.remove(&token);
        match self.remove(token)?.stage {
            Stage::Taken(holder) => Some(holder),
            Stage::Waiting(..) => None,
        }
    }

    pub fn poll_reply(&mut self) -> Option<(RequestToken, Result<Response, RequestError>)> {
        while let Some(reply) = self.replies.pop_front() {
            if self.answered.remove(&reply.0) {
                return Some(reply);
            }
        }
        None
    }

    // ---- time

    pub fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// A request whose time is over, and who has it.
    pub fn overdue(&self, now: Instant) -> Option<(RequestToken, Option<Holder>)> {
        let (_, token) = self.deadlines.first().filter(|(at, _)| *at <= now)?;
        match self.entries[token].stage {
            Stage::Waiting(..) => Some((*token, None)),
            Stage::Taken(holder) => Some((*token, Some(holder))),
        }
    }
}

fn order_of<'a>(by_group: &'a mut foldhash::HashMap<String, Order>, group: &str) -> &'a mut Order {
    if !by_group.contains_key(group) {
        by_group.insert(group.to_owned(), Order::new());
    }
    by_group.get_mut(group).expect("inserted above")
}

/// The API of a request a user may send; None for what this client sends itself or does not speak.
pub(crate) fn api_of(request: &RequestKind) -> Option<ApiKey> {
    Some(match request {
        RequestKind::ListOffsets(_) => ApiKey::ListOffsets,
        RequestKind::Metadata(_) => ApiKey::Metadata,
        RequestKind::OffsetCommit(_) => ApiKey::OffsetCommit,
        RequestKind::OffsetFetch(_) => ApiKey::OffsetFetch,
        RequestKind::FindCoordinator(_) => ApiKey::FindCoordinator,
        RequestKind::JoinGroup(_) => ApiKey::JoinGroup,
        RequestKind::SyncGroup(_) => ApiKey::SyncGroup,
        RequestKind::Heartbeat(_) => ApiKey::Heartbeat,
        RequestKind::LeaveGroup(_) => ApiKey::LeaveGroup,
        RequestKind::CreateTopics(_) => ApiKey::CreateTopics,
        RequestKind::DeleteTopics(_) => ApiKey::DeleteTopics,
        RequestKind::CreatePartitions(_) => ApiKey::CreatePartitions,
        RequestKind::InitProducerId(_) => ApiKey::InitProducerId,
        RequestKind::DescribeConfigs(_) => ApiKey::DescribeConfigs,
        RequestKind::IncrementalAlterConfigs(_) => ApiKey::IncrementalAlterConfigs,
        RequestKind::DescribeGroups(_) => ApiKey::DescribeGroups,
        RequestKind::ListGroups(_) => ApiKey::ListGroups,
        RequestKind::DeleteGroups(_) => ApiKey::DeleteGroups,
        RequestKind::DescribeCluster(_) => ApiKey::DescribeCluster,
        RequestKind::DeleteRecords(_) => ApiKey::DeleteRecords,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(destination: Destination, deadline: Instant) -> Waiting {
        let request = Request::Cold(RequestKind::Heartbeat(Default::default()));
        let timeout = Duration::from_secs(1);
        Waiting { destination, lane: Lane::Control, request, timeout, deadline, generation: 0 }
    }

    fn coordinator(group: &str) -> Destination {
        Destination::Coordinator(group.to_owned())
    }

    /// Nothing is left in any set.
    fn assert_empty(requests: &Requests) {
        assert!(requests.is_empty() && requests.deadlines.is_empty(), "{requests:?}");
        assert!(requests.arrived.is_empty() && requests.unknown.is_empty(), "{requests:?}");
        assert!(requests.lines.is_empty() && requests.by_group.is_empty(), "{requests:?}");
        assert_eq!(requests.waiting_count(), 0);
    }

    #[test]
    fn the_earliest_deadline_is_known_without_a_search_and_ends_what_it_is_of() {
        let start = Instant::now();
        let mut requests = Requests::default();
        let after = |ms| start + Duration::from_millis(ms);
        let tokens = [30, 10, 20].map(|ms| {
            let token = requests.next_token();
            requests.accept(token, request(Destination::Any, after(ms)));
            token
        });
        assert_eq!(requests.next_deadline(), Some(after(10)));
        assert_eq!(requests.overdue(after(9)), None);
        assert_eq!(requests.overdue(after(25)), Some((tokens[1], None)));
        requests.answer(tokens[1], Err(RequestError::Timeout { sent: false }));
        let taken = requests.take(tokens[2]).expect("it waits");
        requests.sent(tokens[2], ConnId(7), taken.deadline);
        assert_eq!(requests.overdue(after(25)), Some((tokens[2], Some(Holder::Connection(ConnId(7))))));
        assert_eq!(requests.forget(tokens[2]), Some(Holder::Connection(ConnId(7))));
        assert_eq!(requests.next_deadline(), Some(after(30)));
        assert_eq!(requests.forget(tokens[0]), None);
        assert_empty(&requests);
    }

    #[test]
    fn a_reply_that_was_cancelled_is_not_handed_out() {
        let mut requests = Requests::default();
        let [kept, cancelled] = [(); 2].map(|()| requests.next_token());
        for token in [cancelled, kept] {
            requests.accept(token, request(coordinator("g"), Instant::now()));
            requests.answer(token, Err(RequestError::QueueFull));
        }
        requests.forget(cancelled);
        assert_eq!(requests.poll_reply().map(|(token, _)| token), Some(kept));
        assert!(requests.poll_reply().is_none());
        assert_empty(&requests);
    }

    #[test]
    fn requests_of_a_group_keep_their_order_when_its_coordinator_moves() {
        let now = Instant::now();
        let mut requests = Requests::default();
        let line = |broker| Line { broker: Some(broker), lane: Lane::Control };
        let tokens = ["g", "h", "g"].map(|group| {
            let token = requests.next_token();
            requests.accept(token, request(coordinator(group), now));
            requests.place(token, Place::Line(line(1)));
            token
        });
        requests.replace_group("g");
        assert_eq!(requests.first_of(line(1)), Some(tokens[1]));
        assert_eq!(requests.first_arrived(), Some(tokens[0]));
        requests.place(tokens[2], Place::Line(line(2)));
        requests.place(tokens[0], Place::Line(line(2)));
        assert_eq!((requests.first_of(line(2)), requests.line_length(line(2))), (Some(tokens[0]), 2));
        assert_eq!(requests.lines(), [line(1), line(2)]);
        tokens.into_iter().for_each(|token| drop(requests.take(token)));
        assert_empty(&requests);
    }

    #[test]
    fn those_that_wait_for_a_broker_are_placed_again_only_when_there_is_news() {
        let mut requests = Requests::default();
        let token = requests.next_token();
        requests.accept(token, request(Destination::Broker(3), Instant::now()));
        requests.news(1, 1);
        requests.place(token, Place::Unknown);
        requests.news(1, 1);
        assert_eq!(requests.first_arrived(), None);
        requests.news(2, 1);
        assert_eq!(requests.first_arrived(), Some(token));
        requests.place(token, Place::Unknown);
        requests.news(2, 2);
        assert_eq!(requests.first_arrived(), Some(token));
    }
}
