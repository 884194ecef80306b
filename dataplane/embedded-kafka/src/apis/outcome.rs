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
pub enum Response {
    /// In this version, which need not be the one that was asked in.
    ApiVersions(Box<(i16, ApiVersionsResponse)>),
    Produce(ProduceResponse),
    Fetch(FetchResponse),
    Cold(Box<ResponseKind>),
}

impl From<ResponseKind> for Response {
    fn from(response: ResponseKind) -> Response {
        Response::Cold(Box::new(response))
    }
}

/// How a handler leaves a request. It is moved a few times on the way to its slot, so the rare outcomes are boxed: at 528
/// bytes a Produce to the null broker cost 3 % more.
pub enum Outcome {
    Answer(Response),
    Durable(Box<Durable>),
    /// The response once all points are durable; results whose points the disk refuses become errors.
    Produced {
        response: ProduceResponse,
        points: Vec<ProducePoint>,
    },
    /// Too little is there: `fetch::collect` once this much more is, or the time is over.
    Wait {
        request: Box<FetchRequest>,
        missing_bytes: u64,
        at_most: Duration,
    },
    /// The group coordinator answers.
    Join(Box<JoinGroup>),
    Sync(Box<SyncGroup>),
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
            Some(point) => Outcome::Durable(Box::new(Durable { point, answer, otherwise })),
            None => Outcome::Answer(answer),
        }
    }
}

/// `answer` once the point is durable; `otherwise` if the disk refuses.
pub struct Durable {
    pub point: SyncPoint,
    pub answer: Response,
    pub otherwise: Response,
}

const _: () = assert!(size_of::<Outcome>() <= 96);

/// One batch that waits for the disk: where its result stands in the response.
pub struct ProducePoint {
    pub topic: usize,
    pub partition: usize,
    pub point: SyncPoint,
}
