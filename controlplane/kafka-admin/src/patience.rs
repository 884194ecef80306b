//! How long an operation goes on: what is tried again, after which pause, and when it is given up.

use std::time::{Duration, Instant};

use kafka_client::RequestError;
use kafka_wire::error_code::ErrorCode;

use crate::driver::Target;
use crate::error::{lost, refusal};
use crate::limits::{OPERATION_TIMEOUT, RETRY_FIRST, RETRY_MAX, UNREACHABLE_PATIENCE};
use crate::{AdminError, KafkaAdmin};

/// One operation's patience.
pub(crate) struct Patience<'a> {
    admin: &'a KafkaAdmin,
    began: Instant,
    /// When no broker could be reached for the first time.
    unreachable_since: Option<Instant>,
    lost: u32,
    pause: Duration,
    /// An attempt was sent and never answered: it may have worked.
    pub(crate) may_have_happened: bool,
}

impl<'a> Patience<'a> {
    pub(crate) fn new(admin: &'a KafkaAdmin) -> Self {
        let began = Instant::now();
        Self { admin, began, unreachable_since: None, lost: 0, pause: RETRY_FIRST, may_have_happened: false }
    }

    /// Whom to ask for a change. The controller; but with KRaft that is just a broker that forwards, picked by the
    /// cluster, and it may be the one that hangs. So after a request without answer, whoever is reachable, in turns.
    pub(crate) fn controller(&self) -> Target {
        if self.lost.is_multiple_of(2) { Target::Controller } else { Target::Any }
    }

    /// After a request without answer: pauses if another attempt can help, else says why not.
    pub(crate) async fn after_lost(&mut self, err: RequestError) -> Result<(), AdminError> {
        self.lost += 1;
        match &err {
            RequestError::Timeout { sent } => self.may_have_happened |= *sent,
            RequestError::Disconnected { .. } => self.may_have_happened = true,
            RequestError::Unreachable { .. } | RequestError::QueueFull => {
                let since = *self.unreachable_since.get_or_insert_with(Instant::now);
                if since.elapsed() + self.pause >= UNREACHABLE_PATIENCE {
                    return Err(match self.may_have_happened {
                        // An earlier attempt may have worked: nobody may be told that nothing happened.
                        true => AdminError::Timeout { why: err.to_string() },
                        false => lost(&err),
                    });
                }
            }
            RequestError::Authentication { .. }
            | RequestError::Unsupported { .. }
            | RequestError::Encode { .. }
            | RequestError::Malformed { .. }
            | RequestError::CoordinatorRefused { .. } => return Err(lost(&err)),
        }
        self.pause_within(OPERATION_TIMEOUT, || lost(&err)).await
    }

    /// After an answer with an error code about a topic: pauses if it passes by itself, else says what it means.
    pub(crate) async fn after_code(
        &mut self,
        code: ErrorCode,
        message: Option<&str>,
        topic: &str,
    ) -> Result<(), AdminError> {
        if !code.is_retriable() || code == ErrorCode::UNKNOWN_TOPIC_OR_PARTITION {
            return Err(refusal(code, message, topic));
        }
        if code == ErrorCode::REQUEST_TIMED_OUT {
            self.may_have_happened = true;
        }
        // NOT_CONTROLLER and its like: somebody else is, ask who.
        self.admin.refresh_metadata().await;
        self.pause_within(OPERATION_TIMEOUT, || AdminError::Timeout { why: code.name().to_owned() }).await
    }

    /// While something is not visible yet.
    pub(crate) async fn not_yet(&mut self, why: impl FnOnce() -> String) -> Result<(), AdminError> {
        self.pause_within(OPERATION_TIMEOUT, || AdminError::Timeout { why: why() }).await
    }

    async fn pause_within(&mut self, limit: Duration, give_up: impl FnOnce() -> AdminError) -> Result<(), AdminError> {
        if self.began.elapsed() + self.pause >= limit {
            return Err(give_up());
        }
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(RETRY_MAX);
        Ok(())
    }
}
