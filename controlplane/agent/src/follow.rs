//! The other end of [`crate::server`]: takes what another process's agent pushes.

use std::io;
use std::path::{Path, PathBuf};

use model::ids::Generation;
use tokio::net::UnixStream;
use tokio::sync::mpsc;

use crate::limits::{HELLO_WITHIN, SILENCE_MAX};
use crate::server::Short;
use crate::wire::{self, Alive, Frame, Hello};

/// A connection to an agent. Dropped, it is closed.
pub(crate) struct Follow {
    events: mpsc::Receiver<Event>,
    replies: mpsc::UnboundedSender<Frame>,
    task: tokio::task::JoinHandle<()>,
    /// The agent writes events into the audit log.
    pub(crate) records: bool,
}

pub(crate) enum Event {
    Snapshot(Vec<u8>),
    Changes(Vec<u8>),
    Alive(Alive),
    /// Rows are there up to that of this event.
    Recorded(String),
    /// It hung up, or has been silent for too long.
    Lost(io::Error),
}

impl Follow {
    /// Connects and says what is in force here.
    pub(crate) async fn connect(path: &Path, node: &str, have: Generation) -> io::Result<Self> {
        let path: PathBuf = path.to_owned();
        let short = Short::of(&path)?;
        let greeting = async {
            let mut stream = UnixStream::connect(short.path()).await?;
            let have = (have.number > 0).then_some(have);
            wire::write(&mut stream, &Frame::Hello(Hello { wire: wire::VERSION, node: node.to_owned(), have })).await?;
            match wire::read(&mut stream).await? {
                Frame::Welcome(welcome) => match welcome.refused {
                    None => Ok((stream, welcome.records)),
                    Some(why) => Err(io::Error::new(io::ErrorKind::ConnectionRefused, why)),
                },
                _ => Err(io::Error::new(io::ErrorKind::InvalidData, "the first frame is not a welcome")),
            }
        };
        let greeted = tokio::time::timeout(HELLO_WITHIN, greeting).await.map_err(|_| io::ErrorKind::TimedOut)?;
        let (stream, records) = greeted?;
        let (mut read, mut write) = stream.into_split();
        let (said, events) = mpsc::channel(1);
        let (replies, mut outbox) = mpsc::unbounded_channel::<Frame>();
        let task = tokio::spawn(async move {
            let reading = async {
                loop {
                    let event = match tokio::time::timeout(SILENCE_MAX, wire::read(&mut read)).await {
                        Ok(Ok(Frame::Snapshot(file))) => Event::Snapshot(file),
                        Ok(Ok(Frame::Changes(changes))) => Event::Changes(changes),
                        Ok(Ok(Frame::Alive(alive))) => Event::Alive(alive),
                        Ok(Ok(Frame::Recorded(recorded))) => Event::Recorded(recorded.id),
                        Ok(Ok(_)) => continue,
                        Ok(Err(err)) => Event::Lost(err),
                        Err(_) => Event::Lost(io::ErrorKind::TimedOut.into()),
                    };
                    let is_over = matches!(event, Event::Lost(_));
                    if said.send(event).await.is_err() || is_over {
                        return;
                    }
                }
            };
            let writing = async {
                while let Some(frame) = outbox.recv().await {
                    if wire::write(&mut write, &frame).await.is_err() {
                        // The reading half finds out, too.
                        break;
                    }
                }
                std::future::pending::<()>().await;
            };
            tokio::select! {
                () = reading => {}
                () = writing => {}
            }
        });
        Ok(Self { events, replies, task, records })
    }

    pub(crate) async fn next(&mut self) -> Event {
        self.events.recv().await.unwrap_or_else(|| Event::Lost(io::ErrorKind::ConnectionReset.into()))
    }

    pub(crate) fn reply(&self, frame: Frame) {
        // A connection that is gone is seen by `next`.
        let _ = self.replies.send(frame);
    }
}

impl Drop for Follow {
    fn drop(&mut self) {
        self.task.abort();
    }
}
