//! ListGroups at every broker: each knows the groups it coordinates.

use kafka_wire::cold::types::ListGroupsRequest;
use kafka_wire::cold::{RequestKind, ResponseKind};
use kafka_wire::error_code::ErrorCode;

use super::{ask, describe_topic, unusable};
use crate::driver::Target;
use crate::error::{lost, refusal};
use crate::{AdminError, KafkaAdmin};

/// Names of all groups, sorted. A broker that does not answer makes it an error: what it coordinates is not known.
pub(crate) async fn run(admin: &KafkaAdmin) -> Result<Vec<String>, AdminError> {
    let mut groups = Vec::new();
    for broker in describe_topic::broker_ids(admin).await? {
        let request = RequestKind::ListGroups(ListGroupsRequest::default());
        let response = match ask(admin, Target::Broker(broker), request).await.map_err(|err| lost(&err))? {
            ResponseKind::ListGroups(response) => response,
            _ => return Err(unusable("ListGroups")),
        };
        match ErrorCode(response.error_code) {
            ErrorCode::NONE => groups.extend(response.groups.into_iter().map(|group| group.group_id.to_string())),
            ErrorCode::COORDINATOR_NOT_AVAILABLE | ErrorCode::COORDINATOR_LOAD_IN_PROGRESS => {
                return Err(AdminError::Timeout { why: format!("broker {broker} is loading its groups") });
            }
            code => return Err(refusal(code, None, "")),
        }
    }
    groups.sort();
    groups.dedup();
    Ok(groups)
}
