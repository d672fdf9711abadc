//! What the benches share: a kubelet stand-in that measures, the node they run on, the figures they print.
//!
//! - [`kubelet`]: registers device plugins as the kubelet does and takes the time of each step.
//! - [`node`]: a simulated GPU node put in place in the mount namespace of this process.
//! - [`daemon`]: a daemon under measurement: start, cost, stop.
//! - [`figure`]: quantiles, and one JSON line per figure.
//! - [`traces`]: recorded requests for MIG devices, [`fresh_traces`]: more of their kind; [`replay`]: what a placement
//!   policy makes of them.
//!
//! Not here: what a bench measures; each is one file in `src/bin`. `benches/run` builds what a bench needs and
//! starts it. Tasks: the registration server, and one per device list of a registered plugin.
#![forbid(unsafe_code)]

pub mod daemon;
pub mod figure;
pub mod fresh_traces;
pub mod kubelet;
pub mod node;
pub mod replay;
pub mod traces;
