//! What AlterConfigs and IncrementalAlterConfigs share: both change options of topics, which are the only ones that can be,
//! and answer alike.

use kafka_wire::cold::StrBytes;
use kafka_wire::error_code::ErrorCode;

use crate::apis::once::once;
use crate::apis::{Intent, message, text};
use crate::refusal::Refusal;
use crate::state::State;
use crate::state::catalogue::unknown_topic;
use crate::state::configs::Overrides;

/// Resource types (KIP-133).
pub const TOPIC: i8 = 2;
pub const BROKER: i8 = 4;

/// Whose options a request is about.
pub trait Resource {
    fn kind(&self) -> i8;
    fn name(&self) -> &StrBytes;
}

/// What became of one resource; both APIs answer with these fields.
pub struct Altered {
    pub kind: i8,
    pub name: StrBytes,
    pub code: ErrorCode,
    pub message: Option<StrBytes>,
}

impl Altered {
    fn new(resource: &impl Resource, code: ErrorCode, message: Option<StrBytes>) -> Altered {
        Altered { kind: resource.kind(), name: resource.name().clone(), code, message }
    }
}

/// Changes each resource's options, once.
pub fn alter_each<R: Resource>(
    state: &mut State,
    resources: &[R],
    intent: Intent,
    change: impl Fn(&mut Overrides, &R) -> Result<(), Refusal>,
) -> Vec<Altered> {
    let distinct = once(resources, |resource| (resource.kind(), resource.name().clone()));
    let altered = distinct.into_iter().map(|(resource, doubled)| {
        let altered = match doubled {
            true => Err(Refusal::new(ErrorCode::INVALID_REQUEST, "each resource must appear at most once")),
            false => alter(state, resource, intent, |overrides| change(overrides, resource)),
        };
        match altered {
            Ok(()) => Altered::new(resource, ErrorCode::NONE, None),
            Err(refusal) => Altered::new(resource, refusal.code, Some(text(&refusal.message))),
        }
    });
    altered.collect()
}

/// The same code for every resource.
pub fn refuse_each(resources: &[impl Resource], code: ErrorCode) -> Vec<Altered> {
    resources.iter().map(|resource| Altered::new(resource, code, message(code))).collect()
}

fn alter(
    state: &mut State,
    resource: &impl Resource,
    intent: Intent,
    change: impl FnOnce(&mut Overrides) -> Result<(), Refusal>,
) -> Result<(), Refusal> {
    if resource.kind() != TOPIC {
        let message = format!("resources of type {} cannot be changed on this broker", resource.kind());
        return Err(Refusal::new(ErrorCode::INVALID_REQUEST, message));
    }
    if state.null.is_some() {
        return Ok(());
    }
    let name = resource.name().as_str();
    let mut overrides = state.catalogue.topic(name).ok_or_else(|| unknown_topic(name))?.overrides.clone();
    change(&mut overrides)?;
    match intent {
        Intent::Validate => Ok(()),
        Intent::Apply => state.change_options(name, overrides),
    }
}
