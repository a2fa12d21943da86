//! The program `meerkat`: hands over to the library beside it.
#![forbid(unsafe_code)]

fn main() -> ! {
    meerkat::cli::main()
}
