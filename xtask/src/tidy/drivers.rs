//! One crate owns each driver.

use super::tree::Tree;

/// A driver, and the folders of the crates that may name it.
struct Driver {
    name: &'static str,
    owners: &'static [&'static str],
}

const DRIVERS: [Driver; 5] = [
    // The benches measure the relay against a bare loop of it; the checker trusts no code of the platform's.
    Driver { name: "rdkafka", owners: &["crates/kafka", "benches", "checker"] },
    Driver { name: "deadpool-postgres", owners: &["crates/pg"] },
    Driver { name: "refinery", owners: &["crates/pg"] },
    Driver { name: "fred", owners: &["crates/redis"] },
    // Its types travel: rows and statements are read where the SQL is.
    Driver {
        name: "tokio-postgres",
        owners: &[
            "crates/pg",
            "crates/event-store",
            "crates/projection",
            "crates/devstack",
            "command-services/wallet/service",
            "command-services/inventory/service",
            "projectors/inventory",
            "outbox-relay",
            "dlq-admin",
            "checker",
            "showcase",
            "tests",
            "chaos",
            "cli",
            "benches",
        ],
    },
];

pub(super) fn check(tree: &Tree) -> Vec<String> {
    let mut problems = Vec::new();
    for member in &tree.members {
        for driver in &DRIVERS {
            let names_it = member.dependencies.iter().any(|dependency| dependency.name == driver.name);
            if names_it && !driver.owners.contains(&member.folder.as_str()) {
                problems.push(format!("{}: only {} may use {}", member.name, driver.owners.join(", "), driver.name));
            }
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_owner_of_a_driver_is_refused() {
        let owner = Tree::default().with("crates/kafka", "kafka", &["rdkafka"]);
        assert_eq!(check(&owner), Vec::<String>::new());
        for dependency in ["rdkafka", "dev:rdkafka", "deadpool-postgres", "refinery", "fred"] {
            let second = Tree::default().with("outbox-relay", "relay", &[dependency]);
            assert_eq!(check(&second).len(), 1, "{dependency}");
        }
    }
}
