//! Holds the checkout to its own rules: which names stand at its top, and that a program tells the commit it is built from.

use std::path::{Path, PathBuf};
use std::process::Command;

const TOP: &str = env!("CARGO_MANIFEST_DIR");

/// What may stand at the top; beside it whatever begins with a dot.
const NAMES: [&str; 22] = [
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "RELEASING.md",
    "SECURITY.md",
    "benches",
    "build.rs",
    "buildroot",
    "clippy.toml",
    "config.json",
    "deny.toml",
    "docs",
    "examples",
    "fuzz",
    "rustfmt.toml",
    "scripts",
    "src",
    "tests",
];

/// What a command says; `None` where it is not installed or fails.
fn said(command: &mut Command) -> Option<String> {
    let out = command.output().ok()?;
    out.status.success().then(|| String::from_utf8(out.stdout).unwrap().trim_end().to_string())
}

fn git(dir: &Path, words: &[&str]) -> Option<String> {
    let mut command = Command::new("git");
    said(
        command
            .current_dir(dir)
            .args(["-c", "user.name=a", "-c", "user.email=a@localhost", "-c", "init.defaultBranch=main"])
            .args(words),
    )
}

#[test]
fn only_names_that_belong_there_stand_at_the_top() {
    let Some(files) = git(Path::new(TOP), &["ls-files"]).filter(|_| Path::new(TOP).join(".git").exists()) else {
        eprintln!("SKIP: the names at the top: this is no git checkout");
        return;
    };
    let strange = |name: &&str| !name.starts_with('.') && !NAMES.contains(name);
    let strange: Vec<&str> = files.lines().map(|f| f.split('/').next().unwrap()).filter(strange).collect();
    assert!(strange.is_empty(), "not in the list of names at the top, which is in tests/house.rs: {strange:?}");
}

/// The commit from which on subjects are held to CONTRIBUTING.md.
const SUBJECTS_SINCE: &str = "c0d806972e2d";

#[test]
fn subjects_of_commits_are_short() {
    let top = Path::new(TOP);
    let history = || git(top, &["log", "--no-merges", "--max-count=50", "--format=%h %s", &format!("{SUBJECTS_SINCE}..HEAD")]);
    let Some(subjects) = Some(()).filter(|()| top.join(".git").exists()).and_then(|()| history()) else {
        eprintln!("SKIP: the subjects of commits: this checkout has not their history");
        return;
    };
    let long: Vec<&str> = subjects.lines().filter(|l| l.split_once(' ').is_some_and(|(_, s)| s.chars().count() > 72)).collect();
    assert!(long.is_empty(), "subjects of more than 72 letters: {long:#?}");
}

#[test]
fn this_build_tells_the_commit_of_this_checkout() {
    let told = env!("PASTCAM_BUILT_FROM");
    assert_eq!(
        env!("PASTCAM_VERSION"),
        if told.is_empty() { env!("CARGO_PKG_VERSION").to_string() } else { format!("{} ({told})", env!("CARGO_PKG_VERSION")) }
    );
    if option_env!("PASTCAM_COMMIT").is_none_or(str::is_empty) && Path::new(TOP).join(".git").exists() {
        if let Some(commit) = git(Path::new(TOP), &["rev-parse", "--short=9", "HEAD"]) {
            assert_eq!(told.trim_end_matches("-dirty"), commit);
        }
    }
}

/// A folder with the build script as a program in it, and a file of source.
struct Built(PathBuf);

impl Built {
    fn new() -> Built {
        let dir = std::env::temp_dir().join(format!("pastcam-house-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("checkout/src")).unwrap();
        std::fs::write(dir.join("checkout/src/main.rs"), "fn main() {}\n").unwrap();
        let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
        let script = Path::new(TOP).join("build.rs");
        said(Command::new(rustc).args(["--edition", "2024", "-o"]).arg(dir.join("script")).arg(script))
            .expect("rustc builds build.rs");
        Built(dir)
    }

    /// What it tells cargo from this folder: the version, and the files to watch.
    fn version(&self, from: &str, given: &str) -> (String, Vec<PathBuf>) {
        let dir = self.0.join(from);
        let mut command = Command::new(self.0.join("script"));
        let out = said(command.current_dir(&dir).env("PASTCAM_COMMIT", given).env("CARGO_PKG_VERSION", "1.2.3")).unwrap();
        let version = out.lines().find_map(|l| l.strip_prefix("cargo::rustc-env=PASTCAM_VERSION=")).unwrap().to_string();
        (version, out.lines().filter_map(|l| l.strip_prefix("cargo::rerun-if-changed=")).map(|p| dir.join(p)).collect())
    }
}

impl Drop for Built {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn the_commit_comes_from_git_or_the_environment_or_not_at_all() {
    let built = Built::new();
    let dir = built.0.join("checkout");
    assert_eq!(built.version("checkout", "").0, "1.2.3", "no git checkout");
    assert_eq!(built.version("checkout", "1a2b3c4d5-dirty").0, "1.2.3 (1a2b3c4d5-dirty)", "by the environment");
    assert_eq!(built.version("checkout", "a)\ncargo::x=1").0, "1.2.3 (acargox1)", "letters that have no place there");
    if git(&dir, &["init", "-q"]).is_none() {
        eprintln!("SKIP: the commit of a git checkout: git is not installed");
        return;
    }
    assert_eq!(built.version("checkout/src", "").0, "1.2.3", "another project's checkout around it");
    let commit = || {
        git(&dir, &["add", "-A"]).and_then(|_| git(&dir, &["commit", "-q", "--allow-empty", "-m", "x"])).unwrap();
        format!("1.2.3 ({})", git(&dir, &["rev-parse", "--short=9", "HEAD"]).unwrap())
    };
    let first = commit();
    let (told, watched) = built.version("checkout", "");
    assert_eq!(told, first);
    let head = std::fs::canonicalize(dir.join(".git/logs/HEAD")).unwrap();
    assert!(watched.iter().any(|p| p.canonicalize().is_ok_and(|p| p == head)), "a commit would go unnoticed: {watched:?}");
    std::fs::write(dir.join("notes"), "no source").unwrap();
    assert_eq!(built.version("checkout", "").0, first, "not of the program");
    std::fs::write(dir.join("src/main.rs"), "fn main() { }\n").unwrap();
    assert_eq!(built.version("checkout", "").0, first.replace(')', "-dirty)"));
    let second = commit();
    assert_ne!(second, first);
    git(&dir, &["worktree", "add", "-q", "--detach", "../other", "HEAD"]).unwrap();
    let (told, watched) = built.version("other", "");
    assert_eq!(told, second);
    let head = std::fs::canonicalize(dir.join(".git/worktrees/other/HEAD")).unwrap();
    assert!(watched.iter().any(|p| p.canonicalize().is_ok_and(|p| p == head)), "not the worktree's own HEAD: {watched:?}");
}
