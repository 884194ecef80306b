//! The client against model brokers: bytes on both sides, no socket, no clock, everything from a seed.
//!
//! `broker` is the model of a cluster, `world` the network and the driver between the two; the others are tests.

mod away;
mod broker;
mod failures;
mod fetches;
mod groups;
mod handshake;
mod incarnations;
mod lifetime;
mod members;
mod places;
mod publish;
mod simulation;
mod world;
