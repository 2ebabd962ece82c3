//! Tests against real processes. One binary, so that it is linked once; a module for each promise.
#![cfg(test)]

mod arrows;
mod bench;
mod cli;
mod cluster;
mod containers;
mod damage;
mod durability;
mod hostile;
mod hosts;
mod isolation;
mod moving;
mod secrets;
mod snapshots;
mod traces;
mod tripped;
mod wire;
