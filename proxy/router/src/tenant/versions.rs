//! ApiVersions, answered by the proxy: what the broker behind it offered, cut down to the rules.
//!
//! It comes before the login, so brokers are not asked for every client: what one said is kept, and replaced by every
//! connection to it. A client that was told more than its broker has by now loses its connection and asks again.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_wire::pieces::put_count;
use kafka_wire::{ApiKey, ErrorCode, WireError};

use crate::rewrite::api_versions::Rows;
use crate::tenant::rename::frame;
use crate::tenant::rules::{self, Rule};

/// From here an answer says which features the cluster has (KIP-584), all of them in a form that old librdkafka reads.
const FEATURES_FROM: i16 = 4;
const THROTTLE_FROM: i16 = 1;
const FLEXIBLE_FROM: i16 = 3;
/// A client that says which broker it believes to talk to (KIP-1242).
const NEWEST: i16 = 5;

/// What a broker offers, cut down to the rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offered {
    /// Key, first and last version; by key.
    rows: Vec<[i16; 3]>,
    /// Tagged fields of the broker's answer.
    features: Bytes,
}

impl Offered {
    /// From a broker's answer of this version without its header.
    pub fn read(version: i16, body: &Bytes) -> Result<Offered, WireError> {
        let Rows { mut rows, end } = Rows::read(version, body)?;
        rows.retain_mut(cut_down);
        rows.sort_unstable();
        for rule in rules::RULES.iter().filter(|rule| rule.way == rules::Way::Local) {
            let row = [rule.key.key(), rule.version_min, rule.version_max];
            match rows.binary_search_by_key(&row[0], |row| row[0]) {
                Ok(at) => rows[at] = row,
                Err(at) => rows.insert(at, row),
            }
        }
        let features = if version >= FEATURES_FROM { body.slice(end..) } else { Bytes::from_static(&[0]) };
        Ok(Offered { rows, features })
    }

    /// Whether everything that `other` offers is offered here, too.
    pub fn covers(&self, other: &Offered) -> bool {
        other
            .rows
            .iter()
            .all(|[key, min, max]| self.rows.iter().any(|row| row[0] == *key && row[1] <= *min && row[2] >= *max))
    }

    /// Whether this version of an API was offered.
    pub fn has(&self, rule: &Rule, version: i16) -> bool {
        let is_row = |row: &&[i16; 3]| row[0] == rule.key.key() && (row[1]..=row[2]).contains(&version);
        rule.has_version(version) && self.rows.iter().find(is_row).is_some()
    }

    /// The answer's frame to a request of whatever version.
    pub fn answer(&self, version: i16, correlation_id: i32, error: ErrorCode) -> BytesMut {
        let is_known = (0..=NEWEST).contains(&version);
        // A version nobody knows is answered in version 0 (KIP-511).
        let (version, error) = if is_known { (version, error) } else { (0, ErrorCode::UNSUPPORTED_VERSION) };
        let flexible = version >= FLEXIBLE_FROM;
        let mut body = BytesMut::new();
        body.put_i16(error.0);
        put_count(&mut body, flexible, self.rows.len());
        for row in &self.rows {
            row.iter().for_each(|number| body.put_i16(*number));
            if flexible {
                body.put_u8(0);
            }
        }
        if version >= THROTTLE_FROM {
            body.put_i32(0);
        }
        match version {
            FEATURES_FROM.. => body.put_slice(&self.features),
            FLEXIBLE_FROM.. => body.put_u8(0),
            _ => {}
        }
        frame(ApiKey::ApiVersions, version, correlation_id, &body)
    }
}

/// Leaves of a broker's row what the rules have.
fn cut_down(row: &mut [i16; 3]) -> bool {
    let Some(rule) = rules::of(row[0]) else { return false };
    // Brokers say Produce 0 although they take it from 3: librdkafka does not compress otherwise (KAFKA-18659).
    let is_produce = rule.key == ApiKey::Produce;
    row[1] = if is_produce { row[1] } else { row[1].max(rule.version_min) };
    row[2] = row[2].min(rule.version_max);
    row[1] <= row[2]
}
