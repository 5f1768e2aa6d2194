//! Writes software bills of materials: CycloneDX 1.5 and SPDX 2.3, both as JSON.
//!
//! The packages are those that Cargo compiles, with the checksums of the lock file. Nothing is random: serial number and
//! namespace are derived from the packages.

use serde_json::{Value, json};

use super::hex;
use super::packages::{Id, Packages};

/// Writes a CycloneDX document.
///
/// `time`: seconds since 1970.
pub(super) fn cyclone_dx(packages: &Packages, time: u64) -> anyhow::Result<Vec<u8>> {
    let component = |id: &Id, kind: &str| {
        let details = packages.details(id);
        let mut component = json!({
            "type": kind,
            "bom-ref": purl(id),
            "name": id.name,
            "version": id.version,
            "purl": purl(id),
        });
        if let Some(licence) = details.licence {
            component["licenses"] = json!([{ "expression": licence }]);
        }
        if let Some(description) = details.description {
            component["description"] =
                json!(description.split_whitespace().collect::<Vec<_>>().join(" "));
        }
        if let Some(checksum) = details.checksum {
            component["hashes"] = json!([{ "alg": "SHA-256", "content": checksum }]);
        }
        if let Some(repository) = details.repository {
            component["externalReferences"] = json!([{ "type": "vcs", "url": repository }]);
        }
        component
    };
    let components: Vec<Value> = packages
        .all
        .keys()
        .filter(|id| **id != packages.main)
        .map(|id| component(id, "library"))
        .collect();
    let dependencies: Vec<Value> = packages
        .all
        .iter()
        .map(|(id, on)| json!({ "ref": purl(id), "dependsOn": on.iter().map(purl).collect::<Vec<_>>() }))
        .collect();
    let mut document = json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "timestamp": timestamp(time),
            "component": component(&packages.main, "application"),
        },
        "components": components,
        "dependencies": dependencies,
    });
    document["serialNumber"] = json!(format!("urn:uuid:{}", uuid(&document)));
    Ok(print(&document))
}

/// Writes an SPDX document.
///
/// `time`: seconds since 1970.
pub(super) fn spdx(packages: &Packages, time: u64) -> anyhow::Result<Vec<u8>> {
    let mut listed = Vec::new();
    let mut relationships = vec![json!({
        "spdxElementId": "SPDXRef-DOCUMENT",
        "relationshipType": "DESCRIBES",
        "relatedSpdxElement": reference(&packages.main),
    })];
    for (id, on) in &packages.all {
        let details = packages.details(id);
        let licence = details.licence.unwrap_or_else(|| "NOASSERTION".to_owned());
        let mut package = json!({
            "SPDXID": reference(id),
            "name": id.name,
            "versionInfo": id.version,
            "downloadLocation": "NOASSERTION",
            "filesAnalyzed": false,
            "licenseConcluded": "NOASSERTION",
            "licenseDeclared": licence,
            "copyrightText": "NOASSERTION",
            "externalRefs": [{
                "referenceCategory": "PACKAGE-MANAGER",
                "referenceType": "purl",
                "referenceLocator": purl(id),
            }],
        });
        if let Some(checksum) = details.checksum {
            package["downloadLocation"] = json!(format!(
                "https://crates.io/api/v1/crates/{}/{}/download",
                id.name, id.version
            ));
            package["checksums"] = json!([{ "algorithm": "SHA256", "checksumValue": checksum }]);
        }
        listed.push(package);
        relationships.extend(on.iter().map(|other| {
            json!({
                "spdxElementId": reference(id),
                "relationshipType": "DEPENDS_ON",
                "relatedSpdxElement": reference(other),
            })
        }));
    }
    let name = format!("{}-{}", packages.main.name, packages.main.version);
    let mut document = json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": name,
        "creationInfo": {
            "created": timestamp(time),
            "creators": [format!("Tool: xtask-{}", super::VERSION)],
        },
        "packages": listed,
        "relationships": relationships,
    });
    let namespace = format!("https://spdx.org/spdxdocs/{name}-{}", uuid(&document));
    document["documentNamespace"] = json!(namespace);
    Ok(print(&document))
}

/// Returns the package URL, <https://github.com/package-url/purl-spec>.
fn purl(id: &Id) -> String {
    // A version can have a plus sign, which is escaped there.
    format!("pkg:cargo/{}@{}", id.name, id.version.replace('+', "%2B"))
}

/// Returns a name in a document: letters, digits, dots and hyphens.
fn reference(id: &Id) -> String {
    let text = format!("SPDXRef-{}-{}", id.name, id.version);
    text.replace(
        |letter: char| !letter.is_ascii_alphanumeric() && letter != '.',
        "-",
    )
}

/// Returns a UUID of version 8, RFC 9562 §5.8, that depends on the content of the document.
fn uuid(document: &Value) -> String {
    let digest = hex(document.to_string().as_bytes());
    let part = |from: usize, to: usize| digest.get(from..to).unwrap_or_default();
    format!(
        "{}-{}-8{}-8{}-{}",
        part(0, 8),
        part(8, 12),
        part(12, 15),
        part(15, 18),
        part(18, 30)
    )
}

/// Returns a time as in RFC 3339.
fn timestamp(time: u64) -> String {
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(time);
    humantime::format_rfc3339_seconds(time).to_string()
}

fn print(document: &Value) -> Vec<u8> {
    format!("{document:#}\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_only_the_letters_that_the_formats_allow() {
        let id = Id {
            name: "serde_json".to_owned(),
            version: "1.0.0+spec-1.1".to_owned(),
        };
        assert_eq!(purl(&id), "pkg:cargo/serde_json@1.0.0%2Bspec-1.1");
        assert_eq!(reference(&id), "SPDXRef-serde-json-1.0.0-spec-1.1");
    }

    #[test]
    fn times_and_identifiers_depend_on_the_document_alone() {
        assert_eq!(timestamp(86_400), "1970-01-02T00:00:00Z");
        let (one, other) = (json!({ "a": 1 }), json!({ "a": 2 }));
        assert_eq!(uuid(&one), uuid(&one));
        assert_ne!(uuid(&one), uuid(&other));
        assert_eq!(uuid(&one).len(), 36);
    }
}
