//! The real libcamera with its virtual camera, which shows pictures that are written here. `scripts/test-libcamera` runs it
//! where that library is: it reads its cameras from a file that only root can write. One test at a time (the library allows
//! one manager in a process), so `--test-threads=1`.

#[expect(dead_code, reason = "the program's tests use all of it")]
#[path = "../program/client.rs"]
mod client;
#[expect(dead_code, reason = "the program's tests use all of it")]
#[path = "../program/harness.rs"]
mod harness;
mod pictures;
mod program;
mod source;
