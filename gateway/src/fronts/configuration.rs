//! Defines what is printed: the files of a configuration, and warnings.

/// A printed configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Configuration {
    /// The configuration files: one, except for Traefik, which has two.
    pub files: Vec<ConfigurationFile>,
    /// What the operator should change or know, one sentence each.
    pub warnings: Vec<String>,
}

/// One configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigurationFile {
    /// What to append to the stem of the file's name: empty for the first file.
    pub suffix: &'static str,
    /// The whole text.
    pub text: String,
}
