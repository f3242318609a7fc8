//! Every crate has the workspace's lints.

use super::tree::Tree;

pub(super) fn check(tree: &Tree) -> Vec<String> {
    let lacks = |folder: &str| {
        let manifest = tree.files.get(&format!("{folder}/Cargo.toml")).and_then(|text| text.parse::<toml::Table>().ok());
        let lints = manifest.as_ref().and_then(|manifest| manifest.get("lints")?.get("workspace")?.as_bool());
        lints != Some(true)
    };
    let members = tree.members.iter().filter(|member| lacks(&member.folder));
    members.map(|member| format!("{}/Cargo.toml: lacks `[lints] workspace = true`", member.folder)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crate_without_the_workspaces_lints_is_refused() {
        for (manifest, problems) in [
            ("[lints]\nworkspace = true\n", 0),
            ("[lints]\nworkspace = false\n", 1),
            ("[lints.rust]\nunsafe_code = \"forbid\"\n", 1),
            ("[package]\nname = \"a\"\n", 1),
        ] {
            let tree = Tree::of(&[("crates/a/Cargo.toml", manifest)]).with("crates/a", "a", &[]);
            assert_eq!(check(&tree).len(), problems, "{manifest}");
        }
    }
}
