//! What `kateway admin handoff` and `kateway admin job` have in common: which of what is parked is meant, and answers with a part
//! for each gateway.

use super::call::Call;
use clap::Args;
use serde_json::{Value, json};

/// A kind of what is parked; its fields are what can be said of this kind alone.
pub trait Kind: Args {
    const PATH: &'static str;
    /// As a person is asked about one of them.
    const ONE: &'static str;
    /// Their ids in a request, and in the help.
    const IDS: &'static str;
    const IDS_IN_HELP: &'static str;
    const IDS_HELP: &'static str;
    const COLUMNS: &'static [&'static str];
    const COLUMNS_DONE: &'static [&'static str];

    fn said(&self) -> Vec<Said<'_>>;
}

/// Something said of those that are meant: its name in a request, the words before it where a person is asked, its value.
pub type Said<'a> = (&'static str, &'static str, &'a Option<String>);

/// Which of them.
#[derive(Debug, Clone, Args)]
pub struct Which<K: Kind> {
    /// Of this app.
    #[arg(long = "app", value_name = "APPID")]
    appid: Option<String>,
    /// For this topic of the app.
    #[arg(long, requires_all = ["appid", "ver"])]
    topic: Option<String>,
    /// Its version.
    #[arg(long, requires = "topic")]
    ver: Option<String>,
    #[command(flatten)]
    of_kind: K,
    /// With this reason, as `parked` shows it.
    #[arg(long)]
    reason: Option<String>,
    /// At this gateway only.
    #[arg(long, value_name = "ID")]
    node: Option<String>,
}

/// Which of them are changed: by their ids, by what they have in common, or all.
#[derive(Debug, Clone, Args)]
pub struct Selected<K: Kind> {
    #[arg(value_name = K::IDS_IN_HELP, help = K::IDS_HELP)]
    ids: Vec<String>,
    #[command(flatten)]
    which: Which<K>,
    /// All of them (of the app, with --app).
    #[arg(long)]
    all: bool,
}

impl<K: Kind> Which<K> {
    /// Those that are said in a body; of an app and at a gateway is said in the query.
    fn matched(&self) -> Vec<Said<'_>> {
        let mut said: Vec<Said<'_>> = vec![("topic", "for topic", &self.topic), ("ver", "in version", &self.ver)];
        said.extend(self.of_kind.said());
        said.push(("reason", "with reason", &self.reason));
        said
    }

    pub fn list(&self) -> Call {
        let call = Call::list(format!("{}/parked", K::PATH), K::COLUMNS).with("appid", self.appid.as_ref());
        let call = self.matched().into_iter().fold(call, |call, (name, _, value)| call.with(name, value.as_ref()));
        call.with("node", self.node.as_ref())
    }
}

impl<K: Kind> Selected<K> {
    pub fn replay(&self) -> Call {
        self.call("replay")
    }

    pub fn drop(&self) -> Call {
        self.call("drop").asking(format!("drop {} for good?", self.said()))
    }

    fn call(&self, deed: &str) -> Call {
        let Selected { ids, which, all } = self;
        let mut body = json!({});
        if !ids.is_empty() {
            body[K::IDS] = ids.as_slice().into();
        }
        for (name, _, value) in which.matched() {
            if let Some(value) = value {
                body[name] = value.as_str().into();
            }
        }
        if *all {
            body["all"] = true.into();
        }
        let call = Call::new("POST", format!("{}/{deed}", K::PATH), K::COLUMNS_DONE);
        call.with("appid", which.appid.as_ref()).with("node", which.node.as_ref()).body(body)
    }

    /// As a person is asked about them.
    fn said(&self) -> String {
        let Selected { ids, which, all } = self;
        let mut said = match (ids.len(), all) {
            (0, true) => format!("all {}s", K::ONE),
            (0, false) => format!("{}s", K::ONE),
            (1, _) => format!("1 {}", K::ONE),
            (count, _) => format!("{count} {}s", K::ONE),
        };
        let app = [("appid", "of app", &which.appid)];
        let node = [("node", "at gateway", &which.node)];
        for (_, words, value) in app.into_iter().chain(which.matched()).chain(node) {
            if let Some(value) = value {
                said.push_str(&format!(" {words} {value}"));
            }
        }
        said
    }
}

/// Makes a row of each gateway.
pub fn show_nodes(answer: &mut Value) {
    *answer = answer["nodes"].take();
}

/// Makes a row of each part that gateways have under this name.
pub fn show_parts(answer: &mut Value, name: &str) {
    let nodes = answer["nodes"].as_array_mut().map(std::mem::take).unwrap_or_default();
    let rows = nodes.into_iter().flat_map(|mut node| {
        let parts = node[name].as_array_mut().map(std::mem::take).unwrap_or_default();
        let id = node["node"].take();
        parts.into_iter().map(move |mut part| {
            part["node"] = id.clone();
            part
        })
    });
    *answer = rows.collect();
}

/// Gateways that gave no answer, each in a sentence: whoever reads the rows is told that there may be more.
pub fn unreachable(answer: &Value) -> Vec<String> {
    let missing = answer["unreachable"].as_array().into_iter().flatten();
    missing.filter_map(|gone| gone["why"].as_str().map(str::to_owned)).collect()
}
