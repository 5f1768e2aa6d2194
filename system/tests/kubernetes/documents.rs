//! Reads the documents of a YAML stream, and finds things in them.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;

/// The manifests that are deployed together.
#[derive(Debug, Clone)]
pub(crate) struct Documents(Vec<Value>);

impl Documents {
    /// Reads a stream of YAML documents; those that have only comments are left out.
    pub(crate) fn read(text: &str) -> Self {
        let mut documents = Vec::new();
        for part in format!("\n{text}").split("\n---") {
            let value: Value =
                serde_saphyr::from_str(part).unwrap_or_else(|error| panic!("{error}\n{part}"));
            if !value.is_null() {
                documents.push(value);
            }
        }
        Self(documents)
    }

    /// Returns documents as a YAML stream; JSON is YAML.
    pub(crate) fn print(documents: &[&Value]) -> String {
        let texts: Vec<String> = documents.iter().map(ToString::to_string).collect();
        texts.join("\n---\n")
    }

    /// Returns the documents that Kubernetes itself defines, and those of custom resources.
    pub(crate) fn by_definition(&self) -> (Vec<&Value>, Vec<Value>) {
        let (own, custom): (Vec<&Value>, Vec<&Value>) = self.0.iter().partition(|document| {
            let version = document["apiVersion"].as_str().unwrap_or_default();
            let group = version.split_once('/').map_or("", |(group, _)| group);
            !group.contains('.') || ["networking.k8s.io"].contains(&group)
        });
        (own, custom.into_iter().cloned().collect())
    }

    pub(crate) fn kinds(&self) -> Vec<&str> {
        self.0
            .iter()
            .filter_map(|document| document["kind"].as_str())
            .collect()
    }

    pub(crate) fn all(&self) -> &[Value] {
        &self.0
    }

    pub(crate) fn of(&self, kind: &str) -> Vec<&Value> {
        self.0
            .iter()
            .filter(|document| document["kind"] == kind)
            .collect()
    }

    /// Returns the first document of a kind.
    #[track_caller]
    pub(crate) fn one(&self, kind: &str) -> &Value {
        self.of(kind)
            .first()
            .copied()
            .unwrap_or_else(|| panic!("no {kind} in {:?}", self.kinds()))
    }

    /// Returns a copy in which one value of the first document of a kind is another.
    #[track_caller]
    pub(crate) fn with(&self, kind: &str, pointer: &str, value: Value) -> Self {
        let mut changed = self.clone();
        let document = changed
            .0
            .iter_mut()
            .find(|document| document["kind"] == kind);
        set(document.expect(kind), pointer, value);
        changed
    }

    /// Returns the container of the gateway.
    #[track_caller]
    pub(crate) fn gateway_container(&self) -> &Value {
        &self.one("Deployment")["spec"]["template"]["spec"]["containers"][0]
    }

    /// Returns the environment of the gateway's container: its own variables, and those of its ConfigMaps.
    pub(crate) fn gateway_settings(&self) -> BTreeMap<String, String> {
        let mut settings = BTreeMap::new();
        let container = self.gateway_container();
        for source in items(&container["envFrom"]) {
            let wanted = &source["configMapRef"]["name"];
            let maps = self.of("ConfigMap").into_iter();
            for map in maps.filter(|map| map["metadata"]["name"] == *wanted) {
                let data = map["data"].as_object().into_iter().flatten();
                settings.extend(data.map(|(name, value)| (name.clone(), text(value))));
            }
        }
        for variable in items(&container["env"]) {
            settings.insert(text(&variable["name"]), text(&variable["value"]));
        }
        settings
    }

    /// Returns the arguments of the gateway's `run`.
    pub(crate) fn gateway_arguments(&self) -> Vec<String> {
        let command = items(&self.gateway_container()["command"]);
        assert_eq!(command[..2], ["fluxlit-gateway", "run"]);
        command[2..].iter().map(text).collect()
    }
}

/// Sets a value, whether or not there was one.
#[track_caller]
pub(crate) fn set(document: &mut Value, pointer: &str, value: Value) {
    if let Some(old) = document.pointer_mut(pointer) {
        assert_ne!(*old, value, "{pointer} has this value already");
        *old = value;
        return;
    }
    let (parent, name) = pointer.rsplit_once('/').expect("a pointer");
    let parent = document.pointer_mut(parent).and_then(Value::as_object_mut);
    parent.expect(pointer).insert(name.to_owned(), value);
}

/// Returns the items of an array; none if it is absent.
pub(crate) fn items(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// Returns the text of a string, or the JSON of another value.
pub(crate) fn text(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

/// Returns the places in which a value is not contained in another one: members may be added, and nothing may differ.
pub(crate) fn difference(part: &Value, whole: &Value) -> Vec<String> {
    let mut places = Vec::new();
    contained("", part, whole, &mut places);
    places
}

fn contained(place: &str, part: &Value, whole: &Value, places: &mut Vec<String>) {
    match (part, whole) {
        (Value::Object(part), Value::Object(_)) => {
            for (name, value) in part {
                contained(&format!("{place}/{name}"), value, &whole[name], places);
            }
        }
        (Value::Array(part), Value::Array(items)) if part.len() == items.len() => {
            for (index, (part, item)) in part.iter().zip(items).enumerate() {
                contained(&format!("{place}/{index}"), part, item, places);
            }
        }
        _ if part == whole => {}
        _ => places.push(format!("{place}: {part}, but {whole}")),
    }
}

/// Runs a program; returns its output, or what it printed if it fails.
pub(crate) fn run(command: &mut Command) -> Result<String, String> {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        Ok(text)
    } else {
        Err(format!("{text}{}", String::from_utf8_lossy(&output.stderr)))
    }
}
