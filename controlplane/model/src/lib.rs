//! The nouns of gafka, and who may do what to them: typed names, secrets, grants, and the `Snapshot` in which they
//! travel from the control plane to the shards.
//!
//! Both planes use this crate, so it is pure: it does no I/O, starts no task, reads no clock and draws no random
//! numbers (`now` and random bytes are parameters). Everything in it can be tested by calling a function.
//!
//! Reading order: [`ids`] (what may be called what), [`naming`] (how a topic is called in Kafka), [`secrets`] and
//! [`scram`], [`doc`] (a snapshot as stored), [`snapshot`] (a snapshot as looked up), [`authenticate`] and
//! [`authorize`] (the hot path), [`sasl`] and [`tenant`] (the same callers over Kafka's protocol, and what they mean by a
//! name), [`principals`] (who may do what at the manager), [`denied`] (what a refusal looks like to the client), [`quota`],
//! [`audit_event`] (what is told of them).

pub mod addresses;
pub mod api_doc;
pub mod api_schema;
pub mod audit_event;
pub mod authenticate;
pub mod authorize;
pub mod counted;
pub mod denied;
pub mod doc;
pub mod duration;
pub mod host_port;
pub mod ids;
pub mod ledger;
pub mod limits;
pub mod login_limiter;
pub mod naming;
pub mod openapi;
pub mod presented;
pub mod principals;
pub mod quota;
pub mod requests;
pub mod sasl;
pub mod scram;
pub mod secrets;
mod siphash;
pub mod snapshot;
pub mod snapshot_file;
pub mod tenant;
pub mod topic_options;

pub use addresses::{AddressRange, Addresses};
pub use audit_event::{AuditEvent, AuditWhat, ReportedEvent};
pub use authenticate::{CredentialCache, Credentials, Side, authenticate, authenticate_cached};
pub use authorize::{Permit, RawPermit, authorize_publish, authorize_raw, authorize_subscribe, readable};
pub use counted::{Counted, Full};
pub use denied::{Denied, Refusal};
pub use doc::{AppDoc, AppPart, ChangesDoc, GrantDoc, SnapshotDoc, TopicDoc};
pub use ids::{
    AppId, ClusterName, Generation, GroupName, HistoryId, NameError, PhysicalTopic, PrincipalName, TopicName,
    TopicVersion,
};
pub use ledger::Ledger;
pub use naming::{physical_group, physical_topic, shadow_topic};
pub use sasl::{Login, SaslMechanism, SaslServer, SaslStep, decoy_key};
pub use secrets::{PlainSecret, SecretHash, SecretPair, StoredSecret};
pub use snapshot::{App, Snapshot, SnapshotError, Topic};
pub use topic_options::{Compression, Partitioner, TopicOptions};
