//! The whole program, run as users run it: started in a scratch folder with a configuration of its own, spoken to over real
//! sockets by real clients, stopped by real signals. Pictures it wrote are decoded by others and compared with its answers.
//! Every wait ends on what it waits for; a deadline only ends a test that has failed already.

mod answers;
mod cli;
mod client;
mod configuration;
mod disks;
mod film;
mod harness;
mod hostile;
mod image;
mod lifecycle;
mod network_cameras;
mod peer;
mod persist;
mod pictures;
mod recordings;
mod said;
mod sources;
mod supervision;
mod update;
mod viewers;
