//! The "range" assignor: which member of a group reads which partitions.
//!
//! Per topic, the members subscribed to it stand in a line, static members by instance id before dynamic ones by member
//! id, and each takes a contiguous range; the first `partitions % members` of them take one more. Java, librdkafka and
//! kafka-python compute the same (KIP-881's rack matching only applies when members send racks, which we don't), so it
//! does not matter who of a mixed group leads it.
//!
//! 7 partitions, 3 members: `a` gets 0 1 2, `b` gets 3 4, `c` gets 5 6.

use std::collections::BTreeMap;

/// The protocol's name on the wire, and that of the only assignor every Kafka client has.
pub const NAME: &str = "range";

/// A member as its JoinGroup described it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub id: String,
    pub instance_id: Option<String>,
    pub topics: Vec<String>,
}

/// One member's partitions, by topic in name order.
pub type Share = Vec<(String, Vec<i32>)>;

/// Shares in the order of `members`; every member has one, maybe empty. `partition_count` is 0 for an unknown topic.
pub fn range(members: &[Member], partition_count: impl Fn(&str) -> i32) -> Vec<Share> {
    let mut line: Vec<usize> = (0..members.len()).collect();
    line.sort_by(|&a, &b| order(&members[a]).cmp(&order(&members[b])));

    let mut subscribers: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for &index in &line {
        for topic in &members[index].topics {
            let of_topic = subscribers.entry(topic).or_default();
            if of_topic.last() != Some(&index) {
                of_topic.push(index); // a member that names a topic twice still stands in the line once
            }
        }
    }

    let mut shares: Vec<Share> = vec![Share::new(); members.len()];
    for (topic, of_topic) in subscribers {
        let partition_count = partition_count(topic).max(0) as usize;
        let each = partition_count / of_topic.len();
        let extra = partition_count % of_topic.len();
        for (place, &index) in of_topic.iter().enumerate() {
            let first = each * place + place.min(extra);
            let count = each + usize::from(place < extra);
            if count > 0 {
                shares[index].push((topic.to_owned(), (first..first + count).map(|p| p as i32).collect()));
            }
        }
    }
    shares
}

/// Java's `MemberInfo.compareTo`: static members first, by instance id; then dynamic ones by member id.
fn order(member: &Member) -> (bool, &str) {
    match &member.instance_id {
        Some(instance_id) => (false, instance_id),
        None => (true, &member.id),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn member(id: &str, topics: &[&str]) -> Member {
        Member { id: id.into(), instance_id: None, topics: topics.iter().map(|t| (*t).to_owned()).collect() }
    }

    /// `members` as "id:topic,topic", `counts` as "topic=n"; the answer as "id: topic[0, 1]".
    fn check(members: &[&str], counts: &[(&str, i32)], expected: &[&str]) {
        let members: Vec<Member> = members
            .iter()
            .map(|m| {
                let (id, topics) = m.split_once(':').unwrap();
                let (id, instance_id) = id.split_once('@').map_or((id, None), |(id, i)| (id, Some(i.to_owned())));
                Member { instance_id, ..member(id, &topics.split(',').collect::<Vec<_>>()) }
            })
            .collect();
        let shares =
            range(&members, |topic| counts.iter().find(|(name, _)| *name == topic).map_or(0, |(_, count)| *count));
        let text: Vec<String> = members
            .iter()
            .zip(&shares)
            .map(|(m, share)| {
                let parts: Vec<String> = share.iter().map(|(t, p)| format!("{t}{p:?}")).collect();
                format!("{}: {}", m.id, parts.join(" "))
            })
            .collect();
        assert_eq!(text, expected);
    }

    /// The cases of Java's RangeAssignorTest, recomputed by hand from its rule.
    #[test]
    fn shares_are_those_of_the_java_range_assignor() {
        check(&["c:t"], &[("t", 3)], &["c: t[0, 1, 2]"]);
        check(&["b:t", "a:t"], &[("t", 1)], &["b: ", "a: t[0]"]);
        check(&["a:t", "b:t"], &[("t", 2)], &["a: t[0]", "b: t[1]"]);
        check(&["a:t", "c:t", "b:t"], &[("t", 7)], &["a: t[0, 1, 2]", "c: t[5, 6]", "b: t[3, 4]"]);
        check(&["1:t1", "2:t1,t2", "3:t1"], &[("t1", 3), ("t2", 2)], &["1: t1[0]", "2: t1[1] t2[0, 1]", "3: t1[2]"]);
        check(&["1:a,b", "2:a,b"], &[("a", 3), ("b", 3)], &["1: a[0, 1] b[0, 1]", "2: a[2] b[2]"]);
    }

    #[test]
    fn a_topic_nobody_knows_yields_no_partition() {
        check(&["a:x,t"], &[("t", 1)], &["a: t[0]"]);
    }

    #[test]
    fn static_members_stand_before_dynamic_ones_and_by_instance_id() {
        check(&["a:t", "z@2:t", "y@1:t"], &[("t", 3)], &["a: t[2]", "z: t[1]", "y: t[0]"]);
    }

    #[test]
    fn a_topic_named_twice_by_a_member_counts_once() {
        check(&["a:t,t", "b:t"], &[("t", 4)], &["a: t[0, 1]", "b: t[2, 3]"]);
    }

    proptest! {
        #[test]
        fn every_partition_has_exactly_one_reader_and_no_two_shares_differ_by_more_than_one(
            members in 1usize..20, partitions in 0i32..100,
        ) {
            let members: Vec<Member> = (0..members).map(|i| member(&format!("m{i}"), &["t"])).collect();
            let shares = range(&members, |_| partitions);
            let sizes: Vec<usize> = shares.iter().map(|s| s.iter().map(|(_, p)| p.len()).sum()).collect();
            prop_assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1);
            let mut all: Vec<i32> = shares.into_iter().flatten().flat_map(|(_, p)| p).collect();
            all.sort_unstable();
            prop_assert_eq!(all, (0..partitions).collect::<Vec<_>>());
        }
    }
}
