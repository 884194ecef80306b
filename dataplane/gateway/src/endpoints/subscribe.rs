//! `GET /v1/msgs/:appid/:topic/:ver?group=`: a poll of a consumer group.
//!
//! Here it is only read and sent on its way: the group lives on one shard of this gateway, and the poll travels there
//! as a value ([`crate::subscriptions`]). The answer comes back as an owned buffer.

use crate::conn::{Conn, RequestMeta};
use crate::reply::Failure;
use crate::shard::Shard;
use crate::standing::Standing;
use crate::subscribe::framing::Form;
use crate::subscribe::query::SubscribeQuery;
use crate::subscribe::tags::TagFilter;
use crate::subscriptions::PollRequest;
use gafka_http::Head;
use model::{Permit, physical_group};
use std::rc::Rc;
use std::time::Instant;

#[allow(clippy::too_many_arguments, reason = "the one call of the request path, all of it borrowed")]
pub fn start(
    shard: &Rc<Shard>,
    conn: &Rc<Conn>,
    sequence: u64,
    meta: &RequestMeta,
    head: &Head<'_>,
    permit: &Permit<'_>,
    begun: Instant,
    now: Instant,
) -> Result<(), Failure> {
    let query = SubscribeQuery::parse(head.query.unwrap_or_default())?;
    let filter = match head.known.x_tag {
        Some(value) => TagFilter::parse(value)?,
        None => None,
    };
    if shard.is_draining() {
        return Err(Failure::new(503, "draining", "this gateway is shutting down; poll another one"));
    }
    let topic = permit.topic();
    let cluster = shard.cluster_of(topic)?.index;
    let request = PollRequest {
        poll: shard.subscriptions.next_poll_id(shard.id),
        origin: shard.id,
        cluster,
        group: physical_group(&permit.app().id, &query.group),
        topic: topic.physical.clone(),
        batch: query.batch,
        max_bytes: query.max_bytes,
        wait: query.wait,
        deadline: now + query.wait,
        reset: query.reset,
        filter,
        form: Form::choose(head.known.accept, query.framed),
        strip_2017_tags: topic.options.strip_2017_tags,
    };
    let standing = Standing::of(shard, conn, head, permit)?;
    shard.subscriptions.begin(shard, conn, sequence, meta, request, standing, begun, now)
}
