//! How a handler leaves a request: with an answer, or with what its answer waits for. Who asked, and over which connection,
//! a handler does not know; the broker keeps that and sees to the waiting.

use std::time::Duration;

use kafka_wire::cold::ResponseKind;
use kafka_wire::messages::api_versions::ApiVersionsResponse;
use kafka_wire::messages::fetch::{FetchRequest, FetchResponse};
use kafka_wire::messages::produce::ProduceResponse;

use crate::groups::{JoinGroup, SyncGroup};
use crate::storage::syncer::SyncPoint;

/// An answer as a value.
#[allow(clippy::large_enum_variant, reason = "lives on the stack between a handler and the list that called it")]
pub enum Response {
    /// In this version, which need not be the one that was asked in.
    ApiVersions(i16, ApiVersionsResponse),
    Produce(ProduceResponse),
    Fetch(FetchResponse),
    Cold(ResponseKind),
}

impl From<ResponseKind> for Response {
    fn from(response: ResponseKind) -> Response {
        Response::Cold(response)
    }
}

/// How a handler leaves a request.
#[allow(clippy::large_enum_variant, reason = "lives on the stack between a handler and the list that called it")]
pub enum Outcome {
    Answer(Response),
    /// `answer` once the point is durable; `otherwise` if the disk refuses.
    Durable {
        point: SyncPoint,
        answer: Response,
        otherwise: Response,
    },
    /// The response once all points are durable; results whose points the disk refuses become errors.
    Produced {
        response: ProduceResponse,
        points: Vec<ProducePoint>,
    },
    /// Too little is there: `fetch::collect` once this much more is, or the time is over.
    Wait {
        request: FetchRequest,
        missing_bytes: u64,
        at_most: Duration,
    },
    /// The group coordinator answers.
    Join(JoinGroup),
    Sync(SyncGroup),
    /// There is no answer to this request (acks=0).
    Nothing,
    /// The only answer is that the connection ends.
    Close,
}

impl Outcome {
    pub fn answer(response: impl Into<Response>) -> Outcome {
        Outcome::Answer(response.into())
    }

    /// Without a point there is nothing to wait for.
    pub fn durable(point: Option<SyncPoint>, answer: impl Into<Response>, otherwise: impl Into<Response>) -> Outcome {
        let (answer, otherwise) = (answer.into(), otherwise.into());
        match point {
            Some(point) => Outcome::Durable { point, answer, otherwise },
            None => Outcome::Answer(answer),
        }
    }
}

/// One batch that waits for the disk: where its result stands in the response.
pub struct ProducePoint {
    pub topic: usize,
    pub partition: usize,
    pub point: SyncPoint,
}
