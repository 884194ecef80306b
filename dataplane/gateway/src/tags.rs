//! Tags: `X-Tag` on a poll, the record header `tag`, and the prefix the 2017 gateway put in front of payloads.
//!
//! Today a tag is one record header named `tag` with the tag as its value. In 2017 the value itself began with
//! `01 <tags joined by ;> 02`; topics with the option `strip_2017_tags` still hold such values.
//!
//! A filter lets a record through when the record has at least one of the filter's tags, byte for byte.

use bytes::Bytes;
use kafka_wire::record_batch::Record;

use crate::codes;
use crate::limits::TAG_BYTES_MAX;
use crate::refusal::Refusal;

/// Name of the record header that holds one tag.
pub const TAG_HEADER: &[u8] = b"tag";

const PREFIX_START: u8 = 0x01;
const PREFIX_END: u8 = 0x02;

/// A poll's `X-Tag`. Two filters are equal when they let the same records through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagFilter {
    /// Sorted, each once.
    tags: Vec<Box<[u8]>>,
}

impl TagFilter {
    /// Parses the header value: tags between semicolons, not trimmed. Without any tag there is no filter.
    pub fn parse(value: &[u8]) -> Result<Option<TagFilter>, Refusal> {
        if value.len() > TAG_BYTES_MAX {
            let message = format!("X-Tag has {} bytes, at most {TAG_BYTES_MAX} are allowed", value.len());
            return Err(Refusal::new(codes::ILLEGAL_TAG, message));
        }
        let mut tags: Vec<Box<[u8]>> = split(value).map(Box::from).collect();
        tags.sort_unstable();
        tags.dedup();
        Ok((!tags.is_empty()).then_some(TagFilter { tags }))
    }

    /// Whether `record` has one of the tags.
    pub fn lets_through(&self, record: &Record, strip_2017_tags: bool) -> bool {
        let has = |tag: &[u8]| self.tags.binary_search_by(|own| (**own).cmp(tag)).is_ok();
        let of_header = |(name, value): (&[u8], Option<&[u8]>)| name == TAG_HEADER && value.is_some_and(has);
        record.headers.iter_refs().any(of_header)
            || strip_2017_tags && record.value.as_ref().is_some_and(|value| split(&split_2017(value).0).any(has))
    }
}

/// Tags of a list, empty ones left out.
pub fn split(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|byte| *byte == b';').filter(|tag| !tag.is_empty())
}

/// Takes the 2017 prefix off a value: its tag list and the payload behind it. A value without a complete prefix is all
/// payload.
pub fn split_2017(value: &Bytes) -> (Bytes, Bytes) {
    if value.first() != Some(&PREFIX_START) {
        return (Bytes::new(), value.clone());
    }
    match value.iter().position(|byte| *byte == PREFIX_END) {
        Some(end) => (value.slice(1..end), value.slice(end + 1..)),
        None => (Bytes::new(), value.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subscribe::framing::tests::record;

    #[test]
    fn filters_are_sets_of_tags() {
        let same = |a: &str, b: &str| TagFilter::parse(a.as_bytes()) == TagFilter::parse(b.as_bytes());
        assert!(same("a;b", "b;a;a;"));
        assert!(!same("a;b", "a"));
        assert!(!same("a", " a"), "tags are not trimmed");
        assert_eq!(TagFilter::parse(b";").unwrap(), None);
        assert_eq!(TagFilter::parse(&[b'x'; 1025]).unwrap_err().code, "illegal_tag");
    }

    #[test]
    fn a_record_passes_with_any_of_the_tags_as_header_or_as_2017_prefix() {
        let filter = TagFilter::parse(b"a;b").unwrap().unwrap();
        let tagged = |tag: &'static [u8]| record(&[(b"tag", Some(tag))], Some(b"v"));
        assert!(filter.lets_through(&tagged(b"b"), false));
        assert!(!filter.lets_through(&tagged(b"ab"), false));
        assert!(!filter.lets_through(&record(&[(b"other", Some(b"a"))], None), false));
        let old = record(&[], Some(b"\x01x;a\x02payload"));
        assert!(filter.lets_through(&old, true));
        assert!(!filter.lets_through(&old, false), "the topic's option decides");
    }

    #[test]
    fn the_2017_prefix_comes_off_only_when_it_is_complete() {
        for (value, tags, payload) in [
            (&b"\x01a;b\x02rest\x02"[..], &b"a;b"[..], &b"rest\x02"[..]),
            (b"\x01\x02rest", b"", b"rest"),
            (b"\x01no end", b"", b"\x01no end"),
            (b"plain", b"", b"plain"),
            (b"", b"", b""),
        ] {
            let (found_tags, found_payload) = split_2017(&Bytes::copy_from_slice(value));
            assert_eq!((&found_tags[..], &found_payload[..]), (tags, payload));
        }
    }
}
