//! Policy tier: the house rules, executed. A rule and a test that disagree are a bug in one of them.
//!
//! Layers over `cargo metadata`, lint inheritance, where unsafe code may be, how files are named and
//! how long they may be, what documents may not contain.
#![forbid(unsafe_code)]
#![expect(
    clippy::expect_used,
    reason = "a policy test that cannot read the repository ends by a panic"
)]

mod documents;
mod layers;
mod repository;
mod source_files;
mod unsafe_code;
