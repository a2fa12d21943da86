//! What the demo leaves behind.

use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{PATIENCE, Plan, eventually};

#[test]
fn a_demo_that_is_ended_while_it_starts_leaves_no_folder() {
    let temporary = tempfile::tempdir().unwrap();
    let names = || std::fs::read_dir(temporary.path()).unwrap().map(|entry| entry.unwrap().file_name());
    // It ends by itself should this test fail before it can end it.
    let args = ["demo", "--http-port", "0", "--frame-port", "0", "--seconds", "60"];
    let mut command = Plan::new().command(temporary.path());
    command.args(args).env("TMPDIR", temporary.path()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut demo = command.spawn().unwrap();
    eventually("the folder of the demo", PATIENCE, || names().next());
    kill_process(Pid::from_child(&demo), Signal::INT).unwrap();
    let status = eventually("the end of the demo", PATIENCE, || demo.try_wait().unwrap());
    assert!(status.success(), "{status}");
    assert_eq!(names().collect::<Vec<_>>(), Vec::<std::ffi::OsString>::new());
}
