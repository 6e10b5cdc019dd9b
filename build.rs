//! Tells the program which commit it is built from, through `PASTCAM_VERSION` and `PASTCAM_BUILT_FROM`: a short hash, with `-dirty`
//! behind it where the program's own files differ from that commit. A build outside a git checkout takes the variable
//! `PASTCAM_COMMIT` from its environment; without one the program says nothing of a commit. A build never fails for this.

use std::env;
use std::path::Path;
use std::process::Command;

/// What the program is made of. Nothing else makes it dirty.
const SOURCES: [&str; 4] = ["Cargo.toml", "Cargo.lock", "build.rs", "src"];

/// What git says on its standard output; `None` where it fails or is not installed. It takes no lock and writes nothing.
fn git(words: &[&str]) -> Option<String> {
    let out = Command::new("git").arg("--no-optional-locks").args(words).output().ok()?;
    out.status.success().then(|| String::from_utf8_lossy(&out.stdout).trim().to_string())
}

/// The commit of the checkout this folder is the top of. A repository further up is not ours.
fn from_git() -> Option<String> {
    if !Path::new(".git").exists() {
        return None;
    }
    // In a worktree `.git` is a file, and the place of these two is elsewhere. A path that does not exist would start this script at
    // every build; `logs/HEAD` grows with every commit, checkout and rebase.
    for name in ["HEAD", "logs/HEAD"] {
        let path = git(&["rev-parse", "--git-path", name])?;
        if Path::new(&path).exists() {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    let commit = git(&["rev-parse", "--short=9", "HEAD"])?;
    let changed = git(&[&["status", "--porcelain", "--"], &SOURCES[..]].concat())?;
    Some(if changed.is_empty() { commit } else { commit + "-dirty" })
}

fn main() {
    println!("cargo::rerun-if-env-changed=PASTCAM_COMMIT");
    for path in SOURCES {
        println!("cargo::rerun-if-changed={path}");
    }
    let given = env::var("PASTCAM_COMMIT").unwrap_or_default();
    let given = given.chars().filter(|c| c.is_ascii_alphanumeric() || "-._".contains(*c)).collect::<String>();
    let commit = if given.is_empty() { from_git().unwrap_or_default() } else { given };
    let version = env::var("CARGO_PKG_VERSION").unwrap_or_default();
    println!("cargo::rustc-env=PASTCAM_BUILT_FROM={commit}");
    println!("cargo::rustc-env=PASTCAM_VERSION={version}{}", if commit.is_empty() { commit } else { format!(" ({commit})") });
}
