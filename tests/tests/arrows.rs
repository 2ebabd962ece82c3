//! The arrows between the crates, as `cargo metadata` sees them. Dependencies of tests do not count.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, MetadataCommand};

/// Who may know whom. What is not here may know nobody of ours.
const ARROWS: &[(&str, &[&str])] = &[
    ("skyclaw-proto", &[]),
    ("skyclaw-rbac", &["skyclaw-proto"]),
    ("skyclaw-core", &["skyclaw-proto", "skyclaw-rbac"]),
    ("skyclaw-store", &["skyclaw-proto", "skyclaw-rbac", "skyclaw-core"]),
    ("skyclaw-replication", &["skyclaw-proto", "skyclaw-rbac", "skyclaw-core", "skyclaw-store"]),
    ("skyclaw-exec", &["skyclaw-proto"]),
    ("skyclaw-client", &["skyclaw-proto"]),
    ("skyclaw-config", &["skyclaw-proto"]),
    // They know the contract alone, as a stranger would.
    ("skyclaw-tests", &[]),
];

/// Crates that one of ours keeps to itself. `bins` stands for every binary.
const HOMES: &[(&str, &[&str])] = &[
    ("openraft", &["skyclaw-replication"]),
    ("chitchat", &["skyclaw-replication"]),
    ("croner", &["skyclaw-replication"]),
    ("sqlx", &["skyclaw-store"]),
    ("podman-api", &["skyclaw-exec"]),
    ("figment", &["skyclaw-config"]),
    ("axum", &["bins"]),
    ("utoipa", &["skyclaw-proto", "bins"]),
];

/// What pure crates must not reach, however indirectly: clocks, files, sockets, randomness, runtimes.
const IMPURE: &[&str] =
    &["tokio", "mio", "socket2", "sqlx", "rand", "getrandom", "reqwest", "hyper", "figment"];
const PURE: &[&str] = &["skyclaw-proto", "skyclaw-rbac", "skyclaw-core"];

struct Graph {
    /// Normal and build dependencies of each package of ours, by name.
    direct: BTreeMap<String, BTreeSet<String>>,
    bins: BTreeSet<String>,
    /// Normal dependencies of every package there is, with the features in use.
    resolved: BTreeMap<String, BTreeSet<String>>,
}

fn graph() -> Graph {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");
    let metadata = MetadataCommand::new().manifest_path(manifest).exec().expect("cargo metadata");
    let mut graph = Graph { direct: BTreeMap::new(), bins: BTreeSet::new(), resolved: BTreeMap::new() };
    for package in metadata.workspace_packages() {
        let name = package.name.to_string();
        let kinds = package.dependencies.iter().filter(|d| d.kind != DependencyKind::Development);
        graph.direct.insert(name.clone(), kinds.map(|d| d.name.clone()).collect());
        // By its place: a library may have a program for its tests.
        let place = package.manifest_path.ancestors().nth(2).and_then(|dir| dir.file_name());
        if place == Some("bins") {
            graph.bins.insert(name);
        }
    }
    let names: BTreeMap<_, _> = metadata.packages.iter().map(|p| (&p.id, p.name.to_string())).collect();
    for node in &metadata.resolve.as_ref().expect("a resolved graph").nodes {
        let normal = node.deps.iter().filter(|dep| {
            dep.dep_kinds.iter().any(|info| info.kind == DependencyKind::Normal && info.target.is_none())
        });
        let deps = normal.map(|dep| names[&dep.pkg].clone());
        graph.resolved.entry(names[&node.id].clone()).or_default().extend(deps);
    }
    graph
}

#[test]
fn the_arrows_between_our_crates_point_one_way() {
    let graph = graph();
    let mut faults = Vec::new();
    for (package, deps) in &graph.direct {
        if graph.bins.contains(package) {
            continue;
        }
        let allowed = ARROWS.iter().find(|(name, _)| name == package).map_or(&[][..], |(_, to)| to);
        for dep in deps.iter().filter(|dep| graph.direct.contains_key(*dep)) {
            if !allowed.contains(&dep.as_str()) {
                faults.push(format!("{package} must not know {dep}"));
            }
        }
    }
    assert!(graph.direct.len() >= 11, "the workspace is larger than {:?}", graph.direct.keys());
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn no_crate_depends_on_a_binary() {
    let graph = graph();
    for (package, deps) in &graph.direct {
        let found: Vec<_> = deps.intersection(&graph.bins).collect();
        assert!(found.is_empty(), "{package} depends on {found:?}");
    }
}

#[test]
fn what_has_a_home_is_known_there_alone() {
    let graph = graph();
    let mut faults = Vec::new();
    for (package, deps) in &graph.direct {
        for (library, homes) in HOMES.iter().filter(|(library, _)| deps.contains(*library)) {
            let is_bin = graph.bins.contains(package);
            if !homes.iter().any(|home| home == package || (*home == "bins" && is_bin)) {
                faults.push(format!("{package} must not know {library}"));
            }
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn the_pure_crates_reach_no_clock_file_socket_or_randomness() {
    let graph = graph();
    for package in PURE.iter().filter(|package| graph.direct.contains_key(**package)) {
        let mut seen = BTreeSet::new();
        let mut next = vec![(*package).to_owned()];
        while let Some(name) = next.pop() {
            if seen.insert(name.clone()) {
                next.extend(graph.resolved.get(&name).into_iter().flatten().cloned());
            }
        }
        let impure: Vec<_> = IMPURE.iter().filter(|name| seen.contains(**name)).collect();
        assert!(impure.is_empty(), "{package} reaches {impure:?}");
    }
}

#[test]
fn nothing_needs_a_foreign_tls_or_crypto_library() {
    let graph = graph();
    for banned in ["openssl-sys", "native-tls", "aws-lc-sys", "aws-lc-rs", "cmake", "bindgen", "protoc"] {
        assert!(!graph.resolved.contains_key(banned), "{banned} is in the graph");
    }
}
