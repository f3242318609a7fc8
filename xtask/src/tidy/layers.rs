//! Dependencies point one way.

use super::tree::{Member, Tree};

/// Crates that may use the same.
struct Layer {
    name: &'static str,
    /// Their folders; `*` stands for any one part.
    folders: &'static [&'static str],
    /// Layers, or single folders, that they may use.
    uses: &'static [&'static str],
    /// What their tests may use besides.
    tests_use: &'static [&'static str],
}

/// The house, from the ground up. A crate whose folder is in none of the rows is refused too: it has no place yet.
const LAYERS: [Layer; 18] = [
    Layer {
        name: "base",
        folders: &["crates/ids", "crates/errors", "crates/clock", "crates/dead-letter", "proto", "schemas"],
        uses: &[],
        tests_use: &["base"],
    },
    Layer { name: "message", folders: &["crates/message"], uses: &["proto"], tests_use: &[] },
    Layer { name: "decider", folders: &["crates/decider"], uses: &["crates/ids"], tests_use: &["base"] },
    Layer { name: "domain", folders: &["command-services/*/domain"], uses: &["crates/ids", "decider"], tests_use: &[] },
    Layer { name: "telemetry", folders: &["crates/telemetry"], uses: &["base"], tests_use: &[] },
    Layer {
        name: "mechanism",
        folders: &["crates/pg", "crates/kafka", "crates/redis", "crates/rpc"],
        uses: &["base", "telemetry"],
        tests_use: &["devstack"],
    },
    Layer {
        name: "engine",
        folders: &["crates/event-store", "crates/projection", "crates/saga", "crates/runtime"],
        uses: &["base", "decider", "telemetry", "mechanism"],
        tests_use: &["devstack"],
    },
    Layer {
        // The one place that knows two engines: what all command services make of the event store and the runtime.
        name: "assembly",
        folders: &["crates/command-service"],
        uses: &["base", "decider", "telemetry", "mechanism", "engine"],
        tests_use: &["devstack"],
    },
    Layer {
        name: "service",
        folders: &["command-services/*/service"],
        uses: &["base", "decider", "domain", "telemetry", "mechanism", "engine", "assembly"],
        tests_use: &["devstack"],
    },
    Layer {
        name: "projector",
        folders: &["projectors/*"],
        uses: &["base", "telemetry", "mechanism", "crates/projection", "crates/runtime"],
        tests_use: &["devstack"],
    },
    Layer {
        name: "relay",
        folders: &["outbox-relay", "dlq-admin"],
        uses: &["base", "message", "telemetry", "mechanism", "crates/runtime"],
        tests_use: &["devstack"],
    },
    Layer { name: "edge", folders: &["gateway"], uses: &["base", "telemetry", "mechanism", "crates/runtime"], tests_use: &["devstack"] },
    Layer { name: "devstack", folders: &["crates/devstack"], uses: &["base", "mechanism"], tests_use: &[] },
    // What judges the platform shares its protos and none of its code.
    Layer { name: "checker", folders: &["checker"], uses: &["proto"], tests_use: &[] },
    // Its audit is the checker's: what a test says of a run, an operator can ask of a running platform.
    Layer { name: "cli", folders: &["cli"], uses: &["base", "message", "mechanism", "checker"], tests_use: &["devstack"] },
    Layer {
        name: "top",
        folders: &["showcase", "tests", "benches"],
        uses: &[
            "base",
            "decider",
            "domain",
            "telemetry",
            "mechanism",
            "engine",
            "assembly",
            "service",
            "projector",
            "relay",
            "edge",
            "devstack",
            "checker",
        ],
        tests_use: &[],
    },
    Layer {
        // Lets the showcase's clients play.
        name: "chaos",
        folders: &["chaos"],
        uses: &["base", "mechanism", "devstack", "checker", "showcase"],
        tests_use: &[],
    },
    Layer { name: "xtask", folders: &["xtask"], uses: &[], tests_use: &[] },
];

/// What a domain may use from outside: nothing that reads a clock, draws a random number, waits, or does IO.
const DOMAIN_OUTSIDE: [&str; 4] = ["jiff", "rpds", "smallvec", "thiserror"];

pub(super) fn check(tree: &Tree) -> Vec<String> {
    tree.members.iter().flat_map(|member| check_member(tree, member)).collect()
}

fn check_member(tree: &Tree, member: &Member) -> Vec<String> {
    let Some(layer) = layer_of(&member.folder) else {
        return vec![format!("{}: the folder {} has no place in the layers (xtask/src/tidy/layers.rs)", member.name, member.folder)];
    };
    let mut problems = Vec::new();
    for dependency in &member.dependencies {
        let Some(target) = tree.members.iter().find(|other| other.name == dependency.name) else {
            if layer.name == "domain" && !dependency.is_dev && !DOMAIN_OUTSIDE.contains(&dependency.name.as_str()) {
                problems.push(format!("{}: a domain is pure, and {} is not on the list of what it may use", member.name, dependency.name));
            }
            continue;
        };
        if !may_use(layer, member, target, dependency.is_dev) {
            let how = if dependency.is_dev { "its tests may not use" } else { "may not use" };
            problems.push(format!("{} ({}): {how} {}", member.name, layer.name, target.name));
        }
    }
    problems
}

fn may_use(layer: &Layer, member: &Member, target: &Member, is_dev: bool) -> bool {
    let Some(target_layer) = layer_of(&target.folder) else { return false };
    let listed = |list: &[&str]| list.contains(&target_layer.name) || list.contains(&target.folder.as_str());
    if target_layer.name == "domain" && layer.name == "service" {
        // A service knows its own domain only.
        return target.folder.rsplit_once('/').map(|(context, _)| context) == member.folder.rsplit_once('/').map(|(context, _)| context);
    }
    listed(layer.uses) || (is_dev && listed(layer.tests_use))
}

fn layer_of(folder: &str) -> Option<&'static Layer> {
    LAYERS.iter().find(|layer| layer.folders.iter().any(|pattern| matches(pattern, folder)))
}

fn matches(pattern: &str, folder: &str) -> bool {
    let (mut wanted, mut given) = (pattern.split('/'), folder.split('/'));
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return true,
            (Some("*"), Some(_)) => {}
            (Some(wanted), Some(given)) if wanted == given => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn house() -> Tree {
        Tree::default()
            .with("proto", "proto", &[])
            .with("crates/ids", "ids", &[])
            .with("crates/pg", "pg", &["ids"])
            .with("crates/event-store", "event-store", &["pg", "tokio"])
            .with("command-services/wallet/domain", "wallet-domain", &["ids", "jiff"])
            .with("crates/command-service", "command-service", &["event-store"])
            .with("command-services/wallet/service", "wallet", &["wallet-domain", "event-store", "command-service", "dev:devstack"])
            .with("crates/devstack", "devstack", &["pg"])
    }

    #[test]
    fn edges_that_point_down_are_fine() {
        assert_eq!(check(&house()), Vec::<String>::new());
    }

    #[test]
    fn edges_that_point_up_or_sideways_are_refused() {
        for (folder, dependency) in [
            ("crates/kafka", "pg"),
            ("crates/clock", "ids"),
            ("crates/redis", "event-store"),
            ("crates/runtime", "event-store"),
            ("crates/saga", "command-service"),
            ("projectors/trade", "command-service"),
            ("command-services/trade/domain", "proto"),
            ("command-services/trade/domain", "wallet-domain"),
            ("command-services/trade/domain", "tokio"),
            ("command-services/trade/service", "wallet-domain"),
            ("command-services/trade/service", "wallet"),
            ("command-services/trade/service", "devstack"),
            ("projectors/trade", "event-store"),
            ("outbox-relay", "wallet"),
            ("checker", "ids"),
            ("xtask", "ids"),
        ] {
            let problems = check(&house().with(folder, "new", &[dependency]));
            assert_eq!(problems.len(), 1, "{folder} → {dependency}: {problems:?}");
        }
    }

    #[test]
    fn a_crate_without_a_place_is_refused() {
        assert_eq!(check(&house().with("crates/common", "common", &[])).len(), 1);
        assert_eq!(check(&house().with("misc", "misc", &[])).len(), 1);
    }
}
