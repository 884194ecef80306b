//! One REST call of the manager, and how its answer is shown.

use manager::client::{AdminClient, ClientError};
use manager::limits::PAGE_ROWS_MAX;
use serde_json::{Value, json};

pub struct Call {
    pub method: &'static str,
    pub path: String,
    pub query: Vec<(&'static str, String)>,
    pub body: Option<Value>,
    pub columns: &'static [&'static str],
    /// Columns that are the name of a row, as other commands take it.
    pub name: &'static [&'static str],
    /// What a person is asked before it is done.
    pub question: Option<String>,
    /// What it removes; the answer says whether it existed.
    pub removes: Option<Removed>,
    /// A list, to be asked for page by page.
    is_list: bool,
}

/// Something that is removed.
pub struct Removed {
    /// In a sentence: `app shop`.
    pub what: String,
    /// As other commands take it: `shop`.
    pub name: String,
}

impl Removed {
    /// What is called by its name.
    pub fn new(kind: &str, name: impl Into<String>) -> Removed {
        let name = name.into();
        Removed { what: format!("{kind} {name}"), name }
    }
}

impl Call {
    /// A row's name is its first column, unless something else is said.
    pub fn new(method: &'static str, path: impl Into<String>, columns: &'static [&'static str]) -> Call {
        Call {
            method,
            path: path.into(),
            query: Vec::new(),
            body: None,
            columns,
            name: &columns[..columns.len().min(1)],
            question: None,
            removes: None,
            is_list: false,
        }
    }

    pub fn named(mut self, name: &'static [&'static str]) -> Call {
        self.name = name;
        self
    }

    pub fn with(mut self, name: &'static str, value: Option<impl ToString>) -> Call {
        self.query.extend(value.map(|value| (name, value.to_string())));
        self
    }

    /// Every row, however many there are.
    pub fn list(path: impl Into<String>, columns: &'static [&'static str]) -> Call {
        Call { is_list: true, ..Call::new("GET", path, columns) }.with("rows", Some(PAGE_ROWS_MAX))
    }

    /// Whether there was anything is in the answer.
    pub fn remove(path: impl Into<String>, removed: Removed) -> Call {
        Call { removes: Some(removed), ..Call::new("DELETE", path, &["name", "existed", "lacking"]) }
    }

    pub fn asking(mut self, question: String) -> Call {
        self.question = Some(question);
        self
    }

    pub fn body(mut self, body: Value) -> Call {
        self.body = Some(body);
        self
    }

    /// The first line of it, as it is sent.
    pub fn line(&self) -> String {
        let pairs: Vec<String> = self.query.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let query = if pairs.is_empty() { String::new() } else { format!("?{}", pairs.join("&")) };
        format!("{} {}{query}", self.method, self.path)
    }

    /// In a line, with its body.
    #[cfg(test)]
    pub fn shown(&self) -> String {
        let body = self.body.as_ref().map(|body| format!(" {body}")).unwrap_or_default();
        self.line() + &body
    }

    /// The answer; of a list, all pages in one.
    pub async fn send(&self, client: &AdminClient) -> Result<Value, ClientError> {
        let (mut rows, mut cursor, mut unreachable) = (Vec::new(), None::<String>, Vec::new());
        loop {
            let mut query: Vec<(&str, &str)> = self.query.iter().map(|(name, value)| (*name, value.as_str())).collect();
            query.extend(cursor.as_deref().map(|cursor| ("cursor", cursor)));
            let mut answer = client.request(self.method, &self.path, &query, self.body.as_ref()).await?;
            if !self.is_list {
                return Ok(answer);
            }
            if let Some(Value::Array(page)) = answer.get_mut("rows").map(Value::take) {
                rows.extend(page);
            }
            if let Some(Value::Array(missing)) = answer.get_mut("unreachable").map(Value::take) {
                unreachable.extend(missing);
            }
            cursor = answer["cursor"].as_str().map(str::to_owned);
            if cursor.is_none() {
                return Ok(match unreachable.is_empty() {
                    true => rows.into(),
                    false => json!({"rows": rows, "unreachable": unreachable}),
                });
            }
        }
    }
}
