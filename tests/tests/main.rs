//! Tests against real processes. One binary, so that it is linked once; a module for each promise.
#![cfg(test)]

mod arrows;
mod bench;
mod certificates;
mod cli;
mod cluster;
mod containers;
mod damage;
mod durability;
mod hostile;
mod hosts;
mod isolation;
mod logs;
mod moving;
mod retention;
mod retrying;
mod secrets;
mod snapshots;
mod streams;
mod traces;
mod tripped;
mod units;
mod wire;
