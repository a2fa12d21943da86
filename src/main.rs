//! The program `meerkat`: hands over to the library beside it.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    meerkat::cli::main()
}
