//! The manager's one account. Processes that share a database share it, so it is kept here and not per process.

use model::ids::AppId;
use model::secrets::SecretHash;

/// Who the admin is; the key itself was shown once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    pub appid: AppId,
    pub key: SecretHash,
}
