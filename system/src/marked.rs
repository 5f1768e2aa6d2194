//! Finds the processes that a program has started, wherever they are in the process tree.

/// A variable in the environment of a program. The processes that it starts inherit it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark(String);

/// A process that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The process id.
    pub id: u32,
    /// The command line, with a space after each word.
    pub command: String,
}

impl Mark {
    /// The name of the variable.
    pub const VARIABLE: &str = "MARK_OF_A_SYSTEM_TEST";

    /// Returns a mark that no other test and no other run has. `name`: unique in this process.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(format!("{}-{name}", std::process::id()))
    }

    /// Returns the value of the variable.
    #[must_use]
    pub fn value(&self) -> &str {
        &self.0
    }

    /// Lists the processes that run and have the mark. A zombie has no environment, so it is not among them.
    #[must_use]
    pub fn processes(&self) -> Vec<Found> {
        let wanted = format!("{}={}", Self::VARIABLE, self.0);
        let entries = std::fs::read_dir("/proc").into_iter().flatten();
        let processes = entries.filter_map(Result::ok).filter_map(|entry| {
            let id = entry.file_name().to_str()?.parse().ok()?;
            let environment = std::fs::read(entry.path().join("environ")).ok()?;
            let mut variables = environment.split(|octet| *octet == 0);
            variables.find(|variable| *variable == wanted.as_bytes())?;
            let command = std::fs::read(entry.path().join("cmdline")).ok()?;
            let command = String::from_utf8_lossy(&command).replace('\0', " ");
            Some(Found { id, command })
        });
        processes.collect()
    }
}
