//! The whole program, run as users run it: started in a scratch folder with a configuration of its own, spoken to over real
//! sockets by real clients, stopped by real signals. Pictures it wrote are decoded by others and compared with its answers.
//! Every wait ends on what it waits for; a deadline only ends a test that has failed already.

mod answers;
mod bikes;
mod browser;
mod bursts;
mod cli;
mod client;
mod clocks;
mod coming;
mod configuration;
mod disks;
mod encrypted;
mod events;
mod fair_doors;
mod film;
mod harness;
mod heads;
mod hostile;
mod http_cameras;
mod image;
mod instances;
mod jpegs;
mod lettering;
mod levels;
mod lifecycle;
mod network_cameras;
mod night_viewers;
mod odd;
mod odd_cameras;
mod panics;
mod peer;
mod persist;
mod pictures;
mod power;
mod recordings;
mod said;
mod slow_disk;
mod sound;
mod sources;
mod supervision;
mod trust;
mod turned;
mod update;
mod viewers;
mod vlc;
