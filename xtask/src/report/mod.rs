//! What reports are made of: paired differences with their intervals, tables of text, one page without anything beside
//! it.

mod bootstrap;
mod html;
mod paired;
mod seeds;
mod table;

pub(crate) use self::{
    bootstrap::{interval_of_mean, interval_of_median},
    html::{inline, link_texts, page},
    paired::{Difference, Scores, difference, mean, mean_bits, standard_deviation},
    seeds::{SeedSpread, seed_spread},
    table::{NONE, Table, signed, thousands},
};
