//! `kbench subscribe`: polls one after the other on every connection, acknowledged by being sent.

use std::process::ExitCode;

use anyhow::{Result, ensure};

use crate::cli::Subscribe;
use crate::load::{self, Count, Mode, Work, split_url};
use crate::{records, report};

pub fn run(subscribe: Subscribe) -> Result<ExitCode> {
    let figures = load::run(&work(&subscribe)?, &subscribe.run)?;
    report::print(&figures, subscribe.run.output)
}

fn work(subscribe: &Subscribe) -> Result<Work> {
    let (host, port) = split_url(&subscribe.target.target)?;
    ensure!(subscribe.batch > 0, "a poll asks for at least one message");
    let target = &subscribe.target;
    let owner = subscribe.owner.as_ref().unwrap_or(&target.appid);
    let accept =
        if subscribe.batch > 1 { format!("Accept: {}\r\n", records::BINARY_CONTENT_TYPE) } else { String::new() };
    let request = format!(
        "GET /v1/msgs/{owner}/{}/{}?group={}&batch={}&wait={}ms HTTP/1.1\r\nHost: {host}:{port}\r\nAppid: {}\r\nSubkey: \
         {}\r\n{accept}\r\n",
        target.topic, target.ver, subscribe.group, subscribe.batch, subscribe.wait_ms, target.appid, subscribe.subkey,
    );
    Ok(Work {
        requests: vec![request.into()],
        host,
        port,
        mode: Mode::Closed,
        count: if subscribe.batch > 1 { Count::Records } else { Count::OnePerBody },
        payload_bytes: 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser;

    #[test]
    fn a_poll_asks_for_what_the_flags_say() {
        let args =
            "kbench subscribe --target http://h:9192 --appid a --subkey k --topic t --group g --batch 20 --wait-ms 7";
        let Command::Subscribe(subscribe) = Cli::parse_from(args.split(' ')).command else { panic!("subscribe") };
        let work = work(&subscribe).expect("work");
        assert_eq!(
            work.requests[0],
            "GET /v1/msgs/a/t/v1?group=g&batch=20&wait=7ms HTTP/1.1\r\nHost: h:9192\r\nAppid: a\r\nSubkey: k\r\n\
             Accept: application/vnd.gafka.records\r\n\r\n"
        );
        assert_eq!(work.count, Count::Records);
    }
}
