//! What a walk finds of a rule's message: where topics, groups, switches and codes stand.

use std::ops::Range;

use kafka_wire::WireError;
use kafka_wire::shape::{Field, Kind, Visit, Visitor, walk_with};

use crate::limits::TENANT_TOPICS_MAX;
use crate::tenant::fill::{ERROR_CODE, THROTTLE};
use crate::tenant::rules::{Message, Topics};

/// A topic's id in Kafka.
pub type TopicId = [u8; 16];
/// What stands where there is none.
pub const NO_ID: TopicId = [0; 16];

/// One message, walked.
#[derive(Debug, Default)]
pub struct Found {
    pub arrays: Vec<TopicArray>,
    /// Groups and transactional ids.
    pub owned: Vec<Range<usize>>,
    /// Structures with such a name, in the order of `owned`, where they are elements of an array.
    pub owners: Vec<Owner>,
    /// The count of that array.
    pub owners_count_at: Option<Range<usize>>,
    /// Flags that must be off.
    pub off: Vec<Range<usize>>,
    /// Node ids that must be nobody's.
    pub nobody: Vec<Range<usize>>,
    pub throttle: Option<Range<usize>>,
    /// Sentences a broker wrote.
    pub sentences: Vec<Range<usize>>,
    /// The code of the whole message.
    pub error: Option<Range<usize>>,
}

/// An array of elements that each belong to somebody.
#[derive(Debug, Default)]
pub struct Owner {
    pub name: Range<usize>,
    pub whole: Range<usize>,
}

/// An array of topics.
#[derive(Debug)]
pub struct TopicArray {
    pub topics: &'static Topics,
    pub count_at: Range<usize>,
    /// The group it is in, where a message is about several.
    pub group: Option<Range<usize>>,
    pub found: Vec<Topic>,
}

impl TopicArray {
    /// From its count to its end.
    pub fn whole(&self) -> Range<usize> {
        self.count_at.start..self.found.last().map_or(self.count_at.end, |topic| topic.whole.end)
    }
}

/// One topic.
#[derive(Debug, Default)]
pub struct Topic {
    pub whole: Range<usize>,
    /// Empty where it is named by its id.
    pub name: Range<usize>,
    pub id: Range<usize>,
    pub partitions: Vec<i32>,
}

/// A visitor for one rule's message, which passes all it is told on to a second one.
struct Walk<'a, V> {
    body: &'a [u8],
    message: &'static Message,
    found: Found,
    /// Depth of the array of topics that is being walked.
    depth: u8,
    /// Depth of the array of owners that is being walked, and where its next element begins.
    owners: Option<(u8, &'static str, usize)>,
    owners_count_at: Option<Range<usize>>,
    then: &'a mut V,
}

/// For whom needs no more than [`Found`].
pub struct Nothing;

impl Visitor for Nothing {
    fn field(&mut self, _: Visit) {}
}

/// Walks a body.
pub fn find(message: &'static Message, version: i16, body: &[u8]) -> Result<Found, WireError> {
    find_and(message, version, body, &mut Nothing)
}

/// Walks a body once for two.
pub fn find_and(
    message: &'static Message,
    version: i16,
    body: &[u8],
    then: &mut impl Visitor,
) -> Result<Found, WireError> {
    let mut walk = Walk { body, message, found: Found::default(), depth: 0, owners: None, owners_count_at: None, then };
    walk_with(message.shape, version, body, &mut walk)?;
    let mut found = walk.found;
    // Behind the last topic of an array stands one that never came.
    found.arrays.iter_mut().for_each(|array| drop(array.found.pop()));
    let count = found.arrays.iter().map(|array| array.found.len()).sum::<usize>();
    if count > TENANT_TOPICS_MAX {
        return Err(WireError::TooLarge {
            what: "topics",
            offset: 0,
            found: count as u64,
            limit: TENANT_TOPICS_MAX as u64,
        });
    }
    Ok(found)
}

impl<V: Visitor> Walk<'_, V> {
    fn topic_field(&mut self, visit: &Visit) {
        let Some(array) = self.found.arrays.last_mut() else { return };
        let Some(topic) = array.found.last_mut() else { return };
        let inside = visit.depth.checked_sub(self.depth);
        match visit.field.name {
            name if inside == Some(1) && name == array.topics.name => topic.name = visit.range.clone(),
            "topic_id" if inside == Some(1) => topic.id = visit.range.clone(),
            name if inside >= Some(1) && name == array.topics.partition && matches!(visit.kind, Kind::Int32) => {
                let bytes = &self.body[visit.range.clone()];
                topic.partitions.push(i32::from_be_bytes(bytes.try_into().expect("four bytes")));
            }
            _ => {}
        }
    }

    fn is_array_of_topics(&self, visit: &Visit) -> Option<&'static Topics> {
        let is_array = matches!(visit.kind, Kind::Array(_));
        self.message.topics.iter().find(|topics| is_array && topics.array == visit.field.name)
    }
}

impl<V: Visitor> Visitor for Walk<'_, V> {
    fn field(&mut self, visit: Visit) {
        if let Some(topics) = self.is_array_of_topics(&visit) {
            self.depth = visit.depth;
            let group = (visit.depth > 0).then(|| self.found.owned.last().cloned()).flatten();
            let start = visit.range.end;
            let first = Topic { whole: start..start, ..Topic::default() };
            self.found.arrays.push(TopicArray {
                topics,
                count_at: visit.range.clone(),
                group,
                // The one being walked; taken out again at its end.
                found: vec![first],
            });
        } else {
            self.topic_field(&visit);
        }
        let name = visit.field.name;
        if self.message.owned.contains(&name) && !matches!(visit.kind, Kind::Array(_)) {
            self.found.owned.push(visit.range.clone());
            if let Some((depth, _, start)) = self.owners
                && visit.depth == depth + 1
            {
                self.found.owners.push(Owner { name: visit.range.clone(), whole: start..start });
                self.found.owners_count_at = self.owners_count_at.clone();
            }
        }
        if matches!(visit.kind, Kind::Array(Kind::Struct(_))) && visit.depth == 0 {
            self.owners = Some((visit.depth, name, visit.range.end));
            self.owners_count_at = Some(visit.range.clone());
        }
        match name {
            THROTTLE => self.found.throttle = Some(visit.range.clone()),
            ERROR_CODE if visit.depth == 0 => self.found.error = Some(visit.range.clone()),
            "error_message" | "batch_index_error_message" => self.found.sentences.push(visit.range.clone()),
            _ if self.message.off.contains(&name) => self.found.off.push(visit.range.clone()),
            _ if self.message.nobody.contains(&name) => self.found.nobody.push(visit.range.clone()),
            _ => {}
        }
        self.then.field(visit);
    }

    fn element_end(&mut self, field: &'static Field, at: usize) {
        if let Some(array) = self.found.arrays.last_mut()
            && array.topics.array == field.name
            && let Some(topic) = array.found.last_mut()
        {
            topic.whole.end = at;
            array.found.push(Topic { whole: at..at, ..Topic::default() });
        }
        if let Some((_, array, start)) = &mut self.owners
            && *array == field.name
        {
            if let Some(owner) = self.found.owners.last_mut().filter(|owner| owner.whole.is_empty()) {
                owner.whole = *start..at;
            }
            *start = at;
        }
        self.then.element_end(field, at);
    }

    fn tagged_end(&mut self, field: &'static Field, range: Range<usize>) {
        self.then.tagged_end(field, range);
    }
}
