//! The error codes of the publish and subscribe listeners: the one table that the code, OpenAPI and its status tables
//! (`endpoints/statuses/*.md`, where each is explained) share. A test holds them together; a code nobody answers with is
//! dead code to the compiler.

/// A stable code and the status it goes with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Code {
    pub status: u16,
    /// Snake case; never changes its meaning.
    pub name: &'static str,
}

macro_rules! codes {
    ($($constant:ident = $status:literal $name:literal;)*) => {
        $(pub const $constant: Code = Code { status: $status, name: $name };)*

        /// All of them.
        #[cfg(any(test, debug_assertions))]
        pub const OURS: &[Code] = &[$($constant),*];
    };
}

codes! {
    BAD_HEADER = 400 "bad_header";
    BAD_PARAMETER = 400 "bad_parameter";
    BAD_PATH = 400 "bad_path";
    BAD_QUERY = 400 "bad_query";
    BAD_TOPIC_NAME = 400 "bad_topic_name";
    CONFLICTING_FIELDS = 400 "conflicting_fields";
    DUE_PAST = 400 "due_past";
    DUE_TOO_FAR = 400 "due_too_far";
    EMPTY_BATCH = 400 "empty_batch";
    ILLEGAL_ACK = 400 "illegal_ack";
    ILLEGAL_BATCH = 400 "illegal_batch";
    ILLEGAL_GROUP = 400 "illegal_group";
    ILLEGAL_MAX_BYTES = 400 "illegal_max_bytes";
    ILLEGAL_Q = 400 "illegal_q";
    ILLEGAL_RESET = 400 "illegal_reset";
    ILLEGAL_TAG = 400 "illegal_tag";
    ILLEGAL_WAIT = 400 "illegal_wait";
    INCOMPLETE_REQUEST = 400 "incomplete_request";
    INVALID_BASE64 = 400 "invalid_base64";
    INVALID_FIELD = 400 "invalid_field";
    INVALID_RECORD = 400 "invalid_record";
    KEY_TOO_LONG = 400 "key_too_long";
    LONE_SURROGATE = 400 "lone_surrogate";
    MALFORMED_CONTENT_ENCODING = 400 "malformed_content_encoding";
    MALFORMED_RECORD = 400 "malformed_record";
    MISSING_DUE = 400 "missing_due";
    MISSING_GROUP = 400 "missing_group";
    MISSING_ID = 400 "missing_id";
    NO_SUCH_PARTITION = 400 "no_such_partition";
    NULL_WITH_BODY = 400 "null_with_body";
    REJECTED_BY_KAFKA = 400 "rejected_by_kafka";
    REPEATED_FIELD = 400 "repeated_field";
    STREAM_NEEDS_HTTP_1_1 = 400 "stream_needs_http_1_1";
    SUMMARY_WITH_STREAM = 400 "summary_with_stream";
    TAG_TOO_LONG = 400 "tag_too_long";
    TIMESTAMP_UNIT = 400 "timestamp_unit";
    TOO_MANY_HEADERS = 400 "too_many_headers";
    UNKNOWN_FIELD = 400 "unknown_field";
    UNKNOWN_PARAMETER = 400 "unknown_parameter";
    NO_SUCH_JOB = 404 "no_such_job";
    NO_SUCH_PATH = 404 "no_such_path";
    NO_SUCH_RECEIPT = 404 "no_such_receipt";
    NO_SUCH_TOPIC = 404 "no_such_topic";
    METHOD_NOT_ALLOWED = 405 "method_not_allowed";
    REQUEST_TIMEOUT = 408 "request_timeout";
    IDEMPOTENCY_KEY_BUSY = 409 "idempotency_key_busy";
    JOB_TOO_LATE = 409 "job_too_late";
    OTHER_FILTER = 409 "other_filter";
    OTHER_RESET = 409 "other_reset";
    DECODED_BODY_TOO_LARGE = 413 "decoded_body_too_large";
    MESSAGE_TOO_LARGE = 413 "message_too_large";
    RECORD_METADATA_TOO_LARGE = 413 "record_metadata_too_large";
    TOO_MANY_RECORDS = 413 "too_many_records";
    ZSTD_WINDOW_TOO_LARGE = 413 "zstd_window_too_large";
    UNSUPPORTED_CONTENT_ENCODING = 415 "unsupported_content_encoding";
    UNSUPPORTED_CONTENT_TYPE = 415 "unsupported_content_type";
    OVER_QUOTA = 429 "over_quota";
    DURABILITY_UNKNOWN = 501 "durability_unknown";
    NOT_SUPPORTED_YET = 501 "not_supported_yet";
    CLUSTER_NOT_CONFIGURED = 503 "cluster_not_configured";
    DISK_FULL = 503 "disk_full";
    DRAINING = 503 "draining";
    GROUP_UNAVAILABLE = 503 "group_unavailable";
    HANDOFF_BROKEN = 503 "handoff_broken";
    HANDOFF_FULL = 503 "handoff_full";
    HANDOFF_OFF = 503 "handoff_off";
    JOBS_BROKEN = 503 "jobs_broken";
    JOBS_FULL = 503 "jobs_full";
    JOBS_OFF = 503 "jobs_off";
    KAFKA_DENIED = 503 "kafka_denied";
    KAFKA_UNAVAILABLE = 503 "kafka_unavailable";
    NOT_READY = 503 "not_ready";
    OVERLOADED = 503 "overloaded";
    OWNER_AWAY = 503 "owner_away";
    TOO_MANY_CONNECTIONS = 503 "too_many_connections";
    TOO_MANY_GROUPS = 503 "too_many_groups";
    TOO_MANY_POLLS = 503 "too_many_polls";
    TOO_MANY_RAW_TOPICS = 503 "too_many_raw_topics";
    TOPIC_MOVED = 503 "topic_moved";
    OUTCOME_UNKNOWN = 504 "outcome_unknown";
}

/// What others find wrong and we pass on: heads and chunks (`http`), credentials and grants (`model`), queries.
#[cfg(any(test, debug_assertions))]
pub const PASSED_ON: &[(u16, &[&str])] = &[
    (
        400,
        &[
            "bad_credentials",
            "bare_carriage_return",
            "bare_line_feed",
            "chunk_extension_too_long",
            "duplicate_header",
            "folded_header",
            "length_and_chunked",
            "malformed_chunk",
            "malformed_content_length",
            "malformed_head",
            "malformed_header_name",
            "malformed_header_value",
            "malformed_host",
            "malformed_method",
            "malformed_percent_encoding",
            "malformed_request_line",
            "malformed_target",
            "malformed_version",
            "missing_host",
            "not_utf8",
            "space_before_colon",
            "transfer_encoding_in_http_1_0",
            "two_credentials",
            "unsupported_transfer_encoding",
        ],
    ),
    (401, &["not_authenticated"]),
    (403, &["address_not_allowed", "app_disabled", "not_granted", "topic_disabled"]),
    (404, &["no_such_app", "no_such_version"]),
    (411, &["length_required"]),
    (414, &["uri_too_long"]),
    (417, &["expectation_failed"]),
    (429, &["too_many_failed_logins"]),
    (431, &["head_too_large", "too_many_headers", "trailers_too_large"]),
    (501, &["method_not_implemented"]),
    (505, &["version_not_supported"]),
];

/// A code that is not in the tables is not explained either.
#[cfg(any(test, debug_assertions))]
pub fn assert_known(status: u16, name: &str) {
    let ours = OURS.iter().any(|code| code.status == status && code.name == name);
    let passed_on = PASSED_ON.iter().any(|(of, names)| *of == status && names.contains(&name));
    assert!(ours || passed_on, "{status} {name} is in no table of codes.rs");
}
