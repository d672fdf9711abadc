//! The hardware door on the simulator's library: every behaviour that nvml-wrapper lacks or breaks has a test here
//! that fails with the wrapper's own way.

#[cfg(test)]
mod both_faces;
#[cfg(test)]
mod defects;
#[cfg(test)]
mod events;
#[cfg(test)]
mod instances;
#[cfg(test)]
mod inventory;
#[cfg(test)]
mod node;
#[cfg(test)]
mod opening;
#[cfg(test)]
mod processes;
