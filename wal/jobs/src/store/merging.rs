//! A merge takes as long as its tables are large, minutes at a hundred million jobs, and memory has room for seconds: so it is done
//! piece by piece, and between two pieces the thread of the tables writes what memory has, and what is known.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use disk::{Operation, Outcome, WaitedDisk};

use super::Shared;
use super::tables::{chain, open};
use crate::key::Key;
use crate::table::{self, Merged, StoreId, Table, Target};

/// What came of a merge.
pub(super) struct Done {
    pub merged: Merged,
    /// None: no job of it waits.
    pub opened: Option<Arc<Table>>,
    pub inputs: Vec<Arc<Table>>,
}

/// See the module. Dropped before its end it leaves files behind; told to stop, and gone on with, it does not.
pub(super) struct Merging<'d> {
    merge: Pin<Box<dyn Future<Output = Result<Done, String>> + 'd>>,
    is_paused: Rc<Cell<bool>>,
}

impl<'d> Merging<'d> {
    /// Begins nothing before it is gone on with.
    pub fn new<D: WaitedDisk>(
        disk: &'d D,
        shared: Arc<Shared>,
        dir: &'d Path,
        store: StoreId,
        (inputs, number, tier): (Vec<u64>, u64, u8),
    ) -> Merging<'d> {
        let is_paused = Rc::new(Cell::new(false));
        let piece = shared.config.limits.merge_piece.max(1);
        let disk = Pausing { disk, piece, operations: Cell::new(0), is_paused: Rc::clone(&is_paused) };
        let merge = async move {
            let (tables, _) = shared.tables();
            let inputs: Vec<Arc<Table>> = inputs.iter().filter_map(|input| tables.get(input)).cloned().collect();
            let alive = shared.book().alive();
            let target = Target { dir, store, number, tier };
            let (limits, stop) = (shared.config.table_limits, &shared.is_closing);
            let is_alive = |seq, due_ms| alive.has(seq, due_ms);
            let taken: Vec<&Table> = inputs.iter().map(|table| &**table).collect();
            let merged = table::merge(&disk, target, &taken, Key::MIN, is_alive, limits, stop).await;
            let merged = merged.map_err(|err| chain(&err))?;
            let opened = match &merged.meta {
                Some(meta) => Some(open(&disk, dir, store, meta).await?),
                None => None,
            };
            drop(taken);
            Ok(Done { merged, opened, inputs })
        };
        Merging { merge: Box::pin(merge), is_paused }
    }

    /// The next piece. `None`: there is more.
    pub async fn piece(&mut self) -> Option<Result<Done, String>> {
        poll_fn(|cx| match self.merge.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending if self.is_paused.take() => Poll::Ready(None),
            // It waits for the disk.
            Poll::Pending => Poll::Pending,
        })
        .await
    }
}

/// A disk whose user pauses every now and then.
struct Pausing<'d, D> {
    disk: &'d D,
    piece: usize,
    operations: Cell<usize>,
    is_paused: Rc<Cell<bool>>,
}

impl<D: WaitedDisk> WaitedDisk for Pausing<'_, D> {
    async fn run(&self, operation: Operation) -> io::Result<Outcome> {
        self.operations.set(self.operations.get() + 1);
        if self.operations.get().is_multiple_of(self.piece) {
            self.is_paused.set(true);
            // Ready when it is looked at again, which whoever goes on does.
            poll_fn(|_| if self.is_paused.get() { Poll::Pending } else { Poll::Ready(()) }).await;
        }
        self.disk.run(operation).await
    }
}
