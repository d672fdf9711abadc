//! The repository as the rules see it: its text files and its packages.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// The repository's root.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("this package lies below the root")
}

/// A file with its path relative to the root.
#[derive(Debug)]
pub(crate) struct TextFile {
    pub(crate) path: String,
    pub(crate) text: String,
}

/// Every file with one of `extensions`, build outputs and hidden directories left out.
pub(crate) fn files(extensions: &[&str]) -> Vec<TextFile> {
    let mut found = Vec::new();
    walk(root(), extensions, &mut found);
    assert!(
        !found.is_empty(),
        "the repository has files with {extensions:?}"
    );
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn walk(dir: &Path, extensions: &[&str], found: &mut Vec<TextFile>) {
    let entries = fs::read_dir(dir).expect("a directory of the repository can be read");
    for entry in entries.flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        let kind = entry.file_type().expect("a file has a type");
        if kind.is_dir() && !name.starts_with('.') && name != "target" {
            walk(&path, extensions, found);
        }
        let extension = path.extension().and_then(|extension| extension.to_str());
        if kind.is_file() && extension.is_some_and(|extension| extensions.contains(&extension)) {
            let text =
                fs::read_to_string(&path).expect("a text file of the repository can be read");
            found.push(TextFile {
                path: relative(&path),
                text,
            });
        }
    }
}

fn relative(path: &Path) -> String {
    let inside = path
        .strip_prefix(root())
        .expect("the walk began at the root");
    inside.to_string_lossy().into_owned()
}

/// A member of the workspace.
#[derive(Debug)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) manifest: PathBuf,
    /// Names of normal and build dependencies.
    pub(crate) dependencies: Vec<String>,
    /// Names of all dependencies, development ones included.
    pub(crate) all_dependencies: Vec<String>,
    /// Root source files of libraries, programs and test tiers, relative to the repository's root.
    pub(crate) roots: Vec<String>,
}

/// The members, as cargo sees them.
pub(crate) fn packages() -> Vec<Package> {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--no-deps",
            "--format-version",
            "1",
            "--offline",
        ])
        .current_dir(root())
        .output()
        .expect("cargo can be run");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo metadata: {error}");
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo prints JSON");
    let packages = metadata["packages"]
        .as_array()
        .expect("metadata has packages");
    packages.iter().map(package).collect()
}

fn package(value: &Value) -> Package {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let dependencies = value["dependencies"]
        .as_array()
        .expect("a package has dependencies");
    let shipped = dependencies
        .iter()
        .filter(|dependency| dependency["kind"] != "dev");
    Package {
        name: text(&value["name"]),
        manifest: PathBuf::from(text(&value["manifest_path"])),
        dependencies: shipped
            .map(|dependency| text(&dependency["name"]))
            .collect(),
        all_dependencies: dependencies.iter().map(|d| text(&d["name"])).collect(),
        roots: value["targets"]
            .as_array()
            .expect("a package has targets")
            .iter()
            .map(|target| {
                (
                    relative(Path::new(&text(&target["src_path"]))),
                    &target["kind"][0],
                )
            })
            .filter(|(path, kind)| match kind.as_str() {
                Some("custom-build") => false,
                Some("test") => path.starts_with("tests/"),
                _ => true,
            })
            .map(|(path, _)| path)
            .collect(),
    }
}
