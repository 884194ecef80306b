//! How topics are found other than by name: by id, and by the name metrics would give them.
//!
//! Kafka takes `.` and `_` for the same in the names of its metrics, so of `a.b` and `a_b` only one may exist.

use foldhash::HashMap;

use crate::state::catalogue::{TopicId, TopicMeta};

/// Both indexes over the catalogue. Whoever makes or deletes a topic tells them.
#[derive(Default)]
pub struct TopicNames {
    by_id: HashMap<TopicId, String>,
    /// Names with a `.` or `_`, the first replaced by the second, and the name that is there.
    folded: HashMap<String, String>,
}

impl TopicNames {
    pub fn insert(&mut self, topic: &TopicMeta) {
        self.by_id.insert(topic.id, topic.name.clone());
        if let Some(folded) = fold(&topic.name) {
            self.folded.insert(folded, topic.name.clone());
        }
    }

    pub fn remove(&mut self, topic: &TopicMeta) {
        self.by_id.remove(&topic.id);
        if let Some(folded) = fold(&topic.name)
            && self.folded.get(&folded) == Some(&topic.name)
        {
            self.folded.remove(&folded);
        }
    }

    /// The topic with this id.
    pub fn by_id(&self, id: &TopicId) -> Option<&str> {
        self.by_id.get(id).map(String::as_str)
    }

    /// Another topic that a new one of this name could not be told from.
    pub fn collides(&self, name: &str) -> Option<&str> {
        self.folded.get(&fold(name)?).map(String::as_str).filter(|other| *other != name)
    }
}

fn fold(name: &str) -> Option<String> {
    name.contains(['.', '_']).then(|| name.replace('.', "_"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::configs::Overrides;

    fn topic(name: &str, id: u8) -> TopicMeta {
        let (overrides, start_offsets) = (Overrides::new(), Default::default());
        TopicMeta { id: [id; 16], name: name.to_owned(), partitions: 1, overrides, start_offsets }
    }

    #[test]
    fn a_name_collides_with_one_that_differs_in_dots_and_underscores_only() {
        let mut names = TopicNames::default();
        names.insert(&topic("a.b_c", 1));
        names.insert(&topic("plain", 2));
        for (name, other) in [
            ("a_b_c", Some("a.b_c")),
            ("a.b.c", Some("a.b_c")),
            ("a.b_c", None),
            ("a-b_c", None),
            ("plain", None),
            ("a_b", None),
        ] {
            assert_eq!(names.collides(name), other, "{name}");
        }
        assert_eq!(names.by_id(&[2; 16]), Some("plain"));
        names.remove(&topic("a.b_c", 1));
        assert_eq!((names.collides("a_b_c"), names.by_id(&[1; 16])), (None, None));
    }
}
