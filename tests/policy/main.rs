//! Policy tier.
