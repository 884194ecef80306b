//! The coordinator: one row of Kafka's behaviour each, then random clients until they agree.

use std::time::{Duration, Instant};

use foldhash::HashMap;
use proptest::prelude::*;

use super::coordinator::splitmix;
use super::*;
use crate::limits::{GROUP_EMPTY_KEEP, GROUP_MEMBERS_MAX};

const SESSION: Duration = Duration::from_secs(10);
const REBALANCE: Duration = Duration::from_secs(60);

struct World {
    groups: Groups,
    now: Instant,
    next_ticket: Ticket,
    replies: HashMap<Ticket, Reply>,
}

fn sync_group(member: &str, generation: i32, assignments: Vec<(String, Bytes)>) -> SyncGroup {
    SyncGroup {
        group: "g".to_owned(),
        generation,
        member: member.to_owned(),
        instance: None,
        protocol_type: None,
        protocol: None,
        assignments,
    }
}

impl World {
    fn new() -> World {
        World { groups: Groups::new(1), now: Instant::now(), next_ticket: 0, replies: HashMap::default() }
    }

    fn collect(&mut self) {
        while let Some((ticket, reply)) = self.groups.poll_reply() {
            assert!(self.replies.insert(ticket, reply).is_none(), "ticket {ticket} was answered twice");
        }
    }

    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(at) = self.groups.next_deadline().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.groups.on_timer(self.now);
            assert!(self.groups.next_deadline().is_none_or(|next| next > self.now), "a timer that stands still");
        }
        self.now = until;
        self.collect();
    }

    fn join_as(&mut self, member: &str, change: impl FnOnce(&mut JoinGroup)) -> Ticket {
        let mut join = JoinGroup {
            group: "g".to_owned(),
            member: member.to_owned(),
            instance: None,
            client_id: "c".to_owned(),
            client_host: "/127.0.0.1".to_owned(),
            session_timeout: SESSION,
            rebalance_timeout: REBALANCE,
            protocol_type: "consumer".to_owned(),
            protocols: vec![protocol("range", b"m")],
            member_id_required: false,
        };
        change(&mut join);
        self.next_ticket += 1;
        self.groups.join(join, self.next_ticket, self.now);
        self.collect();
        self.next_ticket
    }

    fn join(&mut self, member: &str) -> Ticket {
        self.join_as(member, |_| {})
    }

    fn joined(&mut self, ticket: Ticket) -> Joined {
        match self.replies.remove(&ticket) {
            Some(Reply::Joined(joined)) => joined,
            other => panic!("{other:?}"),
        }
    }

    fn join_error(&mut self, ticket: Ticket) -> ErrorCode {
        self.joined(ticket).error
    }

    fn sync(&mut self, member: &str, generation: i32, assignments: &[(&str, &'static [u8])]) -> Ticket {
        self.next_ticket += 1;
        let assignments = assignments.iter().map(|(id, bytes)| ((*id).to_owned(), Bytes::from_static(bytes))).collect();
        self.groups.sync(sync_group(member, generation, assignments), self.next_ticket, self.now);
        self.collect();
        self.next_ticket
    }

    fn synced(&mut self, ticket: Ticket) -> Synced {
        match self.replies.remove(&ticket) {
            Some(Reply::Synced(synced)) => synced,
            other => panic!("{other:?}"),
        }
    }

    fn is_waiting(&self, ticket: Ticket) -> bool {
        !self.replies.contains_key(&ticket)
    }

    fn heartbeat(&mut self, member: &str, generation: i32) -> ErrorCode {
        let code = self.groups.heartbeat(Caller { group: "g", generation, member, instance: None }, self.now);
        self.collect();
        code
    }

    fn leave(&mut self, member: &str) -> ErrorCode {
        let code = self.groups.leave("g", member, None, self.now);
        self.collect();
        code
    }

    fn state(&self) -> GroupState {
        self.groups.describe("g").unwrap().state
    }

    /// A stable group of this many members; the first leads.
    fn stable(&mut self, count: usize) -> (Vec<String>, i32) {
        let ticket = self.join("");
        let mut ids = vec![self.joined(ticket).member];
        let mut generation = 1;
        for _ in 1..count {
            let new = self.join("");
            let again: Vec<Ticket> = ids.clone().iter().map(|id| self.join(id)).collect();
            let joined = self.joined(new);
            again.into_iter().for_each(|ticket| assert_eq!(self.joined(ticket).generation, joined.generation));
            ids.push(joined.member);
            generation = joined.generation;
        }
        let syncs: Vec<Ticket> = ids[1..].to_vec().iter().map(|id| self.sync(id, generation, &[])).collect();
        let lead = self.sync(&ids[0].clone(), generation, &[]);
        syncs.into_iter().chain([lead]).for_each(|ticket| assert_eq!(self.synced(ticket).error, ErrorCode::NONE));
        assert_eq!(self.state(), GroupState::Stable);
        (ids, generation)
    }
}

fn protocol(name: &str, metadata: &'static [u8]) -> Protocol {
    Protocol { name: name.to_owned(), metadata: Bytes::from_static(metadata) }
}

#[test]
fn a_first_member_leads_at_once_without_an_initial_delay() {
    let mut world = World::new();
    let ticket = world.join("");
    let joined = world.joined(ticket);
    assert_eq!((joined.error, joined.generation), (ErrorCode::NONE, 1));
    assert_eq!(joined.leader, joined.member);
    assert_eq!(joined.members, [(joined.member.clone(), None, Bytes::from_static(b"m"))]);
    assert_eq!(joined.protocol.as_deref(), Some("range"));
    let ticket = world.sync(&joined.member, 1, &[(&joined.member, b"mine")]);
    assert_eq!(world.synced(ticket).assignment, &b"mine"[..]);
    assert_eq!(world.heartbeat(&joined.member, 1), ErrorCode::NONE);
}

#[test]
fn from_version_4_a_member_is_told_its_id_first_and_holds_the_rebalance_until_it_comes_back() {
    let mut world = World::new();
    let ticket = world.join_as("", |join| join.member_id_required = true);
    let told = world.joined(ticket);
    assert_eq!(told.error, ErrorCode::MEMBER_ID_REQUIRED);
    let early = world.join("");
    assert!(world.is_waiting(early), "somebody else is expected");
    let ticket = world.join_as(&told.member, |join| join.member_id_required = true);
    assert_eq!(world.join_error(ticket), ErrorCode::NONE);
    assert_eq!(world.join_error(early), ErrorCode::NONE);

    let mut world = World::new();
    let ticket = world.join_as("", |join| join.member_id_required = true);
    let told = world.joined(ticket);
    let early = world.join("");
    world.pass(SESSION);
    assert_eq!(world.join_error(early), ErrorCode::NONE, "it never came");
    let ticket = world.join_as(&told.member, |_| {});
    assert_eq!(world.join_error(ticket), ErrorCode::UNKNOWN_MEMBER_ID);
}

#[test]
fn a_new_member_makes_the_others_rejoin() {
    let mut world = World::new();
    let (ids, generation) = world.stable(1);
    let new = world.join("");
    assert!(world.is_waiting(new));
    assert_eq!(world.heartbeat(&ids[0], generation), ErrorCode::REBALANCE_IN_PROGRESS);
    let again = world.join(&ids[0]);
    let (first, second) = (world.joined(again), world.joined(new));
    assert_eq!((first.generation, second.generation), (2, 2));
    assert_eq!((first.members.len(), second.members.len()), (2, 0), "only the leader hears of all");
    assert_eq!(first.leader, second.leader);
    let early = world.sync(&second.member, 2, &[]);
    assert!(world.is_waiting(early), "until the leader speaks");
    let late = world.sync(&first.member, 2, &[(&second.member, b"two")]);
    assert_eq!(world.synced(early).assignment, &b"two"[..]);
    assert_eq!(world.synced(late).assignment, &b""[..]);
    assert_eq!(world.sync(&second.member, 1, &[]), world.next_ticket);
    let ticket = world.next_ticket;
    assert_eq!(world.synced(ticket).error, ErrorCode::ILLEGAL_GENERATION);
}

#[test]
fn a_member_that_does_not_rejoin_in_time_is_out() {
    let mut world = World::new();
    let (ids, generation) = world.stable(2);
    let new = world.join("");
    for _ in 0..5 {
        world.pass(Duration::from_secs(9));
        for id in &ids {
            assert_eq!(world.heartbeat(id, generation), ErrorCode::REBALANCE_IN_PROGRESS);
        }
    }
    let again = world.join(&ids[0]);
    world.pass(Duration::from_secs(16));
    assert_eq!(world.join_error(again), ErrorCode::NONE);
    assert_eq!(world.join_error(new), ErrorCode::NONE);
    assert_eq!(world.heartbeat(&ids[1], generation), ErrorCode::UNKNOWN_MEMBER_ID);
}

#[test]
fn a_silent_member_loses_its_session_and_the_others_rebalance() {
    let mut world = World::new();
    let (ids, generation) = world.stable(3);
    world.pass(SESSION - Duration::from_millis(1));
    assert_eq!(world.heartbeat(&ids[0], generation), ErrorCode::NONE);
    assert_eq!(world.heartbeat(&ids[1], generation), ErrorCode::NONE);
    world.pass(Duration::from_millis(1));
    assert_eq!(world.heartbeat(&ids[2], generation), ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(world.heartbeat(&ids[1], generation), ErrorCode::REBALANCE_IN_PROGRESS);
    let tickets = [world.join(&ids[1]), world.join(&ids[0])];
    for ticket in tickets {
        assert_eq!(world.joined(ticket).generation, generation + 1);
    }
}

#[test]
fn a_leader_that_never_hands_out_assignments_is_out() {
    let mut world = World::new();
    let (ids, _) = world.stable(2);
    let tickets = [world.join(&ids[0]), world.join(&ids[1])];
    let generation = tickets.map(|ticket| world.joined(ticket).generation)[0];
    let waiting = world.sync(&ids[1], generation, &[]);
    for _ in 0..7 {
        world.pass(Duration::from_secs(9));
        world.heartbeat(&ids[0], generation);
    }
    assert_eq!(world.synced(waiting).error, ErrorCode::REBALANCE_IN_PROGRESS);
    assert_eq!(world.heartbeat(&ids[0], generation), ErrorCode::UNKNOWN_MEMBER_ID);
    let ticket = world.join(&ids[1]);
    let joined = world.joined(ticket);
    assert_eq!((joined.error, &joined.leader), (ErrorCode::NONE, &ids[1]));
}

#[test]
fn the_last_member_leaving_empties_the_group_and_later_it_is_forgotten() {
    let mut world = World::new();
    let (ids, _) = world.stable(1);
    assert_eq!(world.leave("nobody"), ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(world.leave(&ids[0]), ErrorCode::NONE);
    assert_eq!(world.state(), GroupState::Empty);
    let ticket = world.join("");
    assert_eq!(world.joined(ticket).generation, 3, "generations go on");
    let member = world.groups.describe("g").unwrap().members[0].member.clone();
    assert!(!world.groups.delete("g"));
    world.leave(&member);
    world.pass(GROUP_EMPTY_KEEP * 2);
    assert!(world.groups.describe("g").is_none());
    assert_eq!(world.groups.next_deadline(), None);
}

#[test]
fn an_empty_group_is_not_forgotten_while_somebody_is_about_to_join_and_time_goes_on() {
    // The deadline of the empty group stayed in the past while its newcomer was expected: the timer never ended.
    let mut world = World::new();
    let (ids, _) = world.stable(1);
    world.leave(&ids[0]);
    world.pass(GROUP_EMPTY_KEEP - SESSION / 2);
    let told = world.join_as("", |join| join.member_id_required = true);
    let member = world.joined(told).member;
    world.pass(SESSION / 2);
    let ticket = world.join(&member);
    assert_eq!(world.joined(ticket).error, ErrorCode::NONE);
}

#[test]
fn who_dies_while_its_leader_thinks_is_out_when_its_own_session_ends() {
    // While it waited its session did not count, and the schedule was not looked at again when it got its assignment.
    let mut world = World::new();
    let leader = world.join("");
    let leader = world.joined(leader).member;
    let dead = world.join_as("", |join| join.session_timeout = SESSION / 10);
    let again = world.join(&leader);
    let (generation, dead) = (world.joined(again).generation, world.joined(dead).member);
    let ticket = world.sync(&dead, generation, &[]);
    world.pass(SESSION / 5);
    let lead = world.sync(&leader, generation, &[]);
    assert_eq!((world.synced(lead).error, world.synced(ticket).error), (ErrorCode::NONE, ErrorCode::NONE));
    world.pass(SESSION / 5);
    assert_eq!(world.heartbeat(&leader, generation), ErrorCode::REBALANCE_IN_PROGRESS);
}

#[test]
fn a_static_member_comes_back_without_a_rebalance_and_its_old_self_is_fenced() {
    let mut world = World::new();
    let fixed = |join: &mut JoinGroup| join.instance = Some("i1".to_owned());
    let ticket = world.join_as("", fixed);
    let old = world.joined(ticket);
    let ticket = world.sync(&old.member, 1, &[(&old.member, b"all")]);
    assert_eq!(world.synced(ticket).error, ErrorCode::NONE);
    let ticket = world.join_as("", fixed);
    let new = world.joined(ticket);
    assert_eq!((new.error, new.generation), (ErrorCode::NONE, 1), "the same generation");
    assert_ne!(new.member, old.member);
    assert_eq!(world.state(), GroupState::Stable);
    let ticket = world.sync(&new.member, 1, &[]);
    assert_eq!(world.synced(ticket).assignment, &b"all"[..], "and the same assignment");
    let old_self = Caller { group: "g", generation: 1, member: &old.member, instance: Some("i1") };
    assert_eq!(world.groups.heartbeat(old_self, world.now), ErrorCode::FENCED_INSTANCE_ID);
    let ticket = world.join_as(&old.member, fixed);
    assert_eq!(world.join_error(ticket), ErrorCode::FENCED_INSTANCE_ID);
    assert_eq!(world.groups.leave("g", "", Some("i1"), world.now), ErrorCode::NONE);
    assert_eq!(world.state(), GroupState::Empty);
}

#[test]
fn the_protocol_most_members_prefer_is_chosen_and_strangers_are_refused() {
    let mut world = World::new();
    let speak = |names: &'static [&'static str]| {
        move |join: &mut JoinGroup| join.protocols = names.iter().map(|name| protocol(name, b"m")).collect()
    };
    let first = world.join_as("", speak(&["a", "b"]));
    let id = world.joined(first).member;
    let second = world.join_as("", speak(&["b", "c"]));
    let again = world.join_as(&id, speak(&["a", "b"]));
    assert_eq!(world.joined(second).protocol.as_deref(), Some("b"));
    assert_eq!(world.joined(again).protocol.as_deref(), Some("b"));
    let stranger = world.join_as("", speak(&["a"]));
    assert_eq!(world.join_error(stranger), ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
    let connect = world.join_as("", |join| join.protocol_type = "connect".to_owned());
    assert_eq!(world.join_error(connect), ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
}

#[test]
fn malformed_joins_are_refused() {
    for (row, (change, expected)) in [
        (
            Box::new(|join: &mut JoinGroup| join.group.clear()) as Box<dyn Fn(&mut JoinGroup)>,
            ErrorCode::INVALID_GROUP_ID,
        ),
        (Box::new(|join| join.session_timeout = Duration::from_millis(1)), ErrorCode::INVALID_SESSION_TIMEOUT),
        (Box::new(|join| join.session_timeout = Duration::from_secs(1_000_000)), ErrorCode::INVALID_SESSION_TIMEOUT),
        (Box::new(|join| join.protocols.clear()), ErrorCode::INCONSISTENT_GROUP_PROTOCOL),
        (Box::new(|join| join.protocol_type.clear()), ErrorCode::INCONSISTENT_GROUP_PROTOCOL),
        (Box::new(|join| join.member = "unheard of".to_owned()), ErrorCode::UNKNOWN_MEMBER_ID),
        (Box::new(|join| join.protocols[0].metadata = vec![0; 2 << 20].into()), ErrorCode::INVALID_REQUEST),
    ]
    .into_iter()
    .enumerate()
    {
        let mut world = World::new();
        let ticket = world.join_as("", |join| change(join));
        assert_eq!(world.join_error(ticket), expected, "row {row}");
        assert!(world.groups.describe("g").is_none(), "row {row}: nothing is left behind");
    }
}

#[test]
fn a_group_has_a_largest_size() {
    let mut world = World::new();
    for _ in 0..GROUP_MEMBERS_MAX {
        let ticket = world.join_as("", |join| join.member_id_required = true);
        assert_eq!(world.join_error(ticket), ErrorCode::MEMBER_ID_REQUIRED);
    }
    let ticket = world.join_as("", |join| join.member_id_required = true);
    assert_eq!(world.join_error(ticket), ErrorCode::GROUP_MAX_SIZE_REACHED);
}

#[test]
fn commits_are_taken_from_current_members_and_from_anybody_while_there_is_none() {
    let mut world = World::new();
    let caller = |generation, member| Caller { group: "g", generation, member, instance: None };
    assert_eq!(world.groups.may_commit(caller(-1, ""), world.now), Ok(()));
    assert_eq!(world.groups.may_commit(caller(1, "m"), world.now), Err(ErrorCode::ILLEGAL_GENERATION));
    let (ids, generation) = world.stable(1);
    assert_eq!(world.groups.may_commit(caller(generation, &ids[0]), world.now), Ok(()));
    assert_eq!(world.groups.may_commit(caller(9, &ids[0]), world.now), Err(ErrorCode::ILLEGAL_GENERATION));
    assert_eq!(world.groups.may_commit(caller(-1, ""), world.now), Err(ErrorCode::UNKNOWN_MEMBER_ID));
    let new = world.join("");
    assert!(world.is_waiting(new));
    assert_eq!(world.groups.may_commit(caller(generation, &ids[0]), world.now), Ok(()), "before it rejoins");
    let again = world.join(&ids[0]);
    assert_eq!(world.join_error(again), ErrorCode::NONE);
    assert_eq!(
        world.groups.may_commit(caller(generation + 1, &ids[0]), world.now),
        Err(ErrorCode::REBALANCE_IN_PROGRESS)
    );
}

/// A client as the protocol wants it: joins, syncs, heartbeats, and does what the errors say.
#[derive(Default)]
struct Simulated {
    alive: bool,
    member: String,
    generation: i32,
    joining: Option<Ticket>,
    syncing: Option<Ticket>,
    leader_of: Vec<String>,
    stable: bool,
}

impl Simulated {
    fn act(&mut self, world: &mut World) {
        if let Some(ticket) = self.joining {
            let Some(Reply::Joined(joined)) = world.replies.remove(&ticket) else { return };
            self.joining = None;
            match joined.error {
                ErrorCode::NONE => {
                    assert!(joined.generation > self.generation || self.generation == -1, "generations grow");
                    self.leader_of = joined.members.into_iter().map(|(id, ..)| id).collect();
                    self.member = joined.member;
                    self.generation = joined.generation;
                    let all: Vec<(String, Bytes)> =
                        self.leader_of.iter().map(|id| (id.clone(), Bytes::from(id.clone()))).collect();
                    world.next_ticket += 1;
                    let ticket = world.next_ticket;
                    world.groups.sync(sync_group(&self.member, self.generation, all), ticket, world.now);
                    world.collect();
                    self.syncing = Some(ticket);
                }
                ErrorCode::MEMBER_ID_REQUIRED => self.member = joined.member,
                ErrorCode::UNKNOWN_MEMBER_ID => self.forget(),
                ErrorCode::REBALANCE_IN_PROGRESS => {}
                other => panic!("{other:?}"),
            }
            return;
        }
        if let Some(ticket) = self.syncing {
            let Some(Reply::Synced(synced)) = world.replies.remove(&ticket) else { return };
            self.syncing = None;
            match synced.error {
                ErrorCode::NONE => {
                    assert_eq!(synced.assignment, self.member.as_bytes(), "the assignment is its own");
                    self.stable = true;
                }
                ErrorCode::UNKNOWN_MEMBER_ID => self.forget(),
                ErrorCode::REBALANCE_IN_PROGRESS | ErrorCode::ILLEGAL_GENERATION => {}
                other => panic!("{other:?}"),
            }
            return;
        }
        if self.stable {
            match world.heartbeat(&self.member.clone(), self.generation) {
                ErrorCode::NONE => return,
                ErrorCode::REBALANCE_IN_PROGRESS | ErrorCode::ILLEGAL_GENERATION => self.stable = false,
                ErrorCode::UNKNOWN_MEMBER_ID => self.forget(),
                other => panic!("{other:?}"),
            }
        }
        let ticket = world.join_as(&self.member.clone(), |join| join.member_id_required = true);
        self.joining = Some(ticket);
    }

    fn forget(&mut self) {
        *self = Simulated { alive: self.alive, generation: -1, ..Simulated::default() };
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn clients_that_come_and_go_at_random_agree_once_they_are_left_alone(seed in any::<u64>()) {
        let mut random = seed;
        let mut world = World::new();
        let mut clients: Vec<Simulated> =
            (0..5).map(|_| Simulated { alive: true, generation: -1, ..Simulated::default() }).collect();
        for _ in 0..400 {
            let dice = splitmix(&mut random);
            let at = (dice >> 32) as usize % clients.len();
            match dice % 40 {
                0 => world.pass(Duration::from_millis(dice >> 40 & 0x3fff)),
                1 => clients[at].alive = false,
                2 => {
                    let member = clients[at].member.clone();
                    let waits = clients[at].joining.is_some() || clients[at].syncing.is_some();
                    if clients[at].alive && !member.is_empty() && !waits {
                        world.leave(&member);
                        clients[at].forget();
                    }
                }
                3 if !clients[at].alive => {
                    clients[at].forget();
                    clients[at].alive = true;
                }
                _ if clients[at].alive => clients[at].act(&mut world),
                _ => {}
            }
        }
        // Left alone: everyone acts every second; within three rebalance timeouts they must agree.
        for _ in 0..200 {
            for client in clients.iter_mut().filter(|client| client.alive) {
                client.act(&mut world);
            }
            world.pass(Duration::from_secs(1));
        }
        let alive: Vec<&Simulated> = clients.iter().filter(|client| client.alive).collect();
        match world.groups.describe("g") {
            Some(group) if !alive.is_empty() => {
                prop_assert_eq!(group.state, GroupState::Stable);
                prop_assert_eq!(group.members.len(), alive.len());
                prop_assert!(alive.iter().all(|client| client.stable && client.generation == alive[0].generation));
                prop_assert_eq!(alive.iter().filter(|client| client.leader_of.len() == alive.len()).count(), 1);
            }
            Some(group) => prop_assert_eq!(group.state, GroupState::Empty),
            None => prop_assert!(alive.is_empty()),
        }
    }
}
