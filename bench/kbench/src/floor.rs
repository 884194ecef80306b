//! `kbench floor`: raw io_uring loops on one thread.

use std::process::ExitCode;

use anyhow::Result;
use runtime::net;
use runtime::raw_ring::{Stop, serve_forward, serve_http};

use crate::cli::{Floor, FloorKind, Serve};
use crate::{pin, ready};

pub fn run(floor: Floor) -> Result<ExitCode> {
    // Until killed.
    let stop = Stop::new()?;
    match floor.kind {
        FloorKind::Http { serve } => serve_http(listen(&serve)?, &stop)?,
        FloorKind::Forward { serve, to } => serve_forward(listen(&serve)?, to, &stop)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn listen(serve: &Serve) -> Result<std::net::TcpListener> {
    pin::this_thread(serve.cpu)?;
    let (addr, listener) = net::bind(serve.listen)?;
    ready::announce(serve.json, "listen", &addr.to_string())?;
    Ok(listener)
}
