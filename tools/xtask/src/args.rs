//! Just enough argument parsing: `--flag`, `--name value`, `--name=value`, words.

use std::fmt;

use anyhow::Result;

/// A mistake of the person at the keyboard; exit code 2.
#[derive(Debug)]
pub struct Usage(String);

impl fmt::Display for Usage {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

pub fn usage(message: impl Into<String>) -> anyhow::Error {
    anyhow::Error::new(Usage(message.into()))
}

/// What is left to be understood.
#[derive(Debug)]
pub struct Args {
    words: Vec<String>,
}

impl Args {
    pub fn new(words: &[String]) -> Self {
        Self { words: words.to_vec() }
    }

    /// Takes `--name` if it is there.
    pub fn flag(&mut self, name: &str) -> bool {
        let before = self.words.len();
        self.words.retain(|word| word != name);
        self.words.len() < before
    }

    /// Takes `--name value` or `--name=value`.
    pub fn value(&mut self, name: &str) -> Result<Option<String>> {
        let with_equals = format!("{name}=");
        if let Some(at) = self.words.iter().position(|word| word.starts_with(&with_equals)) {
            return Ok(Some(self.words.remove(at)[with_equals.len()..].to_owned()));
        }
        let Some(at) = self.words.iter().position(|word| word == name) else { return Ok(None) };
        if at + 1 >= self.words.len() {
            return Err(usage(format!("{name} needs a value")));
        }
        self.words.remove(at);
        Ok(Some(self.words.remove(at)))
    }

    /// The same, parsed.
    pub fn number<T: std::str::FromStr>(&mut self, name: &str) -> Result<Option<T>> {
        let Some(text) = self.value(name)? else { return Ok(None) };
        text.parse().map(Some).map_err(|_| usage(format!("{name}: {text:?} is no number here")))
    }

    /// Takes the first plain word.
    pub fn word(&mut self) -> Option<String> {
        let at = self.words.iter().position(|word| !word.starts_with("--"))?;
        Some(self.words.remove(at))
    }

    /// Whatever nobody took is a mistake.
    pub fn finish(self) -> Result<()> {
        match self.words.first() {
            None => Ok(()),
            Some(word) => Err(usage(format!("{word:?} is not understood; try `cargo xtask --help`"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(line: &str) -> Args {
        Args::new(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn values_come_after_a_space_or_an_equals_sign() {
        let mut both = args("kafka --nodes 3 --port=9092 --sasl");
        assert_eq!(both.number::<usize>("--nodes").unwrap(), Some(3));
        assert_eq!(both.number::<u16>("--port").unwrap(), Some(9092));
        assert!(both.flag("--sasl"));
        assert!(!both.flag("--tls"));
        assert_eq!(both.word().as_deref(), Some("kafka"));
        both.finish().unwrap();
    }

    #[test]
    fn mistakes_are_named() {
        assert!(args("--nodes").value("--nodes").unwrap_err().to_string().contains("needs a value"));
        assert!(args("--nodes x").number::<usize>("--nodes").unwrap_err().is::<Usage>());
        assert!(args("--nosuch").finish().unwrap_err().to_string().contains("--nosuch"));
    }
}
