//! Waiting for the first of two futures, without a macro and without an allocation.

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

/// Which of two raced futures came first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Either<A, B> {
    First(A),
    Second(B),
}

/// Waits for whichever is ready first and drops the other; the first argument wins a tie. So race only what may be
/// dropped: `readable()`, `notified()`, `recv()`, timers; never a read or a write.
pub async fn race<A: Future, B: Future>(first: A, second: B) -> Either<A::Output, B::Output> {
    Race { first: pin!(first), second: pin!(second) }.await
}

struct Race<'a, A, B> {
    first: Pin<&'a mut A>,
    second: Pin<&'a mut B>,
}

impl<A: Future, B: Future> Future for Race<'_, A, B> {
    type Output = Either<A::Output, B::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Poll::Ready(value) = self.first.as_mut().poll(cx) {
            return Poll::Ready(Either::First(value));
        }
        self.second.as_mut().poll(cx).map(Either::Second)
    }
}
