//! What the rules look at: the crates of the workspace, and the text of its files.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

/// Folders that are not ours to judge.
const SKIPPED: [&str; 4] = [".git", ".idempo", "node_modules", "target"];
/// The files that are read.
const READ: [&str; 8] = ["md", "patch", "proto", "rs", "sh", "sql", "toml", "yaml"];

/// The workspace.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    pub(crate) members: Vec<Member>,
    /// Text by path from the root, with `/` between the parts.
    pub(crate) files: BTreeMap<String, String>,
}

/// A crate of the workspace.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) name: String,
    /// Its folder from the root, with `/` between the parts.
    pub(crate) folder: String,
    pub(crate) dependencies: Vec<Dependency>,
    /// Its features, each with those that it turns on.
    pub(crate) features: BTreeMap<String, Vec<String>>,
}

/// What a crate names in its `Cargo.toml`.
#[derive(Debug)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    /// Whether only its tests use it.
    pub(crate) is_dev: bool,
    /// The features that it turns on there.
    pub(crate) features: Vec<String>,
}

impl Tree {
    /// Reads the workspace below `root`.
    pub(crate) fn read(root: &Path) -> Result<Self> {
        let metadata =
            cargo_metadata::MetadataCommand::new().current_dir(root).no_deps().exec().context("asking cargo about the workspace")?;
        let members = metadata.workspace_packages().into_iter().map(|package| member(package, metadata.workspace_root.as_ref())).collect();
        let mut tree = Self { members, files: BTreeMap::new() };
        read_folder(root, "", &mut tree.files)?;
        Ok(tree)
    }

    /// The crate that a file belongs to: the one with the longest folder that the path begins with.
    pub(crate) fn owner(&self, path: &str) -> Option<&Member> {
        let owners = self.members.iter().filter(|member| path.strip_prefix(&member.folder).is_some_and(|rest| rest.starts_with('/')));
        owners.max_by_key(|member| member.folder.len())
    }

    /// Files with this ending, as path and text.
    pub(crate) fn with_extension(&self, extension: &'static str) -> impl Iterator<Item = (&str, &str)> {
        self.files
            .iter()
            .filter(move |(path, _)| path.rsplit_once('.').is_some_and(|(_, is)| is == extension))
            .map(|(p, t)| (p.as_str(), t.as_str()))
    }

    /// The Rust files that go into a program or library: neither tests, benches, tools nor build scripts. What follows the first
    /// `#[cfg(test)]` is cut off.
    pub(crate) fn product(&self) -> impl Iterator<Item = (&Member, &str, &str)> {
        self.with_extension("rs").filter_map(|(path, text)| {
            let member = self.owner(path)?;
            let inside = path.strip_prefix(&member.folder)?.strip_prefix("/src/")?;
            let is_tool =
                ["xtask", "chaos", "checker", "showcase", "tests", "benches", "crates/devstack"].contains(&member.folder.as_str());
            if is_tool || inside.ends_with("tests.rs") || inside.contains("tests/") {
                return None;
            }
            Some((member, path, text.split("#[cfg(test)]").next().unwrap_or(text)))
        })
    }
}

fn member(package: &cargo_metadata::Package, root: &Path) -> Member {
    let folder = package.manifest_path.parent().map(|folder| folder.as_std_path()).and_then(|folder| folder.strip_prefix(root).ok());
    let dependency = |dependency: &cargo_metadata::Dependency| Dependency {
        name: dependency.name.clone(),
        is_dev: dependency.kind == cargo_metadata::DependencyKind::Development,
        features: dependency.features.clone(),
    };
    Member {
        name: package.name.to_string(),
        folder: folder.map(|folder| folder.to_string_lossy().into_owned()).unwrap_or_default(),
        dependencies: package.dependencies.iter().map(dependency).collect(),
        features: package.features.clone(),
    }
}

fn read_folder(folder: &Path, path: &str, files: &mut BTreeMap<String, String>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if path.is_empty() { name.clone() } else { format!("{path}/{name}") };
        if entry.file_type()?.is_dir() {
            if !SKIPPED.contains(&name.as_str()) {
                read_folder(&entry.path(), &path, files)?;
            }
        } else if name.rsplit_once('.').is_some_and(|(_, extension)| READ.contains(&extension)) {
            let text = fs::read_to_string(entry.path()).with_context(|| format!("reading {path}"))?;
            files.insert(path, text);
        }
    }
    Ok(())
}

#[cfg(test)]
impl Tree {
    /// A tree of these files.
    pub(crate) fn of(files: &[(&str, &str)]) -> Self {
        let files = files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
        Self { members: Vec::new(), files }
    }

    /// The tree with one more crate, which depends on these; a name with `dev:` before it is only for its tests.
    pub(crate) fn with(mut self, folder: &str, name: &str, dependencies: &[&str]) -> Self {
        let dependencies = dependencies
            .iter()
            .map(|name| Dependency {
                name: name.trim_start_matches("dev:").to_owned(),
                is_dev: name.starts_with("dev:"),
                features: Vec::new(),
            })
            .collect();
        self.members.push(Member { name: name.to_owned(), folder: folder.to_owned(), dependencies, features: BTreeMap::new() });
        self
    }

    /// The tree where the last crate has a feature that turns these on.
    pub(crate) fn with_feature(mut self, name: &str, turns_on: &[&str]) -> Self {
        if let Some(member) = self.members.last_mut() {
            member.features.insert(name.to_owned(), turns_on.iter().map(|name| (*name).to_owned()).collect());
        }
        self
    }

    /// The tree where the last crate turns these features of its first dependency on.
    pub(crate) fn asking_for(mut self, features: &[&str]) -> Self {
        if let Some(dependency) = self.members.last_mut().and_then(|member| member.dependencies.first_mut()) {
            dependency.features = features.iter().map(|name| (*name).to_owned()).collect();
        }
        self
    }
}
