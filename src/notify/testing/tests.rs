//! The mock servers themselves, spoken to by hand.
