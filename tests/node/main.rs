//! The whole node from outside: the real program, real sockets, real files. One binary, so that it is built once;
//! each file beside this one asks one question of it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops here")]

mod drawn;
mod harness;

mod alerts;
mod beside;
mod chaos;
mod channels;
mod demo;
mod desk;
mod detectors;
mod disk;
mod evidence;
mod faults;
mod fleet;
mod health;
mod homes;
mod hostile;
mod masks;
mod modes;
mod page;
mod people;
mod people_api;
mod prometheus;
mod recognise;
mod reload;
mod rules;
mod store;
mod strangers;
mod torture;
mod watch;
