//! What several coordinators promise together: any of them takes any request, what was acknowledged
//! survives whatever happens to a few of them, and nothing is given out twice.

mod client;
mod clocks;
mod disks;
mod faults;
mod foreign;
mod forming;
mod freezing;
mod growth;
mod ledger;
mod load;
mod membership;
mod metrics;
mod partitions;
mod removal;
mod schedules;
mod succession;
mod waiting;
mod watching;
mod workers;

use skyclaw_tests::cluster::state;
