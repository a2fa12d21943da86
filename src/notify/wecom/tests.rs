//! The robot against a server that enforces its rules.
