//! `POST /v1/receipts/replay` and `/drop`: an app's own messages that cannot be delivered, by their receipts.
//!
//! Receipts name the gateways that have the messages; each is asked once for its own, with the caller's credentials. Which are
//! parked the manager lists (`GET /v1/handoff/parked`).

use crate::access::Grant;
use crate::codes;
use crate::endpoints::docs::REQUEST_ID;
use crate::endpoints::router::Start;
use crate::endpoints::{Admission, Services, params};
use crate::exchange::Exchange;
use crate::exchange::body::RequestBody;
use crate::exchange::reply::Reply;
use crate::limits::{ANONYMOUS, HANDOFF_RECEIPTS_MAX, HANDOFF_SELECTION_BYTES_MAX};
use crate::publish::handoff::parked::Change;
use crate::publish::handoff::peer::{self, Question};
use crate::refusal::Refusal;
use gafka_http::Head;
use journal::queue::StreamId;
use journal::receipt_id::ReceiptId;
use model::api_doc::{Auth, ContentDoc, EndpointDoc, FieldDoc, Listener, Method, ResponseDoc, Schema};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Instant;

/// How metrics and log name these.
const ENDPOINT: &str = "handoff";

pub fn admit(_: &Services, grant: &Grant<'_>) -> Result<Admission, Refusal> {
    let Grant::App(app) = grant else { unreachable!("only an app is let here") };
    Ok(Admission { body_bytes_max: HANDOFF_SELECTION_BYTES_MAX, tenant: app.index, cluster: ANONYMOUS })
}

pub const REPLAY: Start = |services, exchange, head, grant, body, now| {
    change(services, exchange, head, grant, &body, Change::Replay, now);
    None
};

pub const DROP: Start = |services, exchange, head, grant, body, now| {
    change(services, exchange, head, grant, &body, Change::Drop, now);
    None
};

fn change(
    services: &Services,
    mut exchange: Exchange,
    head: &Head<'_>,
    grant: &Grant<'_>,
    body: &RequestBody<'_>,
    change: Change,
    now: Instant,
) {
    exchange.endpoint = ENDPOINT;
    let env = &services.env;
    let selected = match params::none(head.query).and_then(|()| select(grant, body.as_slice())) {
        Ok(selected) => selected,
        Err(refusal) => return exchange.refuse(env, &refusal, now),
    };
    let this = services.publishing.handoff.store().map(|store| store.issuer().node().to_owned());
    let is_relayed = head.header(peer::RELAYED).is_some();
    let (mut here, mut questions, mut unreachable) = (Vec::new(), Vec::new(), Vec::new());
    let peers = env.board.peers();
    for (node, ids) in selected {
        if this.as_deref() == Some(&*node) {
            let genuine = |id: &&(String, ReceiptId)| {
                services.publishing.handoff.store().is_some_and(|store| store.issuer().is_genuine(&id.1))
            };
            here = ids.iter().filter(genuine).map(|(_, id)| (id.stream, id.sequence)).collect();
            continue;
        }
        match peers.get(&node).filter(|peer| !peer.tls && !is_relayed) {
            Some(peer) => {
                let receipts: Vec<&str> = ids.iter().map(|(text, _)| &**text).collect();
                let body = json!({ "receipts": receipts }).to_string();
                questions.push((node, Question::post(peer.address, head, body)));
            }
            None => unreachable.push(json!({ "node": node, "why": "it is not registered, or not to be asked" })),
        }
    }
    let services = services.this();
    drop(runtime::spawn(async move {
        let mut records = match here_durably(&services, change, here).await {
            Ok(records) => records,
            Err(refusal) => return exchange.refuse(&services.env, &refusal, services.env.tick()),
        };
        for (node, question) in questions {
            match question.ask().await {
                Ok((200, answer)) => {
                    let answer: Value = serde_json::from_slice(&answer).unwrap_or_default();
                    records += answer["records"].as_u64().unwrap_or(0);
                }
                Ok((status, _)) => unreachable.push(json!({ "node": node, "why": format!("it answered {status}") })),
                Err(why) => unreachable.push(json!({ "node": node, "why": why })),
            }
        }
        let answer = json!({ "ok": 1, "records": records, "unreachable": unreachable });
        exchange.answer(&services.env, Reply::json(200, answer.to_string()), services.env.tick());
    }));
}

/// Changes those of this gateway, on a thread that may wait for the disk.
async fn here_durably(services: &Services, change: Change, which: Vec<(StreamId, u64)>) -> Result<u64, Refusal> {
    let Some(store) = services.publishing.handoff.store().filter(|_| !which.is_empty()) else { return Ok(0) };
    let store = std::sync::Arc::clone(store);
    let (told, mut tells) = runtime::mailbox::mailbox(1);
    let work = move || {
        // Whoever asked may be gone.
        let _ = told.try_send(store.change_durably(change, &which));
    };
    let started = std::thread::Builder::new().name("handoff-change".to_owned()).spawn(work);
    started.map_err(|err| Refusal::overloaded(&format!("no thread for it: {err}")))?;
    match tells.recv().await {
        Some(Ok(records)) => Ok(records),
        Some(Err(refused)) => Err(Refusal::new(codes::HANDOFF_BROKEN, format!("nothing is certain: {refused}"))),
        None => Err(Refusal::new(codes::HANDOFF_BROKEN, "nothing is certain: who did it is gone")),
    }
}

type Selected = BTreeMap<String, Vec<(String, ReceiptId)>>;

/// The receipts of a body, of this app, by the nodes that have them.
fn select(grant: &Grant<'_>, body: &[u8]) -> Result<Selected, Refusal> {
    let Grant::App(app) = grant else { unreachable!("only an app is let here") };
    let bad = |what: &str| Refusal::new(codes::INVALID_FIELD, format!("nothing was changed: {what}"));
    let json: Value = serde_json::from_slice(body).map_err(|err| bad(&format!("the body is no JSON: {err}")))?;
    let receipts = json.get("receipts").and_then(Value::as_array);
    let receipts = receipts.ok_or_else(|| bad("the body is no object with an array `receipts`"))?;
    if receipts.is_empty() || receipts.len() > HANDOFF_RECEIPTS_MAX {
        return Err(bad(&format!("there are {} receipts, 1 to {HANDOFF_RECEIPTS_MAX} are taken", receipts.len())));
    }
    let mut selected = Selected::new();
    for receipt in receipts {
        let text = receipt.as_str().unwrap_or_default();
        let id = ReceiptId::parse(text.rsplit('/').next().unwrap_or_default());
        let id = id.filter(|id| *id.app == *app.id.as_str()).ok_or_else(|| {
            let shown: String = text.chars().take(80).collect();
            Refusal::new(codes::NO_SUCH_RECEIPT, format!("nothing was changed: {shown:?} is no receipt of this app"))
        })?;
        selected.entry(id.node.clone()).or_default().push((text.to_owned(), id));
    }
    Ok(selected)
}

const DETAILS: &str = concat!(
    "Those that are not parked are passed over. Which are, the manager lists (`GET /v1/handoff/parked`).",
    include_str!("statuses/handoff.md"),
    include_str!("statuses/any.md"),
);

pub const REPLAY_DOCS: &[EndpointDoc] = &[doc("/v1/receipts/replay", "replayReceipts", "Try parked messages again")];
pub const DROP_DOCS: &[EndpointDoc] = &[doc("/v1/receipts/drop", "dropReceipts", "Drop parked messages")];

const fn doc(path: &'static str, operation: &'static str, summary: &'static str) -> EndpointDoc {
    EndpointDoc {
        listener: Listener::Publish,
        method: Method::Post,
        path,
        operation,
        tag: "publish",
        summary,
        details: DETAILS,
        auth: Auth::Publisher,
        params: &[REQUEST_ID],
        request: REQUEST,
        responses: RESPONSES,
    }
}

const REQUEST: &[ContentDoc] = &[ContentDoc::json(
    Schema::Object(&[FieldDoc::must(
        "receipts",
        Schema::Array(&Schema::TEXT),
        "`msg_id`s or paths of receipts, 1 to 500",
    )]),
    "which",
    Some(r#"{"receipts":["AQAAAAE"]}"#),
)];

const RESPONSES: &[ResponseDoc] = &[
    ResponseDoc::with(
        200,
        "done, and durable, at every gateway that answered",
        &[ContentDoc::json(
            Schema::Object(&[
                FieldDoc::must("ok", Schema::Always(1), ""),
                FieldDoc::must("records", Schema::COUNT, "how many were parked and are not any more"),
                FieldDoc::must(
                    "unreachable",
                    Schema::Array(&Schema::Object(&[
                        FieldDoc::must("node", Schema::TEXT, ""),
                        FieldDoc::must("why", Schema::TEXT, ""),
                    ])),
                    "gateways that have some of them and did not answer: ask again",
                ),
            ]),
            "",
            Some(r#"{"ok":1,"records":1,"unreachable":[]}"#),
        )],
    ),
    ResponseDoc::bare(400, "the body is not what it must be; nothing was changed"),
    ResponseDoc::bare(404, "one of the receipts is none of this app; nothing was changed"),
    ResponseDoc::bare(503, "the disk of this gateway fails: it may be done or not; doing it again is harmless"),
];
