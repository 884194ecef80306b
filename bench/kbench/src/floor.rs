//! `kbench floor`: raw io_uring loops on one thread, and the same answers from a shard of the runtime, which shows what
//! of a gateway's cost is the runtime's.

use std::process::ExitCode;

use anyhow::{Result, anyhow};
use bytes::{Buf, Bytes, BytesMut};
use runtime::net::{self, Listener, Stream};
use runtime::pool::BufferPool;
use runtime::raw_ring::{ANSWER, Stop, delimit, serve_forward, serve_http};
use runtime::{ShardOptions, spawn, spawn_shard};

use crate::cli::{Floor, FloorKind, Serve};
use crate::{pin, ready};

pub fn run(floor: Floor) -> Result<ExitCode> {
    // Until killed.
    let stop = Stop::new()?;
    match floor.kind {
        FloorKind::Http { serve } => serve_http(listen(&serve)?, &stop)?,
        FloorKind::Shard { serve } => {
            let listener = listen(&serve)?;
            let options = ShardOptions { cpu: serve.cpu, ..ShardOptions::named("shard-0") };
            let shard = spawn_shard(options, move |_| accept(listener))?;
            shard.join().map_err(|_| anyhow!("the shard panicked"))??;
        }
        FloorKind::Forward { serve, to } => serve_forward(listen(&serve)?, to, &stop)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn listen(serve: &Serve) -> Result<std::net::TcpListener> {
    pin::this_thread(serve.cpu)?;
    let (addr, listener) = net::bind(serve.listen)?;
    ready::announce(serve.json, "listen", &addr.to_string());
    Ok(listener)
}

async fn accept(listener: std::net::TcpListener) -> std::io::Result<()> {
    let listener = Listener::from_std(listener)?;
    loop {
        let (stream, _) = listener.accept().await?;
        spawn(answer(stream));
    }
}

/// As the gateway does it: wait without a buffer, read into a pooled one, answer.
async fn answer(mut stream: Stream) -> std::io::Result<()> {
    let pool = BufferPool::current();
    let mut body_left = 0;
    loop {
        stream.readable().await?;
        let mut buf = pool.get_16k();
        // Until every request that has begun is complete; the floor's heads come in one piece.
        loop {
            let (result, returned) = stream.read(buf).await;
            buf = returned;
            if result? == 0 {
                return Ok(());
            }
            let answers = take_requests(&mut buf, &mut body_left);
            if answers > 0 {
                let bytes = if answers == 1 { Bytes::from_static(ANSWER) } else { ANSWER.repeat(answers).into() };
                stream.write_all(bytes).await?;
            }
            if buf.is_empty() && body_left == 0 {
                break;
            }
            buf.reserve(1024);
        }
    }
}

/// Drops what is complete; the number of requests that ended.
fn take_requests(buf: &mut BytesMut, body_left: &mut u64) -> usize {
    let mut ended = 0;
    loop {
        if *body_left > 0 {
            let part = (*body_left).min(buf.len() as u64);
            buf.advance(part as usize);
            *body_left -= part;
            if *body_left > 0 {
                return ended;
            }
            ended += 1;
            continue;
        }
        let Some((head_bytes, body_bytes)) = delimit(buf) else { return ended };
        buf.advance(head_bytes);
        *body_left = body_bytes;
        ended += usize::from(body_bytes == 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_end_with_their_bodies_however_they_are_cut() {
        let all = b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhelloGET / HTTP/1.1\r\n\r\nPOST / HT";
        for cut in 0..all.len() {
            let (mut buf, mut body_left) = (BytesMut::from(&all[..cut]), 0);
            let first = take_requests(&mut buf, &mut body_left);
            buf.extend_from_slice(&all[cut..]);
            assert_eq!(first + take_requests(&mut buf, &mut body_left), 2, "cut at {cut}");
            assert_eq!((&buf[..], body_left), (&b"POST / HT"[..], 0));
        }
    }
}
