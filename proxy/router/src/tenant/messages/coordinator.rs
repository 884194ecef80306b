//! FindCoordinator: of groups and transactions; any other kind would name things of the cluster's own.

use kafka_wire::ErrorCode;

use crate::tenant::rules::Need;

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;

/// Why a session of this kind does not hear of such a coordinator.
pub fn refused(key_type: i8, has: Need) -> Option<ErrorCode> {
    match (key_type, has) {
        (GROUP, _) | (TRANSACTION, Need::Publish) => None,
        (TRANSACTION, _) => Some(ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED),
        _ => Some(ErrorCode::INVALID_REQUEST),
    }
}
