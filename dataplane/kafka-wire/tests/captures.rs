//! Frames that real clients sent (`tests/captures/`, provenance in its README), read and written back.

use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};
use kafka_wire::cold::{self, RequestKind};
use kafka_wire::frame::FrameReader;
use kafka_wire::header::{RequestHeader, decode_request_header};
use kafka_wire::messages::{api_versions, fetch, produce};
use kafka_wire::record_batch::{batches, validate_batch};
use kafka_wire::{ApiKey, WireError};

/// The captured frames, by client and file name, sorted.
fn captures() -> Vec<(String, Bytes)> {
    fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).expect("the folder is in the checkout") {
            let path = entry.expect("readable").path();
            if path.is_dir() {
                collect(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "bin") {
                found.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captures");
    let mut paths = Vec::new();
    collect(&root, &mut paths);
    paths.sort();
    let read = |path: PathBuf| {
        let name = path.strip_prefix(&root).expect("below the root").with_extension("");
        (name.to_string_lossy().into_owned(), Bytes::from(std::fs::read(path).expect("readable")))
    };
    paths.into_iter().map(read).collect()
}

/// The header and the body of a captured file, which holds exactly one frame.
fn parts(name: &str, file: &Bytes) -> (ApiKey, RequestHeader, Bytes) {
    let mut buf = BytesMut::from(&file[..]);
    let mut frame = FrameReader::default().next(&mut buf).expect("a frame").expect("a whole frame");
    assert!(buf.is_empty(), "{name} holds more than a frame");
    let header = decode_request_header(&mut frame).unwrap_or_else(|err| panic!("{name}: {err}"));
    let api = header.api().unwrap_or_else(|| panic!("{name}: unknown API {}", header.api_key));
    let file_name = name.rsplit(['/', '\\']).next().expect("a file name");
    let expected = format!("{}-v{}", api.name(), header.api_version);
    assert!(file_name == expected || file_name.starts_with(&format!("{expected}-")), "{name} holds {expected}");
    (api, header, frame)
}

/// Reads a request as the embedded broker would and writes it as the client did, where we write that message.
fn read_and_write(name: &str, api: ApiKey, header: &RequestHeader, body: Bytes) -> Result<Option<Bytes>, WireError> {
    let (version, correlation_id, client_id) = (header.api_version, header.correlation_id, header.client_id_str());
    match api {
        ApiKey::ApiVersions => {
            let read = api_versions::decode_request(version, body)?;
            let [software_name, software_version] = [&read.client_software_name, &read.client_software_version]
                .map(|text| std::str::from_utf8(text).expect("checked when read"));
            let frame =
                api_versions::encode_request_frame(version, correlation_id, client_id, software_name, software_version);
            Ok(Some(frame))
        }
        ApiKey::Produce => {
            let read = produce::decode_request(version, body)?;
            check_records(name, &read)?;
            Ok(None)
        }
        ApiKey::Fetch => {
            let read = fetch::decode_request(version, body)?;
            Ok(Some(fetch::encode_request_frame(version, correlation_id, client_id, &read)))
        }
        cold => {
            let read = cold::decode_request(cold, version, body)?;
            check_consumer_protocol(&read)?;
            cold::encode_request_frame(&read, version, correlation_id, client_id).map(Some)
        }
    }
}

fn check_records(name: &str, request: &produce::ProduceRequest) -> Result<(), WireError> {
    for partition in request.topics.iter().flat_map(|topic| &topic.partitions) {
        let records = partition.records.clone().expect("clients send records");
        let header = validate_batch(&records)?;
        assert!(name.ends_with(header.compression()?.name()), "{name} is {:?}", header.compression());
        let batch = batches(records).next().expect("one batch")?;
        batch.validate_records(1 << 20)?;
        let records = batch.records(1 << 20)?.collect::<Result<Vec<_>, _>>()?;
        let first = &records[0];
        if name.starts_with("kcat") {
            assert_eq!(first.value.as_deref(), Some(&b"hello kcat"[..]), "{name}");
            continue;
        }
        assert_eq!(first.key.as_deref(), Some(&b"k"[..]), "{name}");
        assert_eq!(first.value.as_deref(), Some("hello ".repeat(20).as_bytes()), "{name}");
        let traces = first.headers.iter_refs().filter(|(name, _)| *name == b"trace").count();
        assert_eq!(traces, 2, "{name}: duplicates are kept");
        if let Some(second) = records.get(1) {
            assert_eq!((second.key.as_deref(), &second.value), (Some(&b"tomb"[..]), &None), "{name}");
        }
    }
    Ok(())
}

fn check_consumer_protocol(request: &RequestKind) -> Result<(), WireError> {
    match request {
        RequestKind::JoinGroup(request) => {
            for protocol in &request.protocols {
                let (_, subscription) = cold::decode_subscription(protocol.metadata.clone())?;
                assert_eq!(subscription.topics.len(), 1);
            }
        }
        RequestKind::SyncGroup(request) => {
            for assignment in &request.assignments {
                let (_, assigned) = cold::decode_assignment(assignment.assignment.clone())?;
                // kafka-python syncs once before it knows the topic's partitions, and assigns none.
                for topic in &assigned.assigned_partitions {
                    assert_eq!(topic.partitions, [0]);
                }
            }
        }
        _ => {}
    }
    Ok(())
}

#[test]
fn every_captured_request_is_read_and_written_back_byte_for_byte() {
    let captures = captures();
    for (name, file) in &captures {
        let (api, header, body) = parts(name, file);
        let written = match read_and_write(name, api, &header, body) {
            // The one version clients begin with and fall back from.
            Err(WireError::Version { api: ApiKey::ApiVersions, version: 5, .. }) => continue,
            written => written.unwrap_or_else(|err| panic!("{name}: {err}")),
        };
        if let Some(written) = written {
            assert_eq!(&written, file, "{name}");
        }
    }
    assert!(captures.len() >= 55, "{} captures were found", captures.len());
}

#[test]
fn a_captured_request_cut_at_any_byte_is_refused() {
    for (name, file) in captures() {
        let (api, header, body) = parts(&name, &file);
        for size in 0..body.len() {
            let cut = read_and_write(&name, api, &header, body.slice(..size));
            assert!(cut.is_err(), "{name} cut at {size} of {}", body.len());
        }
    }
}
