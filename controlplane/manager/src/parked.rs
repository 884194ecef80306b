//! What waits at a gateway for somebody because it cannot go on by itself: messages whose topic is gone, jobs that cannot fire.
//! Whatever it is, it is seen, tried again and let go in the same way.

use std::future::Future;
use std::pin::Pin;

use model::principals::Visible;

/// What a call returns: boxed, so that the traits can be objects.
pub type Answer<'a, T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send + 'a>>;

/// What one gateway has parked.
///
/// Whoever calls has been asked who they are: `apps` of a filter or selection is all that they may see or change, and nothing
/// of another app is told or touched.
pub trait Parking: Send + Sync {
    /// Which of it; what is not given is any.
    type Filter: Send + Sync;
    type Row: Send + Sync;
    type Error: Send;

    /// The oldest first: what is behind `after`, the cursor of a page before, and at most so many.
    fn parked<'a>(
        &'a self,
        filter: &'a Self::Filter,
        after: Option<&'a str>,
        rows_max: usize,
    ) -> Answer<'a, Page<Self::Row>, Self::Error>;

    /// Has it tried again, behind what waits for the same topics, at most so many with one call. Done when that is durable.
    /// Repeating is harmless: what is not parked is passed over.
    fn replay<'a>(&'a self, selected: &'a Selection<Self::Filter>, count_max: usize) -> Answer<'a, Done, Self::Error>;

    /// Lets it go for good, at most so many with one call. Repeating is harmless.
    fn discard<'a>(&'a self, selected: &'a Selection<Self::Filter>, count_max: usize) -> Answer<'a, Done, Self::Error>;
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Page<R> {
    pub rows: Vec<R>,
    /// Where the next page begins. `None`: this is the last one.
    pub cursor: Option<String>,
}

impl<R> Page<R> {
    /// Of the rows behind a cursor, of which one more was looked for than a page may have.
    pub fn cut(mut rows: Vec<R>, rows_max: usize, cursor: impl FnOnce(&R) -> String) -> Page<R> {
        let has_more = rows.len() > rows_max;
        rows.truncate(rows_max);
        let cursor = rows.last().filter(|_| has_more).map(cursor);
        Page { rows, cursor }
    }

    /// The same page with each row as `shown`; what is not shown is left out.
    pub fn map<S>(self, shown: impl FnMut(R) -> Option<S>) -> Page<S> {
        Page { rows: self.rows.into_iter().filter_map(shown).collect(), cursor: self.cursor }
    }
}

/// What is to be replayed or dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection<F> {
    /// By their ids; those of other apps are passed over.
    Ids {
        apps: Visible,
        ids: Vec<String>,
    },
    Matching(F),
}

/// What was done with one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Done {
    pub count: u64,
    /// The selection has more; the same call goes on.
    pub more: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_a_cursor_when_there_is_more_and_only_then() {
        for (found, rows_max, expected) in
            [(0, 2, (0, None)), (2, 2, (2, None)), (3, 2, (2, Some("after 1"))), (1, 0, (0, None))]
        {
            let page = Page::cut((0..found).collect(), rows_max, |last: &u64| format!("after {last}"));
            assert_eq!((page.rows.len(), page.cursor.as_deref()), expected, "{found} of {rows_max}");
        }
        let page = Page::cut(vec![1, 2, 3], 2, |_| "on".to_owned()).map(|row| (row != 2).then_some(row * 10));
        assert_eq!(page, Page { rows: vec![10], cursor: Some("on".to_owned()) }, "what is not shown ends no list");
    }
}
