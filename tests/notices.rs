//! NOTICES.md names everything that is linked into the program.

use std::process::Command;

#[test]
fn every_linked_crate_is_named_in_the_notices() {
    let root = env!("CARGO_MANIFEST_DIR");
    let tree = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--locked",
            "--offline",
            "--edges",
            "normal,no-proc-macro",
            "--prefix",
            "none",
            "--format",
            "{p}",
        ])
        .current_dir(root)
        .output()
        .unwrap();
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let notices = std::fs::read_to_string(format!("{root}/NOTICES.md")).unwrap();
    let tree = String::from_utf8(tree.stdout).unwrap();
    let mut crates: Vec<String> = tree
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            Some(format!("{} {}", words.next()?, words.next()?.strip_prefix('v')?))
        })
        .filter(|name| !name.starts_with("offhook "))
        .collect();
    crates.sort();
    crates.dedup();
    assert!(crates.len() > 50, "only {} crates", crates.len());
    let missing: Vec<_> = crates.iter().filter(|name| !notices.contains(&format!("| {name} |"))).collect();
    assert!(missing.is_empty(), "NOTICES.md lacks {missing:?}; run .ci/notices.py");
}
