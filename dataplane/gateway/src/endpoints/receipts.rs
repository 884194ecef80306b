//! `GET /v1/receipts/:id`: what became of a message that was answered 202.
//!
//! An id names the node whose journal has the message. Another node asks that one, with the caller's own credentials, and
//! passes its answer on; when it is not there the answer is 503 `owner_away`, because nobody else knows.

use crate::access::Grant;
use crate::codes;
use crate::endpoints::docs::REQUEST_ID;
use crate::endpoints::{Services, params};
use crate::exchange::Exchange;
use crate::exchange::body::RequestBody;
use crate::exchange::reply::Reply;
use crate::kafka::destination::Destination;
use crate::publish::handoff::peer;
use crate::refusal::Refusal;
use gafka_http::Head;
use journal::queue::Receipt;
use journal::receipt_id::ReceiptId;
use model::api_doc::{Auth, ContentDoc, EndpointDoc, FieldDoc, Kind, Listener, Method, ParamDoc, ResponseDoc, Schema};
use std::time::Instant;

/// How metrics and log name it.
const ENDPOINT: &str = "receipt";

pub fn start(
    services: &Services,
    mut exchange: Exchange,
    head: &Head<'_>,
    grant: &Grant<'_>,
    _: RequestBody<'_>,
    now: Instant,
) -> Option<Destination> {
    exchange.endpoint = ENDPOINT;
    let env = &services.env;
    match find(services, head, grant) {
        Ok(Found::Here(receipt)) => drop(exchange.answer(env, Reply::json(200, shown(&receipt)), now)),
        Ok(Found::At(question)) => {
            let services = services.this();
            drop(runtime::spawn(async move {
                let reply = match question.ask().await {
                    Ok((status, body)) => Reply::json(status, body),
                    Err(why) => Reply::refusal(&away(&why)),
                };
                exchange.answer(&services.env, reply, services.env.tick());
            }));
        }
        Err(refusal) => exchange.refuse(env, &refusal, now),
    }
    None
}

enum Found {
    Here(Receipt),
    /// Another node has it.
    At(peer::Question),
}

fn find(services: &Services, head: &Head<'_>, grant: &Grant<'_>) -> Result<Found, Refusal> {
    params::none(head.query)?;
    let Grant::App(app) = grant else { unreachable!("only an app is let here") };
    let nobodys =
        || Refusal::new(codes::NO_SUCH_RECEIPT, "there is no such receipt of this app, or it is no longer kept");
    let text = head.path.rsplit('/').next().unwrap_or_default();
    let id = ReceiptId::parse(text).filter(|id| *id.app == *app.id.as_str()).ok_or_else(nobodys)?;
    if let Some(store) = services.publishing.handoff.store()
        && store.issuer().node() == id.node
    {
        return match store.receipt(&id) {
            Some(receipt) if receipt != Receipt::Unknown => Ok(Found::Here(receipt)),
            _ => Err(nobodys()),
        };
    }
    if head.header(peer::RELAYED).is_some() {
        return Err(away("the question was passed on already"));
    }
    match services.env.board.peers().get(&id.node) {
        Some(peer) if !peer.tls => Ok(Found::At(peer::Question::receipt(peer.address, head, text))),
        Some(_) => Err(away("it speaks TLS, and gateways do not ask each other over TLS yet")),
        None => Err(away("no gateway of that id is registered")),
    }
}

fn away(why: &str) -> Refusal {
    let message = format!(
        "the gateway that has this message does not answer ({why}); the message is safe there, ask again later"
    );
    Refusal::new(codes::OWNER_AWAY, message)
}

fn shown(receipt: &Receipt) -> String {
    let json = match receipt {
        Receipt::Pending => serde_json::json!({ "state": "pending" }),
        Receipt::Delivered { partition, offset } => {
            serde_json::json!({ "state": "delivered", "partition": partition, "offset": offset })
        }
        Receipt::Parked { reason } => {
            serde_json::json!({ "state": "parked", "code": &*reason.code, "reason": &*reason.sentence })
        }
        Receipt::Dropped => serde_json::json!({ "state": "dropped" }),
        Receipt::Adopted => serde_json::json!({ "state": "adopted" }),
        Receipt::Unknown => unreachable!("answered 404"),
    };
    json.to_string()
}

pub const DOCS: &[EndpointDoc] = &[EndpointDoc {
    listener: Listener::Publish,
    method: Method::Get,
    path: "/v1/receipts/:id",
    operation: "getReceipt",
    tag: "publish",
    summary: "What became of a message that was answered 202",
    details: concat!(
        "Any gateway of the fleet answers: it asks the one that has the message. Ends are remembered for \
         `handoff.receipts_keep`.",
        include_str!("statuses/receipts.md"),
        include_str!("statuses/any.md"),
    ),
    auth: Auth::Publisher,
    params: &[ParamDoc::path("id", Kind::Text, "`msg_id` of the answer"), REQUEST_ID],
    request: &[],
    responses: RESPONSES,
}];

const RESPONSES: &[ResponseDoc] = &[
    ResponseDoc::with(
        200,
        "its state",
        &[ContentDoc::json(
            Schema::Object(&[
                FieldDoc::must(
                    "state",
                    Schema::Value(Kind::Word(&["pending", "delivered", "parked", "dropped", "adopted"])),
                    "adopted: another gateway has it now, under another id",
                ),
                FieldDoc::may("partition", Schema::PARTITION, "of a delivered one"),
                FieldDoc::may("offset", Schema::OFFSET, "of a delivered one; -1 when Kafka had it already"),
                FieldDoc::may("code", Schema::Value(Kind::Text), "why it is parked"),
                FieldDoc::may("reason", Schema::Value(Kind::Text), "the same as a sentence"),
            ]),
            "",
            Some(r#"{"state":"delivered","partition":0,"offset":17}"#),
        )],
    ),
    ResponseDoc::bare(404, "no message of this app was handed off under that id, or its end is no longer remembered"),
    ResponseDoc::bare(503, "the gateway that has the message does not answer; ask again after Retry-After"),
];
