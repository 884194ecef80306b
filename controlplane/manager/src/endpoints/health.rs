//! `/alive`, `/healthz`, `/readyz`, `/metrics`, `/openapi.json`: for balancers, supervisors and tools, without
//! credentials (`/metrics` only while the listener is on loopback).

use std::time::Instant;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use model::api_doc::{Auth, ContentDoc, EndpointDoc, Listener, Method, ResponseDoc, Schema};
use serde_json::{Value, json};

use super::{OK, OK_EXAMPLE, endpoint as tie};
use crate::error::ApiError;
use crate::{Endpoint, Shared, auth};

const ALIVE: EndpointDoc = EndpointDoc {
    listener: Listener::Manager,
    method: Method::Get,
    path: "/alive",
    operation: "managerAlive",
    tag: "health",
    summary: "May a balancer send traffic here",
    details: "",
    auth: Auth::None,
    params: &[],
    request: &[],
    responses: &[
        ResponseDoc::with(200, "yes", &[ContentDoc::json(OK, "always the same", Some(OK_EXAMPLE))]),
        ResponseDoc::bare(503, "no: it is draining"),
    ],
};

const HEALTHZ: EndpointDoc = EndpointDoc {
    path: "/healthz",
    operation: "managerHealthz",
    summary: "Is the process up",
    responses: &[ResponseDoc::with(200, "yes", &[ContentDoc::json(OK, "always the same", Some(OK_EXAMPLE))])],
    ..ALIVE
};

const READYZ: EndpointDoc = EndpointDoc {
    path: "/readyz",
    operation: "managerReadyz",
    summary: "May it take traffic, and which cluster is down",
    details: "One cluster of several that is down does not make it unready.",
    responses: &[
        ResponseDoc::with(
            200,
            "ready",
            &[ContentDoc::json(
                Schema::READINESS,
                "`ready`, and what is known about each part",
                Some(r#"{"ready":true}"#),
            )],
        ),
        ResponseDoc::with(
            503,
            "not ready",
            &[ContentDoc::json(
                Schema::UNREADINESS,
                "the same with `\"ready\":false`",
                Some(r#"{"ready":false,"errmsg":"this gateway is draining","code":"not_ready"}"#),
            )],
        ),
    ],
    ..ALIVE
};

const METRICS: EndpointDoc = EndpointDoc {
    path: "/metrics",
    operation: "metrics",
    summary: "Metrics of this process for Prometheus",
    details: "Without credentials while the manager listens on loopback, otherwise for the admin.",
    responses: &[
        ResponseDoc::with(
            200,
            "the metrics",
            &[ContentDoc::bytes("text/plain", "Prometheus text exposition format 0.0.4")],
        ),
        ResponseDoc::bare(401, "not authenticated, and the listener is not on loopback"),
    ],
    ..ALIVE
};

const OPENAPI: EndpointDoc = EndpointDoc {
    path: "/openapi.json",
    operation: "openapi",
    summary: "This description",
    responses: &[ResponseDoc::with(
        200,
        "OpenAPI 3.1",
        &[ContentDoc::json(Schema::Any, "an OpenAPI 3.1 document of all three listeners", None)],
    )],
    ..ALIVE
};

pub(crate) fn alive() -> Endpoint {
    tie(ALIVE, |State(state): State<Shared>| async move {
        if (state.readiness)().alive {
            Ok(Json(json!({"ok": 1})))
        } else {
            Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "draining", "this gateway is draining"))
        }
    })
}

pub(crate) fn healthz() -> Endpoint {
    tie(HEALTHZ, || async { Json(json!({"ok": 1})) })
}

pub(crate) fn readyz() -> Endpoint {
    tie(READYZ, |State(state): State<Shared>| async move {
        let readiness = (state.readiness)();
        let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        let mut body = readiness.detail;
        if !body.is_object() {
            body = json!({});
        }
        body["ready"] = Value::Bool(readiness.ready);
        if !readiness.ready && body["errmsg"].is_null() {
            body["errmsg"] = "this process may not take traffic now".into();
            body["code"] = "not_ready".into();
        }
        (status, Json(body))
    })
}

pub(crate) fn metrics() -> Endpoint {
    tie(METRICS, |State(state): State<Shared>, request: Request| async move {
        if !state.on_loopback {
            state.admin.bring_up_to_date(&*state.db, Instant::now()).await;
        }
        if !state.on_loopback
            && let Err(denied) = auth::check(&state, &request, Instant::now())
        {
            return ApiError::from(denied).into_response();
        }
        ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], (state.metrics)()).into_response()
    })
}

pub(crate) fn openapi() -> Endpoint {
    tie(OPENAPI, |State(state): State<Shared>| async move {
        let headers = [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-cache")];
        Response::into_response((headers, state.openapi.to_string()).into_response())
    })
}
