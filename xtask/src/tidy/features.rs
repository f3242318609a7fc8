//! Features that are for tests are on only where somebody asks for them by name.

use super::tree::{Member, Tree};

/// The feature that makes points live where a test can kill a process.
const FAILPOINTS: &str = "failpoints";

pub(super) fn check(tree: &Tree) -> Vec<String> {
    tree.members.iter().flat_map(|member| by_default(member).into_iter().chain(by_dependency(member))).collect()
}

/// What the crate's default features lead to.
fn by_default(member: &Member) -> Option<String> {
    let mut seen = Vec::new();
    let mut next = vec!["default"];
    while let Some(name) = next.pop() {
        if is_failpoints(name) {
            return Some(format!("{}: the default features turn {name} on, which is for tests", member.name));
        }
        if !seen.contains(&name) {
            seen.push(name);
            next.extend(member.features.get(name).into_iter().flatten().map(String::as_str));
        }
    }
    None
}

/// What the crate asks of its dependencies: that is on whenever it is built, its tests' dependencies in every build of the workspace.
fn by_dependency(member: &Member) -> Vec<String> {
    let asking = member.dependencies.iter().filter(|dependency| dependency.features.iter().any(|name| is_failpoints(name)));
    asking.map(|dependency| format!("{}: turns {FAILPOINTS} of {} on, which is for tests", member.name, dependency.name)).collect()
}

/// Whether it is the feature, of this crate or of another (`crate/feature`, `crate?/feature`).
fn is_failpoints(name: &str) -> bool {
    name.rsplit('/').next() == Some(FAILPOINTS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runtime() -> Tree {
        Tree::default().with("crates/runtime", "runtime", &["fail"]).with_feature(FAILPOINTS, &["dep:fail", "fail/failpoints"])
    }

    #[test]
    fn a_feature_for_tests_that_nothing_turns_on_is_fine() {
        assert_eq!(check(&runtime().with_feature("default", &["spans"]).with_feature("spans", &["default"])), Vec::<String>::new());
    }

    #[test]
    fn a_default_feature_that_turns_it_on_is_refused_also_at_a_distance() {
        assert_eq!(check(&runtime().with_feature("default", &["failpoints"])).len(), 1);
        assert_eq!(check(&runtime().with_feature("default", &["chaos"]).with_feature("chaos", &["fail/failpoints"])).len(), 1);
    }

    #[test]
    fn a_dependency_that_turns_it_on_is_refused() {
        for dependency in ["runtime", "dev:runtime"] {
            let tree = runtime().with("command-services/wallet/service", "wallet", &[dependency]).asking_for(&["spans", "failpoints"]);
            assert_eq!(check(&tree).len(), 1, "{dependency}");
        }
    }
}
