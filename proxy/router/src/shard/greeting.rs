//! What comes before Kafka on a client's connection: the PROXY protocol, then TLS.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use bytes::BytesMut;
use runtime::net::Stream;

use crate::listeners::Target;
use crate::proxy_protocol::{self, HEAD_BYTES};
use crate::shard::Shard;

/// A client whose first Kafka byte is to come.
pub struct Greeted {
    pub stream: Stream,
    pub peer: SocketAddr,
    pub target: Target,
}

/// Why there is none.
pub struct NotGreeted {
    pub reason: &'static str,
    pub message: String,
}

/// Reads the PROXY header where there is to be one, and shakes hands where TLS is on.
pub async fn greet(
    shard: &Rc<Shard>,
    mut stream: Stream,
    mut peer: SocketAddr,
    mut target: Target,
) -> Result<Greeted, NotGreeted> {
    if shard.config.proxy_protocol {
        let refused = |message: String| NotGreeted { reason: "proxy_protocol", message };
        let source = read_source(&mut stream).await.map_err(|err| refused(err.to_string()))?;
        peer = source.unwrap_or(peer);
    }
    if let Some(tls) = shard.board.tls() {
        let (secured, server_name) = tls
            .accept(stream)
            .await
            .map_err(|err| NotGreeted { reason: "tls_handshake", message: format!("{err} (a client without TLS?)") })?;
        stream = secured;
        if let Some(node) = server_name.and_then(|name| shard.naming.node_of_name(&name)) {
            target = Target::Node(node);
        }
    }
    Ok(Greeted { stream, peer, target })
}

async fn read_source(stream: &mut Stream) -> io::Result<Option<SocketAddr>> {
    let invalid = |err| io::Error::new(io::ErrorKind::InvalidData, err);
    let head = read_exactly(stream, HEAD_BYTES).await?;
    let head = proxy_protocol::head(head.first_chunk().expect("so many were read")).map_err(invalid)?;
    let rest = read_exactly(stream, head.rest_bytes).await?;
    proxy_protocol::source(head, &rest).map_err(invalid)
}

/// Not a byte more: what follows may be TLS.
async fn read_exactly(stream: &mut Stream, count: usize) -> io::Result<BytesMut> {
    let mut all = BytesMut::with_capacity(count);
    while all.len() < count {
        let piece = BytesMut::with_capacity(count - all.len());
        debug_assert_eq!(piece.capacity(), count - all.len());
        let (read, piece) = stream.read(piece).await;
        if read? == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "closed within its PROXY protocol header"));
        }
        all.extend_from_slice(&piece);
    }
    Ok(all)
}
